//! Where a gate keeps what: in its folder, or in a bucket under the same names.

use std::io;
use std::path::Path;

use sekisho_store::{BlobStore, Bucket, Records};

use crate::staging::Place;

/// The parts of a gate's data.
pub(crate) struct Places {
    pub(crate) decisions: Records,
    pub(crate) journal: Records,
    pub(crate) analysis: Records,
    pub(crate) exchanged: Records,
    /// Marks of content that goes; `None` in folders, which one gate owns.
    pub(crate) condemned: Option<Records>,
    pub(crate) evidence: BlobStore,
    pub(crate) staging: Place,
}

impl Places {
    pub(crate) fn open(dir: &Path, bucket: Option<&Bucket>) -> io::Result<Self> {
        let records = |name: &str| match bucket {
            Some(bucket) => Ok(Records::in_bucket(bucket.below(name))),
            None => Records::in_folder(&dir.join(name)),
        };
        let (evidence, staging) = match bucket {
            Some(bucket) => {
                let evidence = BlobStore::in_bucket(bucket.below("evidence"), &dir.join("spool"))?;
                let staging = bucket.below("staging");
                (evidence.clone(), Place::Bucket(staging, evidence))
            }
            None => {
                let evidence = BlobStore::open(&dir.join("evidence"))?;
                (evidence, Place::Folder(dir.join("staging")))
            }
        };
        Ok(Self {
            decisions: records("decisions")?,
            journal: records("pushes")?,
            analysis: records("analysis")?,
            exchanged: records("exchanged")?,
            condemned: bucket.map(|bucket| Records::in_bucket(bucket.below("condemned"))),
            evidence,
            staging,
        })
    }
}
