//! Envelopes of statements. Source: secure-systems-lab/dsse, `protocol.md`.

/// The type of an in-toto statement in an envelope.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// The media type of an envelope as a layer.
pub const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// What is signed of an envelope: the type and the bytes, each with its length in front.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
