//! An index that is written and read without being held.
//!
//! ```text
//!  "sekisho.index.2\n"  { length | entries } ...  { length | what is gone }  SHA-256 of all before
//! ```
//!
//! Lengths are of 32 bits, little end first; what stands after them is in postcard's encoding
//! (<https://postcard.jamesmunns.com/wire-format>): as JSON, to read the index of a base was a third of a build
//! in which one file had changed. The last digest tells a file that a loss of power left half written.

use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sekisho_types::Sha256Writer;
use serde::{Deserialize, Serialize};

use super::{Gone, IndexEntry, Stored};
use crate::files::ImagePath;

pub(crate) const MAGIC: &[u8] = b"sekisho.index.2\n";

const BUFFER_BYTES: usize = 1 << 16;

/// Entries of a piece: some 30 KiB.
const PIECE_ENTRIES: usize = 256;

const SUM_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
enum Piece {
    Entries(Vec<Stored>),
    /// The last one.
    Gone(Gone),
}

/// Writes an index while its entries come.
pub(crate) struct IndexWriter<W: io::Write = BufWriter<fs::File>> {
    to: Sha256Writer<W>,
    count: usize,
    waiting: Vec<Stored>,
    gone: Gone,
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
        Self::new(BufWriter::with_capacity(BUFFER_BYTES, fs::File::create(path)?))
    }

    pub(crate) fn finish(self) -> io::Result<IndexFile> {
        let is_empty = self.count == 0 && self.gone == Gone::default();
        let file = self.end()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(IndexFile { path: file.path().to_owned(), is_empty })
    }
}

impl<W: io::Write> IndexWriter<W> {
    pub(crate) fn new(to: W) -> io::Result<Self> {
        let mut to = Sha256Writer::new(to);
        to.write_all(MAGIC)?;
        Ok(Self { to, count: 0, waiting: Vec::new(), gone: Gone::default() })
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn entry(&mut self, entry: IndexEntry) -> io::Result<()> {
        self.count += 1;
        self.waiting.push(entry.into());
        if self.waiting.len() < PIECE_ENTRIES {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.waiting);
        self.piece(&Piece::Entries(entries))
    }

    /// A path of lower layers that is gone.
    pub(crate) fn removed(&mut self, path: ImagePath) {
        self.gone.removed.push(path);
    }

    /// A folder of which lower layers' contents are gone.
    pub(crate) fn opaque(&mut self, folder: ImagePath) {
        self.gone.opaque.push(folder);
    }

    fn piece(&mut self, piece: &Piece) -> io::Result<()> {
        let bytes = postcard::to_allocvec(piece).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&bytes)
    }

    pub(crate) fn end(mut self) -> io::Result<W> {
        let (entries, gone) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.gone));
        self.piece(&Piece::Entries(entries))?;
        self.piece(&Piece::Gone(gone))?;
        let (mut to, sum, _) = self.to.finish_bytes();
        to.write_all(&sum)?;
        Ok(to)
    }
}

/// Reads an index, and gives each entry to `take` as it comes; what is gone of lower layers is known at the end.
///
/// # Errors
/// Those of reading; `InvalidData` when the file is not whole, of an older form or no index at all, which may
/// turn out after its last entry.
pub(crate) fn read_entries(path: &Path, take: &mut dyn FnMut(IndexEntry)) -> io::Result<Gone> {
    read_from(fs::File::open(path)?, take)
}

/// As [`read_entries`], from wherever it lies.
pub(crate) fn read_from(from: impl io::Read, take: &mut dyn FnMut(IndexEntry)) -> io::Result<Gone> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    let mut hash = Sha256Writer::new(io::sink());
    let mut bytes = Vec::new();
    // No more is made room for than there is.
    let mut next = |length: usize, bytes: &mut Vec<u8>| -> io::Result<()> {
        bytes.clear();
        from.by_ref().take(length as u64).read_to_end(bytes)?;
        if bytes.len() < length { Err(damaged("it is cut short")) } else { Ok(()) }
    };
    next(MAGIC.len(), &mut bytes)?;
    if bytes != MAGIC {
        return Err(damaged("it begins with something else"));
    }
    hash.write_all(&bytes)?;
    let gone = loop {
        next(size_of::<u32>(), &mut bytes)?;
        hash.write_all(&bytes)?;
        let length = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        next(length as usize, &mut bytes)?;
        hash.write_all(&bytes)?;
        let (piece, rest) = postcard::take_from_bytes(&bytes).map_err(damaged)?;
        if !rest.is_empty() {
            return Err(damaged("a piece is longer than what is in it"));
        }
        match piece {
            Piece::Entries(entries) => entries.into_iter().for_each(|entry| take(entry.into())),
            Piece::Gone(gone) => break gone,
        }
    };
    next(SUM_BYTES, &mut bytes)?;
    if bytes != hash.finish_bytes().1 || !from.fill_buf()?.is_empty() {
        return Err(damaged("its digest is another"));
    }
    Ok(gone)
}

fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::files::{Known, Node, NodeKind, Sum};

    type Read = (Vec<IndexEntry>, Gone);

    fn read(bytes: &[u8]) -> io::Result<Read> {
        let mut entries = Vec::new();
        let gone = read_from(bytes, &mut |entry| entries.push(entry))?;
        Ok((entries, gone))
    }

    fn write((entries, gone): &Read) -> Vec<u8> {
        let mut writer = IndexWriter::new(Vec::new()).unwrap();
        entries.iter().for_each(|entry| writer.entry(entry.clone()).unwrap());
        assert_eq!(writer.count(), entries.len());
        gone.removed.iter().for_each(|path| writer.removed(path.clone()));
        gone.opaque.iter().for_each(|path| writer.opaque(path.clone()));
        writer.end().unwrap()
    }

    fn entry(path: Vec<u8>) -> IndexEntry {
        let kind = match path.len() % 4 {
            0 => NodeKind::Directory,
            1 => NodeKind::File { size: u64::MAX, digest: Known::of(Sum::of(&path)) },
            2 => NodeKind::Symlink { target: path.clone() },
            _ => NodeKind::CharDevice { major: 1, minor: 3 },
        };
        let xattrs = vec![("user.a".to_owned(), path.clone())];
        IndexEntry { path, node: Node { xattrs, mtime: -1, uid: 7, ..Node::new(kind, 0o755) } }
    }

    #[test]
    fn any_number_of_entries_comes_back_and_what_is_not_whole_is_none() {
        for count in [0, 1, PIECE_ENTRIES - 1, PIECE_ENTRIES, 2 * PIECE_ENTRIES + 3] {
            let entries = (0..count).map(|at| entry(format!("a/{at}").into_bytes())).collect();
            let gone = Gone { removed: vec![b"x/y".to_vec()], opaque: vec![b"z".to_vec()] };
            let all = (entries, gone);
            let bytes = write(&all);
            assert_eq!(read(&bytes).unwrap(), all);
            let step = (bytes.len() / 100).max(1);
            for harmed in (0..bytes.len()).step_by(step) {
                let mut wrong = bytes.clone();
                wrong[harmed] = !wrong[harmed];
                for wrong in [&bytes[..harmed], &wrong] {
                    let error = read(wrong).expect_err("a harmed index was read");
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{count} {harmed}");
                }
            }
            assert!(read(&[&bytes[..], b"x"].concat()).is_err());
        }
        assert!(read(b"{\"entries\":[],\"removed\":[],\"opaque\":[]}").is_err(), "an older form");
    }

    #[test]
    fn a_file_says_whether_there_is_anything_in_it() {
        let dir = tempfile::tempdir().unwrap();
        for (name, path) in [("none", None), ("one", Some(b"gone".to_vec()))] {
            let mut writer = IndexWriter::create(dir.path().join(name)).unwrap();
            let gone = path.iter().cloned().collect::<Vec<_>>();
            path.into_iter().for_each(|path| writer.removed(path));
            let file = writer.finish().unwrap();
            assert_eq!((&file.path, file.is_empty), (&dir.path().join(name), gone.is_empty()));
            let read = read_entries(&file.path, &mut |_| panic!("there is no entry")).unwrap();
            assert_eq!(read, Gone { removed: gone, opaque: Vec::new() });
        }
    }

    proptest! {
        #[test]
        fn any_path_comes_back(path in prop::collection::vec(any::<u8>(), 0..12)) {
            let gone = Gone { removed: vec![path.clone()], opaque: vec![path.clone()] };
            let all = (vec![entry(path)], gone);
            prop_assert_eq!(read(&write(&all)).unwrap(), all);
        }
    }
}
