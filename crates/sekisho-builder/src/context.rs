//! The build context: a folder of the host, and a wall around it.
//!
//! The folder is listed once, without following a link. Files are opened below a descriptor of the
//! folder with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`; links that the Dockerfile names are
//! followed in the list, never by the kernel. So no link, however it changes meanwhile, leads outside.

mod listing;
pub(crate) mod text;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::listing::Listing;
use crate::BuildError;
use crate::files::{FileMap, ImagePath, Known, Node, NodeKind, Sum};
use crate::hashed::{Hashed, Lay, Stamp};
use crate::pack;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sekisho_dockerfile::ignore::Ignore;

/// Most files in a context, folders included: a few times the largest monorepos.
pub(crate) const MAX_CONTEXT_FILES: u64 = 2_000_000;

/// Most bytes in a context.
pub(crate) const MAX_CONTEXT_BYTES: u64 = 64 << 30;

/// Deepest nesting of folders: paths are limited to 4096 bytes anyway.
const MAX_DEPTH: usize = 1024;

/// A context that was listed.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    path: PathBuf,
    pub(crate) files: Arc<FileMap>,
    /// Of a git checkout.
    pub(crate) commit: Option<String>,
    /// Digests and sizes of files that somebody asked for, and that did not lie still.
    digests: Mutex<HashMap<ImagePath, (Sum, u64)>>,
    /// Digests of all others, from earlier builds; those that were asked for are with the files.
    hashed: Mutex<Hashed>,
}

/// A file that lay still.
pub(crate) struct Still {
    pub(crate) file: std::fs::File,
    stamp: Stamp,
    sum: Sum,
}

impl Still {
    /// As a node of a layer.
    pub(crate) fn node(&self, node: Node) -> Node {
        let (size, digest) = (self.stamp.size(), Known::of(self.sum));
        Node { kind: NodeKind::File { size, digest }, ..node }
    }

    /// Whether it still lies so.
    pub(crate) fn is_still(&self) -> std::io::Result<bool> {
        Ok(Stamp::of(&rustix::fs::fstat(&self.file)?) == self.stamp)
    }
}

impl Context {
    /// Lists the context, without what `.dockerignore` leaves out.
    ///
    /// `<Dockerfile>.dockerignore` beside the Dockerfile wins over the context's own.
    pub(crate) fn open(path: &Path, dockerfile: &Path) -> Result<Self, BuildError> {
        Self::list_all(path, &text::read_ignore(path, dockerfile)?)
    }

