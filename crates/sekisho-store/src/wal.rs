//! A write-ahead log: one sync for many small files.
//!
//! A small file alone costs two syncs, its own and its folder's, and a push writes some twenty. Here
//! what is to be written goes to the end of one log first, which is synced once for all who wait at
//! that moment, and then to its place, which is not synced:
//!
//! ```text
//!  write   append ─ sync, one for all who wait ─ put it in its place ─ answer
//!  settle  begin the next log ─ wait for those under way ─ syncfs ─ remove the log
//!  open    read the logs, oldest first ─ put in its place what is not there ─ syncfs ─ remove them
//! ```
//!
//! Everything in a log may be done again, in order, whatever part of it was done. So that an old word on
//! a path is never put over a newer one, whoever changes a path by other means calls [`Wal::clear`] first.
//!
//! Large files are synced under another name, and the log holds their new name alone. That relies on what
//! ext4, XFS, Btrfs and F2FS do and POSIX does not say: a new file that was synced has its name too.

mod change;
mod file;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fs_err as fs;

use crate::atomic::create_dir_durable;

pub(crate) use self::change::Change;
use self::change::{decode, encode};
use self::file::{FIRST, LogFile, MAX_BODY_BYTES};

/// Largest file that goes into the log alone, in bytes; what is larger has syncs of its own.
pub(crate) const MAX_LOGGED_BYTES: usize = 256 * 1024;

/// A log of this size, in bytes, is settled; meanwhile the next one grows.
const SETTLED_AT: u64 = 16 * 1024 * 1024;

/// Whoever finds a log of this size, in bytes, waits until it is settled.
const MAX_LOG_BYTES: u64 = 8 * SETTLED_AT;

/// How often an opener looks whether the owner before it is gone, which may be at its last write: for ten
/// seconds.
const OWNER_LOOKED_FOR: usize = 1000;

/// A pause before it looks again.
const OWNER_PAUSE: Duration = Duration::from_millis(10);

/// What became of entries that were synced together.
type Outcome = OnceLock<Result<Arc<LogFile>, (io::ErrorKind, String)>>;

/// Entries that the next sync takes along.
#[derive(Default)]
struct Waiting {
    bodies: Vec<Vec<u8>>,
    /// Hashes of the paths.
    paths: Vec<u64>,
    outcome: Arc<Outcome>,
}

struct State {
    next: Waiting,
    log: Arc<LogFile>,
    /// Where the log ends, in bytes.
    end: u64,
    /// Hashes of the paths in `log`, and in the one that is being settled.
    paths: [HashSet<u64>; 2],
    is_syncing: bool,
    is_settling: bool,
    /// A sync failed: what is on the disk is not known any more.
    is_broken: bool,
}

/// What was done when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Writes that were put in their place, or were there.
    pub done: usize,
    /// What could not be done, and why: content that somebody else took away.
    pub failed: Vec<String>,
}

