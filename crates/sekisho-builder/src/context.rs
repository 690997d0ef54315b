//! The build context: a folder of the host, and a wall around it.
//!
//! The folder is listed once, without following a link. Files are opened below a descriptor of the
//! folder with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`; links that the Dockerfile names are
//! followed in the list, never by the kernel. So no link, however it changes meanwhile, leads outside.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sekisho_dockerfile::ignore::Ignore;
use sekisho_types::Digest;

use crate::BuildError;
use crate::files::{self, FileMap, ImagePath, Node, NodeKind};
use crate::hashed::{Hashed, Record, Stamp};
use crate::pack;

/// Most files in a context, folders included: a few times the largest monorepos.
pub(crate) const MAX_CONTEXT_FILES: u64 = 2_000_000;

/// Most bytes in a context.
pub(crate) const MAX_CONTEXT_BYTES: u64 = 64 << 30;

/// Deepest nesting of folders: paths are limited to 4096 bytes anyway.
const MAX_DEPTH: usize = 1024;

/// Largest `.dockerignore`, in bytes.
const MAX_IGNORE_BYTES: u64 = 1 << 20;

/// A context that was listed.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    path: PathBuf,
    pub(crate) files: Arc<FileMap>,
    /// Digests and sizes of files that somebody asked for.
    digests: Mutex<HashMap<ImagePath, (Digest, u64)>>,
    /// How files were when they were listed.
    stamps: HashMap<ImagePath, Stamp>,
    hashed: Mutex<Hashed>,
}

