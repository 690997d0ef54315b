//! What a log says: changes of paths, and how they are written down.
//!
//! ```text
//! change  = 0 · path · mode (u32) · length (u32) · bytes     a file with these bytes
//!         | 1 · from · to                                    a second name of a file
//!         | 2 · from · to                                    another name of a file
//! path    = root (u8) · length (u32) · bytes                 relative to that root
//! ```
//!
//! Numbers are little-endian.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use fs_err as fs;
use tempfile::NamedTempFile;

use crate::atomic::{in_folder, in_folder_of, temporary};

const FILE: u8 = 0;
const LINK: u8 = 1;
const RENAME: u8 = 2;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file has these bytes and this mode. It is written in the folder `spool` first, on the same file
    /// system.
    File { path: PathBuf, bytes: Vec<u8>, mode: u32, spool: PathBuf },
    /// A file has another name too. It is durable, or an earlier change of the same log made it.
    Link { from: PathBuf, to: PathBuf },
    /// A file has another name; it is there and durable.
    Rename { from: PathBuf, to: PathBuf },
}

impl Change {
    /// A record has these bytes.
    pub(crate) fn record(path: PathBuf, bytes: &[u8]) -> Self {
        let spool = path.parent().unwrap_or(&path).to_owned();
        Self::File { path, bytes: bytes.to_owned(), mode: 0o644, spool }
    }

    /// What appears or changes.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } => path,
            Self::Link { to, .. } | Self::Rename { to, .. } => to,
        }
    }

    /// What appears or changes, and what is needed for that.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let from = match self {
            Self::File { .. } => None,
            Self::Link { from, .. } | Self::Rename { from, .. } => Some(from.as_path()),
        };
        [self.path()].into_iter().chain(from)
    }

    /// About how long it is in a log, in bytes.
    pub(crate) fn size(&self) -> usize {
        let bytes = if let Self::File { bytes, .. } = self { bytes.len() } else { 0 };
        bytes + self.paths().map(|path| path.as_os_str().len() + 16).sum::<usize>()
    }

    /// Makes the change, for the first time.
    pub(super) fn apply(&self) -> io::Result<()> {
        match self {
            Self::File { path, bytes, mode, spool } => {
                let mut file = in_folder(spool, || temporary(spool, *mode))?;
                file.write_all(bytes)?;
                named(file, path)
            }
            Self::Link { from, to } => match in_folder_of(to, || fs::hard_link(from, to)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
                // Too many links, or none are allowed here.
                Err(_) => copy(from, to),
                Ok(()) => Ok(()),
            },
            Self::Rename { from, to } => in_folder_of(to, || fs::rename(from, to)),
        }
    }

    /// Makes the change, which may have been made before, wholly or in part.
    ///
    /// # Errors
    /// The disk's, or a file that was to get a name is gone.
    pub(super) fn apply_again(&self) -> io::Result<()> {
        match self {
            Self::File { path, bytes, mode, .. } => {
                let is_there = fs::read(path).is_ok_and(|there| there == *bytes)
                    && fs::metadata(path)?.permissions().mode() & 0o777 == *mode;
                if is_there { Ok(()) } else { self.apply() }
            }
            Self::Link { from, to } => match (fs::metadata(from), fs::metadata(to)) {
                // What has the name may be a file whose bytes a power cut took, while its first name was
                // given to new ones by what the log said before.
                (Ok(one), Ok(other)) if (one.dev(), one.ino()) != (other.dev(), other.ino()) => {
                    fs::remove_file(to)?;
                    self.apply()
                }
                (_, Ok(_)) => Ok(()),
                (_, Err(_)) => self.apply(),
            },
            // Its bytes were durable before it got the name.
            Self::Rename { to, .. } if to.exists() => Ok(()),
            Self::Rename { .. } => self.apply(),
        }
    }
}

/// Gives a file that was written its name.
fn named(mut file: NamedTempFile, path: &Path) -> io::Result<()> {
    in_folder_of(path, || fs::rename(file.path(), path))?;
    // There is nothing left to remove.
    file.disable_cleanup(true);
    Ok(())
}

