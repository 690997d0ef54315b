//! A build's own folder in the store.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use fs_err as fs;
use sekisho_sandbox::remove_tree;
use sekisho_types::Digest;

use super::{Store, now, prune};
use crate::slots::lock;

/// A session folder without a lock file is one that a build is just making, or died making.
const UNLOCKED_SESSION_AGE: Duration = Duration::from_mins(10);

/// Holds the lock of a session.
pub(super) const LOCK_FILE: &str = "lock";

/// A build's own folder in the store; removed with what is in it when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    dir: PathBuf,
    /// The lock is the kernel's, and ends with the process however it ends.
    _lock: fs::File,
    /// That of all builds of the folder.
    _user: fs::File,
    store: Store,
    /// What was used, by name.
    used: Mutex<BTreeSet<String>>,
    next: std::sync::atomic::AtomicU64,
}

impl Store {
    /// Starts a session.
    pub(crate) fn session(&self) -> anyhow::Result<Session> {
        let user = prune::enter(&self.root)?;
        let dir = tempfile::Builder::new()
            .prefix("build-")
            .tempdir_in(self.tmp())
            .context("cannot make a folder for the build")?
            .keep();
        // It has its name only when it is locked: another build may sweep at any moment.
        let unnamed = dir.join("lock-unnamed");
        let lock = fs::File::create(&unnamed)?;
        lock.file().try_lock().context("cannot lock the build's folder")?;
        fs::rename(&unnamed, dir.join(LOCK_FILE))?;
        let (store, used) = (self.clone(), Mutex::default());
        Ok(Session { dir, _lock: lock, _user: user, store, used, next: 0.into() })
    }

    /// Removes what dead builds left.
    pub(super) fn sweep(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.tmp())? {
            let path = entry?.path();
            let dead = match std::fs::File::open(path.join(LOCK_FILE)) {
                Ok(lock) => lock.try_lock().is_ok(),
                Err(_) => std::fs::metadata(&path)
                    .and_then(|metadata| metadata.modified())
                    .is_ok_and(|made| {
                        let age = now().duration_since(made).unwrap_or_default();
                        age > UNLOCKED_SESSION_AGE
                    }),
            };
            if dead {
                // Another build may be removing it too.
                let _ = remove_tree(&path);
            }
        }
        Ok(())
    }
}

impl Session {
    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store that it is in.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Says that a layer, by either of its digests, or another blob is used.
    pub(crate) fn lease(&self, digest: &Digest) {
        let mut used = lock(&self.used);
        if !used.contains(digest.hex()) {
            used.insert(digest.hex().to_owned());
        }
    }

    /// A path in the session that nothing has used before.
    pub(crate) fn path(&self, what: &str) -> PathBuf {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.dir.join(format!("{what}-{number}"))
    }

    /// A new folder in the session, open to nobody else but readable as a root (`0755`).
    pub(crate) fn folder(&self, what: &str) -> io::Result<PathBuf> {
        let path = self.path(what);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let used = self.used.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = prune::note(&self.store.root, used) {
            tracing::warn!("cannot note what was used: {error}");
        }
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!("cannot remove `{}`: {error}", self.dir.display());
        }
    }
}
