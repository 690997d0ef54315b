//! What all handlers share, and how they change it.

mod telling;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sekisho_github::hub_api::{Pushed, Run, Status};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::Config;
use crate::faults::{Armed, Call, Fault, Plan, Strike};
use crate::git::Git;
use crate::hooks::Hooks;
use crate::http::Rates;
use crate::keys::Keys;
use crate::names::RepoName;
use crate::state::{Effect, JobRef, Kept, LiveJob, Phase, State, end_interrupted};
use crate::storage::Storage;
use crate::store::{EventLog, EventTail, Journal, List, Lists, Saver, Store};
use crate::tokens::Tokens;

/// Repositories that are read at the same time for a run that is dispatched: each takes some processes.
const MAX_READERS: usize = 8;
/// Pushes whose outcome is remembered.
const MAX_PUSHES: usize = 1_000;

/// The hub.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) git: Git,
    pub(crate) store: Store,
    pub(crate) saver: Saver,
    pub(crate) keys: Keys,
    pub(crate) tokens: Tokens,
    pub(crate) clock: Arc<Clock>,
    pub(crate) storage: Storage,
    pub(crate) rates: Rates,
    pub(crate) hooks: Hooks,
    inner: Arc<Mutex<Inner>>,
    /// Counts changes; everybody who waits for one waits here.
    changed: watch::Sender<u64>,
    /// Counts the news of each scale set that somebody listens to.
    news: Mutex<BTreeMap<u64, watch::Sender<u64>>>,
    faults: Mutex<Armed>,
    /// Pushes to one repository go one after the other. Bounded by the number of repositories.
    push_locks: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    /// Whoever does something about a pull request has the lock of the repository that it is to go to,
    /// from his look at the branches until all is written down. It is asked for after a push lock, never
    /// before, and none is waited for with another in hand. Bounded by the number of repositories.
    pull_locks: Mutex<BTreeMap<u64, Arc<Mutex<()>>>>,
    /// Who has a permit may read a repository for a dispatch.
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// What a hub is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) git: Git,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) storage: Storage,
    pub(crate) keys: Keys,
    pub(crate) hooks: Hooks,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Of runs that are not over.
    events: BTreeMap<u64, EventLog>,
    pushes: VecDeque<(String, String, Pushed)>,
}

impl Lists for Mutex<Inner> {
    fn json(&self, list: List) -> io::Result<Vec<u8>> {
        let now = || self.lock().unwrap_or_else(PoisonError::into_inner);
        // Each is copied before it is put into words: nobody waits for more than the copy.
        let json = match list {
            List::Repositories => {
                let repositories = now().state.repositories.clone();
                serde_json::to_vec(&repositories)
            }
            List::Groups => {
                let groups = now().state.groups.clone();
                serde_json::to_vec(&groups)
            }
            List::Runners => {
                let runners = now().state.kept_runners();
                serde_json::to_vec(&runners)
            }
            List::Pulls => {
                let pulls = now().state.pulls.clone();
                serde_json::to_vec(&pulls)
            }
        };
        json.map_err(io::Error::other)
    }
}

impl Shared {
    /// Puts the parts together.
    pub(crate) fn new(parts: Parts, state: State) -> io::Result<Self> {
        let Parts { config, git, store, journal, storage, keys, hooks, tasks, stopping } = parts;
        let clock = Arc::new(Clock::default());
        let inner = Inner { state, events: BTreeMap::new(), pushes: VecDeque::new() };
        let inner = Arc::new(Mutex::new(inner));
        let lists = Arc::clone(&inner) as Arc<dyn Lists>;
        let saver = Saver::start(store.clone(), journal, lists)?;
        Ok(Self {
            config,
            git,
            store,
            saver,
            keys,
            tokens: Tokens::new(Arc::clone(&clock)),
            clock,
            storage,
            rates: Rates::default(),
            hooks,
            inner,
            changed: watch::channel(0).0,
            news: Mutex::default(),
            faults: Mutex::default(),
            push_locks: Mutex::default(),
            pull_locks: Mutex::default(),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            stopping,
            tasks,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in a handler is a bug of that one request: the state methods leave no halves.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.lock().state)
    }

    /// Changes the state, carries the effects out, and wakes who waits.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State, Timestamp) -> R) -> R {
        let mut inner = self.lock();
        let at = self.clock.now();
        let before = inner.state.seq();
        let answer = change(&mut inner.state, at);
        let effects = inner.state.take_effects();
        let news = !effects.is_empty() || inner.state.seq() != before;
        self.carry_out(&mut inner, effects, at);
        self.saver.journal(inner.state.scale_sets.take_journal());
        let woken = inner.state.scale_sets.take_woken();
        drop(inner);
        self.wake(woken);
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
        answer
    }

