//! Reads a log, from any line, also while it is written.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err::File;

use crate::member::{self, HEADER_LEN, Header};
use crate::{ArchiveError, MAX_MEMBER_TEXT};

/// Reads one log.
///
/// A torn member at the very end is what a killed writer leaves, or what a living one is writing
/// just now: the log ends before it, and a later call may find it whole.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: File,
    /// Where the next member begins, in bytes.
    offset: u64,
}

impl Reader {
    /// Opens the log at its first line.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`].
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(|source| ArchiveError::Io {
            verb: "read",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), file, offset: 0 })
    }

    /// The text of the next member, whole lines with their line ends; `None` at the end for now.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`], and [`ArchiveError::Damaged`] for a member that is there but wrong.
    pub fn next_text(&mut self) -> Result<Option<String>, ArchiveError> {
        let Some(header) = self.header_at(self.offset)? else { return Ok(None) };
        let Some(bytes) = self.bytes_at(self.offset, header.len)? else { return Ok(None) };
        let text = member::decode(&bytes).map_err(|what| self.damaged(what))?;
        self.offset += header.len as u64;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Every line from number `first` on, from 0, as far as the log goes now.
    ///
    /// Members before it are skipped by their headers, not inflated.
    ///
    /// # Errors
    ///
    /// As for [`Reader::next_text`].
    pub fn lines_from(&mut self, first: u64) -> Result<Vec<String>, ArchiveError> {
        let mut number = self.seek(|header| header.first_line <= first)?;
        let mut lines = Vec::new();
        while let Some(text) = self.next_text()? {
            for line in text.lines() {
                if number >= first {
                    lines.push(line.to_owned());
                }
                number += 1;
            }
        }
        Ok(lines)
    }

    /// The last `count` lines.
    ///
    /// # Errors
    ///
    /// As for [`Reader::next_text`].
    pub fn tail(&mut self, count: u64) -> Result<Vec<String>, ArchiveError> {
        let last_member = self.seek(|_| true)?;
        let in_last = match self.next_text()? {
            Some(text) => text.lines().count() as u64,
            None => 0,
        };
        self.lines_from((last_member + in_last).saturating_sub(count))
    }

    /// Goes to the last member whose header, and those of all before it, `wanted`; returns the
    /// number of its first line.
    fn seek(&mut self, wanted: impl Fn(&Header) -> bool) -> Result<u64, ArchiveError> {
        let (mut offset, mut first_line) = (0, 0);
        let mut next = 0;
        while let Some(header) = self.header_at(next)?.filter(&wanted) {
            (offset, first_line) = (next, header.first_line);
            next += header.len as u64;
        }
        self.offset = offset;
        Ok(first_line)
    }

    fn header_at(&mut self, offset: u64) -> Result<Option<Header>, ArchiveError> {
        let Some(bytes) = self.bytes_at(offset, HEADER_LEN)? else { return Ok(None) };
        let array = bytes.first_chunk().and_then(member::header);
        match array {
            Some(header) => Ok(Some(header)),
            None => Err(ArchiveError::Damaged {
                path: self.path.clone(),
                offset,
                what: "there is no header",
            }),
        }
    }

    /// `None` when the file ends before all of them.
    fn bytes_at(&mut self, offset: u64, len: usize) -> Result<Option<Vec<u8>>, ArchiveError> {
        assert!(len <= 2 * MAX_MEMBER_TEXT, "a member's size has 16 bits");
        let mut bytes = vec![0; len];
        let read =
            self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut bytes));
        match read {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(ArchiveError::Io { verb: "read", path: self.path.clone(), source }),
        }
    }

    fn damaged(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.clone(), offset: self.offset, what }
    }
}
