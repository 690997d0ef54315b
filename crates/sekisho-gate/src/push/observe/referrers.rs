//! Which manifests that refer to an image are looked at for statements about it.

use std::io;

use sekisho_store::ManifestRecord;
use sekisho_types::Digest;

use crate::push::view::View;
use crate::vsa;

/// Most statements about one image that are looked at.
pub(super) const MAX_REFERRERS: usize = 100;

/// Most manifests that refer to an image that are listed for them: one is the gate's own for each time it shipped.
const MAX_LISTED: usize = 1000;

/// The manifests that refer to another one and may hold statements of others.
pub(super) fn referrers(view: &View<'_>, subject: &Digest) -> io::Result<Vec<ManifestRecord>> {
    Ok(of_others(view.referrers(subject, MAX_LISTED)?))
}

/// Without the gate's own attestations, however many there are, and then not too many.
fn of_others(mut records: Vec<ManifestRecord>) -> Vec<ManifestRecord> {
    records.retain(|record| record.artifact_type.as_deref() != Some(vsa::ARTIFACT_TYPE));
    records.truncate(MAX_REFERRERS);
    records
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn attestations_of_the_gate_take_no_place() {
        let record = |at: usize, kind: &str| ManifestRecord {
            digest: Digest::sha256(at.to_string().as_bytes()),
            media_type: String::new(),
            size: 1,
            subject: None,
            artifact_type: Some(kind.to_owned()),
            annotations: Value::Null,
        };
        let own = (0..200).map(|at| record(at, vsa::ARTIFACT_TYPE));
        let last = record(200, "application/spdx+json");
        let found = of_others(own.chain([last.clone()]).collect());
        assert_eq!(found, [last]);
        let many = (0..200).map(|at| record(at, "application/spdx+json")).collect();
        assert_eq!(of_others(many).len(), MAX_REFERRERS);
    }
}
