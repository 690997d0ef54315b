//! gzip, zstd or plain, by magic.

use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest zstd window, in bytes: what a decoder must hold at once. 128 MiB is the limit of the
/// `zstd` program without `--long`.
const ZSTD_WINDOW_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Most bytes of skippable zstd frames. They are thrown away, and so do not count against the
/// budget. The table of contents of zstd:chunked is a few MiB.
const ZSTD_SKIPPED_BYTES_MAX: u64 = 256 * 1024 * 1024;

const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// RFC 1952, of one or more members.
    Gzip,
    /// RFC 8878, of one or more frames.
    Zstd,
}

/// The inner error of an [`io::Error`] that says that the budget of decompressed bytes is used up.
#[derive(Debug)]
pub struct BudgetExceeded {
    /// The budget, in bytes.
    pub budget_bytes: u64,
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer is larger than {} bytes when decompressed", self.budget_bytes)
    }
}

impl std::error::Error for BudgetExceeded {}

/// The input, with the bytes in front that were read to recognise it.
type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// Reads the decompressed bytes, up to the budget.
pub struct Decoder<R: Read> {
    inner: Inner<Input<R>>,
    compression: Compression,
    budget: u64,
    left: u64,
}

enum Inner<R: BufRead> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<Frames<R>>),
}

/// Looks at the first bytes, and decompresses what follows.
///
/// Reading more than `budget_bytes` out of it is an error that holds [`BudgetExceeded`]: a few
/// kilobytes of input can otherwise become terabytes.
pub fn decompress<R: Read>(mut reader: R, budget_bytes: u64) -> io::Result<Decoder<R>> {
    let mut head = Vec::with_capacity(4);
    reader.by_ref().take(4).read_to_end(&mut head)?;
    let compression = match head.as_slice() {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
        // A skippable frame may come first, as in zstd:chunked.
        [magic, 0x2a, 0x4d, 0x18] if magic & 0xf0 == 0x50 => Compression::Zstd,
        _ => Compression::Plain,
    };
    let input = BufReader::with_capacity(READ_BUFFER_BYTES, Cursor::new(head).chain(reader));
    let inner = match compression {
        Compression::Plain => Inner::Plain(input),
        Compression::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(input))),
        Compression::Zstd => Inner::Zstd(Box::new(Frames::new(input))),
    };
    Ok(Decoder { inner, compression, budget: budget_bytes, left: budget_bytes })
}

impl<R: Read> Decoder<R> {
    /// What the first bytes said.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// How many decompressed bytes were read so far.
    pub fn decompressed_bytes(&self) -> u64 {
        self.budget - self.left
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // At the budget one more byte is asked for, to tell "exactly full" from "too much".
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX).max(1));
        let buffer = &mut buffer[..room];
        let read = match &mut self.inner {
            Inner::Plain(reader) => reader.read(buffer)?,
            Inner::Gzip(reader) => reader.read(buffer)?,
            Inner::Zstd(reader) => reader.read(buffer)?,
        };
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Ok(read)
            }
            None => Err(io::Error::other(BudgetExceeded { budget_bytes: self.budget })),
        }
    }
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("compression", &self.compression)
            .field("bytes", &self.decompressed_bytes())
            .finish_non_exhaustive()
    }
}

/// zstd frames one after the other, with skippable ones between.
struct Frames<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
    skipped: u64,
}

impl<R: BufRead> Frames<R> {
    fn new(input: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
        Self { input, decoder, in_frame: false, skipped: 0 }
    }

    /// Finds the next frame; `false` at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(u64::from(length))?,
                Err(error) => return Err(invalid(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        self.skipped += length;
        if self.skipped > ZSTD_SKIPPED_BYTES_MAX {
            return Err(invalid("zstd stream has too much in skippable frames"));
        }
        let copied = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Compares the checksum of a finished frame that has one.
    fn check(&self) -> io::Result<()> {
        let said = self.decoder.get_checksum_from_data();
        if said.is_some() && said != self.decoder.get_calculated_checksum() {
            return Err(invalid("zstd frame has a wrong checksum"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(invalid)?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.check()?;
            self.in_frame = false;
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