/// The log of some folders, which one process owns. Everything blocks.
pub struct Wal {
    folder: PathBuf,
    /// What the paths in the log are relative to.
    roots: Vec<PathBuf>,
    hasher: RandomState,
    state: Mutex<State>,
    changed: Condvar,
    /// Locked: who has it owns the folders. The kernel lets it go with the process.
    _owned: fs::File,
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log in `folder`, made where there is none, and does what an earlier process had not
    /// done. To be called before anybody looks into `roots`, which are made too: what is written lies in
    /// one of them. The order of the roots must stay what it was.
    ///
    /// # Errors
    /// The disk's: then the log is as it was, and may be opened again. `ResourceBusy` when somebody else
    /// has it open, and does not leave within ten seconds.
    pub fn open(folder: &Path, roots: &[&Path]) -> io::Result<(Arc<Self>, Replayed)> {
        for made in roots.iter().chain([&folder]) {
            create_dir_durable(made)?;
        }
        let owned = own(folder)?;
        let roots: Vec<PathBuf> = roots.iter().map(|&root| root.to_owned()).collect();
        let numbers = file::numbers(folder)?;
        let mut replayed = Replayed::default();
        for number in &numbers {
            for body in file::read(folder, *number)? {
                for change in decode(&body, &roots)? {
                    match change.apply_again() {
                        Ok(()) => replayed.done += 1,
                        // What was to get a name is gone, and would be at the next try. All else, a full
                        // disk above all, must not cost what was acknowledged.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {
                            replayed.failed.push(error.to_string());
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        // Of a log that was settled nothing is left to sync.
        if replayed != Replayed::default() {
            sync_file_systems(&roots)?;
        }
        let next = numbers.last().map_or(1, |last| last + 1);
        let state = State {
            next: Waiting::default(),
            log: Arc::new(LogFile::create(folder, next)?),
            end: FIRST,
            paths: Default::default(),
            is_syncing: false,
            is_settling: false,
            is_broken: false,
        };
        for number in numbers {
            fs::remove_file(file::path(folder, number))?;
        }
        fs::File::open(folder)?.sync_all()?;
        let (hasher, state) = (RandomState::new(), Mutex::new(state));
        let folder = folder.to_owned();
        let changed = Condvar::new();
        let this = Self { folder, roots, hasher, state, changed, _owned: owned };
        Ok((Arc::new(this), replayed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes, durably: all of them are there after a power cut that comes after this, and all or
    /// none after one that comes before. They appear in order.
    ///
    /// Of two writes to one path at the same time, one may be seen now and the other after a crash: the
    /// caller keeps them apart where that matters.
    ///
    /// # Errors
    /// The disk's. A change that is in the log and could not be put in its place may still come, when the
    /// log is opened again.
    pub(crate) fn write(self: &Arc<Self>, changes: &[Change]) -> io::Result<()> {
        let body = encode(changes, &self.roots)?;
        if body.len() > MAX_BODY_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more than a log's entry holds",
            ));
        }
        let log = self.append(body, changes)?;
        let done = changes.iter().try_for_each(Change::apply);
        let mut state = self.lock();
        log.leave();
        self.changed.notify_all();
        if state.end >= MAX_LOG_BYTES {
            drop(state);
            self.settle()?;
        } else if state.end >= SETTLED_AT && !state.is_settling {
            // Claimed here, so that it is one thread that does it.
            state.is_settling = true;
            let this = Arc::clone(self);
            let work = move || this.settle_claimed();
            if let Err(error) = std::thread::Builder::new().name("settle".into()).spawn(work) {
                state.is_settling = false;
                return Err(error);
            }
        }
        done
    }

    /// Waits until the entry is on the disk; the log that has it, entered.
    fn append(&self, body: Vec<u8>, changes: &[Change]) -> io::Result<Arc<LogFile>> {
        let paths: Vec<u64> =
            changes.iter().flat_map(Change::paths).map(|path| self.hash(path)).collect();
        let mut state = self.lock();
        state.next.bodies.push(body);
        state.next.paths.extend(paths);
        let outcome = Arc::clone(&state.next.outcome);
        loop {
            match outcome.get() {
                Some(Ok(log)) => return Ok(Arc::clone(log)),
                Some(Err((kind, message))) => return Err(io::Error::new(*kind, message.clone())),
                None if state.is_syncing => state = self.wait(state),
                None => state = self.sync(state),
            }
        }
    }

    /// Syncs what waits, for all who wait.
    fn sync<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let batch = std::mem::take(&mut state.next);
        state.paths[0].extend(batch.paths);
        state.is_syncing = true;
        let (log, end, is_broken) = (Arc::clone(&state.log), state.end, state.is_broken);
        log.enter(batch.bodies.len());
        drop(state);
        let written = match is_broken {
            false => log.append(end, &batch.bodies),
            true => Err(file::Failed::Sync(io::Error::other("an earlier sync failed"))),
        };
        let mut state = self.lock();
        let outcome = match written {
            Ok(end) => {
                state.end = end;
                Ok(log)
            }
            Err(failed) => {
                batch.bodies.iter().for_each(|_| log.leave());
                state.is_broken |= matches!(failed, file::Failed::Sync(_));
                let error = failed.into_error();
                Err((error.kind(), format!("write-ahead log: {error}")))
            }
        };
        // Nobody else sets it: the batch was taken under the lock.
        let _ = batch.outcome.set(outcome);
        state.is_syncing = false;
        self.changed.notify_all();
        state
    }

    fn hash(&self, path: &Path) -> u64 {
        self.hasher.hash_one(path)
    }

    /// Whether a log may have something to say about a path: then what comes to it next is logged too,
    /// also what may be lost, or the log would put an older word over it.
    pub(crate) fn names(&self, path: &Path) -> bool {
        let (state, hash) = (self.lock(), self.hash(path));
        state.paths.iter().any(|paths| paths.contains(&hash)) || state.next.paths.contains(&hash)
    }

    /// To be called before a path is removed, or changed by other means than this log: from here on no
    /// log says anything about it.
    pub(crate) fn clear(&self, path: &Path) -> io::Result<()> {
        if self.names(path) { self.settle() } else { Ok(()) }
    }

    /// Makes sure that all that was written is in its place for good, and empties the log. Waits for
    /// whatever else is to be written to these file systems.
    pub fn settle(&self) -> io::Result<()> {
        let mut state = self.lock();
        while state.is_settling {
            state = self.wait(state);
        }
        state.is_settling = true;
        drop(state);
        self.settle_claimed()
    }

    /// Settles; `is_settling` was set by the caller.
    fn settle_claimed(&self) -> io::Result<()> {
        let settled = self.settle_one();
        let mut state = self.lock();
        if settled.is_ok() {
            state.paths[1].clear();
        }
        state.is_settling = false;
        self.changed.notify_all();
        settled
    }

    fn settle_one(&self) -> io::Result<()> {
        let old = {
            let mut state = self.lock();
            loop {
                if state.is_syncing {
                    state = self.wait(state);
                } else if !state.next.bodies.is_empty() {
                    state = self.sync(state);
                } else {
                    break;
                }
            }
            if state.end == FIRST && state.paths[1].is_empty() {
                return Ok(());
            }
            if !state.paths[1].is_empty() {
                // The last one could not be settled, and is there still: it goes with this one.
                let left = std::mem::take(&mut state.paths[1]);
                state.paths[0].extend(left);
            }
            let next = Arc::new(LogFile::create(&self.folder, state.log.number() + 1)?);
            let old = std::mem::replace(&mut state.log, next);
            state.end = FIRST;
            state.paths.swap(0, 1);
            while old.is_in_use() {
                state = self.wait(state);
            }
            old
        };
        sync_file_systems(&self.roots)?;
        for number in file::numbers(&self.folder)? {
            if number <= old.number() {
                fs::remove_file(file::path(&self.folder, number))?;
            }
        }
        // A log that came back would be done again, over what is newer.
        fs::File::open(&self.folder)?.sync_all()
    }
}

/// Makes sure that nobody else writes the log in a folder: two would do each other's entries again,
/// and take away logs that are in use.
fn own(folder: &Path) -> io::Result<fs::File> {
    let path = folder.join("owner.lock");
    let file = fs::File::create(&path)?;
    for _ in 0..OWNER_LOOKED_FOR {
        match file.file().try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(OWNER_PAUSE),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    let message = format!("another process has `{}`; end it first", path.display());
    Err(io::Error::new(io::ErrorKind::ResourceBusy, message))
}

/// Syncs the file systems of some folders.
fn sync_file_systems(folders: &[PathBuf]) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let mut synced = HashSet::new();
    for folder in folders {
        let folder = fs::File::open(folder)?;
        if synced.insert(folder.metadata()?.dev()) {
            rustix::fs::syncfs(folder.file())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
