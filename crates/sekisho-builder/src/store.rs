//! The cache folder: what is in it, and how things get there.
//!
//! ```text
//!  blobs/sha256/<hex>       compressed layers, configs, manifests; named by content
//!  results/<hex of key>     what a step with that key made
//!  compressed/<hex of key>  a layer in another compression than its step made
//!  bases/<hex of name>      a golden base; apt-sources/<hex of diffID>: what a RUN on it installs from
//!  packages/<hex>.deb       packages of golden bases
//!  seen/<hex of key>        what a cache mount's last command saw
//!  fetched/<hex of URL>     which blob a file of another machine is, and what to ask its server by
//!  hashed/, lay/            what is known of files of contexts; see `hashed`, `looking`
//!  indexes/<hex of diffID>  the files of a layer, without their data
//!  trees-<kind>/<hex of diffID>[.<age>]/   a layer unpacked, in overlayfs form; see `ages`
//!  mounts-<kind>/<hex of id>/      a cache mount; see `cache_mount`
//!  used/<hex>               when a layer was used last; see `prune`
//!  tmp/<session>/           one per build, locked while it lives
//! ```
//!
//! Everything is made below `tmp` and renamed to its place, so readers need no lock, any number of
//! builds share a folder, and a build that is killed leaves only its session folder, which the next one
//! removes: its lock is free. Nothing is synced; see `boot` for what that means.

mod boot;
mod limit;
mod prune;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use fs_err as fs;
use sekisho_sandbox::{Isolation, remove_tree};
use sekisho_types::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::image::Layer;

/// Largest record that is read, in bytes: the index of a layer with two million files is below it.
const MAX_RECORD_BYTES: u64 = 1 << 30;

/// A session folder without a lock file is one that a build is just making, or died making.
const UNLOCKED_SESSION_AGE: Duration = Duration::from_mins(10);

/// Packages of golden bases, by their digest.
const PACKAGES: &str = "packages";

/// Holds the lock of a session.
const LOCK_FILE: &str = "lock";

pub use limit::CacheLimit;
pub use prune::{InUse, Pruned};

/// A cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// A build's own folder in the store; removed with what is in it when dropped.
#[derive(Debug)]
pub(crate) struct Session {
    dir: PathBuf,
    /// The lock is the kernel's, and ends with the process however it ends.
    _lock: fs::File,
    /// That of all builds of the folder.
    _user: fs::File,
    root: PathBuf,
    /// What was used, by name.
    used: Mutex<BTreeSet<String>>,
    next: std::sync::atomic::AtomicU64,
}

/// What a record is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Result,
    /// A layer in another compression.
    Compressed,
    Index,
    Base,
    AptSources,
    /// What a cache mount's last command saw; see `stamps`.
    Seen,
    /// A file of another machine; see `adding`.
    Fetched,
    /// Digests of a context's files; see `hashed`.
    Hashed,
    /// The digest of what a COPY took, by how all of it lay; see `looking`.
    Lay,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Result => "results",
            Self::Compressed => "compressed",
            Self::Index => "indexes",
            Self::Base => "bases",
            Self::AptSources => "apt-sources",
            Self::Seen => "seen",
            Self::Fetched => "fetched",
            Self::Hashed => "hashed",
            Self::Lay => "lay",
        }
    }
}

/// One per kind of sandbox, for the same layer lies there in another form. The form with one id has
/// changed once: owners are attributes now.
fn trees(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Privileged => "trees-privileged",
        Isolation::IdRange => "trees-id-range",
        Isolation::SingleId => "trees-single-id-2",
        Isolation::ChangedRoot => "trees-changed-root",
    }
}

fn mounts(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Privileged => "mounts-privileged",
        Isolation::IdRange => "mounts-id-range",
        Isolation::SingleId => "mounts-single-id",
        Isolation::ChangedRoot => "mounts-changed-root",
    }
}

