//! Registered runners: from their registration to their one job's end.

mod messages;
mod sessions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::messages::Telling;
pub(crate) use self::messages::{Message, Repeat};
use self::sessions::Session;
pub(crate) use self::sessions::SessionError;
use super::{Effect, JobRef, Owner, Phase, State};

/// Registrations there may be at a time: as many as GitHub lets into a runner group.
/// <https://docs.github.com/en/actions/reference/limits>
const MAX_RUNNERS: usize = 10_000;
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
    /// Whose jobs it takes, and who may see it.
    pub(crate) scope: Owner,
    pub(crate) life: Life,
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
    telling: Telling,
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

/// How long a registration is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Life {
    /// For one job, as long as the process: it was made just in time.
    Jit,
    /// For one job, whenever that comes: somebody registered it with a token.
    Ephemeral,
    /// Until it is removed: somebody registered it with a token.
    Lasting,
}

impl Life {
    /// Whether it outlives the process: somebody registered it with a token.
    pub(super) fn is_kept(self) -> bool {
        self != Self::Jit
    }
}

/// What a registration says. This is also the form on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewRunner {
    pub(crate) name: String,
    /// All of them.
    pub(crate) labels: Vec<String>,
    /// Those that may be taken away again.
    pub(crate) custom_labels: BTreeSet<String>,
    pub(crate) group: u64,
    pub(crate) set: Option<u64>,
    pub(crate) scope: Owner,
    pub(crate) life: Life,
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

impl Runner {
    /// Whether it is shown as busy.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some() || matches!(self.haunting, Haunting::Ghost(1..))
    }

    /// What it was registered with, and what has become of it.
    fn registration(&self) -> NewRunner {
        NewRunner {
            name: self.name.clone(),
            labels: self.labels.clone(),
            custom_labels: self.custom_labels.clone(),
            group: self.group,
            set: self.set,
            scope: self.scope.clone(),
            life: self.life,
            client_id: self.client_id,
            public_key: self.public_key.clone(),
        }
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
    /// A runner, if it is of this place.
    pub(crate) fn runner_of(&self, place: &Owner, id: u64) -> Option<&Runner> {
        self.runners.get(&id).filter(|runner| runner.scope == *place)
    }

    /// Changes a runner's labels; jobs that wait may then be for it.
    pub(crate) fn relabel(
        &mut self,
        (place, id): (&Owner, u64),
        change: impl FnOnce(&mut Runner) -> Result<(), LabelError>,
        now: Timestamp,
    ) -> Result<&Runner, LabelError> {
        let known = self.runners.get_mut(&id).filter(|runner| runner.scope == *place);
        let runner = known.ok_or(LabelError::NotFound)?;
        change(runner)?;
        self.touch_queue();
        self.keep_runners(id);
        self.offer_jobs(now);
        self.runners.get(&id).ok_or(LabelError::NotFound)
    }

    /// Whether a name is free in a place.
    pub(crate) fn check_name(&self, place: &Owner, name: &str) -> Result<(), RegisterError> {
        let same =
            |runner: &Runner| runner.scope == *place && runner.name.eq_ignore_ascii_case(name);
        if self.runners.values().any(same) {
            return Err(RegisterError::NameTaken);
        }
        if self.runners.len() >= MAX_RUNNERS {
            return Err(RegisterError::TooMany);
        }
        Ok(())
    }

    /// Registers a runner.
    pub(crate) fn register(&mut self, new: NewRunner) -> Result<u64, RegisterError> {
        self.check_name(&new.scope, &new.name)?;
        let id = self.next_runner;
        self.next_runner += 1;
        self.add_runner(id, new);
        self.keep_runners(id);
        Ok(id)
    }

    /// Registers a runner in place of one of the same name and place, which keeps its number only.
    pub(crate) fn replace_runner(
        &mut self,
        id: u64,
        new: NewRunner,
        now: Timestamp,
    ) -> Result<(), RegisterError> {
        let is_it = |runner: &&Runner| {
            runner.scope == new.scope && runner.name.eq_ignore_ascii_case(&new.name)
        };
        self.runners.get(&id).filter(is_it).ok_or(RegisterError::NotFound)?;
        self.remove_runner(id, now)?;
        self.add_runner(id, new);
        self.keep_runners(id);
        Ok(())
    }

    /// Those that an earlier process wrote down.
    pub(crate) fn restore_runners(&mut self, known: BTreeMap<u64, NewRunner>) {
        for (id, runner) in known {
            self.next_runner = self.next_runner.max(id + 1);
            self.add_runner(id, runner);
        }
    }

    /// Those that are to outlive the process.
    pub(crate) fn kept_runners(&self) -> BTreeMap<u64, NewRunner> {
        let kept = self.runners.values().filter(|runner| runner.life.is_kept());
        kept.map(|runner| (runner.id, runner.registration())).collect()
    }

    /// Has the runners written down, if this is one that is to outlive the process.
    pub(super) fn keep_runners(&mut self, id: u64) {
        if self.runners.get(&id).is_some_and(|runner| runner.life.is_kept()) {
            self.effects.push(Effect::SaveRunners);
        }
    }

    fn add_runner(&mut self, id: u64, new: NewRunner) {
        let lower = |label: &String| label.to_lowercase();
        let runner = Runner {
            id,
            name: new.name,
            labels: new.labels.iter().map(lower).collect(),
            custom_labels: new.custom_labels.iter().map(lower).collect(),
            group: new.group,
            set: new.set,
            scope: new.scope,
            life: new.life,
            haunting: Haunting::None,
            os: "unknown".to_owned(),
            client_id: new.client_id,
            public_key: new.public_key,
            session: None,
            job: None,
            assertions: VecDeque::new(),
            telling: Telling::default(),
        };
        self.runners.insert(id, runner);
        self.touch_queue();
    }

    /// Removes a registration, if it is of this place and has no job running.
    pub(crate) fn remove_runner_of(
        &mut self,
        place: &Owner,
        id: u64,
        now: Timestamp,
    ) -> Result<(), RegisterError> {
        self.runner_of(place, id).ok_or(RegisterError::NotFound)?;
        self.remove_runner(id, now)
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

    /// A runner's job is over, and with it its registration; unless that is to last, or to be a ghost.
    pub(super) fn release_runner(&mut self, id: u64, now: Timestamp) {
        match self.runners.get_mut(&id) {
            Some(runner) if matches!(runner.haunting, Haunting::Planned(_)) => {
                let Haunting::Planned(refusals) = runner.haunting else { return };
                runner.haunting = Haunting::Ghost(refusals);
                (runner.job, runner.session) = (None, None);
                self.touch_queue();
            }
            Some(runner) if runner.life == Life::Lasting => {
                runner.job = None;
                self.touch_queue();
                self.offer_jobs(now);
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
        self.keep_runners(id);
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
}
