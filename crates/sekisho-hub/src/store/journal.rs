//! The journal of scale sets: appended to, and written anew when it is mostly of the past.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

use super::write_atomically;
use crate::state::{Entry, Replay};

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1024 * 1024;
/// The journal is written anew when it is longer than this, and than four times what is left.
const COMPACT_BYTES: u64 = 8 * 1024 * 1024;

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: fs_err::File,
    bytes: u64,
    /// How long it was when it was written anew.
    compacted: u64,
    shadow: Replay,
}

impl Journal {
    /// Reads the journal, and writes it anew. A line that was cut by a crash is the last, and left
    /// out.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let mut shadow = Replay::default();
        match fs_err::File::open(&path) {
            Ok(file) => replay(BufReader::new(file), &mut shadow)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (file, bytes) = rewrite(&path, &shadow)?;
        Ok(Self { path, file, bytes, compacted: bytes, shadow })
    }

    /// What it says.
    pub(super) fn sets(&self) -> Replay {
        self.shadow.clone()
    }

    /// Adds entries, and waits for the disk.
    pub(super) fn append(&mut self, entries: Vec<Entry>) -> io::Result<()> {
        let lines = lines(&entries)?;
        entries.into_iter().for_each(|entry| self.shadow.apply(entry));
        if self.bytes > COMPACT_BYTES.max(self.compacted * 4) {
            (self.file, self.bytes) = rewrite(&self.path, &self.shadow)?;
            self.compacted = self.bytes;
            return Ok(());
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.file().sync_data());
        match &written {
            Ok(()) => self.bytes += lines.len() as u64,
            // Half a line would take the next one with it.
            Err(_) => self.file.set_len(self.bytes)?,
        }
        written
    }
}

fn replay(mut file: impl io::BufRead, into: &mut Replay) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = MAX_LINE as u64;
        let read = io::Read::take(&mut file, limit).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        match serde_json::from_slice(&line) {
            Ok(entry) => into.apply(entry),
            Err(error) => tracing::warn!("a line of the scale sets' journal is left out: {error}"),
        }
    }
}

fn rewrite(path: &std::path::Path, shadow: &Replay) -> io::Result<(fs_err::File, u64)> {
    let lines = lines(&shadow.entries())?;
    write_atomically(path, &lines)?;
    let file = fs_err::OpenOptions::new().append(true).open(path)?;
    Ok((file, lines.len() as u64))
}

fn lines(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry).map_err(io::Error::other)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_crash_cut_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(path.clone()).unwrap();
        journal.append(vec![Entry::LastSet { id: 7 }]).unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"type\":\"last_set\",\"id\":9");
        std::fs::write(&path, bytes).unwrap();
        let journal = Journal::open(path.clone()).unwrap();
        assert_eq!(journal.sets().entries(), [Entry::LastSet { id: 7 }]);
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"type\":\"last_set\",\"id\":7}\n");
    }
}
