//! The walk over a foreign layer.

use std::io::{self, Read};

use super::BLOCK;
use super::decompress::{BudgetExceeded, Compression, decompress};
use super::entry::Entry;
use super::extend::Pending;
use super::header::Header;
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
    /// Whether the two zero blocks at the end must be there. Default: they must.
    pub end_mark: EndMark,
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
            end_mark: EndMark::Required,
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

/// Whether an archive may end without its end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndMark {
    /// [`ReadError::Truncated`] without: an archive that was cut between two entries is seen.
    Required,
    /// The input may also end after an entry, as container runtimes allow. For input whose digest
    /// says that it is whole.
    Optional,
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
    /// The input ends in the middle of an entry, or without the two zero blocks where they are required.
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
    #[error("layer has an unsafe path: `{path}` {problem}", path = path::display_path(path))]
    UnsafePath {
        /// As it stands in the layer.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// The visitor returned this error.
    #[error("layer entry `{path}` cannot be handled", path = path::display_path(path))]
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
    let mut source = Source { reader, offset: 0, limit: limits.total_bytes };
    let mut headers = 0;
    let mut entries = 0;
    let mut trailing_bytes = 0;
    let mut pending = Pending::default();
    loop {
        let start = source.offset;
        let Some(block) = next_header(&mut source, limits, &mut trailing_bytes)? else {
            if pending.is_some() {
                return Err(ReadError::Truncated { offset: source.offset });
            }
            break;
        };
        headers += 1;
        if headers > limits.entries {
            return Err(ReadError::Limit { what: "entries", limit: limits.entries });
        }
        let malformed = |problem| ReadError::Malformed { offset: start, problem };
        let header = Header::parse(&block).map_err(malformed)?;
        if pending.take_extension(&header, &mut source, limits, start)? {
            continue;
        }
        let (entry, size) = pending.entry(header, limits, start)?;
        pending = Pending::default();
        entries += 1;
        show(&entry, size, &mut source, visitor)?;
    }
    let bytes = source.offset;
    Ok(Summary { compression: Compression::Plain, entries, bytes, trailing_bytes })
}

/// Shows one entry, and skips what the visitor left of its data.
fn show(
    entry: &Entry,
    size: u64,
    source: &mut Source<'_>,
    visitor: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), ReadError> {
    let mut data = Data { source, left: size, failed: None };
    let seen = visitor(entry, &mut data);
    let Data { left, failed, .. } = data;
    if let Some(error) = failed {
        // The visitor's error is only the echo of this one.
        return Err(error);
    }
    seen.map_err(|source| ReadError::Visitor { path: entry.path.clone(), source })?;
    source.skip(left + padding(size))
}

/// The next block that is not the end; `None` at the end of the input.
fn next_header(
    source: &mut Source<'_>,
    limits: &Limits,
    trailing_bytes: &mut u64,
) -> Result<Option<[u8; BLOCK]>, ReadError> {
    let start = source.offset;
    let Some(block) = source.block()? else {
        return match limits.end_mark {
            EndMark::Optional => Ok(None),
            EndMark::Required => Err(ReadError::Truncated { offset: start }),
        };
    };
    if block != [0; BLOCK] {
        return Ok(Some(block));
    }
    let second = source.block()?.ok_or(ReadError::Truncated { offset: source.offset })?;
    if second != [0; BLOCK] {
        let problem = "one zero block stands where two or none are expected";
        return Err(ReadError::Malformed { offset: start, problem });
    }
    match limits.after_end {
        AfterEnd::Ignore => {
            *trailing_bytes = source.drain()?;
            Ok(None)
        }
        AfterEnd::Continue => loop {
            match source.block()? {
                None => return Ok(None),
                Some(block) if block != [0; BLOCK] => return Ok(Some(block)),
                Some(_) => {}
            }
        },
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Counts what is read, and holds it to the limit.
pub(super) struct Source<'a> {
    reader: &'a mut dyn Read,
    pub(super) offset: u64,
    limit: u64,
}

impl Source<'_> {
    /// Reads what there is; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.reader.read(buffer) {
                Ok(read) => {
                    self.offset += read as u64;
                    if self.offset > self.limit {
                        return Err(self.over());
                    }
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(ReadError::Truncated { offset: self.offset });
                }
                Err(error) if error.get_ref().is_some_and(|e| e.is::<BudgetExceeded>()) => {
                    return Err(self.over());
                }
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
    }

    fn over(&self) -> ReadError {
        ReadError::Limit { what: "decompressed bytes", limit: self.limit }
    }

    /// One block; `None` when the input is at its end.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ReadError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.read(&mut block[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(ReadError::Truncated { offset: self.offset }),
                read => have += read,
            }
        }
        Ok(Some(block))
    }

    /// The data of an extension header: `size` is checked by the caller.
    pub(super) fn take(&mut self, size: usize) -> Result<Vec<u8>, ReadError> {
        let mut data = vec![0; size];
        let mut have = 0;
        while have < size {
            match self.read(&mut data[have..])? {
                0 => return Err(ReadError::Truncated { offset: self.offset }),
                read => have += read,
            }
        }
        self.skip(padding(size as u64))?;
        Ok(data)
    }

    fn skip(&mut self, mut left: u64) -> Result<(), ReadError> {
        let mut buffer = [0; 16 * 1024];
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match self.read(&mut buffer[..room])? {
                0 => return Err(ReadError::Truncated { offset: self.offset }),
                read => left -= read as u64,
            }
        }
        Ok(())
    }

    /// Reads to the end; how many bytes there were from the first that is not zero.
    fn drain(&mut self) -> Result<u64, ReadError> {
        let mut buffer = [0; 16 * 1024];
        let mut trailing = 0;
        loop {
            match self.read(&mut buffer)? {
                0 => return Ok(trailing),
                read if trailing > 0 => trailing += read as u64,
                read => {
                    let first = buffer[..read].iter().position(|b| *b != 0);
                    trailing = first.map_or(0, |first| (read - first) as u64);
                }
            }
        }
    }
}

/// What the visitor reads of one entry.
struct Data<'s, 'a> {
    source: &'s mut Source<'a>,
    left: u64,
    failed: Option<ReadError>,
}

impl Read for Data<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let offset = self.source.offset;
        let error = match self.source.read(&mut buffer[..room]) {
            Ok(0) => ReadError::Truncated { offset },
            Ok(read) => {
                self.left -= read as u64;
                return Ok(read);
            }
            Err(error) => error,
        };
        let echo = io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string());
        // Later reads would give other bytes than those of the entry.
        self.left = 0;
        self.failed = Some(error);
        Err(echo)
    }
}
