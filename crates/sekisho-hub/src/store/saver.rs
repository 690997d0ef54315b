//! Writes runs, scale sets, runners and all else that changes on a thread of its own: nobody waits for the
//! disk but who must, and what is newer is never overwritten by what is older.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use sekisho_github::hub_api::Run;
use serde::Serialize;
use tokio::sync::watch;

use super::journal::Journal;
use super::{Store, write_json};
use crate::state::{Entry, Groups, NewRunner, Pulls, Replay, Repositories};

/// In which file a run is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    /// `attempts/<n>.json`.
    Attempt(u64),
    /// `run.json`.
    Newest,
}

/// Keeps `run.json` of every run up to date, and the journal of scale sets. Several changes in a row
/// are written once.
#[derive(Debug)]
pub(crate) struct Saver {
    shared: Arc<Shared>,
    written: watch::Receiver<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    todo: Mutex<Todo>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Todo {
    /// Bounded by the number of runs in memory.
    runs: BTreeMap<(u64, Kept), Run>,
    /// Of scale sets, in order.
    journal: Vec<Entry>,
    /// All that are to be there.
    runners: Option<BTreeMap<u64, NewRunner>>,
    /// As they are now.
    repositories: Option<Repositories>,
    groups: Option<Groups>,
    pulls: Option<Pulls>,
    /// Number of the newest request.
    asked: u64,
    closed: bool,
}

impl Todo {
    fn is_empty(&self) -> bool {
        self.runs.is_empty()
            && self.journal.is_empty()
            && self.runners.is_none()
            && self.repositories.is_none()
            && self.groups.is_none()
            && self.pulls.is_none()
    }
}

impl Saver {
    /// Starts the thread. Gives the scale sets that there are.
    pub(crate) fn start(store: Store) -> std::io::Result<(Self, Replay)> {
        let mut journal = Journal::open(store.journal_file())?;
        let sets = journal.sets();
        let shared = Arc::new(Shared { todo: Mutex::default(), changed: Condvar::new() });
        let (done, written) = watch::channel(0);
        let work = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("hub-saver".to_owned())
            .spawn(move || work.run(&store, &mut journal, &done))?;
        Ok((Self { shared, written, thread: Mutex::new(Some(thread)) }, sets))
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
            todo.runs.insert((run.id, kept), run);
        });
    }

    /// Has a change of the scale sets written soon.
    pub(crate) fn journal(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        self.add(|todo| todo.journal.extend(entries));
    }

    /// Has the runners written soon that outlive the process: these, and no others.
    pub(crate) fn save_runners(&self, runners: BTreeMap<u64, NewRunner>) {
        self.add(|todo| todo.runners = Some(runners));
    }

    /// Has the repositories written soon.
    pub(crate) fn save_repositories(&self, repositories: Repositories) {
        self.add(|todo| todo.repositories = Some(repositories));
    }

    /// Has the runner groups written soon.
    pub(crate) fn save_groups(&self, groups: Groups) {
        self.add(|todo| todo.groups = Some(groups));
    }

    /// Has the pull requests written soon.
    pub(crate) fn save_pulls(&self, pulls: Pulls) {
        self.add(|todo| todo.pulls = Some(pulls));
    }

    fn add(&self, add: impl FnOnce(&mut Todo)) {
        let mut todo = self.shared.todo.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut todo);
        todo.asked += 1;
        self.shared.changed.notify_one();
    }

    /// Waits until everything that was asked for so far is on disk.
    pub(crate) async fn flushed(&self) {
        let asked = self.shared.todo.lock().unwrap_or_else(PoisonError::into_inner).asked;
        // An error means that the thread is gone, which is logged where it ends.
        let _ = self.written.clone().wait_for(|written| *written >= asked).await;
    }

    /// Writes what is left and ends the thread. Blocking.
    pub(crate) fn close(&self) {
        self.shared.todo.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
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
    fn run(&self, store: &Store, journal: &mut Journal, done: &watch::Sender<u64>) {
        loop {
            let todo = {
                let todo = self.todo.lock().unwrap_or_else(PoisonError::into_inner);
                let idle = |todo: &mut Todo| todo.is_empty() && !todo.closed;
                let woken = self.changed.wait_while(todo, idle);
                let mut todo = woken.unwrap_or_else(PoisonError::into_inner);
                if todo.is_empty() {
                    return;
                }
                let next = Todo { asked: todo.asked, closed: todo.closed, ..Todo::default() };
                std::mem::replace(&mut *todo, next)
            };
            let asked = todo.asked;
            todo.write(store, journal);
            done.send_replace(asked);
        }
    }
}

impl Todo {
    /// What fails is tried again with the next change; all else goes on.
    fn write(self, store: &Store, journal: &mut Journal) {
        // A run is of a repository: that comes first.
        write("the repositories", &store.repositories_file(), self.repositories.as_ref());
        write("the runner groups", &store.groups_file(), self.groups.as_ref());
        write("the runners", &store.runners_file(), self.runners.as_ref());
        write("the pull requests", &store.pulls_file(), self.pulls.as_ref());
        if !self.journal.is_empty()
            && let Err(error) = journal.append(self.journal)
        {
            tracing::error!("the scale sets cannot be written down: {error}");
        }
        for ((id, kept), run) in self.runs {
            let written = match kept {
                Kept::Newest => write_json(&store.run_file(id), &run),
                Kept::Attempt(attempt) => store.write_attempt(id, attempt, &run),
            };
            if let Err(error) = written {
                tracing::error!("run {id} cannot be written down: {error}");
            }
        }
    }
}

fn write(what: &str, path: &Path, value: Option<&impl Serialize>) {
    if let Some(value) = value
        && let Err(error) = write_json(path, value)
    {
        tracing::error!("{what} cannot be written down: {error}");
    }
}
