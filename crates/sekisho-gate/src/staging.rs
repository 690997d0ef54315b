//! Content that was pushed and not yet let through, visible to the run that pushed it alone.
//!
//! ```text
//! DIR/<scope>/blobs/…          the run's blobs, linked upstream when they are promoted
//!            /repositories/…   which of its repositories holds which blob
//!            /used             when it was last used
//!            /kept             until when it is kept in any case: an image is held
//! ```

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use sekisho_policy::Identity;
use sekisho_store::{BlobStore, Bucket, Records, Repositories, Wal};
use sekisho_types::Digest;

/// How long content without a use is kept: a matrix of jobs pushes by digest for hours before the
/// job that puts the index.
pub(crate) const STAGING_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How often the time of use is written down.
const USE_NOTED: SignedDuration = SignedDuration::from_mins(10);

/// Who sees staged content: one run, through all its attempts and jobs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scope(String);

impl Scope {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn of(identity: &Identity) -> Self {
        // Lengths in front: no two identities run together to the same text.
        let parts = [&identity.issuer, &identity.repository_id, &identity.run_id];
        let text: String = parts.iter().map(|part| format!("{}:{part};", part.len())).collect();
        Self(Digest::sha256(text.as_bytes()).hex()[..32].to_owned())
    }
}

/// The staging of one run, as this gate has it open.
struct Open {
    repositories: Repositories,
    /// When its use was written down last.
    noted: Mutex<Option<Timestamp>>,
    /// Whether it was removed since. Held for writing while it is, so that nobody uses it meanwhile;
    /// uses do not wait for each other, for a bucket may take its time.
    is_gone: RwLock<bool>,
}

/// Where staged content lies.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In this folder, on the file system of the upstream, made durable by this log.
    Folder(PathBuf, Arc<Wal>),
    /// In this folder of a bucket; the store of blobs knows where to spool.
    Bucket(Bucket, BlobStore),
}

/// The staging of all runs.
pub(crate) struct Staging {
    place: Place,
    /// The times of use.
    records: Records,
    open: Mutex<HashMap<Scope, Arc<Open>>>,
}

impl Staging {
    pub(crate) fn open(place: Place) -> io::Result<Self> {
        let records = match &place {
            Place::Folder(root, wal) => Records::logged(root, wal)?,
            Place::Bucket(bucket, _) => Records::in_bucket(bucket.clone()),
        };
        Ok(Self { place, records, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self, scope: &Scope, now: Timestamp) -> io::Result<()> {
        self.records.write_json(&format!("{}/used", scope.0), &now)
    }

    fn repositories(&self, scope: &Scope) -> io::Result<Repositories> {
        match &self.place {
            Place::Folder(root, wal) => {
                let dir = root.join(&scope.0);
                let records = Records::logged(&dir.join("repositories"), wal)?;
                Ok(Repositories::on(records, BlobStore::logged(&dir, wal)?))
            }
            Place::Bucket(bucket, blobs) => {
                let below = bucket.below(&scope.0);
                let records = Records::in_bucket(below.below("repositories"));
                Ok(Repositories::on(records, blobs.beside(below)))
            }
        }
    }

    fn entry(&self, scope: &Scope) -> io::Result<Arc<Open>> {
        let mut open = self.lock();
        if let Some(known) = open.get(scope) {
            return Ok(Arc::clone(known));
        }
        let repositories = self.repositories(scope)?;
        let (noted, is_gone) = (Mutex::default(), RwLock::default());
        let new = Arc::new(Open { repositories, noted, is_gone });
        open.insert(scope.clone(), Arc::clone(&new));
        Ok(new)
    }

    /// The staging of one run.
    pub(crate) fn of(&self, scope: &Scope, now: Timestamp) -> io::Result<Repositories> {
        loop {
            let open = self.entry(scope)?;
            let is_gone = open.is_gone.read().unwrap_or_else(PoisonError::into_inner);
            if *is_gone {
                continue;
            }
            let noted = *open.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.is_none_or(|noted| now.duration_since(noted) > USE_NOTED) {
                self.used(scope, now)?;
                *open.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            }
            return Ok(open.repositories.clone());
        }
    }

    /// Keeps all that a run staged until a time, whether it is used or not.
    pub(crate) fn keep(&self, scope: &Scope, until: Timestamp) -> io::Result<()> {
        let name = format!("{}/kept", scope.0);
        let known: Option<Timestamp> = self.records.read_json(&name)?;
        if known.is_some_and(|known| known >= until) {
            return Ok(());
        }
        self.records.write_json(&name, &until)
    }

    /// Whether somebody used it of late, or it is to be kept. What cannot be read is an error and no
    /// reason to remove anything; what was damaged is none to keep it.
    fn is_needed(&self, name: &str, now: Timestamp) -> io::Result<bool> {
        let time = |what: &str| -> io::Result<Option<Timestamp>> {
            let read = self.records.read_json(&format!("{name}/{what}"));
            read.or_else(|error| match error.kind() {
                io::ErrorKind::InvalidData => Ok(None),
                _ => Err(error),
            })
        };
        let is_used = time("used")?.is_some_and(|used| now.duration_since(used) <= STAGING_KEPT);
        Ok(is_used || time("kept")?.is_some_and(|until| now < until))
    }

    /// Removes what nobody used for [`STAGING_KEPT`], and what was to be kept no longer.
    pub(crate) fn expire(&self, now: Timestamp) -> io::Result<()> {
        for name in self.records.names("")? {
            if self.is_needed(&name, now)? {
                continue;
            }
            let scope = Scope(name);
            let open = self.entry(&scope)?;
            let mut is_gone = open.is_gone.write().unwrap_or_else(PoisonError::into_inner);
            // Once more: somebody may have come back just now.
            if self.is_needed(&scope.0, now)? {
                continue;
            }
            *is_gone = true;
            self.lock().remove(&scope);
            self.records.remove_all(&scope.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_stays_and_what_is_old_goes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("staging");
        let (wal, _) = Wal::open(&dir.path().join("wal"), &[&root]).unwrap();
        let staging = Staging::open(Place::Folder(root.clone(), wal)).unwrap();
        let (scope, start) = (Scope("a-run".to_owned()), Timestamp::UNIX_EPOCH);
        let digest = staging.of(&scope, start).unwrap().blobs().put(b"a blob").unwrap();
        let is_there = || staging.of(&scope, start).unwrap().blobs().contains(&digest).unwrap();
        let old = start + STAGING_KEPT + SignedDuration::from_secs(1);
        staging.expire(start + STAGING_KEPT).unwrap();
        assert!(is_there());

        // Its time of use is there and cannot be read.
        let (used, aside) = (root.join("a-run/used"), dir.path().join("used"));
        fs_err::rename(&used, &aside).unwrap();
        fs_err::os::unix::fs::symlink("used", &used).unwrap();
        staging.expire(old).unwrap_err();
        assert!(is_there());
        fs_err::remove_file(&used).unwrap();
        fs_err::rename(&aside, &used).unwrap();

        staging.expire(old).unwrap();
        assert!(!root.join("a-run").exists());
        // Whoever comes back has a new one, in which there is nothing.
        assert!(!is_there());
        assert!(used.exists());
    }
}