/// Gives the bytes of `from` the name `to`, and makes them durable.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let folder = to.parent().unwrap_or(to);
    let mode = source.metadata()?.permissions().mode() & 0o777;
    let mut file = in_folder(folder, || temporary(folder, mode))?;
    io::copy(&mut source, &mut file)?;
    file.as_file().sync_all()?;
    named(file, to)
}

/// The body of an entry.
///
/// # Errors
/// A path that is in none of the roots.
pub(super) fn encode(changes: &[Change], roots: &[PathBuf]) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(changes.iter().map(Change::size).sum());
    for change in changes {
        match change {
            Change::File { path, bytes, mode, .. } => {
                body.push(FILE);
                put_path(&mut body, path, roots)?;
                body.extend(mode.to_le_bytes());
                put_bytes(&mut body, bytes)?;
            }
            Change::Link { from, to } | Change::Rename { from, to } => {
                body.push(if matches!(change, Change::Link { .. }) { LINK } else { RENAME });
                put_path(&mut body, from, roots)?;
                put_path(&mut body, to, roots)?;
            }
        }
    }
    Ok(body)
}

fn put_bytes(entry: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    entry.extend(u32::try_from(bytes.len()).map_err(io::Error::other)?.to_le_bytes());
    entry.extend_from_slice(bytes);
    Ok(())
}

fn put_path(entry: &mut Vec<u8>, path: &Path, roots: &[PathBuf]) -> io::Result<()> {
    let within = |(number, root): (usize, &PathBuf)| {
        Some((u8::try_from(number).ok()?, path.strip_prefix(root).ok()?))
    };
    let found = roots.iter().enumerate().find_map(within);
    let (root, path) = found.ok_or_else(|| bad("a path that lies elsewhere"))?;
    entry.push(root);
    put_bytes(entry, path.as_os_str().as_bytes())
}

/// The changes of an entry whose checksum was right.
///
/// # Errors
/// `InvalidData`: another program wrote it.
pub(super) fn decode(body: &[u8], roots: &[PathBuf]) -> io::Result<Vec<Change>> {
    let mut left = body;
    let mut changes = Vec::new();
    while let Some((kind, rest)) = left.split_first() {
        left = rest;
        changes.push(match *kind {
            FILE => {
                let path = take_path(&mut left, roots)?;
                let mode = take_number(&mut left)?;
                let spool = path.parent().unwrap_or(&path).to_owned();
                Change::File { path, mode, bytes: take_bytes(&mut left)?.to_vec(), spool }
            }
            LINK | RENAME => {
                let (from, to) = (take_path(&mut left, roots)?, take_path(&mut left, roots)?);
                if *kind == LINK { Change::Link { from, to } } else { Change::Rename { from, to } }
            }
            _ => return Err(bad("an unknown change")),
        });
    }
    Ok(changes)
}

fn take<'a>(left: &mut &'a [u8], length: usize) -> io::Result<&'a [u8]> {
    let (taken, rest) = left.split_at_checked(length).ok_or_else(|| bad("a short entry"))?;
    *left = rest;
    Ok(taken)
}

fn take_number(left: &mut &[u8]) -> io::Result<u32> {
    let bytes = take(left, 4)?.try_into().map_err(io::Error::other)?;
    Ok(u32::from_le_bytes(bytes))
}

fn take_bytes<'a>(left: &mut &'a [u8]) -> io::Result<&'a [u8]> {
    let length = take_number(left)?;
    take(left, usize::try_from(length).map_err(io::Error::other)?)
}

fn take_path(left: &mut &[u8], roots: &[PathBuf]) -> io::Result<PathBuf> {
    let root = usize::from(take(left, 1)?[0]);
    let root = roots.get(root).ok_or_else(|| bad("an unknown folder"))?;
    let path = Path::new(OsStr::from_bytes(take_bytes(left)?));
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_below || path.as_os_str().is_empty() {
        return Err(bad("a path that leads elsewhere"));
    }
    Ok(root.join(path))
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("write-ahead log: {what}"))
}
