//! Appends lines to a log.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fs_err::{File, OpenOptions};

use crate::{ArchiveError, MAX_LINE, MAX_LOG_TEXT, MAX_MEMBER_TEXT, member};

/// Writes one log, from one place.
///
/// Lines are buffered until a member is full or [`Writer::flush`] is called; a reader sees whole
/// members only. Dropping a writer without [`Writer::finish`] loses what was not flushed.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    text: Vec<u8>,
    first_line: u64,
    lines: u64,
    /// How much more text is kept, in bytes.
    room: u64,
    /// Lines that were not kept.
    dropped: u64,
}

impl Writer {
    /// Creates the log, with its folder; fails when it exists, for a log has one writer.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`].
    pub fn create(path: &Path) -> Result<Self, ArchiveError> {
        Self::create_with_room(path, MAX_LOG_TEXT)
    }

    pub(crate) fn create_with_room(path: &Path, room: u64) -> Result<Self, ArchiveError> {
        let made = || {
            if let Some(folder) = path.parent() {
                fs_err::create_dir_all(folder)?;
            }
            OpenOptions::new().write(true).create_new(true).open(path)
        };
        let file = made().map_err(|source| ArchiveError::Io {
            verb: "create",
            path: path.to_owned(),
            source,
        })?;
        let (path, text) = (path.to_owned(), Vec::new());
        Ok(Self { path, file, text, first_line: 0, lines: 0, room, dropped: 0 })
    }

    /// How many lines were kept.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Appends one line, without its line end. What exceeds [`MAX_LINE`] becomes a line of its own;
    /// a line end inside becomes a space, for it would shift every later line number. Beyond
    /// [`MAX_LOG_TEXT`] lines are only counted; the log's last line says how many.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`].
    pub fn line(&mut self, line: &[u8]) -> Result<(), ArchiveError> {
        if line.is_empty() {
            return self.piece(line);
        }
        line.chunks(MAX_LINE).try_for_each(|piece| self.piece(piece))
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), ArchiveError> {
        let size = piece.len() as u64 + 1;
        if self.dropped > 0 || size > self.room {
            self.dropped += 1;
            return Ok(());
        }
        self.room -= size;
        self.keep(piece)
    }

    fn keep(&mut self, piece: &[u8]) -> Result<(), ArchiveError> {
        if self.text.len() + piece.len() + 1 > MAX_MEMBER_TEXT {
            self.flush()?;
        }
        self.text.extend(piece.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
        self.text.push(b'\n');
        self.lines += 1;
        Ok(())
    }

    /// Makes every line so far visible to readers, and safe from the death of this process.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`].
    pub fn flush(&mut self) -> Result<(), ArchiveError> {
        if self.text.is_empty() {
            return Ok(());
        }
        // One write call, so that a killed writer leaves whole members or one torn tail.
        let written = member::encode(&self.text, self.first_line)
            .and_then(|bytes| self.file.write_all(&bytes));
        written.map_err(|source| self.failed(source))?;
        self.text.clear();
        self.first_line = self.lines;
        Ok(())
    }

    /// Flushes, and waits until the disk has it.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Io`].
    pub fn finish(mut self) -> Result<(), ArchiveError> {
        if self.dropped > 0 {
            let note = format!("… {} more lines were not kept: the log is full", self.dropped);
            self.keep(note.as_bytes())?;
        }
        self.flush()?;
        self.file.sync_all().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Io { verb: "write", path: self.path.clone(), source }
    }
}
