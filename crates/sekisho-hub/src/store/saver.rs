//! Writes runs, scale sets, runners and all else that changes on a thread of its own: nobody waits for the
//! disk but who must, and what is newer is never overwritten by what is older.
//!
//! What cannot be written is tried again until it can, with longer and longer pauses; whoever waits for it
//! is told after [`TRIES`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sekisho_github::hub_api::{Run, Status};
use tokio::sync::watch;

use super::journal::Journal;
use super::{Store, write_atomically};
use crate::state::Entry;

/// Tries in a row that fail before whoever waits is told.
const TRIES: u32 = 3;
/// The pause after the first try that failed; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// In which file a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    /// `attempts/<n>.json`.
    Attempt(u64),
    /// `run.json`.
    Newest,
}

/// A file that holds all there is of a kind, in the order in which they are written: a run is of a
/// repository, so that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    Repositories,
    Groups,
    Runners,
    Pulls,
}

/// Where the lists are, as they are now.
pub(crate) trait Lists: std::fmt::Debug + Send + Sync {
    /// A list as its file holds it.
    fn json(&self, list: List) -> io::Result<Vec<u8>>;
}

/// It is done, and cannot be written down for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the hub cannot write to its disk: what was asked for is done, but is lost if the hub stops now. Its \
     log has the reason; it goes on trying"
)]
pub(crate) struct NotWritten;

/// Keeps `run.json` of every run, the lists and the journal of scale sets up to date. Several changes in a
/// row are written once.
#[derive(Debug)]
pub(crate) struct Saver {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How far the writing is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Number of the newest request that is on disk, with all before it.
    written: u64,
    /// Tries in a row that failed.
    failures: u32,
}

#[derive(Debug)]
struct Shared {
    todo: Mutex<Todo>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Todo {
    /// What runs are made of, which is written once.
    plans: BTreeMap<u64, Vec<u8>>,
    /// Of runs that are not on disk yet as they are now.
    runs: BTreeMap<(u64, Kept), Arc<Run>>,
    /// Those of them that are being written: with these here nothing is told of a file that is older.
    writing: BTreeMap<(u64, Kept), Arc<Run>>,
    /// Of scale sets, in order.
    journal: Vec<Entry>,
    /// Those that have changed: what they say is looked up when they are written.
    lists: BTreeSet<List>,
    /// Number of the newest request.
    asked: u64,
    closed: bool,
}

impl Todo {
    fn is_empty(&self) -> bool {
        self.plans.is_empty()
            && self.runs.is_empty()
            && self.journal.is_empty()
            && self.lists.is_empty()
    }
}

impl Saver {
    /// Starts the thread.
    pub(crate) fn start(
        store: Store,
        mut journal: Journal,
        lists: Arc<dyn Lists>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { todo: Mutex::default(), changed: Condvar::new() });
        let (done, progress) = watch::channel(Progress::default());
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("hub-saver".to_owned())
            .spawn(move || work.run(&store, &mut journal, lists.as_ref(), &done))?;
        Ok(Self { shared, progress, thread: Mutex::new(Some(thread)) })
    }

    /// Has what a run is made of written soon: before the run, if that comes later.
    pub(crate) fn plan(&self, id: u64, json: Vec<u8>) {
        self.add(|todo| {
            todo.plans.insert(id, json);
        });
    }

    /// Has a run written soon.
    pub(crate) fn save(&self, run: Run) {
        self.ask(Kept::Newest, run);
    }

    /// Has an attempt that is over written soon.
    pub(crate) fn save_attempt(&self, run: Run) {
        self.ask(Kept::Attempt(run.run_attempt), run);
    }

    fn ask(&self, kept: Kept, run: Run) {
        self.add(|todo| {
            todo.runs.insert((run.id, kept), Arc::new(run));
        });
    }

    /// A run that is not on disk yet as it is now: its file is missing, or older.
    pub(crate) fn unwritten(&self, id: u64) -> Option<Run> {
        self.shared.unwritten(&(id, Kept::Newest))
    }

    /// An attempt that is over and not on disk yet.
    pub(crate) fn unwritten_attempt(&self, id: u64, attempt: u64) -> Option<Run> {
        self.shared.unwritten(&(id, Kept::Attempt(attempt)))
    }

    /// Has a change of the scale sets written soon.
    pub(crate) fn journal(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        self.add(|todo| todo.journal.extend(entries));
    }

    /// Has a list written soon that was changed before this call.
    pub(crate) fn changed(&self, list: List) {
        self.add(|todo| {
            todo.lists.insert(list);
        });
    }

    fn add(&self, add: impl FnOnce(&mut Todo)) {
        let mut todo = self.shared.lock();
        add(&mut todo);
        todo.asked += 1;
        self.shared.changed.notify_one();
    }

    /// Waits until everything that was asked for so far is on disk; an error if that takes more than
    /// [`TRIES`].
    pub(crate) async fn flushed(&self) -> Result<(), NotWritten> {
        let asked = self.shared.lock().asked;
        let over = |now: &Progress| now.written >= asked || now.failures >= TRIES;
        let mut progress = self.progress.clone();
        // An error means that the thread is gone, which is logged where it ends.
        let now = progress.wait_for(over).await.map_err(|_| NotWritten)?;
        if now.written >= asked { Ok(()) } else { Err(NotWritten) }
    }

