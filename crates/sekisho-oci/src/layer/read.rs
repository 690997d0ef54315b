//! The walk over a foreign layer.

use std::io::{self, Read};

use super::decompress::{BudgetExceeded, Compression, decompress};
use super::entry::Entry;
use super::path::{self, PathProblem};

/// What a layer may be at most. All are checked before memory is given out.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Entries. Default 2,000,000: ten times the largest images in use.
    pub entries: u64,
    /// Length of a path or link target, in bytes. Default 4,096, Linux' `PATH_MAX`.
    pub path_bytes: usize,
    /// PAX records and GNU long names of one entry together, in bytes. Default 1 MiB: xattrs of
    /// 64 KiB each are the largest in use.
    pub header_bytes: usize,
    /// Decompressed bytes of the layer, headers included. Default 64 GiB.
    pub total_bytes: u64,
    /// What to do with a path that starts with `/`. Default: refuse.
    pub absolute_paths: AbsolutePaths,
    /// What to do with bytes after the end of the archive. Default: [`AfterEnd::Ignore`].
    pub after_end: AfterEnd,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            path_bytes: 4096,
            header_bytes: 1024 * 1024,
            total_bytes: 64 * 1024 * 1024 * 1024,
            absolute_paths: AbsolutePaths::Reject,
            after_end: AfterEnd::Ignore,
        }
    }
}

/// What to do with a path that starts with `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbsolutePaths {
    /// [`ReadError::UnsafePath`].
    Reject,
    /// Take it from the root of the image, as runtimes do.
    MakeRelative,
}

/// What to do when bytes other than zero follow the two zero blocks that end an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterEnd {
    /// Count them in [`Summary::trailing_bytes`]: container runtimes stop at the end mark too.
    Ignore,
    /// Read on, as `tar --ignore-zeros` does: for archives that were concatenated.
    Continue,
}

/// What was in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How it was compressed.
    pub compression: Compression,
    /// Entries that the visitor saw.
    pub entries: u64,
    /// Decompressed bytes, up to the end of the input.
    pub bytes: u64,
    /// Bytes from the first one that is not zero after the end mark.
    pub trailing_bytes: u64,
}

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input failed, or does not decompress.
    #[error("layer cannot be read")]
    Io(#[source] io::Error),
    /// The input ends in the middle of an entry, or without the two zero blocks.
    #[error("layer ends early, at byte {offset}")]
    Truncated {
        /// Where, in decompressed bytes.
        offset: u64,
    },
    /// More than one of [`Limits`] allows.
    #[error("layer has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A header that no tar program would write, or that programs read in different ways.
    #[error("layer has a malformed tar header at byte {offset}: {problem}")]
    Malformed {
        /// Where, in decompressed bytes.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// A kind of entry that is not read: sparse files, multi-volume archives.
    #[error("layer has an entry that is not supported at byte {offset}: {what}")]
    Unsupported {
        /// Where, in decompressed bytes.
        offset: u64,
        /// What it is.
        what: String,
    },
    /// A path or hard link that leads out of the layer.
    #[error("layer has an unsafe path: `{path}` {problem}", path = path::display(path))]
    UnsafePath {
        /// As it stands in the layer.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// The visitor returned this error.
    #[error("layer entry `{path}` cannot be handled", path = path::display(path))]
    Visitor {
        /// Of the entry.
        path: Vec<u8>,
        /// What the visitor said.
        #[source]
        source: io::Error,
    },
}

/// Decompresses a layer (by magic), and shows each entry to `visitor` with its data.
///
/// What the visitor does not read of the data is skipped. The input is read to its end, so that a
/// digest that is taken on the way is of the whole blob. Hard links are shown as links; whiteouts
/// as the files they are (see [`Entry::whiteout`]).
pub fn read<R: Read>(
    reader: R,
    limits: &Limits,
    visitor: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<Summary, ReadError> {
    let mut decoder = decompress(reader, limits.total_bytes).map_err(ReadError::Io)?;
    let compression = decoder.compression();
    let summary = walk(&mut decoder, limits, visitor)?;
    Ok(Summary { compression, ..summary })
}

/// As [`read`], over bytes that are decompressed already.
pub fn walk(
    reader: &mut dyn Read,
    limits: &Limits,
    visitor: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<Summary, ReadError> {
    let _ = (reader, limits, visitor, BudgetExceeded { budget_bytes: 0 });
    unimplemented!("the walk")
}
