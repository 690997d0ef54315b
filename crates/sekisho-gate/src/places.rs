//! Where a gate keeps what: in its folder, or in a bucket under the same names.

use std::io;
use std::path::Path;
use std::sync::Arc;

use sekisho_store::{BlobStore, Bucket, Records, Replayed, Repositories, Wal};
use sekisho_types::{Digest, RepositoryName};

use crate::staging::Place;
use crate::upstream::Upstream;

/// A repository as a name of one part: its own has slashes.
pub(crate) fn hashed(repository: &RepositoryName) -> String {
    Digest::sha256(repository.as_str().as_bytes()).hex()[..32].to_owned()
}

/// Whether other gates share the data.
pub(crate) enum Shared {
    /// In a bucket they do.
    Bucket(Bucket),
    /// In folders they do not; what makes them durable.
    No(Arc<Wal>),
}

/// The parts of a gate's data.
pub(crate) struct Places {
    pub(crate) decisions: Records,
    pub(crate) journal: Records,
    pub(crate) analysis: Records,
    pub(crate) exchanged: Records,
    pub(crate) owners: Records,
    pub(crate) outgoing: Records,
    /// Marks of content that goes; `None` in folders, which one gate owns.
    pub(crate) condemned: Option<Records>,
    pub(crate) evidence: BlobStore,
    pub(crate) staging: Place,
}

impl Shared {
    /// Opens the log of the folders, before anybody looks into them.
    pub(crate) fn open(dir: &Path, upstream: &Path, bucket: Option<&Bucket>) -> io::Result<Self> {
        if let Some(bucket) = bucket {
            return Ok(Self::Bucket(bucket.clone()));
        }
        let (wal, Replayed { done, failed }) = Wal::open(&dir.join("wal"), &[dir, upstream])?;
        if done > 0 {
            tracing::info!(writes = done, "what was acknowledged before a crash is in its place");
        }
        for why in failed {
            tracing::error!("a write that was acknowledged cannot be done: {why}");
        }
        Ok(Self::No(wal))
    }

    /// The registry that the gate promotes into; in a folder, or in the bucket with a folder to spool in.
    pub(crate) fn upstream(&self, dir: &Path) -> io::Result<Upstream> {
        let repositories = match self {
            Self::Bucket(bucket) => {
                let bucket = bucket.below("upstream");
                let blobs = BlobStore::in_bucket(bucket.below("content"), &dir.join("spool"))?;
                Repositories::on(Records::in_bucket(bucket.below("repositories")), blobs)
            }
            Self::No(wal) => {
                let blobs = BlobStore::logged(&dir.join("content"), wal)?;
                Repositories::on(Records::logged(&dir.join("repositories"), wal)?, blobs)
            }
        };
        Ok(Upstream::on(repositories))
    }

    pub(crate) fn wal(&self) -> Option<&Arc<Wal>> {
        match self {
            Self::Bucket(_) => None,
            Self::No(wal) => Some(wal),
        }
    }
}

impl Places {
    pub(crate) fn open(dir: &Path, shared: &Shared) -> io::Result<Self> {
        let records = |name: &str| match shared {
            Shared::Bucket(bucket) => Ok(Records::in_bucket(bucket.below(name))),
            Shared::No(wal) => Records::logged(&dir.join(name), wal),
        };
        let (evidence, staging) = match shared {
            Shared::Bucket(bucket) => {
                let evidence = BlobStore::in_bucket(bucket.below("evidence"), &dir.join("spool"))?;
                let staging = bucket.below("staging");
                (evidence.clone(), Place::Bucket(staging, evidence))
            }
            Shared::No(wal) => {
                let evidence = BlobStore::logged(&dir.join("evidence"), wal)?;
                (evidence, Place::Folder(dir.join("staging"), Arc::clone(wal)))
            }
        };
        Ok(Self {
            decisions: records("decisions")?,
            journal: records("pushes")?,
            analysis: records("analysis")?,
            exchanged: records("exchanged")?,
            owners: records("owners")?,
            outgoing: records("outgoing")?,
            condemned: match shared {
                Shared::Bucket(bucket) => Some(Records::in_bucket(bucket.below("condemned"))),
                Shared::No(_) => None,
            },
            evidence,
            staging,
        })
    }
}
