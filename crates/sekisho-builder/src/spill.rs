//! A file that is read while it is written: what is made faster than it is used waits on the disk, not in
//! memory, and who makes it does not wait at all.
//!
//! The file has no name: the kernel frees it with the last handle, however a build ends.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::room::Room;

/// Bytes on their way from one writer to any number of readers.
#[derive(Debug)]
pub(crate) struct Spill {
    file: File,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct State {
    length: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    /// All of it is there.
    Whole,
    /// The writer gave up.
    Abandoned,
}

impl Spill {
    /// An empty one, and who may write to it. `path` is a name that nobody has, for a moment.
    pub(crate) fn create(path: &Path) -> io::Result<(Arc<Self>, SpillWriter)> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path)?;
        std::fs::remove_file(path)?;
        let state = Mutex::new(State { length: 0, end: End::Open });
        let spill = Arc::new(Self { file, state, more: Condvar::new() });
        Ok((Arc::clone(&spill), SpillWriter { spill, room: Room::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the buffer from `at`, waiting for what is not there yet; less only at the end.
    pub(crate) fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = at.saturating_add(buffer.len() as u64);
        let mut state = self.state();
        while state.length < wanted && state.end == End::Open {
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let State { length, end } = *state;
        drop(state);
        if end == End::Abandoned {
            return Err(io::Error::other("who wrote it gave up"));
        }
        let there = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX);
        let room = there.min(buffer.len());
        self.file.read_exact_at(&mut buffer[..room], at)?;
        Ok(room)
    }

    /// From the beginning.
    pub(crate) fn reader(self: &Arc<Self>) -> impl Read + Send + use<> {
        Reader { spill: Arc::clone(self), at: 0 }
    }
}

struct Reader {
    spill: Arc<Spill>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.spill.read_at(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// The one who writes. Dropped before its end, it wakes the readers with an error.
#[derive(Debug)]
pub(crate) struct SpillWriter {
    spill: Arc<Spill>,
    room: Room,
}

impl SpillWriter {
    /// Nothing more comes.
    pub(crate) fn finish(self) {
        self.end(End::Whole);
    }

    fn end(&self, end: End) {
        let mut state = self.spill.state();
        if state.end == End::Open {
            state.end = end;
        }
        drop(state);
        self.spill.more.notify_all();
    }
}

impl Drop for SpillWriter {
    fn drop(&mut self) {
        self.end(End::Abandoned);
    }
}

impl Write for SpillWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.spill.state().length;
        self.room.take(&self.spill.file, bytes.len())?;
        self.spill.file.write_all_at(bytes, at)?;
        self.spill.state().length = at + bytes.len() as u64;
        self.spill.more.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_get_what_was_written_whoever_is_faster() {
        let dir = tempfile::tempdir().unwrap();
        let (spill, mut writer) = Spill::create(&dir.path().join("spill")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no name is left");
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = spill.reader();
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    reader.read_to_end(&mut all).map(|_| all)
                })
            })
            .collect();
        let parts: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; usize::from(n) * 97]).collect();
        for part in &parts {
            writer.write_all(part).unwrap();
        }
        writer.finish();
        for reader in readers {
            assert_eq!(reader.join().unwrap().unwrap(), parts.concat());
        }
        let mut late = Vec::new();
        spill.reader().read_to_end(&mut late).unwrap();
        assert_eq!(late, parts.concat());
    }

    #[test]
    fn readers_of_what_was_given_up_get_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (spill, mut writer) = Spill::create(&dir.path().join("spill")).unwrap();
        writer.write_all(b"half").unwrap();
        let mut half = [0; 4];
        assert_eq!(spill.read_at(0, &mut half).unwrap(), 4);
        let waiting = std::thread::spawn({
            let spill = Arc::clone(&spill);
            move || spill.read_at(4, &mut [0; 4]).map_err(|error| error.to_string())
        });
        drop(writer);
        assert_eq!(waiting.join().unwrap(), Err("who wrote it gave up".to_owned()));
    }
}
