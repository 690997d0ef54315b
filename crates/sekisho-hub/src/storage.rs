//! Artifacts and caches: what is known of them in memory, on disk what has to survive.
//!
//! ```text
//! <dir>/artifacts/<id>.json    an artifact that can be downloaded
//! <dir>/caches/<id>.json       a cache entry that can be found
//! <dir>/blobs/<blob>/…         content: see `blobs`
//! ```
//!
//! A record is written after its content and removed before it, so no record is ever without. What
//! is being uploaded is known in memory alone: its signed URLs end with the process too.

mod artifacts;
mod blobs;
mod caches;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sekisho_github::wire::cache::Access;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub(crate) use artifacts::{Artifact, RunOf, check_name};
pub(crate) use blobs::{BlobError, Blobs, Content, Piece};
pub(crate) use caches::{CacheEntry, access, limited};

use artifacts::{Artifacts, CreateError, Pending};
use caches::{Caches, Place, Reservation, ReserveError};

use crate::state::JobRef;
use crate::store::{read_json, write_json};

/// The largest artifact, in bytes.
const MAX_ARTIFACT: u64 = 10 * 1024 * 1024 * 1024;
/// How long an upload may take.
pub(crate) const UPLOAD_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// A job that asks, with what its token allows.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) at: JobRef,
    /// The runner's name for the job.
    pub(crate) guid: Uuid,
    pub(crate) run: RunOf,
    pub(crate) repository_id: u64,
    pub(crate) access: Vec<Access>,
}