impl Context {
    /// Lists the context, without what `.dockerignore` leaves out.
    ///
    /// `<Dockerfile>.dockerignore` beside the Dockerfile wins over the context's own.
    pub(crate) fn open(path: &Path, dockerfile: &Path) -> Result<Self, BuildError> {
        Self::list_all(path, &read_ignore(path, dockerfile)?)
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
            digests: Mutex::default(),
            stamps: HashMap::new(),
            hashed: Mutex::default(),
        };
        let mut listing = Listing::default();
        // The mode of the folder itself is an accident of whoever made it.
        listing.files.insert(Vec::new(), Node::new(NodeKind::Directory, 0o755));
        context.list(&mut listing, b"", ignore, 0)?;
        context.files = Arc::new(listing.files);
        context.stamps = listing.stamps;
        Ok(context)
    }

    fn on_disk(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    /// Gives every file a mode of its own.
    pub(crate) fn set_modes(&mut self, mode: impl Fn(&Node) -> u32) {
        let files = Arc::make_mut(&mut self.files);
        let paths: Vec<ImagePath> = files.iter().map(|(path, _)| path.clone()).collect();
        for path in paths {
            if let Some(node) = files.get_mut(&path) {
                node.mode = mode(node);
            }
        }
    }

    /// Whether there is something of that name, also when it was left out.
    pub(crate) fn is_on_disk(&self, path: &[u8]) -> bool {
        std::fs::symlink_metadata(self.on_disk(path)).is_ok()
    }

    fn list(
        &self,
        listing: &mut Listing,
        folder: &[u8],
        ignore: &Ignore,
        depth: usize,
    ) -> Result<(), BuildError> {
        if depth > MAX_DEPTH {
            let limit = MAX_DEPTH as u64;
            return Err(BuildError::ContextLimit { what: "nested folders", limit });
        }
        let error = |error| failed(&self.on_disk(folder), error);
        let fd = self.open_at(folder, OFlags::RDONLY | OFlags::DIRECTORY).map_err(error)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd).map_err(error)? {
            let name = entry.map_err(error)?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            entries.push(name);
        }
        for name in entries {
            let path = files::join(folder, &name);
            let stat = match rustix::fs::statat(&fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                // It went away while we were looking.
                Err(Errno::NOENT) => continue,
                other => other.map_err(|error| failed(&self.on_disk(&path), error))?,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let text = String::from_utf8_lossy(&path);
            let ignored = !ignore.is_empty() && ignore.is_ignored(&text);
            if ignored && (kind != FileType::Directory || ignore.can_skip(&text)) {
                continue;
            }
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            listing.count(if kind == FileType::RegularFile { size } else { 0 })?;
            let node_kind = match kind {
                FileType::RegularFile => NodeKind::File { size, digest: None },
                FileType::Directory => NodeKind::Directory,
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&fd, name.as_slice(), Vec::new())
                        .map_err(|error| failed(&self.on_disk(&path), error))?;
                    NodeKind::Symlink { target: target.into_bytes() }
                }
                // Sockets, pipes, devices: no part of a context.
                _ => continue,
            };
            if kind == FileType::Directory {
                self.list(listing, &path, ignore, depth + 1)?;
            }
            // An ignored folder is there only for what an exception brought back.
            if !ignored || listing.files.below(&path).next().is_some() {
                let mode = if kind == FileType::Symlink { 0o777 } else { stat.st_mode & 0o7777 };
                if kind == FileType::RegularFile {
                    listing.stamps.insert(path.clone(), Stamp::of(&stat));
                }
                listing.files.insert(path, Node::new(node_kind, mode));
            }
        }
        Ok(())
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
    pub(crate) fn remember(&self, record: impl FnOnce() -> Option<Record>) {
        self.hashed().read(record);
    }

    /// How a file was when it was listed.
    pub(crate) fn stamp(&self, path: &[u8]) -> Option<&Stamp> {
        self.stamps.get(path)
    }

    /// Whether the digests of these files were taken in this build, of files that lay still.
    pub(crate) fn is_sure<'p>(&self, mut paths: impl Iterator<Item = &'p ImagePath>) -> bool {
        let hashed = self.hashed();
        paths.all(|path| self.stamp(path).is_none_or(|stamp| hashed.is_sure(stamp)))
    }

    /// What the next build shall remember, if it is news.
    pub(crate) fn record(&self) -> Option<Record> {
        self.hashed().record()
    }

    /// The digest of a file's data, remembered if it was asked for before.
    pub(crate) fn digest(&self, path: &ImagePath) -> Result<Digest, BuildError> {
        if let Some((digest, _)) = self.digests().get(path) {
            return Ok(digest.clone());
        }
        let known = self.stamps.get(path).and_then(|stamp| {
            let digest = self.hashed().get(stamp)?;
            Some((digest, stamp.size()))
        });
        let (digest, size) = match known {
            Some(known) => known,
            None => self.hash(path)?,
        };
        self.digests().insert(path.clone(), (digest.clone(), size));
        Ok(digest)
    }

    #[expect(clippy::disallowed_methods, reason = "whether a file lay still is told by this clock")]
    fn hash(&self, path: &ImagePath) -> Result<(Digest, u64), BuildError> {
        let error = |source| BuildError::Context { path: self.on_disk(path), source };
        let now = std::time::SystemTime::now();
        let (mut file, before) = self.open_stamped(path)?;
        let (digest, size) = pack::hash(&mut file).map_err(error)?;
        let after = rustix::fs::fstat(&file).map_err(|errno| error(errno.into()))?;
        self.hashed().learn(before, &Stamp::of(&after), now, &digest);
        Ok((digest, size))
    }

    fn hashed(&self) -> std::sync::MutexGuard<'_, Hashed> {
        // As with the digests.
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node as it was when its digest was taken.
    pub(crate) fn known(&self, path: &ImagePath, node: &Node) -> Node {
        let mut node = node.clone();
        if let (NodeKind::File { .. }, Some((digest, size))) =
            (&node.kind, self.digests().get(path))
        {
            node.kind = NodeKind::File { size: *size, digest: Some(digest.clone()) };
        }
        node
    }

    fn digests(&self) -> std::sync::MutexGuard<'_, HashMap<ImagePath, (Digest, u64)>> {
        // A map of digests is right after each insertion, whatever else panicked.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a folder holds, while it is listed.
#[derive(Default)]
struct Listing {
    files: FileMap,
    stamps: HashMap<ImagePath, Stamp>,
    /// Of all that was looked at.
    count: u64,
    bytes: u64,
}

impl Listing {
    fn count(&mut self, bytes: u64) -> Result<(), BuildError> {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.count > MAX_CONTEXT_FILES {
            return Err(BuildError::ContextLimit { what: "files", limit: MAX_CONTEXT_FILES });
        }
        if self.bytes > MAX_CONTEXT_BYTES {
            return Err(BuildError::ContextLimit { what: "bytes", limit: MAX_CONTEXT_BYTES });
        }
        Ok(())
    }
}

fn failed(path: &Path, error: Errno) -> BuildError {
    BuildError::Context { path: path.to_owned(), source: error.into() }
}

/// The `.dockerignore` beside the Dockerfile, or else the context's.
pub(crate) fn read_ignore(context: &Path, dockerfile: &Path) -> Result<Ignore, BuildError> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > MAX_IGNORE_BYTES => {
                let source = std::io::ErrorKind::FileTooLarge.into();
                return Err(BuildError::Context { path, source });
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(BuildError::Context { path, source }),
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(BuildError::Context { path, source }),
        };
        return Ignore::parse(&text).map_err(|source| BuildError::Ignore { path, source });
    }
    Ok(Ignore::default())
}
