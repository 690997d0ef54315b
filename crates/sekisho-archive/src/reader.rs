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
    /// How many lines from there on are not wanted.
    skip: u64,
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
        Ok(Self { path: path.to_owned(), file, offset: 0, skip: 0 })
    }

    /// Goes to line number `first`, from 0. Members before it are skipped by their headers, not
    /// inflated. A line that is not there yet is waited for: what is before it is not returned.
    ///
    /// # Errors
    ///
    /// As for [`Reader::next_text`].
    pub fn seek_line(&mut self, first: u64) -> Result<(), ArchiveError> {
        let number = self.seek(|header| header.first_line <= first)?;
        self.skip = first - number;
        Ok(())
    }

    /// Goes to the last `count` lines.
    ///
    /// # Errors
    ///
    /// As for [`Reader::next_text`].
    pub fn seek_tail(&mut self, count: u64) -> Result<(), ArchiveError> {
        let last_member = self.seek(|_| true)?;
        self.skip = 0;
        let in_last = self.next_text()?.map_or(0, |text| text.lines().count() as u64);
        self.seek_line((last_member + in_last).saturating_sub(count))
    }

    /// The next lines, whole, with their line ends, at most one member of them; `None` at the end
    /// for now.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`], and [`ArchiveError::Damaged`] for a member that is there but wrong.
    pub fn next_text(&mut self) -> Result<Option<String>, ArchiveError> {
        loop {
            let Some(header) = self.header_at(self.offset)? else { return Ok(None) };
            let Some(bytes) = self.bytes_at(self.offset, header.len)? else { return Ok(None) };
            let text = member::decode(&bytes).map_err(|what| self.damaged(what))?;
            self.offset += header.len as u64;
            let mut text = String::from_utf8_lossy(&text).into_owned();
            while self.skip > 0 && !text.is_empty() {
                let line = text.find('\n').map_or(text.len(), |end| end + 1);
                text.drain(..line);
                self.skip -= 1;
            }
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
    }

    /// Every line from here on, as far as the log goes now: for logs that are known to be short.
    ///
    /// # Errors
    ///
    /// As for [`Reader::next_text`].
    pub fn rest(&mut self) -> Result<Vec<String>, ArchiveError> {
        let mut lines = Vec::new();
        while let Some(text) = self.next_text()? {
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
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
