//! Runner scale sets: which jobs are a set's, and the log of what its listener is told.
//!
//! ```text
//! job of a set:  Waiting ─▶ (Available ─▶) Assigned ─▶ Running ─▶ gone
//!                   │ by itself, up to the listener's capacity, as on github.com
//!                   └ or announced, and acquired by the listener, as on GHES
//! ```
//!
//! The log belongs to the set. It outlives sessions and the process: a message goes when it is
//! deleted, and what was not is sent again to whoever asks from the beginning.

mod jobs;
mod log;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sekisho_github::wire::scale_set::{self as wire, Label, ScaleSetRequest, Statistics};
use serde::{Deserialize, Serialize};

use super::{JobRef, Owner, State};
use crate::config::Assignment;

pub(crate) use jobs::SetJob;
pub(crate) use log::{Entry, MessageLog, Order, Replay, Snapshot};
pub(crate) use sessions::ListenSession;

/// Sets there may be at a time.
const MAX_SETS: usize = 10_000;

/// All sets.
#[derive(Debug, Default)]
pub(crate) struct ScaleSets {
    sets: BTreeMap<u64, ScaleSet>,
    last_id: u64,
    /// Sets by each of their labels, and by their name, in lower case.
    by_label: BTreeMap<String, BTreeSet<u64>>,
    /// The set of every job that has one and is not over, by the job's id.
    of_job: BTreeMap<u64, u64>,
    /// What is to be written down, in order.
    journal: Vec<Entry>,
    /// Sets whose listener may have something to hear.
    woken: BTreeSet<u64>,
    assignment: Assignment,
}

/// A set, as it was asked for. This is also the form on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) name: String,
    /// `repos/O/R`, `orgs/O` or `enterprises/E`.
    pub(crate) scope: Owner,
    pub(crate) group: u64,
    pub(crate) labels: Vec<Label>,
    pub(crate) disable_update: bool,
    pub(crate) created_on: Timestamp,
}

/// A set, with its log, its session and its jobs.
#[derive(Debug)]
pub(crate) struct ScaleSet {
    pub(crate) id: u64,
    pub(crate) definition: Definition,
    log: MessageLog,
    session: Option<ListenSession>,
    jobs: BTreeMap<u64, SetJob>,
    /// Jobs that nobody was told of, oldest first.
    waiting: BTreeSet<(Timestamp, u64)>,
    /// Jobs that are the set's, those that run included.
    assigned: u64,
    running: u64,
}

/// Why a request about a set was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetError {
    /// There is no such set here.
    NotFound,
    /// The name is taken in the group.
    NameTaken,
    /// [`MAX_SETS`].
    TooMany,
    /// Another listener has the session.
    SessionConflict,
    /// The session is not the set's.
    SessionExpired,
    /// Jobs are assigned by the service: there is nothing to acquire.
    NothingToAcquire,
}

impl Definition {
    /// Whether a job that wants `labels` is the set's: all of them are its own, or its name. One
    /// that wants none names a group.
    fn takes(&self, repository: &str, labels: &[String]) -> bool {
        let has = |wanted: &String| {
            self.name.eq_ignore_ascii_case(wanted)
                || self.labels.iter().any(|label| label.name.eq_ignore_ascii_case(wanted))
        };
        labels.iter().all(has) && self.scope.has(repository)
    }

    fn apply(&mut self, change: ScaleSetRequest) {
        if let Some(name) = change.name.filter(|name| !name.is_empty()) {
            self.name = name;
        }
        if let Some(group) = change.runner_group_id.and_then(|id| u64::try_from(id).ok()) {
            self.group = group;
        }
        if let Some(labels) = change.labels.filter(|labels| !labels.is_empty()) {
            self.labels = labels;
        }
        // An empty setting comes along with every change, and means nothing.
        if let Some(setting) = change.runner_setting {
            self.disable_update |= setting.disable_update;
        }
    }
}

impl ScaleSets {
    /// The sets of an earlier process.
    pub(crate) fn new(assignment: Assignment, known: Replay) -> Self {
        let last_id = known.last_id();
        let sets = known.into_sets().map(|(id, set)| (id, ScaleSet::restored(id, set)));
        let mut all = Self { last_id, assignment, ..Self::default() };
        for (id, set) in sets {
            all.index(id, &set.definition);
            all.sets.insert(id, set);
        }
        all
    }