    /// Lists a folder without what `ignore` leaves out.
    pub(crate) fn list_all(path: &Path, ignore: &Ignore) -> Result<Self, BuildError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(path, error))?;
        let mut context = Self {
            root,
            path: path.to_owned(),
            files: Arc::default(),
            commit: None,
            digests: Mutex::default(),
            hashed: Mutex::default(),
        };
        let open = |path: &[u8], flags: OFlags| context.open_at(path, flags);
        let failed = |path: &[u8], error: Errno| failed(&context.on_disk(path), error);
        let files = Listing::new(&open, &failed, ignore).run()?;
        context.files = Arc::new(files);
        Ok(context)
    }

    fn on_disk(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// Gives every file a mode of its own.
    pub(crate) fn set_modes(&mut self, mode: impl Fn(&Node) -> u32) {
        for node in Arc::make_mut(&mut self.files).nodes_mut() {
            node.mode = mode(node);
        }
    }

    /// Whether there is something of that name, also when it was left out.
    pub(crate) fn is_on_disk(&self, path: &[u8]) -> bool {
        std::fs::symlink_metadata(self.on_disk(path)).is_ok()
    }

    fn open_at(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Opens a regular file for its data.
    pub(crate) fn open_file(&self, path: &[u8]) -> Result<std::fs::File, BuildError> {
        self.open_stamped(path).map(|(file, _)| file)
    }

    fn open_stamped(&self, path: &[u8]) -> Result<(std::fs::File, Stamp), BuildError> {
        let error = |error| failed(&self.on_disk(path), error);
        let fd = self.open_at(path, OFlags::RDONLY).map_err(error)?;
        let stat = rustix::fs::fstat(&fd).map_err(error)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(error(Errno::INVAL));
        }
        Ok((fd.into(), Stamp::of(&stat)))
    }

    /// Takes digests of an earlier build for files that are as they were; `record` is asked once.
    pub(crate) fn remember(&self, record: impl FnOnce() -> Option<Vec<(Stamp, Sum)>>) {
        self.hashed().read(record);
    }

    /// How a file was when it was listed, and its digest.
    fn lay(&self, path: &[u8]) -> Option<Lay<'_>> {
        self.files.get(path)?.lay()
    }

    /// Gives the memory of what this build asked for already to others.
    pub(crate) fn forget_used(&self) {
        self.hashed().forget_used();
    }

    /// Writes down what the next build shall remember, if it is news.
    pub(crate) fn write_hashed(
        &self,
        write: impl FnOnce(&mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let files = self.files.iter().filter_map(|(_, node)| node.lay());
        self.hashed().write(files, write)
    }

    /// The digest of a file's data, remembered if it was asked for before.
    pub(crate) fn digest(&self, path: &ImagePath) -> Result<Sum, BuildError> {
        if let Some((sum, _)) = self.remembered(path) {
            return Ok(sum);
        }
        let (sum, size) = self.hash(path)?;
        // One that lay still is remembered with the file.
        if self.remembered(path) != Some((sum, size)) {
            self.digests().insert(path.clone(), (sum, size));
        }
        Ok(sum)
    }

    /// Whether the digest of a file is known.
    pub(crate) fn knows(&self, path: &[u8]) -> bool {
        self.remembered(path).is_some()
    }

    /// Digest and size of a file, if they are known.
    fn remembered(&self, path: &[u8]) -> Option<(Sum, u64)> {
        if let Some(known) = self.digests().get(path) {
            return Some(*known);
        }
        let lay = self.lay(path)?;
        Some((self.hashed().get(lay)?, lay.stamp.size()))
    }

    #[expect(clippy::disallowed_methods, reason = "whether a file lay still is told by this clock")]
    fn hash(&self, path: &ImagePath) -> Result<(Sum, u64), BuildError> {
        let error = |source| BuildError::Context { path: self.on_disk(path), source };
        let now = std::time::SystemTime::now();
        let (mut file, before) = self.open_stamped(path)?;
        let (sum, size) = pack::hash(&mut file).map_err(error)?;
        let after = rustix::fs::fstat(&file).map_err(|errno| error(errno.into()))?;
        if let Some(lay) = self.lay(path) {
            self.hashed().learn(lay, before, &Stamp::of(&after), now, sum);
        }
        Ok((sum, size))
    }

    /// Opens a file that lies as it lay when its digest was taken for good: it need not be hashed again. `None`
    /// for any other.
    pub(crate) fn open_still(&self, path: &[u8]) -> Result<Option<Still>, BuildError> {
        let Some(lay) = self.lay(path) else { return Ok(None) };
        let Some(sum) = self.hashed().get(lay) else { return Ok(None) };
        let (file, now) = self.open_stamped(path)?;
        Ok((now == *lay.stamp).then_some(Still { file, stamp: now, sum }))
    }

    fn hashed(&self) -> std::sync::MutexGuard<'_, Hashed> {
        // As with the digests.
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node as it was when its digest was taken.
    pub(crate) fn known(&self, path: &ImagePath, node: &Node) -> Node {
        let mut node = node.clone();
        if let (NodeKind::File { .. }, Some((sum, size))) = (&node.kind, self.remembered(path)) {
            node.kind = NodeKind::File { size, digest: Known::of(sum) };
        }
        node
    }

    fn digests(&self) -> std::sync::MutexGuard<'_, HashMap<ImagePath, (Sum, u64)>> {
        // A map of digests is right after each insertion, whatever else panicked.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(path: &Path, error: Errno) -> BuildError {
    BuildError::Context { path: path.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests;
