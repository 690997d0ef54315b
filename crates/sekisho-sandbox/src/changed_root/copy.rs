//! Stacked trees as one folder, by copying.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::remove_tree;

/// How a folder says that it hides what is below it.
pub(super) const OPAQUE: &str = "user.overlay.opaque";

/// Longest list of names, and longest value, of attributes that Linux has.
const MAX_XATTR_BYTES: usize = 64 << 10;

/// Copies trees onto each other, the lowest first.
pub(super) struct Copier<'a> {
    /// Asked before each file; its error ends the copying.
    pub(super) check: &'a dyn Fn() -> io::Result<()>,
    /// Where a file with several names is, by device and inode of the tree's.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(check: &'a dyn Fn() -> io::Result<()>) -> Self {
        Self { check, links: HashMap::new() }
    }

    /// Puts a tree on top of what is in `to`. Nothing in `to` is followed: what is no folder gives way.
    pub(super) fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            (self.check)()?;
            let name = entry?.file_name();
            self.entry(&from.join(&name), &to.join(&name))?;
        }
        dress(from, to, &fs::symlink_metadata(from)?)
    }

    fn entry(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(from)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            let there = fs::symlink_metadata(to).ok();
            let folder = there.as_ref().is_some_and(fs::Metadata::is_dir);
            if there.is_some() && (!folder || is_opaque(from)) {
                remove_tree_or_file(to)?;
            }
            if !folder || !to.is_dir() {
                fs::create_dir(to)?;
            }
            return self.tree(from, to);
        }
        remove_tree_or_file(to)?;
        if kind.is_char_device() && metadata.rdev() == 0 {
            return Ok(());
        }
        if metadata.nlink() > 1 {
            let id = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&id).filter(|first| first.exists()) {
                return fs::hard_link(first, to);
            }
            self.links.insert(id, to.to_owned());
        }
        if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            // Shares the blocks where the file system can.
            fs::copy(from, to)?;
        } else {
            let kind = FileType::from_raw_mode(metadata.mode());
            let mode = Mode::from_raw_mode(metadata.mode() & 0o7777);
            match rustix::fs::mknodat(CWD, to, kind, mode, metadata.rdev()) {
                // A device, which this container may not have: nobody could use it either.
                Err(Errno::PERM) => return Ok(()),
                other => other?,
            }
        }
        dress(from, to, &metadata)
    }
}

pub(super) fn remove_tree_or_file(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(there) if there.is_dir() => remove_tree(path),
        Ok(_) => fs::remove_file(path),
    }
}

pub(super) fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(folder, OPAQUE, &mut value).is_ok() && value == *b"y"
}

/// Owner, attributes, mode and time of one file for another.
pub(super) fn dress(from: &Path, to: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    let link = metadata.is_symlink();
    if !link {
        attributes(from, to)?;
        // After the owner, which clears setuid.
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    let at = |tv_sec, nanoseconds: i64| Timespec { tv_sec, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: at(metadata.atime(), metadata.atime_nsec()),
        last_modification: at(metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0; MAX_XATTR_BYTES];
    let length = match rustix::fs::llistxattr(from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0) {
        let ours = name == OPAQUE.as_bytes();
        if name.is_empty()
            || ours
            || !(name.starts_with(b"user.") || name == b"security.capability")
        {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; MAX_XATTR_BYTES];
        let length = rustix::fs::lgetxattr(from, name, &mut value[..])?;
        match rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            // Capabilities of files can be given by whom the container lets.
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
