//! Which runner to start, stop or forget next: a plain function over what was seen.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// How long a runner may wait for a job before it is stopped.
///
/// 60 s: the time after which GitHub gives a job that was not acquired to another runner, so an
/// idle runner older than that will not get the job it was made for.
pub const IDLE_DEADLINE: SignedDuration = SignedDuration::from_secs(60);

/// How long a runner that was told to stop has before it is killed.
///
/// 30 s: the runner gives a step 7.5 s after SIGINT and 2.5 s after SIGTERM, then runs `always()`
/// steps and sends the log's tail.
pub const STOP_DEADLINE: SignedDuration = SignedDuration::from_secs(30);

/// How many runners are started for one job that none of them takes.
///
/// 3: what GitHub does before it gives a job up.
pub const MAX_ATTEMPTS: u32 = 3;

/// How long a registration may be without a process before it is taken for a ghost: the time
/// between a JIT answer and the spawn is far below it.
pub const GHOST_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// In front of every name of ours; another's registration is never touched.
pub const NAME_PREFIX: &str = "local-";

/// A job that waits for a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The hub's id.
    pub id: u64,
    /// `owner/name`: where the runner is registered.
    pub repository: String,
    /// What its runner must have, lower case.
    pub labels: Vec<String>,
}

/// A runner as the hub knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The hub's id.
    pub id: u64,
    /// Unique in the hub.
    pub name: String,
    /// It has a job, or was offered one.
    pub busy: bool,
    /// That job; one that was offered and not taken yet is still in the queue.
    pub job: Option<u64>,
    /// When this scheduler first saw it, UTC.
    pub seen: Timestamp,
}

/// A runner as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The name of its registration.
    pub name: String,
    /// The hub's id of its registration, once it is known.
    pub registration: Option<u64>,
    /// What it was registered with, lower case.
    pub labels: Vec<String>,
    /// When it was started, UTC.
    pub started: Timestamp,
    /// When it was told to stop, UTC.
    pub stopping: Option<Timestamp>,
    /// Why it ended; `None` while it runs.
    pub ended: Option<String>,
}

/// Everything [`decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made, UTC.
    pub now: Timestamp,
    /// Most processes at once.
    pub capacity: usize,
    /// The plane stops: nothing is started any more, and what runs is told to end.
    pub draining: bool,
    /// Whether who works is not waited for either.
    pub hurried: bool,
    /// In the order in which they were queued.
    pub queue: Vec<Job>,
    /// All runners of the hub.
    pub registrations: Vec<Registration>,
    /// All runners of this scheduler.
    pub processes: Vec<Process>,
    /// How many runners were started for a job that is still in the queue.
    pub attempts: BTreeMap<u64, u32>,
}

/// One idempotent step. `act` performs them in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Register a runner and start its process.
    Start {
        /// The job that made it necessary; it may take another with the same labels.
        job: u64,
        /// Where to register.
        repository: String,
        /// Derived from the job, so that a repeat is a name conflict, not a second runner.
        name: String,
        /// The labels of the job.
        labels: Vec<String>,
    },
    /// SIGTERM.
    Stop {
        /// Which process.
        name: String,
    },
    /// SIGKILL to its process group and to all that came from it.
    Kill {
        /// Which process.
        name: String,
    },
    /// The process ended: remove its registration, its folder and what it left running.
    Forget {
        /// Which process.
        name: String,
        /// The registration that was its own.
        registration: Option<u64>,
        /// Why it ended.
        reason: String,
    },
    /// A registration without a process: the answer that made it was lost, or the scheduler died.
    Sweep {
        /// Which registration.
        registration: u64,
        /// Its name.
        name: String,
    },
    /// No runner takes this job: cancel its run.
    GiveUp {
        /// Which job.
        job: u64,
    },
}

/// Chooses the next steps. An empty plan means that there is nothing to do until something changes
/// or a deadline passes.
pub fn decide(seen: &Observed) -> Vec<Action> {
    let mut plan = Vec::new();
    for process in &seen.processes {
        plan.extend(for_process(seen, process));
    }
    plan.extend(ghosts(seen));
    if !seen.draining {
        plan.extend(for_queue(seen));
    }
    plan
}

fn for_process(seen: &Observed, process: &Process) -> Option<Action> {
    let name = process.name.clone();
    if let Some(reason) = &process.ended {
        let registration = process.registration.or_else(|| {
            seen.registrations.iter().find(|known| known.name == name).map(|known| known.id)
        });
        return Some(Action::Forget { name, registration, reason: reason.clone() });
    }
    match process.stopping {
        Some(since) if seen.hurried || seen.now.duration_since(since) >= STOP_DEADLINE => {
            Some(Action::Kill { name })
        }
        Some(_) => None,
        None if seen.draining || idle_too_long(seen, process) => Some(Action::Stop { name }),
        None => None,
    }
}

fn idle_too_long(seen: &Observed, process: &Process) -> bool {
    !is_busy(seen, process) && seen.now.duration_since(process.started) >= IDLE_DEADLINE
}

/// A runner whose registration is gone has had its job and is on its way out: as good as busy.
fn is_busy(seen: &Observed, process: &Process) -> bool {
    match seen.registrations.iter().find(|known| known.name == process.name) {
        Some(known) => known.busy,
        None => process.registration.is_some(),
    }
}

fn ghosts(seen: &Observed) -> impl Iterator<Item = Action> {
    seen.registrations
        .iter()
        .filter(|known| known.name.starts_with(NAME_PREFIX))
        .filter(|known| seen.processes.iter().all(|process| process.name != known.name))
        .filter(|known| seen.now.duration_since(known.seen) >= GHOST_AFTER)
        .map(|known| Action::Sweep { registration: known.id, name: known.name.clone() })
}

/// A runner that waits takes any job with its labels, so runners are counted per set of labels.
fn for_queue(seen: &Observed) -> Vec<Action> {
    let mut waiting: BTreeMap<&[String], usize> = BTreeMap::new();
    let alive = |process: &&Process| process.ended.is_none();
    for process in seen.processes.iter().filter(alive) {
        if process.stopping.is_none() && !is_busy(seen, process) {
            *waiting.entry(&process.labels).or_default() += 1;
        }
    }
    let mut room = seen.capacity.saturating_sub(seen.processes.iter().filter(alive).count());
    let mut plan = Vec::new();
    let offered = |job: &&Job| seen.registrations.iter().any(|known| known.job == Some(job.id));
    for job in seen.queue.iter().filter(|job| !offered(job)) {
        if let Some(count) = waiting.get_mut(job.labels.as_slice()).filter(|count| **count > 0) {
            *count -= 1;
            continue;
        }
        let attempt = seen.attempts.get(&job.id).copied().unwrap_or(0);
        if attempt >= MAX_ATTEMPTS {
            plan.push(Action::GiveUp { job: job.id });
        } else if room > 0 {
            room -= 1;
            plan.push(Action::Start {
                job: job.id,
                repository: job.repository.clone(),
                name: format!("{NAME_PREFIX}{}-{}", job.id, attempt + 1),
                labels: job.labels.clone(),
            });
        }
    }
    plan
}

#[cfg(test)]
mod tests;
