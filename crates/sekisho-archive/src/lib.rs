//! Job logs on disk: compressed, readable while they are written, seekable by line.
//!
//! A log is a series of *members*, each a complete gzip file of at most [`MAX_MEMBER_TEXT`] bytes
//! of text, so `zcat` reads it and whatever was flushed survives a killed writer:
//!
//! ```text
//!  member = gzip header, FEXTRA ─┬─ "BC" u16  compressed size of the member − 1  (BGZF)
//!                                └─ "SK" u64  number of the member's first line, from 0
//!           deflate data, CRC-32, size of the text in bytes
//! ```
//!
//! A reader hops from header to header without inflating anything. `BC` is the subfield of the
//! BGZF format (SAM/BAM specification, section 4.1, <https://samtools.github.io/hts-specs/>), so
//! tools for it read these files too; gzip itself is RFC 1952.

mod member;
mod reader;
mod writer;

use std::io;
use std::path::PathBuf;

pub use reader::Reader;
pub use writer::Writer;

/// How much text one member holds at most, in bytes.
///
/// 32 KiB: what deflate can look back over, and small enough that even incompressible text fits
/// the 16-bit size of a BGZF block.
pub const MAX_MEMBER_TEXT: usize = 32 * 1024;

/// Longest line that is kept, in bytes; the rest of a longer one goes to the next line.
///
/// One member less its line end, so that a line never spans two members.
pub const MAX_LINE: usize = MAX_MEMBER_TEXT - 1;

/// How much text one log holds at most, in bytes; lines beyond are counted, not kept.
///
/// 1 GiB: some ten million lines. A step that prints for ever must not fill the disk of all.
pub const MAX_LOG_TEXT: u64 = 1024 * 1024 * 1024;

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system refused.
    #[error("cannot {verb} the log `{}`", path.display())]
    Io {
        /// What was tried: `create`, `read`, `write`.
        verb: &'static str,
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A member in the middle of the file is no member: the file was changed after it was written.
    #[error("the log `{}` is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// Where the bad member begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
