//! What a layer holds and takes away, as it is written down: by [`IndexWriter`] entry for entry, for there may
//! be millions of them, and read back so by [`read_entries`].

mod stream;

use serde::{Deserialize, Serialize};

pub(crate) use self::stream::{IndexFile, IndexWriter, read_entries};

use super::{ImagePath, Node, NodeKind};

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(crate) struct IndexEntry {
    pub(crate) path: ImagePath,
    pub(crate) node: Node,
}

/// An entry as it is written down: flat, for an index has thousands, and serde reads nested ones twice.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "p", with = "text")]
    path: ImagePath,
    #[serde(rename = "k")]
    kind: NodeKind,
    #[serde(rename = "m")]
    mode: u32,
    #[serde(rename = "u")]
    uid: u64,
    #[serde(rename = "g")]
    gid: u64,
    #[serde(rename = "t")]
    mtime: i64,
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
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

/// What a layer holds and takes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerIndex {
    pub(crate) entries: Vec<IndexEntry>,
    /// Paths of lower layers that are gone.
    #[serde(with = "texts")]
    pub(crate) removed: Vec<ImagePath>,
    /// Folders of which lower layers' contents are gone.
    #[serde(with = "texts")]
    pub(crate) opaque: Vec<ImagePath>,
}

/// Paths as text: what is not plain UTF-8 is percent-encoded, and so is `%`.
pub(super) mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn encode(bytes: &[u8]) -> String {
        let plain = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('%'));
        if let Some(text) = plain {
            return text.to_owned();
        }
        let mut text = String::new();
        for byte in bytes {
            match byte {
                b'%' | 0x80.. => text.push_str(&format!("%{byte:02x}")),
                byte => text.push(char::from(*byte)),
            }
        }
        text
    }

    pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
        if !text.contains('%') {
            return Some(text.as_bytes().to_vec());
        }
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if *first != b'%' {
                bytes.push(*first);
                continue;
            }
            let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &rest[2..];
        }
        Some(bytes)
    }

    pub(in crate::files) fn serialize<S: Serializer>(
        bytes: &[u8],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(bytes))
    }

    pub(in crate::files) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        decode(&text).ok_or_else(|| D::Error::custom("bad percent-encoding"))
    }
}

mod texts {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(paths: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        let texts: Vec<_> = paths.iter().map(|path| super::text::encode(path)).collect();
        texts.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        let decoded: Option<Vec<_>> = texts.iter().map(|text| super::text::decode(text)).collect();
        decoded.ok_or_else(|| D::Error::custom("bad percent-encoding"))
    }
}
