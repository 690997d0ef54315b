//! What a layer holds and takes away, as it is written down: by [`IndexWriter`] piece for piece, for there may
//! be millions of entries, and read back so by [`read_entries`].

mod stream;

use serde::{Deserialize, Serialize};

pub(crate) use self::stream::{IndexFile, IndexWriter, MAGIC, read_entries, read_from};

use super::{ImagePath, Node, NodeKind};

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) path: ImagePath,
    pub(crate) node: Node,
}

/// An entry as it is written down, without what is known only where it is read.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(with = "serde_bytes")]
    path: ImagePath,
    kind: NodeKind,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: i64,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl From<Stored> for IndexEntry {
    fn from(stored: Stored) -> Self {
        let Stored { path, kind, mode, uid, gid, mtime, xattrs } = stored;
        Self { path, node: Node { kind, mode, uid, gid, mtime, xattrs, layer: 0, stamp: None } }
    }
}

impl From<IndexEntry> for Stored {
    fn from(IndexEntry { path, node }: IndexEntry) -> Self {
        let Node { kind, mode, uid, gid, mtime, xattrs, layer: _, stamp: _ } = node;
        Self { path, kind, mode, uid, gid, mtime, xattrs }
    }
}

/// What a layer takes away of lower ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    /// Paths of lower layers that are gone.
    pub(crate) removed: Vec<ImagePath>,
    /// Folders of which lower layers' contents are gone.
    pub(crate) opaque: Vec<ImagePath>,
}
