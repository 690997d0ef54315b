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
//!  checkouts/<hex of key>/  a commit of a git repository; see `git`
//!  indexes-2/<hex of diffID>  the files of a layer, without their data
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
mod session;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use fs_err as fs;
use sekisho_sandbox::{Isolation, remove_tree};
use sekisho_types::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::image::Layer;

/// Largest record that is read, in bytes: the index of a layer with two million files is below it.
const MAX_RECORD_BYTES: u64 = 1 << 30;

/// Packages of golden bases, by their digest.
const PACKAGES: &str = "packages";

/// Commits of git repositories.
const CHECKOUTS: &str = "checkouts";

pub use limit::CacheLimit;
pub use prune::{InUse, Pruned};
pub(crate) use session::Session;

/// A cache folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// The folder of indexes.
pub(crate) const INDEXES: &str = "indexes-2";

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
            // In the first one they are of another form.
            Self::Index => INDEXES,
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
            CHECKOUTS,
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
        self.publish_folder(folder, self.tree_path(isolation, layer))
    }

    /// Where a commit's files are, or would be.
    pub(crate) fn checkout_path(&self, key: &Digest) -> PathBuf {
        self.root.join(CHECKOUTS).join(key.hex())
    }

    /// Puts a finished folder in place as the files of a commit. If another build was first, ours goes.
    pub(crate) fn publish_checkout(&self, folder: &Path, key: &Digest) -> anyhow::Result<PathBuf> {
        self.publish_folder(folder, self.checkout_path(key))
    }

    fn publish_folder(&self, folder: &Path, target: PathBuf) -> anyhow::Result<PathBuf> {
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

#[expect(clippy::disallowed_methods, reason = "the age of leftovers is wall time")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
