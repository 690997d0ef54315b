//! An index that is written and read without being held.

use std::fmt;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{IndexEntry, LayerIndex, texts};
use crate::files::ImagePath;

const BUFFER_BYTES: usize = 1 << 16;

/// Writes what a [`LayerIndex`] would be, while its entries come.
pub(crate) struct IndexWriter {
    path: PathBuf,
    file: BufWriter<fs::File>,
    count: usize,
    removed: Vec<ImagePath>,
    opaque: Vec<ImagePath>,
}

/// A whole index in a file that has not found its place yet.
#[derive(Debug)]
pub(crate) struct IndexFile {
    pub(crate) path: PathBuf,
    /// The layer holds nothing, and takes nothing away.
    pub(crate) is_empty: bool,
}

impl IndexWriter {
    /// `path` is a name that nobody has.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, fs::File::create(&path)?);
        file.write_all(b"{\"entries\":[")?;
        Ok(Self { path, file, count: 0, removed: Vec::new(), opaque: Vec::new() })
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn entry(&mut self, entry: IndexEntry) -> io::Result<()> {
        if self.count > 0 {
            self.file.write_all(b",")?;
        }
        self.count += 1;
        Ok(serde_json::to_writer(&mut self.file, &super::Stored::from(entry))?)
    }

    /// A path of lower layers that is gone.
    pub(crate) fn removed(&mut self, path: ImagePath) {
        self.removed.push(path);
    }

    /// A folder of which lower layers' contents are gone.
    pub(crate) fn opaque(&mut self, folder: ImagePath) {
        self.opaque.push(folder);
    }

    pub(crate) fn finish(self) -> io::Result<IndexFile> {
        let Self { path, mut file, count, removed, opaque } = self;
        let is_empty = count == 0 && removed.is_empty() && opaque.is_empty();
        for (name, paths) in [("removed", removed), ("opaque", opaque)] {
            file.write_all(if name == "removed" { b"],\"removed\":" } else { b",\"opaque\":" })?;
            texts::serialize(&paths, &mut serde_json::Serializer::new(&mut file))?;
        }
        file.write_all(b"}")?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(IndexFile { path, is_empty })
    }
}

/// Reads an index, and gives each entry to `take` as it comes; what is gone of lower layers comes at the end,
/// in an index without entries.
pub(crate) fn read_entries(
    path: &Path,
    take: &mut dyn FnMut(IndexEntry),
) -> serde_json::Result<LayerIndex> {
    let file = fs::File::open(path).map_err(serde_json::Error::io)?;
    let mut from =
        serde_json::Deserializer::from_reader(BufReader::with_capacity(BUFFER_BYTES, file));
    let index = from.deserialize_map(Whole(take))?;
    from.end()?;
    Ok(index)
}

struct Whole<'a>(&'a mut dyn FnMut(IndexEntry));

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = LayerIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the index of a layer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LayerIndex, A::Error> {
        let mut index = LayerIndex::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "entries" => map.next_value_seed(Entries(&mut *self.0))?,
                "removed" => index.removed = map.next_value::<Texts>()?.0,
                "opaque" => index.opaque = map.next_value::<Texts>()?.0,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(index)
    }
}

#[derive(serde::Deserialize)]
struct Texts(#[serde(with = "texts")] Vec<ImagePath>);

struct Entries<'a>(&'a mut dyn FnMut(IndexEntry));

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element()? {
            (self.0)(entry);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Node, NodeKind};

    #[test]
    fn what_is_written_piece_by_piece_is_what_is_written_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let node = |kind| Node::new(kind, 0o755);
        for (names, removed) in [(&["a", "a/\u{e4}%", "b"][..], &["x/y"][..]), (&[], &[])] {
            let entry = |name: &&str| {
                let kind = NodeKind::Symlink { target: name.as_bytes().to_vec() };
                IndexEntry { path: name.as_bytes().to_vec(), node: node(kind) }
            };
            let mut index = LayerIndex::default();
            let mut writer = IndexWriter::create(dir.path().join("index")).unwrap();
            for name in names {
                index.entries.push(entry(name));
                writer.entry(entry(name)).unwrap();
            }
            for path in removed {
                index.removed.push(path.as_bytes().to_vec());
                writer.removed(path.as_bytes().to_vec());
            }
            assert_eq!(writer.count(), names.len());
            let file = writer.finish().unwrap();
            assert_eq!(file.is_empty, index == LayerIndex::default());
            assert_eq!(fs::read(&file.path).unwrap(), serde_json::to_vec(&index).unwrap());
            let mut back = Vec::new();
            let rest = read_entries(&file.path, &mut |entry| back.push(entry)).unwrap();
            assert_eq!((back, &rest.removed), (index.entries, &index.removed));
            // One that was cut short is none.
            let bytes = fs::read(&file.path).unwrap();
            fs::write(&file.path, &bytes[..bytes.len() - 1]).unwrap();
            assert!(read_entries(&file.path, &mut |_| {}).is_err());
        }
    }
}
