//! Unpacks a layer into a folder that overlayfs can take as a lower directory.
//!
//! The layer may be anybody's. Each entry is made below a descriptor of its parent, which is found
//! without following any link; an entry that would need one is refused.

mod dress;

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err as fs;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;
use sekisho_oci::layer::{self, Entry, EntryKind, Whiteout};
use sekisho_sandbox::Isolation;
use sekisho_types::{Digest, Sha256Writer};
use tokio_util::sync::CancellationToken;

use self::dress::{dress, dress_file};
use crate::ages::Age;
use crate::files::{self, ImagePath, IndexEntry, IndexFile, IndexWriter, Node, Sum};
use crate::{ahead, sparse};

/// Reads a layer for its index, and unpacks it into `tree` when given.
///
/// The index, which is written to a file of that name, is returned with the digest of the uncompressed bytes.
pub(crate) fn ingest(
    blob: &Path,
    tree: Option<(&Path, Isolation, Age)>,
    index: PathBuf,
    cancel: &CancellationToken,
) -> anyhow::Result<(IndexFile, Digest)> {
    let file = io::BufReader::with_capacity(1 << 17, fs::File::open(blob)?);
    let limits = layer::Limits {
        absolute_paths: layer::AbsolutePaths::MakeRelative,
        ..layer::Limits::default()
    };
    let mut unpacker =
        tree.map(|(path, isolation, age)| Unpacker::open(path, isolation, age)).transpose()?;
    let mut index = IndexWriter::create(index)?;
    let decoder = layer::decompress(file, limits.total_bytes)?;
    let ((), diff_id) = ahead::read(decoder, cancel, |plain| {
        layer::walk(plain, &limits, &mut |entry, data| {
            let digest = one(entry, data, &mut index, unpacker.as_mut())?;
            record(entry, digest, &mut index)
        })?;
        Ok(())
    })?;
    if let Some(unpacker) = unpacker {
        unpacker.finish()?;
    }
    Ok((index.finish()?, diff_id))
}

/// Unpacks a layer that was written here; its digests are known.
pub(crate) fn unpack(
    tar: &mut dyn Read,
    tree: &Path,
    (isolation, age): (Isolation, Age),
) -> anyhow::Result<()> {
    let mut unpacker = Unpacker::open(tree, isolation, age)?;
    layer::walk(tar, &layer::Limits::default(), &mut |entry, data| match entry.whiteout() {
        Some(Whiteout::Opaque { directory }) => unpacker.opaque(&directory),
        Some(Whiteout::Removed { path }) => unpacker.whiteout(&path),
        None => unpacker.entry(entry, data),
    })?;
    unpacker.finish()
}

struct Tee<R> {
    inner: R,
    hash: Sha256Writer<io::Sink>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        io::Write::write_all(&mut self.hash, &buffer[..read])?;
        Ok(read)
    }
}

/// Digest of the data of a regular file.
fn one(
    entry: &Entry,
    data: &mut dyn Read,
    index: &mut IndexWriter,
    unpacker: Option<&mut Unpacker>,
) -> io::Result<Option<Sum>> {
    if entry.is_whiteout_name() {
        match entry.whiteout() {
            Some(Whiteout::Opaque { directory }) => {
                if let Some(unpacker) = unpacker {
                    unpacker.opaque(&directory)?;
                }
                index.opaque(directory);
            }
            Some(Whiteout::Removed { path }) => {
                if let Some(unpacker) = unpacker {
                    unpacker.whiteout(&path)?;
                }
                index.removed(path);
            }
            None => {}
        }
        return Ok(None);
    }
    let EntryKind::File { .. } = entry.kind else {
        if let Some(unpacker) = unpacker {
            unpacker.entry(entry, &mut io::empty())?;
        }
        return Ok(None);
    };
    let mut hashing = Tee { inner: data, hash: Sha256Writer::new(io::sink()) };
    match unpacker {
        Some(unpacker) => unpacker.entry(entry, &mut hashing)?,
        None => {
            io::copy(&mut hashing, &mut io::sink())?;
        }
    }
    Ok(Some(Sum::from_bytes(hashing.hash.finish_bytes().1)))
}

fn record(entry: &Entry, digest: Option<Sum>, index: &mut IndexWriter) -> io::Result<()> {
    // The root itself is no file of the image; overlayfs's whiteouts are no devices.
    let device_zero = entry.kind == EntryKind::CharDevice { major: 0, minor: 0 };
    if !entry.is_whiteout_name() && !entry.path.is_empty() && !device_zero {
        let node = Node::from_entry(entry, digest);
        index.entry(IndexEntry { path: entry.path.clone(), node })?;
    }
    Ok(())
}

/// Makes entries in a folder of this machine.
pub(crate) struct Unpacker {
    root: OwnedFd,
    isolation: Isolation,
    age: Age,
    /// Modes and times of folders, set when everything is in them.
    folders: Vec<Entry>,
    /// The folder that was used last, for most entries have the same as the one before.
    last: Option<(ImagePath, OwnedFd)>,
    chunk: sparse::Chunk,
}