impl Store {
    /// Opens a cache folder, makes what is missing, and removes what dead builds left.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        let root = std::path::absolute(root).context("the cache folder has no absolute path")?;
        let folders = [
            "blobs/sha256",
            Kind::Result.folder(),
            Kind::Compressed.folder(),
            Kind::Index.folder(),
            Kind::Base.folder(),
            Kind::AptSources.folder(),
            PACKAGES,
            Kind::Seen.folder(),
            Kind::Fetched.folder(),
            Kind::Hashed.folder(),
            Kind::Lay.folder(),
            trees(Isolation::Privileged),
            trees(Isolation::IdRange),
            trees(Isolation::SingleId),
            trees(Isolation::ChangedRoot),
            prune::USED,
            "tmp",
        ];
        for folder in folders {
            // Trees hold other people's setuid programs: nobody else may reach them.
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root.join(folder))
                .with_context(|| format!("cannot make `{}`", root.join(folder).display()))?;
        }
        let looking = "cannot look through the cache folder";
        // When this boot began is dear to ask, for the kernel counts interrupts for it.
        if !boot::is_settled(&root).context(looking)?
            && let Some(boot) = boot::Boot::current()
        {
            boot::settle(&root, &boot, now()).context(looking)?;
        }
        let store = Self { root };
        store.sweep()?;
        Ok(store)
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

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
        let (root, used) = (self.root.clone(), Mutex::default());
        Ok(Session { dir, _lock: lock, _user: user, root, used, next: 0.into() })
    }

    fn sweep(&self) -> anyhow::Result<()> {
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

    /// Where a blob is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Whether a blob of that size is there. A blob has its name only once it is whole.
    pub(crate) fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        std::fs::metadata(self.blob_path(digest)).is_ok_and(|metadata| metadata.len() == size)
    }

    /// Puts a finished file in place as a blob.
    pub(crate) fn publish_blob(&self, file: &Path, digest: &Digest) -> anyhow::Result<()> {
        let target = self.blob_path(digest);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(file, target)?;
        Ok(())
    }

    /// Stores small content as a blob.
    pub(crate) fn put_blob(&self, session: &Session, bytes: &[u8]) -> anyhow::Result<Digest> {
        let digest = Digest::sha256(bytes);
        if !self.has_blob(&digest, bytes.len() as u64) {
            let path = session.path("blob");
            fs::write(&path, bytes)?;
            self.publish_blob(&path, &digest)?;
        }
        Ok(digest)
    }

    pub(crate) fn record_path(&self, kind: Kind, key: &Digest) -> PathBuf {
        self.root.join(kind.folder()).join(key.hex())
    }

    /// A record; one that is absent, cut short or of an older form is none.
    pub(crate) fn record<T: DeserializeOwned>(&self, kind: Kind, key: &Digest) -> Option<T> {
        serde_json::from_slice(&self.bytes(kind, key)?).ok()
    }

    /// A record as it was written.
    pub(crate) fn bytes(&self, kind: Kind, key: &Digest) -> Option<Vec<u8>> {
        let path = self.record_path(kind, key);
        if std::fs::metadata(&path).ok()?.len() > MAX_RECORD_BYTES {
            return None;
        }
        std::fs::read(path).ok()
    }

    /// All records of a kind, in no order.
    pub(crate) fn records<T: DeserializeOwned>(&self, kind: Kind) -> anyhow::Result<Vec<T>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.root.join(kind.folder()))? {
            records.extend(serde_json::from_slice(&fs::read(entry?.path())?).ok());
        }
        Ok(records)
    }

    /// Where packages of golden bases are kept.
    pub(crate) fn packages_dir(&self) -> anyhow::Result<PathBuf> {
        let path = self.root.join(PACKAGES);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Writes a record.
    pub(crate) fn put_record<T: Serialize>(
        &self,
        session: &Session,
        kind: Kind,
        key: &Digest,
        value: &T,
    ) -> anyhow::Result<()> {
        self.put(session, kind, key, |to| Ok(serde_json::to_writer(to, value)?))
    }

    /// Writes a record piece by piece: one may be as large as all else that a build holds.
    pub(crate) fn put(
        &self,
        session: &Session,
        kind: Kind,
        key: &Digest,
        write: impl FnOnce(&mut dyn io::Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = session.path("record");
        let mut file = io::BufWriter::with_capacity(1 << 16, fs::File::create(&path)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.publish_record(&path, kind, key)
    }

    /// Puts a finished file in place as a record.
    pub(crate) fn publish_record(
        &self,
        file: &Path,
        kind: Kind,
        key: &Digest,
    ) -> anyhow::Result<()> {
        fs::rename(file, self.record_path(kind, key))?;
        Ok(())
    }

    /// Removes all but the latest records of a kind.
    pub(crate) fn keep_latest(&self, kind: Kind, count: usize) -> anyhow::Result<()> {
        let mut dated = Vec::new();
        for entry in fs::read_dir(self.root.join(kind.folder()))? {
            let entry = entry?;
            // Another build may have removed it meanwhile.
            if let Ok(metadata) = entry.metadata() {
                dated.push((metadata.modified()?, entry.path()));
            }
        }
        dated.sort();
        for (_, path) in dated.iter().take(dated.len().saturating_sub(count)) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where a cache mount is kept.
    pub(crate) fn mount_path(&self, isolation: Isolation, key: &Digest) -> PathBuf {
        self.root.join(mounts(isolation)).join(key.hex())
    }

    /// Where a layer is unpacked, or would be.
    pub(crate) fn tree_path(&self, isolation: Isolation, layer: &Layer) -> PathBuf {
        let name = format!("{}{}", layer.diff_id.hex(), layer.age.suffix());
        self.root.join(trees(isolation)).join(name)
    }

    /// Puts a finished folder in place as the tree of a layer. If another build was first, ours goes.
    pub(crate) fn publish_tree(
        &self,
        folder: &Path,
        isolation: Isolation,
        layer: &Layer,
    ) -> anyhow::Result<PathBuf> {
        let target = self.tree_path(isolation, layer);
        match std::fs::rename(folder, &target) {
            Ok(()) => {}
            Err(_) if target.is_dir() => remove_tree(folder)?,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot make `{}`", target.display()));
            }
        }
        Ok(target)
    }
}

impl Session {
    /// The folder itself.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says that a layer, by either of its digests, or another blob is used.
    pub(crate) fn lease(&self, digest: &Digest) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
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
        if let Err(error) = prune::note(&self.root, used) {
            tracing::warn!("cannot note what was used: {error}");
        }
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!("cannot remove `{}`: {error}", self.dir.display());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the age of leftovers is wall time")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
