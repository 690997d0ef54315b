//! Orders: what the gate signs, and what the promoter makes of it. Plain functions.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use sekisho_oci::dsse::pae;
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::decisions::Decision;
use crate::decisions::checkpoint::{PublicKey, RecordKey};

/// The type of what is signed: the key's signatures under other types mean nothing here.
const PAYLOAD: &str = "application/vnd.sekisho.promotion.v1+json";

/// How long an order is taken after it was signed, and how much the clocks may differ: who caught one on its way
/// cannot put an old image back with it later.
const FRESH: SignedDuration = SignedDuration::from_secs(60);

/// Copy this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// When it was signed.
    pub(crate) issued_at: Timestamp,
    /// What was decided, without the findings.
    pub(crate) decision: Decision,
    /// The manifest of the gate's own word on the image, which goes along.
    pub(crate) attestation: Option<Digest>,
}

/// An envelope: secure-systems-lab/dsse, `envelope.md`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

/// Why an order is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("this is no order: {0}")]
    Malformed(String),
    #[error("no key that is trusted here signed it")]
    Unsigned,
    #[error("it was signed at {0}: too long ago, or the clocks differ")]
    Stale(Timestamp),
    #[error("decision {0} does not let it pass")]
    Held(String),
}

pub(crate) fn seal(order: &Order, key: &RecordKey) -> serde_json::Result<Vec<u8>> {
    let payload = serde_json::to_vec(order)?;
    let sig = BASE64_STANDARD.encode(key.sign(&pae(PAYLOAD, &payload)));
    serde_json::to_vec(&Envelope {
        payload_type: PAYLOAD.to_owned(),
        payload: BASE64_STANDARD.encode(payload),
        signatures: vec![Signature { keyid: key.name().to_owned(), sig }],
    })
}

/// Reads an order. Nothing of it is looked at before a signature was found to be good.
pub(crate) fn open(envelope: &[u8], keys: &[PublicKey], now: Timestamp) -> Result<Order, Refused> {
    let malformed = |what: &dyn ToString| Refused::Malformed(what.to_string());
    let envelope: Envelope = serde_json::from_slice(envelope).map_err(|it| malformed(&it))?;
    if envelope.payload_type != PAYLOAD {
        return Err(malformed(&"it is of another type"));
    }
    let payload = BASE64_STANDARD.decode(&envelope.payload).map_err(|it| malformed(&it))?;
    let signed = pae(PAYLOAD, &payload);
    let is_good = |signature: &Signature| {
        let Ok(bytes) = BASE64_STANDARD.decode(&signature.sig) else { return false };
        keys.iter().any(|key| key.name == signature.keyid && key.signed(&signed, &bytes))
    };
    // One is all that a gate makes.
    if !envelope.signatures.iter().take(1).any(is_good) {
        return Err(Refused::Unsigned);
    }
    let order: Order = serde_json::from_slice(&payload).map_err(|it| malformed(&it))?;
    if order.issued_at.duration_since(now).abs() > FRESH {
        return Err(Refused::Stale(order.issued_at));
    }
    if !order.decision.verdict.decision.passes() {
        return Err(Refused::Held(order.decision.id));
    }
    Ok(order)
}

#[cfg(test)]
mod tests;