    fn carry_out(&self, inner: &mut Inner, effects: Vec<Effect>, at: Timestamp) {
        let mut to_save = Vec::new();
        for effect in effects {
            match effect {
                Effect::Event { run, kind } => {
                    self.tell(&inner.state, run, &kind);
                    let log = match inner.events.entry(run) {
                        Entry::Occupied(log) => Some(log.into_mut()),
                        Entry::Vacant(place) => match self.store.open_events(run) {
                            Ok(log) => Some(place.insert(log)),
                            Err(error) => {
                                tracing::error!("no events of run {run}: {error}");
                                None
                            }
                        },
                    };
                    if let Some(log) = log {
                        log.append(at, kind);
                    }
                }
                Effect::Save { run } => to_save.push(run),
                Effect::SaveAttempt(run) => self.saver.save_attempt(*run),
                Effect::SaveRunners => self.saver.changed(List::Runners),
            }
        }
        to_save.sort_unstable();
        to_save.dedup();
        let mut over = false;
        for id in to_save {
            let Some(run) = inner.state.runs.get(&id) else { continue };
            self.saver.save(run.view.clone());
            if run.view.status == Status::Completed {
                inner.events.remove(&id);
                over = true;
            }
        }
        if over {
            inner.state.trim();
        }
    }

    /// Has the repositories written down.
    pub(crate) fn save_repositories(&self) {
        self.saver.changed(List::Repositories);
    }

    /// Has the runner groups written down.
    pub(crate) fn save_groups(&self) {
        self.saver.changed(List::Groups);
    }

    /// Has the pull requests written down.
    pub(crate) fn save_pulls(&self) {
        self.saver.changed(List::Pulls);
    }

    /// Wakes at the next change after this call.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes when there is news of a scale set after this call. An error: the set is gone.
    pub(crate) fn news_of(&self, set: u64) -> watch::Receiver<u64> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.entry(set).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    fn wake(&self, sets: BTreeSet<u64>) {
        if sets.is_empty() {
            return;
        }
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        for set in sets {
            let Some(count) = news.get(&set) else { continue };
            // Who waits looks anew, and sees if the set is gone.
            count.send_modify(|count| *count += 1);
            if count.receiver_count() == 0 {
                news.remove(&set);
            }
        }
    }

    /// What a fault switch has in store for a call, of what the caller can do. Counts.
    pub(crate) fn strike(&self, call: Call, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
        if !self.config.fault_switches {
            return None;
        }
        let fault = self.faults.lock().unwrap_or_else(PoisonError::into_inner).strike(call, fits);
        if let Some(fault) = &fault {
            tracing::info!("a fault switch strikes {call:?}: {fault:?}");
        }
        fault
    }

