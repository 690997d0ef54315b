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
pub(crate) struct Journal {
    path: PathBuf,
    file: fs_err::File,
    bytes: u64,
    /// It could not be written to: what it ends with, and whether it is still the file, is not known. What
    /// is in memory is right.
    broken: bool,
    /// How long it was when it was written anew.
    compacted: u64,
    shadow: Replay,
}

impl Journal {
    /// Reads the journal, and writes it anew. A line that was cut by a crash is the last, and left
    /// out.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let mut shadow = Replay::default();
        match fs_err::File::open(&path) {
            Ok(file) => replay(BufReader::new(file), &mut shadow)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (file, bytes) = rewrite(&path, &shadow)?;
        Ok(Self { path, file, bytes, broken: false, compacted: bytes, shadow })
    }

    /// What it says.
    pub(crate) fn sets(&self) -> Replay {
        self.shadow.clone()
    }

    /// Adds entries, and waits for the disk. If that fails they are in memory, and [`Self::is_broken`] until
    /// the next call, also one without entries, has written all anew: what waits is no more than what there
    /// is, however long the disk takes nothing.
    pub(super) fn append(&mut self, entries: &mut Vec<Entry>) -> io::Result<()> {
        let lines = lines(entries)?;
        entries.drain(..).for_each(|entry| self.shadow.apply(entry));
        if self.broken {
            return self.rewrite();
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.file().sync_data());
        self.broken = written.is_err();
        written?;
        self.bytes += lines.len() as u64;
        if self.bytes > COMPACT_BYTES.max(self.compacted * 4) {
            self.broken = true;
            return self.rewrite();
        }
        Ok(())
    }

    /// Whether it is not known what is in the file.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Writes it anew, with what it says and no more.
    fn rewrite(&mut self) -> io::Result<()> {
        (self.file, self.bytes) = rewrite(&self.path, &self.shadow)?;
        (self.compacted, self.broken) = (self.bytes, false);
        Ok(())
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
        journal.append(&mut vec![Entry::LastSet { id: 7 }]).unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"type\":\"last_set\",\"id\":9");
        std::fs::write(&path, bytes).unwrap();
        let journal = Journal::open(path.clone()).unwrap();
        assert_eq!(journal.sets().entries(), [Entry::LastSet { id: 7 }]);
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"type\":\"last_set\",\"id\":7}\n");
    }

    #[test]
    fn what_could_not_be_written_is_written_once_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("hub");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("journal");
        let mut journal = Journal::open(path.clone()).unwrap();
        journal.append(&mut vec![Entry::LastSet { id: 7 }]).unwrap();
        // A file that takes no writing, as on a disk that is full; and half a line in the real one.
        journal.file = fs_err::File::open(&path).unwrap();
        assert!(journal.append(&mut vec![Entry::LastSet { id: 9 }]).is_err());
        assert!(journal.is_broken());
        std::fs::write(&path, b"{\"type\":\"last_set\",\"id\":7}\n{\"type\":").unwrap();
        // Nor can it be written anew while its folder is away.
        let away = dir.path().join("away");
        std::fs::rename(&folder, &away).unwrap();
        assert!(journal.append(&mut Vec::new()).is_err());
        std::fs::rename(&away, &folder).unwrap();
        journal.append(&mut Vec::new()).unwrap();
        assert!(!journal.is_broken());
        drop(journal);
        assert_eq!(Journal::open(path).unwrap().sets().entries(), [Entry::LastSet { id: 9 }]);
    }
}
