//! A run's events: one JSON line each, appended to a file, read while they are written.

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use jiff::Timestamp;
use sekisho_github::hub_api::{Event, EventKind};

use super::Store;

/// The most bytes of events that are kept of one run; then log lines are left out.
const MAX_EVENT_BYTES: u64 = 256 * 1024 * 1024;

/// Appends a run's events.
#[derive(Debug)]
pub(crate) struct EventLog {
    file: fs_err::File,
    /// Number of the newest event.
    n: u64,
    bytes: u64,
    failed: bool,
}

/// How far a run's events go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventTail {
    pub(crate) path: PathBuf,
    /// Whole lines, in bytes.
    pub(crate) bytes: u64,
    /// No more will come.
    pub(crate) ended: bool,
}

impl Store {
    /// Where a run's events are.
    pub(crate) fn events_file(&self, run: u64) -> PathBuf {
        self.run_dir(run).join("events.ndjson")
    }

    /// Opens a run's events, after the last whole line.
    pub(crate) fn open_events(&self, run: u64) -> io::Result<EventLog> {
        fs_err::create_dir_all(self.run_dir(run))?;
        let path = self.events_file(run);
        let mut file = fs_err::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)?;
        let (n, bytes) = whole_lines(&mut io::BufReader::new(&mut file))?;
        // What a killed process wrote of its last line is no event.
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok(EventLog { file, n, bytes, failed: false })
    }
}

fn whole_lines(file: &mut dyn io::BufRead) -> io::Result<(u64, u64)> {
    let (mut lines, mut whole) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = file.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok((lines, whole));
        }
        lines += 1;
        whole += read as u64;
    }
}

impl EventLog {
    /// Appends an event. A full disk is logged once; the run goes on.
    pub(crate) fn append(&mut self, at: Timestamp, kind: EventKind) {
        if self.bytes > MAX_EVENT_BYTES && matches!(kind, EventKind::Log { .. }) {
            return;
        }
        let event = Event { n: self.n + 1, at, kind };
        let Ok(mut line) = serde_json::to_vec(&event) else { return };
        line.push(b'\n');
        match self.file.write_all(&line) {
            Ok(()) => {
                self.n += 1;
                self.bytes += line.len() as u64;
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::error!("an event cannot be written down: {error}");
                }
                let _ = self.file.set_len(self.bytes);
                let _ = self.file.seek(SeekFrom::Start(self.bytes));
            }
        }
    }

    /// How far it goes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
