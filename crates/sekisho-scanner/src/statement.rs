//! What a document says that was pushed as a statement about an image: a list of its parts, or how it was
//! built; of which image, and signed by whom.
//!
//! ```text
//!  document ─┬─ Sigstore bundle ─▶ DSSE envelope ─▶ signatures ─▶ in-toto statement ─▶ subjects, predicate
//!            └─ SPDX or CycloneDX by itself ─▶ no subject: it is about what its manifest refers to
//! ```
//!
//! Nothing is taken for what it is called. A media type, an annotation or a `predicateType` says what a
//! document is to be; its content decides.
//!
//! Sources: in-toto attestation framework, `spec/v1/{statement,envelope}.md`; `secure-systems-lab/dsse`,
//! `protocol.md`; SLSA provenance v0.2 and v1; SPDX 2.3, chapter 6; CycloneDX 1.5, JSON reference.

mod keys;

use std::collections::BTreeSet;
use std::io::Read;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use sekisho_oci::dsse::{IN_TOTO, pae};
use sekisho_types::{Digest, Statement, StatementKind};
use serde_json::Value;

pub use self::keys::{Attestors, AttestorsError};

/// Subjects that are told; an index of images has fewer.
const MAX_SUBJECTS: usize = 512;

/// Signatures of an envelope that are looked at.
const MAX_SIGNATURES: usize = 16;

/// Reads one document to its end.
///
/// # Errors
/// It is not one JSON document. One that is, and says nothing that is known, is [`StatementKind::Other`].
pub fn read_statement(document: impl Read, known: &Attestors) -> serde_json::Result<Statement> {
    let document: Value = serde_json::from_reader(document)?;
    let envelope = document.get("dsseEnvelope").unwrap_or(&document);
    let Some((payload, signatures)) = opened(envelope) else { return Ok(said(&document)) };
    let signed = pae(IN_TOTO, &payload);
    let signers = known.who_signed(&signed, &signatures);
    let Ok(payload) = serde_json::from_slice::<Value>(&payload) else {
        return Ok(Statement::default());
    };
    // What is in an envelope names its subjects, or it is about nothing.
    let statement = said(&payload);
    let subjects = Some(statement.subjects.unwrap_or_default());
    Ok(Statement { subjects, signers, ..statement })
}

/// The payload of an envelope and its signatures; `None` where there is no envelope of a statement.
fn opened(envelope: &Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let decode =
        |text: &str| BASE64_STANDARD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text)).ok();
    if envelope.get("payloadType")?.as_str()? != IN_TOTO {
        return None;
    }
    let payload = decode(envelope.get("payload")?.as_str()?)?;
    let signatures = envelope.get("signatures").and_then(Value::as_array);
    let signatures = signatures.into_iter().flatten().take(MAX_SIGNATURES);
    let signatures = signatures.filter_map(|it| decode(it.get("sig")?.as_str()?)).collect();
    Some((payload, signatures))
}

fn said(document: &Value) -> Statement {
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    if !text("_type").starts_with("https://in-toto.io/Statement/") {
        let kind = if is_sbom(document) { StatementKind::Sbom } else { StatementKind::Other };
        return Statement { kind, ..Statement::default() };
    }
    let predicate = document.get("predicate").unwrap_or(&Value::Null);
    let kind = match text("predicateType") {
        it if it.starts_with("https://spdx.dev/Document") && is_spdx(predicate) => {
            StatementKind::Sbom
        }
        it if it.starts_with("https://cyclonedx.org/bom") && is_cyclonedx(predicate) => {
            StatementKind::Sbom
        }
        it if it.starts_with("https://slsa.dev/provenance/") && names_a_builder(predicate) => {
            StatementKind::Provenance
        }
        _ => StatementKind::Other,
    };
    Statement { kind, subjects: Some(subjects(document)), ..Statement::default() }
}

fn subjects(statement: &Value) -> BTreeSet<Digest> {
    let listed = statement.get("subject").and_then(Value::as_array);
    let digest = |subject: &Value, algorithm: &str| -> Option<Digest> {
        let hex = subject.get("digest")?.get(algorithm)?.as_str()?;
        format!("{algorithm}:{hex}").parse().ok()
    };
    let digests = listed.into_iter().flatten().take(MAX_SUBJECTS).flat_map(|subject| {
        ["sha256", "sha512"].into_iter().filter_map(move |algorithm| digest(subject, algorithm))
    });
    digests.collect()
}

fn is_sbom(document: &Value) -> bool {
    is_spdx(document) || is_cyclonedx(document)
}

fn is_spdx(document: &Value) -> bool {
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default();
    text("spdxVersion").starts_with("SPDX-")
        && text("SPDXID") == "SPDXRef-DOCUMENT"
        && document.get("packages").is_some_and(Value::is_array)
}

fn is_cyclonedx(document: &Value) -> bool {
    document.get("bomFormat").and_then(Value::as_str) == Some("CycloneDX")
        && document.get("specVersion").is_some_and(Value::is_string)
        && document.get("components").is_some_and(Value::is_array)
}

/// v0.2 has the builder at the top, v1 below the details of the run.
fn names_a_builder(provenance: &Value) -> bool {
    let is_text = |pointer: &str| {
        provenance.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty())
    };
    is_text("/builder/id") && is_text("/buildType")
        || is_text("/runDetails/builder/id") && is_text("/buildDefinition/buildType")
}

#[cfg(test)]
mod tests;
