//! Content that was pushed and not yet let through, visible to the run that pushed it alone.
//!
//! ```text
//! DIR/<scope>/blobs/…          the run's blobs, linked upstream when they are promoted
//!            /repositories/…   which of its repositories holds which blob
//!            /used             when it was last used
//! ```

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use sekisho_policy::Identity;
use sekisho_store::{BlobStore, Repositories, json};
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
    pub(crate) fn of(identity: &Identity) -> Self {
        // Lengths in front: no two identities run together to the same text.
        let parts = [&identity.issuer, &identity.repository_id, &identity.run_id];
        let text: String = parts.iter().map(|part| format!("{}:{part};", part.len())).collect();
        Self(Digest::sha256(text.as_bytes()).hex()[..32].to_owned())
    }
}

struct Open {
    repositories: Repositories,
    noted: Timestamp,
}

/// The staging of all runs.
pub(crate) struct Staging {
    root: PathBuf,
    open: Mutex<HashMap<Scope, Open>>,
}

impl Staging {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned(), open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The staging of one run.
    pub(crate) fn of(&self, scope: &Scope, now: Timestamp) -> io::Result<Repositories> {
        let dir = self.root.join(&scope.0);
        let mut open = self.lock();
        if let Some(known) = open.get_mut(scope) {
            if now.duration_since(known.noted) > USE_NOTED {
                json::write(&dir.join("used"), &now)?;
                known.noted = now;
            }
            return Ok(known.repositories.clone());
        }
        json::write(&dir.join("used"), &now)?;
        let blobs = BlobStore::open(&dir)?;
        let repositories = Repositories::open(&dir.join("repositories"), blobs)?;
        let known = Open { repositories: repositories.clone(), noted: now };
        open.insert(scope.clone(), known);
        Ok(repositories)
    }

    /// Removes what nobody used for [`STAGING_KEPT`].
    pub(crate) fn expire(&self, now: Timestamp) -> io::Result<()> {
        for entry in fs::read_dir(&self.root)? {
            let path = entry?.path();
            // Held while it is removed, so that nobody opens it meanwhile.
            let mut open = self.lock();
            let used: Option<Timestamp> = json::read(&path.join("used")).unwrap_or_default();
            if used.is_some_and(|used| now.duration_since(used) <= STAGING_KEPT) {
                continue;
            }
            let scope = path.file_name().map(|name| Scope(name.to_string_lossy().into_owned()));
            open.retain(|known, _| Some(known) != scope.as_ref());
            fs::remove_dir_all(&path)?;
        }
        Ok(())
    }
}
