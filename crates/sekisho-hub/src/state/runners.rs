//! Registered runners: from their registration to their one job's end.

use std::collections::{BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::jobs::stop_within;
use super::{JobRef, Phase, State};

/// Registrations there may be at a time.
const MAX_RUNNERS: usize = 1_000;
/// A session that was not heard of for so long may be replaced: four polls were missed.
const SESSION_SILENCE: SignedDuration = SignedDuration::from_mins(4);
/// A message whose effect is not seen is sent again after this time: its answer was lost.
const REDELIVER_AFTER: SignedDuration = SignedDuration::from_secs(15);
/// Assertions that are remembered of a runner, so that none is used twice.
const MAX_ASSERTIONS: usize = 64;

/// The most labels of a runner, as on GitHub.
const MAX_LABELS: usize = 100;

/// A registered runner.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// Lower case; all of them.
    pub(crate) labels: Vec<String>,
    /// Those that it was given later.
    pub(crate) custom_labels: BTreeSet<String>,
    pub(crate) group: u64,
    /// The scale set whose jobs it takes, and no others.
    pub(crate) set: Option<u64>,
    haunting: Haunting,
    /// `unknown` until it has a session.
    pub(crate) os: String,
    /// Issuer of its assertions.
    pub(crate) client_id: Uuid,
    /// Modulus and exponent of its key, big-endian.
    pub(crate) public_key: (Vec<u8>, Vec<u8>),
    pub(crate) session: Option<Session>,
    /// What it was offered, or works on.
    pub(crate) job: Option<JobRef>,
    assertions: VecDeque<String>,
    last_message: i64,
    /// When the newest message about `job` went out.
    sent: Option<(Sent, Timestamp)>,
    /// The first message and the newest, for fault switches.
    told: Option<(Message, Message)>,
    /// A message that is to come again, whatever has become of it.
    again: Option<Message>,
}

/// Which message a fault switch has come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The runner's first: the offer of its job.
    First,
    /// The one that was sent last.
    Newest,
}

/// What a fault switch has in store for a runner whose job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haunting {
    /// Its registration ends too.
    None,
    /// Its registration stays, and is called busy at so many removals.
    Planned(u32),
    /// It is such a registration.
    Ghost(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Offer,
    Cancellation,
}

/// A runner that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    id: Uuid,
    last_seen: Timestamp,
}

/// What a registration says.
#[derive(Clone, Debug)]
pub(crate) struct NewRunner {
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) group: u64,
    pub(crate) set: Option<u64>,
    pub(crate) client_id: Uuid,
    pub(crate) public_key: (Vec<u8>, Vec<u8>),
}

/// Why a runner was not registered or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegisterError {
    /// The name is taken.
    NameTaken,
    /// [`MAX_RUNNERS`].
    TooMany,
    /// There is no such runner.
    NotFound,
    /// It has a job.
    Busy,
}

/// Why a label was not given or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelError {
    /// There is no such runner or label.
    NotFound,
    /// It came with the registration.
    ReadOnly,
    /// [`MAX_LABELS`].
    TooMany,
}

/// Why a session cannot be had or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The registration is gone.
    RunnerNotFound,
    /// Another process listens as this runner.
    Conflict,
    /// The session is not the runner's.
    Invalid,
}

/// What a runner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// There is a job.
    Offer {
        /// Counts the runner's messages.
        id: i64,
        /// What to acquire.
        request: Uuid,
    },
    /// Stop the job.
    Cancellation {
        /// Counts the runner's messages.
        id: i64,
        /// The job.
        job: Uuid,
        /// How long the job may take to end.
        within: SignedDuration,
    },
}

impl Runner {
    /// Whether it is shown as busy.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some() || matches!(self.haunting, Haunting::Ghost(1..))
    }

    /// Gives it labels; those that it has are no error.
    pub(crate) fn add_labels(&mut self, new: &[String]) -> Result<(), LabelError> {
        for label in new.iter().map(|label| label.to_lowercase()) {
            if self.labels.contains(&label) {
                continue;
            }
            if self.labels.len() >= MAX_LABELS {
                return Err(LabelError::TooMany);
            }
            self.custom_labels.insert(label.clone());
            self.labels.push(label);
        }
        Ok(())
    }

    /// Takes a custom label.
    pub(crate) fn remove_label(&mut self, label: &str) -> Result<(), LabelError> {
        let label = label.to_lowercase();
        if !self.labels.contains(&label) {
            return Err(LabelError::NotFound);
        }
        if !self.custom_labels.remove(&label) {
            return Err(LabelError::ReadOnly);
        }
        self.labels.retain(|known| *known != label);
        Ok(())
    }

    /// Takes all custom labels.
    pub(crate) fn clear_labels(&mut self) {
        let custom = std::mem::take(&mut self.custom_labels);
        self.labels.retain(|label| !custom.contains(label));
    }
}