/// Why a request about an artifact or a cache is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// There is one already.
    #[error("{0}")]
    Taken(&'static str),
    /// The token does not allow it.
    #[error("{0}")]
    Denied(&'static str),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is none.
    #[error("{0}")]
    NotFound(&'static str),
    /// Too much at once.
    #[error("{0}")]
    TooMany(&'static str),
    /// The content is not what was said.
    #[error(transparent)]
    Blob(BlobError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Artifacts and caches of all repositories. All methods block.
#[derive(Debug)]
pub(crate) struct Storage {
    dir: PathBuf,
    pub(crate) blobs: Blobs,
    cache_bytes_max: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    artifacts: Artifacts,
    caches: Caches,
    next_id: u64,
}

impl Storage {
    /// Reads what there is, and removes half uploads.
    pub(crate) fn open(dir: &Path, cache_bytes_max: u64, now: Timestamp) -> io::Result<Self> {
        let artifacts: Vec<Artifact> = load(&dir.join("artifacts"))?;
        let caches: Vec<CacheEntry> = load(&dir.join("caches"))?;
        let known: BTreeSet<Uuid> =
            artifacts.iter().map(|a| a.blob).chain(caches.iter().map(|c| c.blob)).collect();
        let blobs = Blobs::open(dir.join("blobs"), &known)?;
        let highest = artifacts.iter().map(|a| a.id).chain(caches.iter().map(|c| c.id)).max();
        // Ids are never given twice, also not that of one that was deleted: they begin with the
        // time of the start, which is ahead of any that were given before.
        let start = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let next_id = start.max(highest.unwrap_or_default() + 1);
        let inner =
            Inner { artifacts: Artifacts::new(artifacts), caches: Caches::new(caches), next_id };
        Ok(Self { dir: dir.to_owned(), blobs, cache_bytes_max, inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, kind: &str, id: u64) -> PathBuf {
        self.dir.join(kind).join(format!("{id}.json"))
    }

    fn save(&self, kind: &str, id: u64, record: &impl Serialize) -> io::Result<()> {
        write_json(&self.file(kind, id), record)
    }

    fn delete(&self, kind: &str, id: u64, blob: Uuid) {
        if let Err(error) = fs_err::remove_file(self.file(kind, id)) {
            tracing::warn!("{error}");
        }
        self.blobs.remove(blob);
    }

    fn new_id(&self) -> u64 {
        let mut inner = self.lock();
        inner.next_id += 1;
        inner.next_id - 1
    }

    /// Removes what is too old, too much, or uploaded by a job that is over.
    pub(crate) fn sweep(&self, now: Timestamp, runs: impl Fn(JobRef) -> bool) {
        let (uploads, artifacts, caches) = {
            let mut inner = self.lock();
            let mut uploads = inner.artifacts.abandon(now, &runs);
            uploads.extend(inner.caches.abandon(now, &runs));
            let artifacts = inner.artifacts.expire(now);
            (uploads, artifacts, inner.caches.sweep(self.cache_bytes_max, now))
        };
        for blob in uploads {
            self.blobs.remove(blob);
        }
        for artifact in artifacts {
            self.delete("artifacts", artifact.id, artifact.blob);
        }
        for entry in caches {
            tracing::info!("cache entry {} of {} is evicted", entry.id, entry.place.repository);
            self.delete("caches", entry.id, entry.blob);
        }
    }

    /// Begins the upload of an artifact, and gives its blob.
    pub(crate) fn create_artifact(
        &self,
        caller: &Caller,
        name: String,
        mime_type: String,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Uuid, StorageError> {
        check_name(&name).map_err(StorageError::Invalid)?;
        let blob = self.blobs.begin(MAX_ARTIFACT)?;
        let pending = Pending {
            by: caller.at,
            name,
            mime_type,
            blob,
            until: now + UPLOAD_WITHIN,
            expires_at: artifacts::expiry(expires_at, now),
        };
        let created = self.lock().artifacts.create(pending);
        match created {
            Ok(earlier) => {
                if let Some(earlier) = earlier {
                    self.blobs.remove(earlier);
                }
                Ok(blob)
            }
            Err(error) => {
                self.blobs.remove(blob);
                Err(match error {
                    CreateError::Taken => StorageError::Taken(
                        "an artifact with this name already exists on the workflow run",
                    ),
                    CreateError::TooMany => {
                        StorageError::TooMany("the workflow run has too many artifacts")
                    }
                })
            }
        }
    }

    /// The artifact is uploaded. Gives its id.
    pub(crate) fn finalize_artifact(
        &self,
        caller: &Caller,
        name: &str,
        size: i64,
        digest: Option<&str>,
        now: Timestamp,
    ) -> Result<u64, StorageError> {
        let pending = self.lock().artifacts.pending(caller.at, name).cloned();
        let pending = pending
            .ok_or(StorageError::NotFound("the job does not upload an artifact of this name"))?;
        let sha256 = digest.map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest));
        let content = self.finish(pending.blob, size, sha256, now)?;
        let artifact = Artifact {
            id: self.new_id(),
            run: caller.run.clone(),
            job: caller.guid,
            name: pending.name,
            mime_type: pending.mime_type,
            blob: pending.blob,
            size_bytes: content.size_bytes,
            digest: sha256.map(|hex| format!("sha256:{}", hex.to_ascii_lowercase())),
            created_at: now,
            expires_at: pending.expires_at,
        };
        self.save("artifacts", artifact.id, &artifact)?;
        let (id, blob) = (artifact.id, artifact.blob);
        if !self.lock().artifacts.commit(artifact) {
            self.delete("artifacts", id, blob);
            return Err(StorageError::Blob(BlobError::Over));
        }
        Ok(id)
    }

    fn finish(
        &self,
        blob: Uuid,
        size: i64,
        sha256: Option<&str>,
        now: Timestamp,
    ) -> Result<Content, StorageError> {
        let size = u64::try_from(size)
            .map_err(|_| StorageError::Invalid("a size is not negative".to_owned()))?;
        self.blobs.finish(blob, size, sha256, now).map_err(|error| match error {
            BlobError::Io(error) => StorageError::Io(error),
            error => StorageError::Blob(error),
        })
    }

    /// Looks at all artifacts.
    pub(crate) fn artifacts<R>(&self, look: impl FnOnce(&Artifacts) -> R) -> R {
        look(&self.lock().artifacts)
    }

    /// Deletes an artifact.
    pub(crate) fn delete_artifact(&self, id: u64) -> bool {
        let removed = self.lock().artifacts.remove(id);
        if let Some(artifact) = &removed {
            self.delete("artifacts", id, artifact.blob);
        }
        removed.is_some()
    }

    /// Begins the upload of a cache entry, and gives its blob.
    pub(crate) fn create_cache(
        &self,
        caller: &Caller,
        key: &str,
        version: &str,
        now: Timestamp,
    ) -> Result<Uuid, StorageError> {
        let place = write_place(caller, key, version)?;
        let refused = |error| match error {
            ReserveError::Taken => StorageError::Taken(
                "cache entry with the same key, version, and scope already exists",
            ),
            ReserveError::TooMany => StorageError::TooMany("too many caches are being uploaded"),
        };
        self.lock().caches.check_free(&place).map_err(refused)?;
        let blob = self.blobs.begin(self.cache_bytes_max)?;
        let reservation = Reservation { place, blob, by: caller.at, until: now + UPLOAD_WITHIN };
        let reserved = self.lock().caches.reserve(reservation);
        reserved.map_err(|error| {
            self.blobs.remove(blob);
            refused(error)
        })?;
        Ok(blob)
    }

    /// The cache entry is uploaded. Gives its id.
    pub(crate) fn finalize_cache(
        &self,
        caller: &Caller,
        key: &str,
        version: &str,
        size: i64,
        now: Timestamp,
    ) -> Result<u64, StorageError> {
        let place = write_place(caller, key, version)?;
        let blob = self.lock().caches.reserved(&place, caller.at);
        let blob =
            blob.ok_or(StorageError::NotFound("the job does not upload this cache entry"))?;
        let content = self.finish(blob, size, None, now)?;
        let entry = CacheEntry {
            id: self.new_id(),
            place,
            blob,
            size_bytes: content.size_bytes,
            created_at: now,
            used_at: now,
        };
        self.save("caches", entry.id, &entry)?;
        let id = entry.id;
        if !self.lock().caches.commit(entry) {
            self.delete("caches", id, blob);
            return Err(StorageError::Blob(BlobError::Over));
        }
        // What does not fit any more goes at once; uploads are left alone.
        self.sweep(now, |_| true);
        Ok(id)
    }

    /// Cache entries, oldest first.
    pub(crate) fn caches(&self, wanted: impl Fn(&CacheEntry) -> bool) -> Vec<CacheEntry> {
        self.lock().caches.entries().filter(|entry| wanted(entry)).cloned().collect()
    }

    /// Deletes a cache entry of a repository.
    pub(crate) fn delete_cache(&self, repository: u64, id: u64) -> bool {
        let removed = self.lock().caches.remove(repository, id);
        if let Some(entry) = &removed {
            self.delete("caches", id, entry.blob);
        }
        removed.is_some()
    }

    /// Looks for a cache entry: its blob and whole key.
    pub(crate) fn find_cache(
        &self,
        caller: &Caller,
        keys: &[&str],
        version: &str,
        now: Timestamp,
    ) -> Result<Option<(Uuid, String)>, StorageError> {
        caches::check_names(keys, version).map_err(StorageError::Invalid)?;
        let scopes = caches::read_scopes(&caller.access);
        if scopes.is_empty() {
            let why = "cache read denied: the job's token has no scope that it may read";
            return Err(StorageError::Denied(why));
        }
        let mut inner = self.lock();
        let Some(entry) = inner.caches.find(caller.repository_id, &scopes, keys, version) else {
            return Ok(None);
        };
        let (id, found) = (entry.id, (entry.blob, entry.place.key.clone()));
        // Under the lock, so that no eviction comes between.
        if let Some(entry) = inner.caches.touch(id, now)
            && let Err(error) = self.save("caches", id, &entry)
        {
            tracing::warn!("the use of cache entry {id} cannot be written down: {error}");
        }
        Ok(Some(found))
    }
}

fn write_place(caller: &Caller, key: &str, version: &str) -> Result<Place, StorageError> {
    caches::check_names(&[key], version).map_err(StorageError::Invalid)?;
    let why = "cache write denied: the job's token has no scope that it may write";
    let scope = caches::write_scope(&caller.access).ok_or(StorageError::Denied(why))?;
    Ok(Place {
        repository: caller.repository_id,
        scope: scope.to_owned(),
        key: key.to_owned(),
        version: version.to_owned(),
    })
}

/// All records of a folder, which is made. One that is damaged is logged and left where it is.
fn load<T: DeserializeOwned>(folder: &Path) -> io::Result<Vec<T>> {
    fs_err::create_dir_all(folder)?;
    let mut all = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            // What a killed process was writing; nothing else is ours to remove.
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".new-")) {
                fs_err::remove_file(path)?;
            }
            continue;
        }
        match read_json(&path) {
            Ok(record) => all.extend(record),
            Err(error) => tracing::warn!("a record cannot be read: {error}"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
