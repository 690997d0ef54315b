//! What a RUN changed: from overlayfs's upper directory to a layer, and to a tree for later steps.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err as fs;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use sekisho_sandbox::{Isolation, OWNER_ATTRIBUTE, Owner, User};

use crate::ages::Age;
use crate::files::{self, FileMap, ImagePath, Known, Node, NodeKind};
use crate::pack::Packer;
use crate::pyc;
use crate::sparse::Holes;

/// Attributes that belong to an image. All others are the host's or overlayfs's own.
const CAPABILITY: &str = "security.capability";

/// overlayfs's own attributes, as root and in a user namespace.
const OVERLAY_PREFIXES: [&str; 2] = ["trusted.overlay.", "user.overlay."];

/// Largest attribute value that Linux allows, in bytes.
const MAX_XATTR_BYTES: usize = 64 << 10;

/// How ownership on disk becomes ownership in the image.
pub(crate) struct Owners<'a> {
    pub(crate) isolation: Isolation,
    /// Who the command was.
    pub(crate) user: &'a User,
    /// Owners of links and special files, where the disk cannot hold ownership.
    pub(crate) links: &'a HashMap<ImagePath, Owner>,
    /// What was there before, for what the command only changed; needed where the disk cannot hold
    /// ownership.
    pub(crate) before: &'a FileMap,
}

/// Finds a Python source in the layers below.
pub(crate) type Below<'a> = &'a dyn Fn(&[u8]) -> anyhow::Result<Option<pyc::Source>>;

/// What a scan found besides the layer.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    /// Sockets, which no image can hold.
    pub(crate) skipped: Vec<ImagePath>,
}

/// Packs an upper directory. Its files get the times that a layer of that age shows, so that a later step
/// sees the same whether the layer was just made or came from the cache.
pub(crate) fn pack(
    upper: &Path,
    owners: &Owners<'_>,
    (age, below): (Age, Below<'_>),
    to: &mut Packer,
) -> anyhow::Result<Scanned> {
    let (links, scanned) = (HashMap::new(), Scanned::default());
    let mut scan = Scan { owners, age, below, to, links, scanned };
    scan.folder(upper, b"")?;
    Ok(scan.scanned)
}

struct Scan<'a> {
    owners: &'a Owners<'a>,
    age: Age,
    below: Below<'a>,
    to: &'a mut Packer,
    /// First path of a file with several names, and whose it is, by device and inode.
    links: HashMap<(u64, u64), (ImagePath, (u64, u64))>,
    scanned: Scanned,
}

impl Scan<'_> {
    fn folder(&mut self, disk: &Path, path: &[u8]) -> anyhow::Result<()> {
        let mut names = Vec::new();
        with_access(disk, 0o500, || {
            for entry in fs::read_dir(disk)? {
                names.push(entry?.file_name());
            }
            Ok(())
        })?;
        names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
        if names.iter().any(|name| name == pyc::FOLDER) {
            // Before any source gets another time.
            pyc::settle(disk, &|name| (self.below)(&files::join(path, name.as_bytes())))?;
        }
        with_access(disk, 0o500, || {
            for name in &names {
                self.entry(&disk.join(name), &files::join(path, name.as_bytes()))
                    .map_err(io::Error::other)?;
            }
            Ok(())
        })
    }

    fn entry(&mut self, disk: &Path, path: &[u8]) -> anyhow::Result<()> {
        let metadata = fs::symlink_metadata(disk)?;
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            self.to.remove(path)?;
            return Ok(());
        }
        if kind.is_socket() {
            // Nor may it be in the tree that later steps see.
            fs::remove_file(disk)?;
            self.scanned.skipped.push(path.to_vec());
            return Ok(());
        }
        let id = (metadata.dev(), metadata.ino());
        let several = !kind.is_dir() && metadata.nlink() > 1;
        if let (true, Some((target, owner))) = (several, self.links.get(&id).cloned()) {
            let mut node = self.node(NodeKind::HardLink { target }, &metadata, path);
            // Who unpacks it may set an owner for each name.
            (node.uid, node.gid) = owner;
            self.to.add(path.to_vec(), node, &mut io::empty())?;
            return Ok(());
        }
        let node_kind = if kind.is_dir() {
            NodeKind::Directory
        } else if kind.is_file() {
            NodeKind::File { size: metadata.len(), digest: Known::default() }
        } else if kind.is_symlink() {
            NodeKind::Symlink { target: fs::read_link(disk)?.into_os_string().into_encoded_bytes() }
        } else if kind.is_fifo() {
            NodeKind::Fifo
        } else {
            let (major, minor) =
                (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
            if kind.is_char_device() {
                NodeKind::CharDevice { major, minor }
            } else {
                NodeKind::BlockDevice { major, minor }
            }
        };
        let mut node = self.node(node_kind, &metadata, path);
        let mut opaque = false;
        if kind.is_file() || kind.is_dir() {
            // Attributes of users can be read by whom the mode lets read.
            let mut found = Found::default();
            with_access(disk, 0o400, || {
                found = attributes(disk).map_err(io::Error::other)?;
                Ok(())
            })?;
            (node.xattrs, opaque) = (found.kept, found.opaque);
            if let (Some(owner), false) = (found.owner, self.owners.isolation.has_owners()) {
                (node.uid, node.gid) = (owner.uid.into(), owner.gid.into());
            }
        }
        if several {
            self.links.insert(id, (path.to_vec(), (node.uid, node.gid)));
        }
        let mut mtime = node.mtime;
        if kind.is_file() {
            with_access(disk, 0o400, || {
                let mut data = Holes::new(fs::File::open(disk)?.into())?;
                mtime = self.to.add(path.to_vec(), node, &mut data).map_err(io::Error::other)?;
                Ok(())
            })?;
        } else {
            self.to.add(path.to_vec(), node, &mut io::empty())?;
        }
        if kind.is_dir() {
            if opaque {
                self.to.make_opaque(path)?;
            }
            self.folder(disk, path)?;
        }
        set_time(disk, self.age.shown(path, mtime))
            .with_context(|| format!("cannot date `{}`", disk.display()))
    }

    fn node(&self, kind: NodeKind, metadata: &std::fs::Metadata, path: &[u8]) -> Node {
        let mode = metadata.mode() & 0o7777;
        let mut node = Node::new(kind, mode);
        node.mtime = metadata.mtime().min(crate::LAYER_EPOCH);
        (node.uid, node.gid) = match self.owners.isolation {
            Isolation::Privileged | Isolation::IdRange | Isolation::ChangedRoot => {
                (metadata.uid().into(), metadata.gid().into())
            }
            // Replaced by what stands in the file's attribute, if any does.
            Isolation::SingleId => self.presumed(metadata, path),
        };
        node
    }
}

