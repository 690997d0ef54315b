//! The files of a layer, of a chain of layers, or of the context, without their data.

mod apply;
mod index;
mod sum;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use sekisho_oci::layer::{Entry, EntryKind};
use serde::{Deserialize, Serialize};

pub(crate) use self::apply::Apply;
pub(crate) use self::index::{
    Gone, IndexEntry, IndexFile, IndexWriter, MAGIC, read_entries, read_from,
};
pub(crate) use self::sum::{Known, Sum};
use crate::hashed::{Lay, Stamp};

/// Most symbolic links that are followed on one path: what Linux allows.
const MAX_LINKS: usize = 40;

/// From the root, without a leading or trailing `/`; empty for the root itself.
pub(crate) type ImagePath = Vec<u8>;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NodeKind {
    File {
        size: u64,
        /// Of the data; of a file of the context once it was taken for good, see `hashed`.
        digest: Known,
    },
    Directory,
    Symlink {
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
    HardLink {
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// One file, folder, link or device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: i64,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// Which layer of the chain it comes from.
    pub(crate) layer: u32,
    /// How a file of a context was when it was listed.
    pub(crate) stamp: Option<Box<Stamp>>,
}

impl Node {
    /// A node of root's, with the layer epoch.
    pub(crate) fn new(kind: NodeKind, mode: u32) -> Self {
        let mtime = crate::LAYER_EPOCH;
        Self { kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new(), layer: 0, stamp: None }
    }

    /// How a file of a context lay, and what is known of it.
    pub(crate) fn lay(&self) -> Option<Lay<'_>> {
        match (&self.kind, &self.stamp) {
            (NodeKind::File { digest, .. }, Some(stamp)) => Some(Lay { stamp, digest }),
            _ => None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == NodeKind::Directory
    }

    /// As an entry of a layer.
    pub(crate) fn to_entry(&self, path: &[u8]) -> Entry {
        let kind = match &self.kind {
            NodeKind::File { size, .. } => EntryKind::File { size: *size },
            NodeKind::Directory => EntryKind::Directory,
            NodeKind::Symlink { target } => EntryKind::Symlink { target: target.clone() },
            NodeKind::HardLink { target } => EntryKind::HardLink { target: target.clone() },
            NodeKind::CharDevice { major, minor } => {
                EntryKind::CharDevice { major: *major, minor: *minor }
            }
            NodeKind::BlockDevice { major, minor } => {
                EntryKind::BlockDevice { major: *major, minor: *minor }
            }
            NodeKind::Fifo => EntryKind::Fifo,
        };
        let xattrs = self.xattrs.iter();
        Entry {
            path: path.to_vec(),
            kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            xattrs: xattrs
                .map(|(name, value)| (name.clone().into_bytes(), value.clone()))
                .collect(),
        }
    }

    /// From an entry of a layer; `digest` is that of a file's data.
    pub(crate) fn from_entry(entry: &Entry, digest: Option<Sum>) -> Self {
        let kind = match &entry.kind {
            EntryKind::File { size } => NodeKind::File { size: *size, digest: digest.into() },
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::Symlink { target } => NodeKind::Symlink { target: target.clone() },
            EntryKind::HardLink { target } => NodeKind::HardLink { target: target.clone() },
            EntryKind::CharDevice { major, minor } => {
                NodeKind::CharDevice { major: *major, minor: *minor }
            }
            EntryKind::BlockDevice { major, minor } => {
                NodeKind::BlockDevice { major: *major, minor: *minor }
            }
            EntryKind::Fifo => NodeKind::Fifo,
        };
        let text = |name: &Vec<u8>| String::from_utf8(name.clone()).ok();
        let xattrs = entry.xattrs.iter();
        // Archives disagree about the mode of a link, which means nothing.
        let link = matches!(kind, NodeKind::Symlink { .. });
        Self {
            kind,
            mode: if link { 0o777 } else { entry.mode },
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: xattrs.filter_map(|(name, value)| Some((text(name)?, value.clone()))).collect(),
            layer: 0,
            stamp: None,
        }
    }
}

/// A whole tree of files.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileMap {
    /// Of a context, in order: there may be millions, and while a tree is made of them they are there twice.
    list: Vec<(ImagePath, Node)>,
    /// What can be added to, as layers are; empty while there is a list.
    tree: BTreeMap<ImagePath, Node>,
}

/// A path leads through more links than [`MAX_LINKS`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LinkLoop;

impl FileMap {
    /// Of what was found, in whatever order, each path once.
    pub(crate) fn of(mut found: Vec<(ImagePath, Node)>) -> Self {
        found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        found.shrink_to_fit();
        Self { list: found, tree: BTreeMap::new() }
    }

    /// With more of the same.
    pub(crate) fn and(mut self, more: Vec<(ImagePath, Node)>) -> Self {
        self.list.extend(more);
        Self { tree: self.tree, ..Self::of(self.list) }
    }

    /// As what can be added to.
    fn tree(&mut self) -> &mut BTreeMap<ImagePath, Node> {
        self.tree.extend(std::mem::take(&mut self.list));
        &mut self.tree
    }

    pub(crate) fn insert(&mut self, path: ImagePath, node: Node) {
        self.tree().insert(path, node);
    }

    /// What is at `path` exactly. The root is always there.
    pub(crate) fn get(&self, path: &[u8]) -> Option<&Node> {
        self.entry(path).map(|(_, node)| node)
    }

    /// As [`Self::get`], with the path as it is kept here.
    pub(crate) fn entry(&self, path: &[u8]) -> Option<(&ImagePath, &Node)> {
        match self.list.binary_search_by(|(one, _)| one.as_slice().cmp(path)) {
            Ok(at) => self.list.get(at).map(|(path, node)| (path, node)),
            Err(_) => self.tree.get_key_value(path),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ImagePath, &Node)> + Clone {
        self.list.iter().map(|(path, node)| (path, node)).chain(&self.tree)
    }

    pub(crate) fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.list.iter_mut().map(|(_, node)| node).chain(self.tree.values_mut())
    }

    /// Everything below a folder, not the folder itself; in order of bytes.
    pub(crate) fn below<'a>(
        &'a self,
        folder: &[u8],
    ) -> impl Iterator<Item = (&'a ImagePath, &'a Node)> + use<'a> {
        let (from, to) = bounds(folder);
        let before = |end: &[u8]| self.list.partition_point(|(path, _)| path.as_slice() < end);
        let listed = before(&from)..to.as_deref().map_or(self.list.len(), before);
        let listed = self.list.get(listed).unwrap_or_default();
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let all = listed.iter().map(|(path, node)| (path, node));
        let all = all.chain(self.tree.range((Bound::Included(from), upper)));
        all.filter(|(path, _)| !path.is_empty())
    }

    /// Follows symbolic links as a process in this root would. What does not exist is taken as it
    /// stands.
    pub(crate) fn resolve(&self, path: &[u8], follow_last: bool) -> Result<ImagePath, LinkLoop> {
        let mut left: VecDeque<Vec<u8>> = components(path).collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop_front() {
            if part == b".." {
                done.pop();
                continue;
            }
            done.push(part);
            if left.is_empty() && !follow_last {
                break;
            }
            let Some(Node { kind: NodeKind::Symlink { target }, .. }) = self.get(&done.join(&b'/'))
            else {
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(LinkLoop);
            }
            done.pop();
            if target.first() == Some(&b'/') {
                done.clear();
            }
            for part in components(target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(part);
            }
        }
        Ok(done.join(&b'/'))
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

/// First path below a folder, and the first one after them: `/` is followed by `0`.
fn bounds(folder: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    if folder.is_empty() {
        return (Vec::new(), None);
    }
    ([folder, b"/"].concat(), Some([folder, b"0"].concat()))
}

/// A path for people: what is not UTF-8 is replaced, control characters are escaped.
pub(crate) fn display(path: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(path).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// `folder/name`.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> ImagePath {
    match (folder, name) {
        (b"", name) => name.to_vec(),
        (folder, b"") => folder.to_vec(),
        (folder, name) => [folder, b"/", name].concat(),
    }
}

/// The folders on the way to `path`, outermost first, without the root.
pub(crate) fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// The last component.
pub(crate) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// An absolute path without `.`, `..` and doubled `/`, taken from `from` when relative; as Go's
/// `path.Join` cleans it.
pub(crate) fn absolute(from: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{from}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests;
