//! Writes that become durable together.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::wal::{Change, Wal};

/// At most so many bytes of changes are one entry of a log.
const ENTRY_BYTES: usize = 4 * 1024 * 1024;

/// Writes that wait for each other, for one sync instead of one for each. They are made in order, and
/// none before [`Batch::commit`]; those of a few MiB all or none.
///
/// That is so where one log makes them durable. Everywhere else (a bucket, a folder without a log) a
/// write that is given a batch is made at once, which keeps the order too.
///
/// Dropped, it leaves nothing.
#[derive(Debug, Default)]
#[must_use]
pub struct Batch {
    wal: Option<Arc<Wal>>,
    changes: Vec<Change>,
}

impl Batch {
    /// Adds a change of this log. What waits for another log is written now.
    pub(crate) fn push(&mut self, wal: &Arc<Wal>, change: Change) -> io::Result<()> {
        if self.wal.as_ref().is_some_and(|known| !Arc::ptr_eq(known, wal)) {
            std::mem::take(self).commit()?;
        }
        self.wal = Some(Arc::clone(wal));
        self.changes.push(change);
        Ok(())
    }

    /// Whether a file will be there once this is committed.
    pub(crate) fn makes(&self, path: &Path) -> bool {
        self.changes.iter().any(|change| change.path() == path)
    }

    /// Adds what another one has, after what this one has.
    ///
    /// # Errors
    /// The disk's, where they wait for different logs.
    pub fn append(&mut self, mut other: Self) -> io::Result<()> {
        let Some(wal) = other.wal.take() else { return Ok(()) };
        std::mem::take(&mut other.changes).into_iter().try_for_each(|it| self.push(&wal, it))
    }

    /// Makes all that waits, durably.
    ///
    /// # Errors
    /// The disk's. Some of it may still come, when the log is opened again.
    pub fn commit(mut self) -> io::Result<()> {
        let Some(wal) = self.wal.take() else { return Ok(()) };
        let mut left = self.changes.as_slice();
        while !left.is_empty() {
            let mut size = 0;
            let fits = left.iter().take_while(|change| {
                size += change.size();
                size <= ENTRY_BYTES
            });
            let (entry, rest) = left.split_at(fits.count().max(1));
            wal.write(entry)?;
            left = rest;
        }
        // Nothing of it is to be removed.
        self.changes.clear();
        Ok(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for change in &self.changes {
            if let Change::Rename { from, .. } = change {
                // It may have come to its place; here it is of no use to anybody.
                let _ = fs_err::remove_file(from);
            }
        }
    }
}
