//! Owner, mode, attributes and time of what was unpacked.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sekisho_oci::layer::{Entry, EntryKind};
use sekisho_sandbox::{Isolation, OWNER_ATTRIBUTE, Owner};

use super::proc_path;
use crate::upper;

fn id(id: u64) -> io::Result<u32> {
    u32::try_from(id).map_err(|_| io::Error::other("an id over 32 bits"))
}

/// Whose it is, in the file's own attribute.
fn owner(entry: &Entry) -> io::Result<String> {
    Ok(Owner { uid: id(entry.uid)?, gid: id(entry.gid)? }.to_attribute())
}

fn no_attributes(error: Errno) -> io::Error {
    match error {
        Errno::OPNOTSUPP => io::Error::other(
            "the cache folder's file system keeps no `user.` attributes, which hold owners when \
             building without root: put the cache folder on ext4, xfs, btrfs or a newer tmpfs",
        ),
        error => error.into(),
    }
}

/// Whether an owner that the disk cannot hold is to be kept in an attribute.
fn keeps_owner(entry: &Entry, isolation: Isolation) -> bool {
    !isolation.has_owners() && (entry.uid, entry.gid) != (0, 0)
}

/// The image's attributes of an entry, by `set`.
fn set_xattrs(
    entry: &Entry,
    set: impl Fn(&str, &[u8]) -> rustix::io::Result<()>,
) -> io::Result<()> {
    for (attribute, value) in &entry.xattrs {
        let Ok(attribute) = std::str::from_utf8(attribute) else { continue };
        if !upper::is_of_the_image(attribute) {
            continue;
        }
        match set(attribute, value) {
            Ok(()) => {}
            // An ordinary user cannot give capabilities; a file system may know no attributes.
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// As [`dress`], of a file that is open: most of a layer are files, and this looks up no name.
pub(super) fn dress_file(
    file: &std::fs::File,
    entry: &Entry,
    mtime: i64,
    isolation: Isolation,
) -> io::Result<()> {
    if isolation.has_owners() {
        let (uid, gid) = (id(entry.uid)?, id(entry.gid)?);
        let made = rustix::fs::fstat(file)?;
        if (made.st_uid, made.st_gid) != (uid, gid) {
            rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
    }
    let none = XattrFlags::empty();
    if keeps_owner(entry, isolation) {
        let set = rustix::fs::fsetxattr(file, OWNER_ATTRIBUTE, owner(entry)?.as_bytes(), none);
        set.map_err(no_attributes)?;
    }
    set_xattrs(entry, |name, value| rustix::fs::fsetxattr(file, name, value, none))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode & 0o7777))?;
    Ok(rustix::fs::futimens(file, &times(mtime))?)
}

/// Owner, mode, attributes, time: in this order, for changing the owner clears setuid, and a mode may forbid
/// writing attributes.
pub(super) fn dress(
    folder: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    mtime: i64,
    isolation: Isolation,
) -> io::Result<()> {
    let (link, none) = (matches!(entry.kind, EntryKind::Symlink { .. }), XattrFlags::empty());
    if isolation.has_owners() {
        let (uid, gid) = (Uid::from_raw(id(entry.uid)?), Gid::from_raw(id(entry.gid)?));
        rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    let path = proc_path(folder).join(OsStr::from_bytes(name));
    if entry.kind == EntryKind::Directory && keeps_owner(entry, isolation) {
        let set = rustix::fs::lsetxattr(&path, OWNER_ATTRIBUTE, owner(entry)?.as_bytes(), none);
        set.map_err(no_attributes)?;
    }
    if !link {
        let mode = Mode::from_raw_mode(entry.mode & 0o7777);
        // `name` was made by us and is no link.
        rustix::fs::chmodat(folder, name, mode, AtFlags::empty())?;
        set_xattrs(entry, |name, value| rustix::fs::lsetxattr(&path, name, value, none))?;
    }
    Ok(rustix::fs::utimensat(folder, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}
