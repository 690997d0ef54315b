//! Values as files.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fs_err as fs;

use super::{Keep, bad};
use crate::atomic::{found, note_atomic, write_atomic};
use crate::json::MAX_RECORD_BYTES;
use crate::wal::{Change, MAX_LOGGED_BYTES, Wal};

/// Locks of a folder's values: as many as may be compared and written at once.
const LOCKS: usize = 1024;

/// Values in a folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) root: PathBuf,
    /// Each keeps a comparison and the write after it together, for some of the names.
    pub(super) locks: Arc<[Mutex<()>; LOCKS]>,
    /// What makes them durable; without it, each its own syncs.
    pub(super) wal: Option<Arc<Wal>>,
}

impl Folder {
    pub(super) fn new(root: &Path, wal: Option<Arc<Wal>>) -> Self {
        let locks = Arc::new([const { Mutex::new(()) }; LOCKS]);
        Self { root: root.to_owned(), locks, wal }
    }

    pub(super) fn lock(&self, name: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let which = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        self.locks[which].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = found(fs::File::open(self.root.join(name)))? else { return Ok(None) };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.len() > MAX_RECORD_BYTES {
            return Err(bad(name, "it is larger than 16 MiB"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
        file.take(MAX_RECORD_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8], keep: Keep) -> io::Result<()> {
        let path = self.root.join(name);
        match (keep, &self.wal) {
            (Keep::Durably, Some(wal)) if bytes.len() <= MAX_LOGGED_BYTES => {
                wal.write(&[Change::record(path, bytes)])
            }
            (Keep::Durably, wal) => {
                wal.as_ref().map_or(Ok(()), |wal| wal.clear(&path))?;
                write_atomic(&path, bytes, false)
            }
            (Keep::Lightly, Some(wal)) if wal.names(&path) => {
                self.write(name, bytes, Keep::Durably)
            }
            (Keep::Lightly, _) => note_atomic(&path, bytes),
        }
    }
}