    /// A set, if it is the caller's.
    pub(crate) fn get(&self, owner: &Owner, id: u64) -> Result<&ScaleSet, SetError> {
        self.sets.get(&id).filter(|set| set.definition.scope == *owner).ok_or(SetError::NotFound)
    }

    /// All sets of an owner.
    pub(crate) fn of(&self, owner: &Owner) -> impl Iterator<Item = &ScaleSet> {
        self.sets.values().filter(move |set| set.definition.scope == *owner)
    }

    /// The set of a job.
    pub(crate) fn of_job(&self, job: u64) -> Option<u64> {
        self.of_job.get(&job).copied()
    }

    /// What is to be written down, in order.
    pub(crate) fn take_journal(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.journal)
    }

    /// Sets whose listener may have something to hear.
    pub(crate) fn take_woken(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.woken)
    }
}

impl ScaleSet {
    fn new(id: u64, definition: Definition) -> Self {
        Self::restored(id, Snapshot::new(definition))
    }

    fn restored(id: u64, snapshot: Snapshot) -> Self {
        Self {
            id,
            log: snapshot.log,
            definition: snapshot.definition,
            session: None,
            jobs: BTreeMap::new(),
            waiting: BTreeSet::new(),
            assigned: 0,
            running: 0,
        }
    }
}

impl State {
    /// Makes a set. Jobs that wait, and are its, are its from now on.
    pub(crate) fn create_set(&mut self, definition: Definition) -> Result<u64, SetError> {
        let all = &mut self.scale_sets;
        if all.sets.len() >= MAX_SETS {
            return Err(SetError::TooMany);
        }
        all.check_name(&definition, None)?;
        all.last_id += 1;
        let id = all.last_id;
        all.journal.push(Entry::Set { id, definition: definition.clone() });
        all.index(id, &definition);
        all.sets.insert(id, ScaleSet::new(id, definition));
        self.bind_waiting();
        Ok(id)
    }

    /// Changes a set. Jobs that nobody was told of yet are matched anew.
    pub(crate) fn update_set(
        &mut self,
        owner: &Owner,
        id: u64,
        change: ScaleSetRequest,
    ) -> Result<(), SetError> {
        let mut definition = self.scale_sets.get(owner, id)?.definition.clone();
        definition.apply(change);
        self.scale_sets.check_name(&definition, Some(id))?;
        let all = &mut self.scale_sets;
        all.journal.push(Entry::Set { id, definition: definition.clone() });
        all.forget_labels(id);
        all.index(id, &definition);
        let Some(set) = all.sets.get_mut(&id) else { return Err(SetError::NotFound) };
        set.definition = definition;
        self.unbind_waiting(|set| set.id == id);
        self.bind_waiting();
        Ok(())
    }

    /// A group has changed: what its runners and sets may not have any more is taken from them, unless a
    /// runner is at it, and jobs that no listener was told of are matched anew.
    pub(super) fn rebind_group(&mut self, group: u64, now: Timestamp) {
        self.withdraw_unfit(group);
        self.take_from_sets(group, now);
        self.unbind_waiting(|set| set.definition.group == group);
        self.bind_waiting();
        self.touch_queue();
        self.offer_jobs(now);
    }

    fn unbind_waiting(&mut self, which: impl Fn(&ScaleSet) -> bool) {
        let all = &mut self.scale_sets;
        for set in all.sets.values_mut().filter(|set| which(set)) {
            for (_, job) in std::mem::take(&mut set.waiting) {
                set.jobs.remove(&job);
                all.of_job.remove(&job);
            }
        }
    }

