//! Which manifests that refer to an image are looked at for statements about it.

use std::io;

use sekisho_store::ManifestRecord;
use sekisho_types::Digest;
use serde_json::Value;

use crate::push::view::View;
use crate::vsa;

/// Most statements about one image that are looked at.
pub(super) const MAX_REFERRERS: usize = 100;

/// Most manifests that refer to an image that are listed for them: one is the gate's own for each time it shipped.
const MAX_LISTED: usize = 10_000;

/// The manifests that refer to another one and may hold statements of others.
pub(super) fn referrers(view: &View<'_>, subject: &Digest) -> io::Result<Vec<ManifestRecord>> {
    of_others(view.referrers(subject)?)
}

/// Without the gate's own attestations, however many there are, and then not too many.
fn of_others(
    records: impl Iterator<Item = io::Result<ManifestRecord>>,
) -> io::Result<Vec<ManifestRecord>> {
    let is_of_others = |record: &io::Result<ManifestRecord>| {
        let kind = record.as_ref().map(|record| record.artifact_type.as_deref());
        !matches!(kind, Ok(Some(vsa::ARTIFACT_TYPE)))
    };
    // Their annotations are of no use here, and may have megabytes each.
    let without = |record: io::Result<ManifestRecord>| {
        record.map(|record| ManifestRecord { annotations: Value::Null, ..record })
    };
    let records = records.take(MAX_LISTED).filter(is_of_others).take(MAX_REFERRERS);
    records.map(without).collect()
}

#[cfg(test)]
mod tests {
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
        let own = (0..5000).map(|at| Ok(record(at, vsa::ARTIFACT_TYPE)));
        let last = record(5000, "application/spdx+json");
        assert_eq!(of_others(own.chain([Ok(last.clone())])).unwrap(), [last]);
        let mut read = 0;
        let many = (0..20_000).map(|at| Ok(record(at, "application/spdx+json")));
        assert_eq!(of_others(many.inspect(|_| read += 1)).unwrap().len(), MAX_REFERRERS);
        assert_eq!(read, MAX_REFERRERS, "no more are read");
        let damaged = [Ok(record(0, "x")), Err(io::ErrorKind::InvalidData.into())];
        assert!(of_others(damaged.into_iter()).is_err());
    }
}