impl State {
    /// Changes a runner's labels; jobs that wait may then be for it.
    pub(crate) fn relabel(
        &mut self,
        id: u64,
        change: impl FnOnce(&mut Runner) -> Result<(), LabelError>,
        now: Timestamp,
    ) -> Result<&Runner, LabelError> {
        let runner = self.runners.get_mut(&id).ok_or(LabelError::NotFound)?;
        change(runner)?;
        self.touch_queue();
        self.offer_jobs(now);
        self.runners.get(&id).ok_or(LabelError::NotFound)
    }

    /// Whether a name is free.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), RegisterError> {
        if self.runners.values().any(|runner| runner.name.eq_ignore_ascii_case(name)) {
            return Err(RegisterError::NameTaken);
        }
        if self.runners.len() >= MAX_RUNNERS {
            return Err(RegisterError::TooMany);
        }
        Ok(())
    }

    /// Registers a runner for one job.
    pub(crate) fn register(&mut self, new: NewRunner) -> Result<u64, RegisterError> {
        self.check_name(&new.name)?;
        let id = self.next_runner;
        self.next_runner += 1;
        let runner = Runner {
            id,
            name: new.name,
            labels: new.labels.iter().map(|label| label.to_lowercase()).collect(),
            custom_labels: BTreeSet::new(),
            group: new.group,
            set: new.set,
            haunting: Haunting::None,
            os: "unknown".to_owned(),
            client_id: new.client_id,
            public_key: new.public_key,
            session: None,
            job: None,
            assertions: VecDeque::new(),
            last_message: 0,
            sent: None,
            told: None,
            again: None,
        };
        self.runners.insert(id, runner);
        self.touch_queue();
        Ok(id)
    }

    /// Removes a registration that has no job running.
    pub(crate) fn remove_runner(&mut self, id: u64, now: Timestamp) -> Result<(), RegisterError> {
        let runner = self.runners.get_mut(&id).ok_or(RegisterError::NotFound)?;
        if let Haunting::Ghost(left @ 1..) = runner.haunting {
            runner.haunting = Haunting::Ghost(left - 1);
            return Err(RegisterError::Busy);
        }
        let runner = self.runners.get(&id).ok_or(RegisterError::NotFound)?;
        let phase = runner.job.and_then(|at| self.phase(at));
        if matches!(phase, Some(Phase::Running(running)) if running.runner == id) {
            return Err(RegisterError::Busy);
        }
        self.forget_runner(id, now);
        Ok(())
    }

    /// The runner's process has ended: so has what it was doing. False if it is not known.
    pub(crate) fn runner_gone(&mut self, id: u64, reason: &str, now: Timestamp) -> bool {
        let Some(runner) = self.runners.get(&id) else { return false };
        if let Some(at) = runner.job {
            self.lose_job(at, id, &format!("The runner was lost: {reason}"), now);
        }
        self.forget_runner(id, now);
        true
    }

    /// A runner's job is over, and with it its registration; unless it is to be a ghost.
    pub(super) fn release_runner(&mut self, id: u64, now: Timestamp) {
        match self.runners.get_mut(&id) {
            Some(runner) if matches!(runner.haunting, Haunting::Planned(_)) => {
                let Haunting::Planned(refusals) = runner.haunting else { return };
                runner.haunting = Haunting::Ghost(refusals);
                (runner.job, runner.session) = (None, None);
                self.touch_queue();
            }
            _ => self.forget_runner(id, now),
        }
    }

    /// Has a runner's registration outlive its job: it is called busy, and `refusals` tries to
    /// remove it fail.
    pub(crate) fn haunt(&mut self, id: u64, refusals: u32) {
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.haunting = Haunting::Planned(refusals);
        }
    }

    /// Takes the registration away. A job that it was merely offered waits again.
    pub(super) fn forget_runner(&mut self, id: u64, now: Timestamp) {
        let Some(runner) = self.runners.remove(&id) else { return };
        self.touch_queue();
        if let Some(at) = runner.job {
            self.withdraw_offer(at, id, now);
        }
    }

    /// Notes an assertion. False if it was used before.
    pub(crate) fn use_assertion(&mut self, runner: u64, jti: &str) -> bool {
        let Some(runner) = self.runners.get_mut(&runner) else { return false };
        if runner.assertions.iter().any(|used| used == jti) {
            return false;
        }
        if runner.assertions.len() == MAX_ASSERTIONS {
            runner.assertions.pop_front();
        }
        runner.assertions.push_back(jti.to_owned());
        true
    }

    /// The runner begins to listen: it may be offered a job at once.
    pub(crate) fn open_session(
        &mut self,
        runner: u64,
        session: Uuid,
        os: &str,
        now: Timestamp,
    ) -> Result<(), SessionError> {
        let runner = self.runners.get_mut(&runner).ok_or(SessionError::RunnerNotFound)?;
        let alive = |session: &Session| now.duration_since(session.last_seen) < SESSION_SILENCE;
        if runner.session.as_ref().is_some_and(alive) {
            return Err(SessionError::Conflict);
        }
        runner.session = Some(Session { id: session, last_seen: now });
        os.clone_into(&mut runner.os);
        self.touch_queue();
        self.offer_jobs(now);
        Ok(())
    }

    /// The runner stops listening. Its job, if it has one, goes on.
    pub(crate) fn close_session(&mut self, id: u64, now: Timestamp) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        runner.session = None;
        let job = runner.job;
        self.touch_queue();
        if let Some(at) = job {
            self.withdraw_offer(at, id, now);
        }
    }

    /// What the runner is to be told now.
    pub(crate) fn next_message(
        &mut self,
        id: u64,
        session: Uuid,
        now: Timestamp,
    ) -> Result<Option<Message>, SessionError> {
        let runner = self.runners.get_mut(&id).ok_or(SessionError::RunnerNotFound)?;
        match &mut runner.session {
            Some(known) if known.id == session => known.last_seen = now,
            _ => return Err(SessionError::Invalid),
        }
        if let Some(message) = runner.again.take() {
            return Ok(Some(message));
        }
        let Some((_, _, job, _)) = runner.job.and_then(|at| self.job(at)) else { return Ok(None) };
        let (guid, within) = (job.guid, stop_within(job.ready.as_deref()));
        let (sent, request) = match &job.phase {
            Phase::Offered { runner, request, .. } if *runner == id => (Sent::Offer, *request),
            Phase::Running(running) if running.runner == id && running.stop_until.is_some() => {
                (Sent::Cancellation, Uuid::nil())
            }
            _ => return Ok(None),
        };
        let runner = self.runners.get_mut(&id).ok_or(SessionError::RunnerNotFound)?;
        if let Some((before, at)) = runner.sent
            && before == sent
            && now.duration_since(at) < REDELIVER_AFTER
        {
            return Ok(None);
        }
        runner.sent = Some((sent, now));
        runner.last_message += 1;
        let id = runner.last_message;
        let message = match sent {
            Sent::Offer => Message::Offer { id, request },
            Sent::Cancellation => Message::Cancellation { id, job: guid, within },
        };
        let first = runner.told.take().map_or_else(|| message.clone(), |(first, _)| first);
        runner.told = Some((first, message.clone()));
        Ok(Some(message))
    }

    /// Has a runner told again what it was told before; nothing, if it was told nothing yet.
    pub(crate) fn repeat_message(&mut self, id: u64, which: Repeat) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let told = runner.told.clone();
        runner.again = told.map(|(first, newest)| match which {
            Repeat::First => first,
            Repeat::Newest => newest,
        });
    }

    /// Whether the offer still stands.
    pub(crate) fn acknowledge(&self, runner: u64, request: Uuid) -> bool {
        let job = self.runners.get(&runner).and_then(|runner| runner.job);
        let phase = job.and_then(|at| self.phase(at));
        matches!(phase, Some(Phase::Offered { request: offered, .. }) if *offered == request)
    }
}