impl Unpacker {
    pub(crate) fn open(path: &Path, isolation: Isolation, age: Age) -> anyhow::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        let chunk = sparse::Chunk::default();
        Ok(Self { root, isolation, age, folders: Vec::new(), last: None, chunk })
    }

    /// The folder at `path`, made when it is missing.
    fn folder(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let fd = match self.open_folder(path) {
                Err(Errno::NOENT) => {
                    for part in files::ancestors(path).chain([path]) {
                        match rustix::fs::mkdirat(&self.root, part, Mode::from_raw_mode(0o755)) {
                            Ok(()) | Err(Errno::EXIST) => {}
                            Err(error) => return Err(error.into()),
                        }
                        self.open_folder(part)?;
                    }
                    self.open_folder(path)?
                }
                other => other.map_err(|error| match error {
                    Errno::LOOP | Errno::NOTDIR => {
                        io::Error::other("the layer puts a file below something that is no folder")
                    }
                    other => other.into(),
                })?,
            };
            self.last = Some((path.to_vec(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open_folder(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let path = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    fn parts(path: &[u8]) -> (&[u8], &[u8]) {
        let name = files::file_name(path);
        let folder = &path[..path.len() - name.len()];
        (folder.strip_suffix(b"/").unwrap_or(folder), name)
    }

    fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let (folder, name) = Self::parts(path);
        let folder = self.folder(folder)?;
        match rustix::fs::mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0) {
            // The layer has something of its own at that path, which hides the lower one as well.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn opaque(&mut self, path: &[u8]) -> io::Result<()> {
        let name = format!("{}opaque", self.isolation.overlay_prefix());
        let path = proc_path(self.folder(path)?);
        Ok(rustix::fs::setxattr(&*path, name.as_str(), b"y", XattrFlags::empty())?)
    }

    pub(crate) fn entry(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        if entry.path.is_empty() {
            return Ok(());
        }
        if entry.kind == EntryKind::Directory {
            return self.directory(entry);
        }
        let (parent, name) = Self::parts(&entry.path);
        let (isolation, mtime) = (self.isolation, self.age.shown(&entry.path, entry.mtime));
        if let EntryKind::HardLink { target } = &entry.kind {
            return self.hard_link(target, parent, name);
        }
        if matches!(entry.kind, EntryKind::File { .. }) {
            let file = create(self.folder(parent)?, name)?;
            sparse::write(data, &file, &mut self.chunk)?;
            return dress_file(&file, entry, mtime, isolation);
        }
        let folder = self.folder(parent)?;
        remove(folder, name)?;
        match &entry.kind {
            EntryKind::Symlink { target } => {
                rustix::fs::symlinkat(target.as_slice(), folder, name)?;
            }
            EntryKind::Fifo => {
                rustix::fs::mknodat(folder, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            }
            // In the hands of a lower directory it would be a whiteout that no index knows.
            EntryKind::CharDevice { major: 0, minor: 0 } => return Ok(()),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                if isolation != Isolation::Privileged {
                    // Nobody but root can make one; the index has it all the same.
                    return Ok(());
                }
                let kind = match entry.kind {
                    EntryKind::CharDevice { .. } => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                let device = rustix::fs::makedev(*major, *minor);
                rustix::fs::mknodat(folder, name, kind, Mode::RUSR | Mode::WUSR, device)?;
            }
            EntryKind::File { .. } | EntryKind::Directory | EntryKind::HardLink { .. } => {}
        }
        dress(folder, name, entry, mtime, isolation)
    }

    fn directory(&mut self, entry: &Entry) -> io::Result<()> {
        let (parent, name) = Self::parts(&entry.path);
        let folder = self.folder(parent)?;
        match rustix::fs::mkdirat(folder, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                if !is_folder(folder, name)? {
                    remove(folder, name)?;
                    rustix::fs::mkdirat(folder, name, Mode::RWXU)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.folders.push(entry.clone());
        Ok(())
    }

    fn hard_link(&mut self, target: &[u8], parent: &[u8], name: &[u8]) -> io::Result<()> {
        let (from, old) = Self::parts(target);
        let from = self.open_folder(from)?;
        let to = self.folder(parent)?;
        remove(to, name)?;
        rustix::fs::linkat(&from, old, to, name, AtFlags::empty()).map_err(|error| match error {
            Errno::NOENT => io::Error::other(format!(
                "the layer has a hard link to `{}`, which is in a lower layer",
                files::display(target)
            )),
            other => other.into(),
        })
    }

    /// Innermost first, so that making a folder read-only does not get in the way.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.last = None;
        for entry in std::mem::take(&mut self.folders).iter().rev() {
            let (parent, name) = Self::parts(&entry.path);
            let path = files::display(&entry.path);
            let folder = match self.open_folder(parent) {
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                other => other.with_context(|| format!("cannot open `{path}`"))?,
            };
            if is_folder(&folder, name).unwrap_or(false) {
                let mtime = self.age.shown(&entry.path, entry.mtime);
                dress(&folder, name, entry, mtime, self.isolation)
                    .with_context(|| format!("cannot set the mode of `{path}`"))?;
            }
        }
        Ok(())
    }
}

fn proc_path(fd: &OwnedFd) -> std::path::PathBuf {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn is_folder(folder: impl AsFd, name: &[u8]) -> io::Result<bool> {
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Makes room for an entry that replaces an earlier one.
fn remove(folder: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            let path = proc_path(folder).join(OsStr::from_bytes(name));
            sekisho_sandbox::remove_tree(&path)
        }
        Err(error) => Err(error.into()),
    }
}

/// A new file, in the place of whatever an earlier entry put there.
fn create(folder: &OwnedFd, name: &[u8]) -> io::Result<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600));
    let fd = match open() {
        Err(Errno::EXIST) => {
            remove(folder, name)?;
            open()?
        }
        other => other?,
    };
    Ok(fd.into())
}