impl Scan<'_> {
    /// Whose a file without an owner of its own is: links and folders that were there before stay whose
    /// they were; what is new belongs to who made it.
    fn presumed(&self, metadata: &std::fs::Metadata, path: &[u8]) -> (u64, u64) {
        if let Some(owner) = self.owners.links.get(path) {
            return (owner.uid.into(), owner.gid.into());
        }
        match self.owners.before.get(path) {
            Some(before) if before.is_directory() == metadata.is_dir() && !metadata.is_file() => {
                (before.uid, before.gid)
            }
            _ => (self.owners.user.uid.into(), self.owners.user.gid.into()),
        }
    }
}

/// As an ordinary user, the owner of a file without the needed permission bits cannot read it, while
/// the command, as root in its namespace, could. So they are lent for the moment.
pub(crate) fn with_access(
    disk: &Path,
    bits: u32,
    act: impl FnOnce() -> io::Result<()>,
) -> anyhow::Result<()> {
    let mode = fs::symlink_metadata(disk)?.mode() & 0o7777;
    let lend = mode & bits != bits && !rustix::process::geteuid().is_root();
    if lend {
        fs::set_permissions(disk, std::fs::Permissions::from_mode(mode | bits))?;
    }
    let result = act();
    if lend {
        fs::set_permissions(disk, std::fs::Permissions::from_mode(mode))?;
    }
    result.map_err(anyhow::Error::from)
}

/// Names and values.
type Attributes = Vec<(String, Vec<u8>)>;

/// What the attributes of a file say.
#[derive(Default)]
struct Found {
    /// Those that belong to the image.
    kept: Attributes,
    /// The folder hides what is below it.
    opaque: bool,
    owner: Option<Owner>,
}

/// Whether an attribute is the image's, and not overlayfs's, the host's or ours.
pub(crate) fn is_of_the_image(name: &str) -> bool {
    let ours = name == OWNER_ATTRIBUTE || OVERLAY_PREFIXES.iter().any(|one| name.starts_with(one));
    !ours && (name == CAPABILITY || name.starts_with("user."))
}

fn attributes(disk: &Path) -> anyhow::Result<Found> {
    let mut names = vec![0; MAX_XATTR_BYTES];
    let length = match rustix::fs::llistxattr(disk, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error).context("cannot list extended attributes"),
    };
    let mut found = Found::default();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let overlay = OVERLAY_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
        let opaque = overlay.is_some_and(|what| what == "opaque");
        if !opaque && name != OWNER_ATTRIBUTE && !is_of_the_image(name) {
            continue;
        }
        let mut value = vec![0; MAX_XATTR_BYTES];
        let length = rustix::fs::lgetxattr(disk, name, &mut value[..])
            .with_context(|| format!("cannot read the extended attribute `{name}`"))?;
        value.truncate(length);
        match name {
            _ if opaque => found.opaque = value == b"y",
            OWNER_ATTRIBUTE => found.owner = Owner::from_attribute(&value),
            CAPABILITY => found.kept.push((name.to_owned(), plain_capability(value))),
            _ => found.kept.push((name.to_owned(), value)),
        }
    }
    found.kept.sort();
    Ok(found)
}

/// File capabilities set inside a user namespace name its root (revision 3); in an image they are for
/// whatever root there is (revision 2).
///
/// Source: linux/capability.h, `struct vfs_ns_cap_data`: little-endian words, the revision in the first
/// word's top byte, the root's uid in the last word.
fn plain_capability(mut value: Vec<u8>) -> Vec<u8> {
    const REVISION_3_BYTES: usize = 24;
    if value.len() == REVISION_3_BYTES && value[3] == 3 {
        value[3] = 2;
        value.truncate(REVISION_3_BYTES - 4);
    }
    value
}

/// Whether it stands for a removed file.
pub(crate) fn is_whiteout(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

/// Whether a folder hides what layers below have in it.
pub(crate) fn is_opaque(disk: &Path) -> io::Result<bool> {
    attributes(disk).map(|found| found.opaque).map_err(io::Error::other)
}

pub(crate) fn set_time(disk: &Path, mtime: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, disk, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A path of a tree on disk.
pub(crate) fn on_disk(tree: &Path, path: &[u8]) -> PathBuf {
    tree.join(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_lose_their_namespace() {
        // CAP_NET_RAW permitted and effective, for root 100000.
        let three = [1, 0, 0, 3, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0];
        let mut two = three[..20].to_vec();
        two[3] = 2;
        assert_eq!(plain_capability(three.to_vec()), two);
        assert_eq!(plain_capability(two.clone()), two);
    }
}