    /// Deletes a set, its log and its session. Its runners that have no job go with it; those at a
    /// job end it first. Its jobs that no runner has wait for another.
    pub(crate) fn delete_set(
        &mut self,
        owner: &Owner,
        id: u64,
        now: Timestamp,
    ) -> Result<(), SetError> {
        self.scale_sets.get(owner, id)?;
        let all = &mut self.scale_sets;
        all.sets.remove(&id);
        all.forget_labels(id);
        all.of_job.retain(|_, set| *set != id);
        all.journal.push(Entry::SetGone { id });
        all.woken.insert(id);
        let runners: Vec<u64> =
            self.runners.values().filter(|runner| runner.set == Some(id)).map(|r| r.id).collect();
        for runner in runners {
            // One that is busy is removed when its job ends.
            let _ = self.remove_runner(runner, now);
        }
        self.bind_waiting();
        self.touch_queue();
        self.offer_jobs(now);
        Ok(())
    }

    /// A set's numbers.
    pub(crate) fn set_statistics(&self, id: u64) -> Statistics {
        let Some(set) = self.scale_sets.sets.get(&id) else { return Statistics::default() };
        let runners = self.runners.values().filter(|runner| runner.set == Some(id));
        let (mut registered, mut busy) = (0, 0);
        for runner in runners {
            registered += 1;
            busy += i64::from(runner.is_busy());
        }
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let told = set.jobs.len() as u64;
        Statistics {
            total_available_jobs: number(told.saturating_sub(set.assigned)),
            total_acquired_jobs: 0,
            total_assigned_jobs: number(set.assigned),
            total_running_jobs: number(set.running),
            total_registered_runners: registered,
            total_busy_runners: busy,
            total_idle_runners: registered - busy,
        }
    }

    /// A set, as the service tells of it.
    pub(crate) fn shown_set(&self, id: u64, tenant: &str) -> Option<wire::ScaleSet> {
        let set = self.scale_sets.sets.get(&id)?;
        let definition = &set.definition;
        let number = i64::try_from(id).unwrap_or(i64::MAX);
        Some(wire::ScaleSet {
            id: number,
            name: definition.name.clone(),
            runner_group_id: i64::try_from(definition.group).unwrap_or(i64::MAX),
            runner_group_name: self.group_name(&definition.scope, definition.group),
            labels: definition.labels.clone(),
            runner_setting: wire::RunnerSetting { disable_update: definition.disable_update },
            created_on: Some(definition.created_on),
            runner_jit_config_url: format!("{tenant}{}/{id}/generatejitconfig", wire::SCALE_SETS),
            statistics: Some(self.set_statistics(id)),
        })
    }

    /// Gives waiting jobs that are nobody's to the sets that want them.
    fn bind_waiting(&mut self) {
        for at in self.queued() {
            self.bind(at);
        }
    }
}

impl ScaleSets {
    fn check_name(&self, definition: &Definition, own: Option<u64>) -> Result<(), SetError> {
        let taken = self.sets.values().any(|set| {
            Some(set.id) != own
                && set.definition.scope == definition.scope
                && set.definition.group == definition.group
                && set.definition.name.eq_ignore_ascii_case(&definition.name)
        });
        if taken { Err(SetError::NameTaken) } else { Ok(()) }
    }

    /// The set that takes a job: the oldest, if several do. `allows`: whether the job may go to the
    /// group of a set.
    fn taker(
        &self,
        repository: &str,
        labels: &[String],
        allows: impl Fn(&Definition) -> bool,
    ) -> Option<u64> {
        let takes = |id: &&u64| {
            self.sets.get(id).is_some_and(|set| {
                set.definition.takes(repository, labels) && allows(&set.definition)
            })
        };
        match labels.first() {
            Some(label) => {
                self.by_label.get(&label.to_ascii_lowercase())?.iter().find(takes).copied()
            }
            None => self.sets.keys().find(takes).copied(),
        }
    }

    /// Whether a set is in a group.
    pub(super) fn uses_group(&self, group: u64) -> bool {
        self.sets.values().any(|set| set.definition.group == group)
    }

    fn index(&mut self, id: u64, definition: &Definition) {
        let labels = definition.labels.iter().map(|label| &label.name);
        for label in labels.chain([&definition.name]) {
            self.by_label.entry(label.to_ascii_lowercase()).or_default().insert(id);
        }
    }

    fn forget_labels(&mut self, id: u64) {
        self.by_label.retain(|_, sets| {
            sets.remove(&id);
            !sets.is_empty()
        });
    }
}

/// The job's id, as the wire has it.
fn request_id(at: JobRef) -> i64 {
    i64::try_from(at.job).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
