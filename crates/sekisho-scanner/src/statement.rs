//! What a document says that was pushed as a statement about an image: a list of its parts, or how it was
//! built; of which image, and signed by whom.
//!
//! ```text
//!  document ─┬─ Sigstore bundle ─▶ DSSE envelope ─▶ signatures ─▶ in-toto statement ─▶ subjects, predicate
//!            └─ SPDX or CycloneDX by itself ─▶ no subject: it is about what its manifest refers to
//! ```
//!
//! Nothing is taken for what it is called. A media type, an annotation or a `predicateType` says what a
//! document is to be; its content decides. It is searched for secrets as a layer's files are: a builder may tell
//! what it was given.
//!
//! Sources: in-toto attestation framework, `spec/v1/{statement,envelope}.md`; `secure-systems-lab/dsse`,
//! `protocol.md`; SLSA provenance v0.2 and v1; SPDX 2.3, chapter 6; CycloneDX 1.5, JSON reference.

mod keys;

use std::collections::BTreeSet;
use std::io::{self, Read};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use sekisho_oci::dsse::{IN_TOTO, pae};
use sekisho_types::{Digest, Document, Statement, StatementKind};
use serde_json::Value;

pub use self::keys::{Attestors, AttestorsError};
use crate::secrets::{FingerprintKey, add_secrets_in};

/// Subjects that are told; an index of images has fewer.
const MAX_SUBJECTS: usize = 512;

/// Signatures of an envelope that are looked at.
const MAX_SIGNATURES: usize = 16;

/// What stands in the place of a path where a document holds a secret, and where its payload does.
const DOCUMENT: &str = "(statement)";
const PAYLOAD: &str = "(payload of the statement)";

/// Reads one document to its end. Fingerprints of secrets in it are made with `key`.
///
/// # Errors
/// It is not one JSON document. One that is, and says nothing that is known, is [`StatementKind::Other`].
pub fn read_document(
    mut document: impl Read,
    known: &Attestors,
    key: Option<&FingerprintKey>,
) -> io::Result<Document> {
    let mut bytes = Vec::new();
    document.read_to_end(&mut bytes)?;
    let mut secrets = Vec::new();
    let mut more_secrets = add_secrets_in(DOCUMENT, &bytes, key, &mut secrets);
    let document: Value = serde_json::from_slice(&bytes)?;
    // As a text, and what it holds in base64: both are large.
    drop(bytes);
    let envelope = document.get("dsseEnvelope").unwrap_or(&document);
    let payload = envelope.get("payload").and_then(Value::as_str).and_then(decoded);
    if let Some(payload) = &payload {
        more_secrets += add_secrets_in(PAYLOAD, payload, key, &mut secrets);
    }
    let is_enveloped = envelope.get("payloadType").and_then(Value::as_str) == Some(IN_TOTO);
    let statement = match payload.filter(|_| is_enveloped) {
        None => said(&document),
        Some(payload) => enveloped(&payload, &signatures(envelope), known),
    };
    Ok(Document { statement, secrets, more_secrets })
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text)).ok()
}

fn signatures(envelope: &Value) -> Vec<Vec<u8>> {
    let listed = envelope.get("signatures").and_then(Value::as_array);
    let listed = listed.into_iter().flatten().take(MAX_SIGNATURES);
    listed.filter_map(|it| decoded(it.get("sig")?.as_str()?)).collect()
}

/// What a payload says that somebody may have signed.
fn enveloped(payload: &[u8], signatures: &[Vec<u8>], known: &Attestors) -> Statement {
    let signers = known.who_signed(&pae(IN_TOTO, payload), signatures);
    let Ok(payload) = serde_json::from_slice::<Value>(payload) else {
        return Statement::default();
    };
    // What is in an envelope names its subjects, or it is about nothing.
    let statement = said(&payload);
    let subjects = Some(statement.subjects.unwrap_or_default());
    Statement { subjects, signers, ..statement }
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