    /// Sets what is to go wrong from now on.
    pub(crate) fn arm(&self, plan: Plan) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Armed::new(plan);
    }

    /// What went wrong as it should.
    pub(crate) fn struck(&self) -> Vec<Strike> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).struck()
    }

    /// Lets time pass at once, and ends what is over then.
    pub(crate) fn advance(&self, by: SignedDuration) {
        self.clock.advance(by);
        self.change(State::expire);
    }

    /// A run, from memory or from disk. Blocking for one that is not in memory.
    pub(crate) fn run(&self, id: u64) -> Option<Run> {
        if let Some(view) = self.look(|state| state.runs.get(&id).map(|run| run.view.clone())) {
            return Some(view);
        }
        // What has just left memory may not be on disk yet.
        if let Some(run) = self.saver.unwritten(id) {
            return Some(run);
        }
        let mut run = self.store.load_run(id)?;
        // Too old to have been looked at when the hub started.
        if end_interrupted(&mut run, self.clock.now()) {
            self.saver.save(run.clone());
        }
        Some(run)
    }

    /// A run in one of its attempts. Blocking for an earlier one.
    pub(crate) fn attempt(&self, id: u64, attempt: u64) -> Option<Run> {
        let newest = self.run(id)?;
        if newest.run_attempt == attempt {
            return Some(newest);
        }
        let unwritten = self.saver.unwritten_attempt(id, attempt);
        unwritten.or_else(|| self.store.load_attempt(id, attempt))
    }

    /// What is needed to run a run of an earlier process again; `None` if this process has it, or it
    /// was not kept. Blocking.
    pub(crate) fn kept(&self, id: u64) -> Option<(Run, Kept)> {
        let live = self.look(|state| state.runs.get(&id).is_some_and(|run| run.live.is_some()));
        let kept = if live { None } else { self.store.load_plan(id) };
        Some((self.run(id)?, kept?))
    }

    /// How far a run's events go.
    pub(crate) fn event_tail(&self, run: u64) -> Option<EventTail> {
        let path = self.store.events_file(run);
        {
            let inner = self.lock();
            if let Some(log) = inner.events.get(&run) {
                return Some(EventTail { path, bytes: log.bytes(), ended: false });
            }
        }
        let bytes = path.metadata().ok()?.len();
        Some(EventTail { path, bytes, ended: true })
    }

    /// Notes what a push led to.
    pub(crate) fn note_push(&self, repository: &RepoName, sha: &str, pushed: Pushed) {
        let mut inner = self.lock();
        let key = repository.key();
        inner.pushes.retain(|(known, of, _)| (known, of.as_str()) != (&key, sha));
        if inner.pushes.len() >= MAX_PUSHES {
            inner.pushes.pop_front();
        }
        inner.pushes.push_back((key, sha.to_owned(), pushed));
    }

    /// What the newest push of a commit led to; of an earlier process, its runs are known.
    pub(crate) fn pushed(&self, repository: &RepoName, sha: &str) -> Option<Pushed> {
        let inner = self.lock();
        let key = repository.key();
        let noted = inner.pushes.iter().find(|(known, of, _)| *known == key && of == sha);
        if let Some((.., pushed)) = noted {
            return Some(pushed.clone());
        }
        let of_commit = |run: &&crate::state::Run| {
            run.view.sha == sha && run.view.repository.eq_ignore_ascii_case(&key)
        };
        let runs: Vec<u64> =
            inner.state.runs.values().filter(of_commit).map(|run| run.view.id).collect();
        (!runs.is_empty()).then(|| Pushed { runs, errors: Vec::new() })
    }

    /// One permit: who has it may push to the repository.
    pub(crate) fn push_lock(&self, repository: &RepoName) -> Arc<Semaphore> {
        let mut locks = self.push_locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(repository.key()).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    /// The lock of the pull requests to a repository.
    pub(crate) fn pull_lock(&self, repository: u64) -> Arc<Mutex<()>> {
        let mut locks = self.pull_locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(repository).or_default())
    }

    /// Whether a runner is at a job.
    pub(crate) fn is_running(&self, at: JobRef) -> bool {
        let running = |job: &LiveJob| matches!(job.phase, Phase::Running(_));
        self.look(|state| state.job(at).is_some_and(|(_, _, job, _)| running(job)))
    }

    /// Removes artifacts and cache entries that are too old or too many, and uploads of jobs that
    /// are over. Blocking.
    pub(crate) fn sweep_storage(&self) {
        self.storage.sweep(self.clock.now(), |job| self.is_running(job));
    }

    /// Ends every run that is not over, as if the process had been killed now.
    pub(crate) fn interrupt_all(&self) {
        let open: Vec<u64> = self.look(|state| {
            let open = |run: &&crate::state::Run| run.view.status != Status::Completed;
            state.runs.values().filter(open).map(|run| run.view.id).collect()
        });
        for id in open {
            self.change(|state, now| state.interrupt(id, now));
        }
    }
}
