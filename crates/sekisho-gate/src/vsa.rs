//! Decisions as SLSA verification summaries, signed.
//!
//! Sources: in-toto attestation framework, "Statement v1"; SLSA v1.0, "Verification Summary
//! Attestation"; DSSE v1.0.2 for the envelope and its encoding before signing.
//!
//! Everything here is a function of the decision and the key, and Ed25519 signatures are too: made
//! again, an attestation has the same bytes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sekisho_oci::dsse::{ENVELOPE, IN_TOTO, pae};
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_store::ManifestRecord;
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::decisions::Decision;
use crate::decisions::checkpoint::RecordKey;
use crate::push::promote::Attestation;

/// Of the manifest that refers to the image.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.sekisho.vsa.v1+json";

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/verification_summary/v1";

/// Named as the verifier.
const VERIFIER: &str = "https://sekisho.dev/gate";

/// The statement about the image of a decision; `gate` is how clients reach the gate, with its slash.
pub(crate) fn statement(decision: &Decision, gate: &str) -> Value {
    let Decision { repository, digest, .. } = decision;
    let passed = decision.verdict.decision.passes();
    let host = gate.split_once("://").map_or(gate, |(_, rest)| rest).trim_end_matches('/');
    let algorithm = |digest: &Digest| digest.algorithm().as_str().to_owned();
    let mut policy = json!({
        "uri": format!("{gate}_gate/v1/decisions/{}#policy", decision.id),
        "digest": { algorithm(&decision.policy): decision.policy.hex() },
    });
    if let Some(exceptions) = &decision.exceptions {
        policy["annotations"] = json!({ "exceptions": exceptions });
    }
    json!({
        "_type": STATEMENT,
        "subject": [{
            "name": format!("{host}/{repository}"),
            "digest": { algorithm(digest): digest.hex() },
        }],
        "predicateType": PREDICATE,
        "predicate": {
            "verifier": { "id": VERIFIER, "version": { "sekisho": env!("CARGO_PKG_VERSION") } },
            "timeVerified": decision.at,
            "resourceUri": format!("{host}/{repository}@{digest}"),
            "policy": policy,
            "verificationResult": if passed { "PASSED" } else { "FAILED" },
            // The gate judges content; of how an image was built it says nothing.
            "verifiedLevels": [if passed { "SLSA_BUILD_LEVEL_UNEVALUATED" } else { "FAILED" }],
            "slsaVersion": "1.0",
        },
    })
}

/// The signed envelope.
pub(crate) fn envelope(decision: &Decision, gate: &str, key: &RecordKey) -> Value {
    let payload = statement(decision, gate).to_string().into_bytes();
    let signature = key.sign(&pae(IN_TOTO, &payload));
    json!({
        "payloadType": IN_TOTO,
        "payload": BASE64_STANDARD.encode(&payload),
        "signatures": [{ "keyid": key.name(), "sig": BASE64_STANDARD.encode(signature) }],
    })
}

/// The attestation of a decision, to be filed under the image, whose manifest has `size` bytes.
pub(crate) fn attestation(
    decision: &Decision,
    size: u64,
    gate: &str,
    key: &RecordKey,
) -> Attestation {
    let blob = envelope(decision, gate, key).to_string().into_bytes();
    // The config is the envelope too: the empty config is shared with what clients push and delete.
    let layer = Descriptor::of(ENVELOPE, &blob);
    let mut manifest = ImageManifest::new(layer.clone(), vec![layer]);
    manifest.artifact_type = Some(ARTIFACT_TYPE.to_owned());
    manifest.subject = Some(Descriptor::new(&decision.media_type, decision.digest.clone(), size));
    manifest.annotations.insert("dev.sekisho.decision".to_owned(), decision.id.clone());
    let bytes = manifest.to_bytes();
    let record = ManifestRecord {
        digest: Digest::sha256(&bytes),
        media_type: media_type::OCI_MANIFEST.to_owned(),
        size: bytes.len() as u64,
        subject: Some(decision.digest.clone()),
        artifact_type: manifest.artifact_type,
        annotations: serde_json::to_value(&manifest.annotations).unwrap_or_default(),
    };
    Attestation { blob, record, manifest: bytes }
}

#[cfg(test)]
mod tests;