    /// How often in a row the newest could not be written; 0 when all is well.
    pub(crate) fn failures(&self) -> u32 {
        self.progress.borrow().failures
    }

    /// Writes what is left and ends the thread. Blocking.
    pub(crate) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes runs has panicked");
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Todo> {
        self.todo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &self,
        store: &Store,
        journal: &mut Journal,
        lists: &dyn Lists,
        done: &watch::Sender<Progress>,
    ) {
        let mut failures = 0;
        // Runs that are not over and have a folder: only of these it can have been removed.
        let mut under_way = BTreeSet::new();
        while let Some(mut todo) = self.next(failures) {
            let written = todo.write(store, journal, lists, &mut under_way);
            if let Err(error) = &written {
                failures += 1;
                if todo.closed {
                    tracing::error!("the newest is lost, for {error}");
                    return;
                }
                // Once: what comes after it is mostly the same.
                if failures == 1 {
                    tracing::error!("{error}: it is tried again until it works");
                }
                self.put_back(todo);
                done.send_modify(|now| now.failures = failures);
                continue;
            }
            if failures > 0 {
                tracing::warn!("all is written down again, after {failures} tries that failed");
            }
            failures = 0;
            self.lock().writing.clear();
            done.send_replace(Progress { written: todo.asked, failures });
        }
    }

    /// What is to be written next, after a pause if the last try failed; `None`: nothing, for ever.
    fn next(&self, failures: u32) -> Option<Todo> {
        let todo = self.lock();
        let mut todo = if failures == 0 {
            let idle = |todo: &mut Todo| todo.is_empty() && !todo.closed;
            self.changed.wait_while(todo, idle).unwrap_or_else(PoisonError::into_inner)
        } else {
            let waits = self.changed.wait_timeout_while(todo, pause(failures), |todo| !todo.closed);
            waits.unwrap_or_else(PoisonError::into_inner).0
        };
        // After a failure the journal may be to do, of which this does not know.
        if todo.is_empty() && failures == 0 {
            return None;
        }
        let writing = todo.runs.clone();
        let next = Todo { asked: todo.asked, closed: todo.closed, writing, ..Todo::default() };
        Some(std::mem::replace(&mut *todo, next))
    }

    fn unwritten(&self, key: &(u64, Kept)) -> Option<Run> {
        let todo = self.lock();
        let run = todo.runs.get(key).or_else(|| todo.writing.get(key))?;
        Some(Run::clone(run))
    }

    /// Has what was not written written with what has come since, which is newer.
    fn put_back(&self, left: Todo) {
        let mut todo = self.lock();
        let newer = std::mem::replace(&mut todo.runs, left.runs);
        todo.runs.extend(newer);
        todo.writing.clear();
        // Empty, unless an entry cannot be put into words.
        todo.journal.splice(0..0, left.journal);
        todo.lists.extend(left.lists);
        todo.plans.extend(left.plans);
    }
}

/// The pause after so many tries that failed.
fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

impl Todo {
    /// Writes all that can be written, and keeps the rest. The first error, with what it is about.
    fn write(
        &mut self,
        store: &Store,
        journal: &mut Journal,
        lists: &dyn Lists,
        under_way: &mut BTreeSet<u64>,
    ) -> Result<(), String> {
        let mut first = Ok(());
        let mut is_written = |what: &dyn std::fmt::Display, written: io::Result<()>| {
            if let Err(error) = &written
                && first.is_ok()
            {
                first = Err(format!("{what} cannot be written down: {error}"));
            }
            written.is_ok()
        };
        self.lists.retain(|list| {
            let written = lists.json(*list);
            let written = written.and_then(|json| write_atomically(&list.file(store), &json));
            !is_written(&list.name(), written)
        });
        if !self.journal.is_empty() || journal.is_broken() {
            is_written(&"the scale sets", journal.append(&mut self.journal));
        }
        self.plans.retain(|id, json| {
            !is_written(&format_args!("the plan of run {id}"), store.write_plan(*id, json))
        });
        self.runs.retain(|(id, kept), run| {
            if under_way.contains(id) && store.was_removed(*id) {
                tracing::warn!("run {id} is not written down: its folder was removed");
                under_way.remove(id);
                return false;
            }
            let written = match kept {
                Kept::Newest => store.write_run(*id, run),
                Kept::Attempt(attempt) => store.write_attempt(*id, *attempt, run),
            };
            if *kept == Kept::Newest && written.is_ok() {
                if run.status == Status::Completed {
                    under_way.remove(id);
                } else {
                    under_way.insert(*id);
                }
            }
            !is_written(&format_args!("run {id}"), written)
        });
        first
    }
}

impl List {
    fn file(self, store: &Store) -> std::path::PathBuf {
        match self {
            Self::Repositories => store.repositories_file(),
            Self::Groups => store.groups_file(),
            Self::Runners => store.runners_file(),
            Self::Pulls => store.pulls_file(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Repositories => "the repositories",
            Self::Groups => "the runner groups",
            Self::Runners => "the runners",
            Self::Pulls => "the pull requests",
        }
    }
}

#[cfg(test)]
mod tests;
