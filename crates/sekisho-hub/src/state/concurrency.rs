//! Concurrency groups: which there are, who waits for one, who has one.
//!
//! What happens in a group is decided by [`decide_group`]; here it is done. A run, a job or a call
//! claims its groups one after the other, and begins when it has all of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sekisho_github::hub_api::{Conclusion, EventKind, Status};
use sekisho_workflow::plan::{
    Claim, ClaimState, Concurrency, GroupAction, JobState, PlannedJob, decide_group,
};

use super::jobs::failure;
use super::{Effect, JobRef, State};

/// Who claims a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// A run.
    Run(u64),
    /// A job or a call, by its key.
    Job {
        /// Its run.
        run: u64,
        /// Its key.
        key: String,
    },
}

impl Holder {
    /// The run, or the run that the job is of.
    pub(crate) fn run(&self) -> u64 {
        match self {
            Self::Run(run) | Self::Job { run, .. } => *run,
        }
    }
}

/// A claim, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) holder: Holder,
    pub(crate) state: ClaimState,
    wants: Concurrency,
    /// What is claimed when this group is had.
    next: Vec<Concurrency>,
}

/// A group of a repository: the repository's id, and [`Concurrency::key`].
type GroupKey = (u64, String);

/// All groups that somebody claims.
#[derive(Debug, Default)]
pub(crate) struct ConcurrencyGroups {
    /// Never empty; claims in the order in which they came. As many as unfinished jobs, at most.
    groups: BTreeMap<GroupKey, Vec<Member>>,
    /// Those that somebody came to, or left.
    unsettled: BTreeSet<GroupKey>,
    settling: bool,
}

impl ConcurrencyGroups {
    /// Groups of a repository, by name: as the first of its claims writes it.
    pub(crate) fn of(&self, repository: u64) -> impl Iterator<Item = (&str, &[Member])> {
        let own = self.groups.range((repository, String::new())..(repository + 1, String::new()));
        own.filter_map(|(_, members)| Some((members.first()?.wants.group.as_str(), &members[..])))
    }

    fn claim(&mut self, repository: u64, holder: Holder, mut groups: Vec<Concurrency>) {
        if groups.is_empty() {
            return;
        }
        let wants = groups.remove(0);
        let key = (repository, wants.key());
        let member = Member { holder, state: ClaimState::Waiting, wants, next: groups };
        self.groups.entry(key.clone()).or_default().push(member);
        self.unsettled.insert(key);
    }

    /// Ends the claims of whoever is meant.
    fn release(&mut self, is_it: impl Fn(&Holder) -> bool) {
        let unsettled = &mut self.unsettled;
        self.groups.retain(|key, members| {
            let before = members.len();
            members.retain(|member| !is_it(&member.holder));
            if members.len() < before {
                unsettled.insert(key.clone());
            }
            !members.is_empty()
        });
    }

    fn member(&mut self, key: &GroupKey, holder: &Holder) -> Option<&mut Member> {
        self.groups.get_mut(key)?.iter_mut().find(|member| member.holder == *holder)
    }
}

impl State {
    /// A run is to have its group before it begins. False if it has none.
    pub(super) fn claim_for_run(&mut self, id: u64) -> bool {
        let Some(live) = self.live_mut(id) else { return false };
        let Some(wants) = live.concurrency.clone() else { return false };
        live.held = true;
        let repository = live.facts.repository.id;
        self.concurrency.claim(repository, Holder::Run(id), vec![wants]);
        true
    }

    /// A job or a call is to have these groups before it begins. False if it is over instead, for
    /// what is around it has one of them, and would wait for it for ever.
    pub(super) fn claim_for_job(
        &mut self,
        run: u64,
        key: &str,
        groups: Vec<Concurrency>,
        now: Timestamp,
    ) -> bool {
        let Some(live) = self.live_mut(run) else { return false };
        let repository = live.facts.repository.id;
        let around = around(&live.plan.jobs, key);
        for (at, wants) in groups.iter().enumerate() {
            let has = |holder: &Holder| match holder {
                Holder::Run(id) => *id == run,
                Holder::Job { run: of, key } => *of == run && around.contains(key),
            };
            let members = self.concurrency.groups.get(&(repository, wants.key()));
            let taken = members.is_some_and(|members| members.iter().any(|m| has(&m.holder)));
            let twice = groups.iter().take(at).any(|earlier| earlier.key() == wants.key());
            if taken || twice {
                let why = format!(
                    "Canceling since a deadlock was detected for the concurrency group \
                     '{}': `{key}` waits for what it is part of",
                    wants.group
                );
                self.remark(run, key, &why);
                self.end(run, key, Conclusion::Cancelled, now);
                return false;
            }
        }
        let holder = Holder::Job { run, key: key.to_owned() };
        self.concurrency.claim(repository, holder, groups);
        true
    }

    /// A run is over: it claims nothing any more.
    pub(super) fn release_run(&mut self, id: u64) {
        self.concurrency.release(|holder| holder.run() == id);
    }

    /// A job or a call is over.
    pub(super) fn release_job(&mut self, run: u64, key: &str) {
        if !self.concurrency.groups.is_empty() {
            let over = Holder::Job { run, key: key.to_owned() };
            self.concurrency.release(|holder| *holder == over);
        }
    }

    /// Does what is decided about the groups that changed, until nothing more is.
    pub(super) fn settle_groups(&mut self, now: Timestamp) {
        // What is done here advances runs, which comes here again.
        if std::mem::replace(&mut self.concurrency.settling, true) {
            return;
        }
        while let Some(key) = self.concurrency.unsettled.pop_first() {
            let Some(members) = self.concurrency.groups.get(&key) else { continue };
            let claims = members.iter().map(|member| Claim {
                state: member.state,
                cancel_in_progress: member.wants.cancel_in_progress,
                queue: member.wants.queue,
            });
            let actions = decide_group(&claims.collect::<Vec<_>>());
            // By name, for what is done about one changes the places of the others.
            let name = |action: GroupAction| {
                let (GroupAction::Begin(at) | GroupAction::Drop(at) | GroupAction::Stop(at)) =
                    action;
                members.get(at).map(|member| (action, member.holder.clone()))
            };
            let actions: Vec<(GroupAction, Holder)> =
                actions.into_iter().filter_map(name).collect();
            for (action, holder) in actions {
                self.apply_to_group(&key, action, &holder, now);
            }
        }
        self.concurrency.settling = false;
    }

    fn apply_to_group(
        &mut self,
        group: &GroupKey,
        action: GroupAction,
        holder: &Holder,
        now: Timestamp,
    ) {
        // It may have ended by what was done about another.
        let Some(member) = self.concurrency.member(group, holder) else { return };
        let name = member.wants.group.clone();
        match action {
            GroupAction::Begin(_) => {
                member.state = ClaimState::Holding;
                let next = std::mem::take(&mut member.next);
                if next.is_empty() {
                    self.begin(holder, now);
                } else {
                    self.concurrency.claim(group.0, holder.clone(), next);
                }
            }
            GroupAction::Stop(_) => {
                member.state = ClaimState::Ending;
                self.stop(holder, &name, now);
            }
            // Whoever is stopped before he began is over at once.
            GroupAction::Drop(_) => self.stop(holder, &name, now),
        }
    }

    fn begin(&mut self, holder: &Holder, now: Timestamp) {
        match holder {
            Holder::Run(id) => {
                let Some(run) = self.runs.get_mut(id) else { return };
                run.view.status = Status::Queued;
                if let Some(live) = run.live.as_deref_mut() {
                    live.held = false;
                }
                self.emit(*id, EventKind::Run { status: Status::Queued, conclusion: None });
                self.effects.push(Effect::Save { run: *id });
                self.advance(*id, now);
            }
            Holder::Job { run, key } => {
                match self.find(*run, key) {
                    Some(at) => self.enqueue(at, now),
                    None => self.set_state(*run, key, JobState::Running),
                }
                self.advance(*run, now);
            }
        }
    }

    fn stop(&mut self, holder: &Holder, group: &str, now: Timestamp) {
        let why = format!("Canceling since a higher priority waiting request for '{group}' exists");
        match holder {
            Holder::Run(id) => {
                let first = self.runs.get(id).and_then(|run| run.view.jobs.first());
                if let Some(job) = first.map(|job| job.id) {
                    self.annotate(JobRef { run: *id, job }, failure(&why));
                }
                // One that is over by now needs no stop.
                let _ = self.cancel_run(*id, now);
            }
            Holder::Job { run, key } => {
                self.remark(*run, key, &why);
                let began = |state: &JobState| *state == JobState::Running;
                let states = self.runs.get(run).and_then(|run| run.live.as_deref());
                let began = states.and_then(|live| live.states.get(key)).is_some_and(began);
                match self.find(*run, key) {
                    Some(at) => self.stop_job(at, now),
                    None if began => self.set_state(*run, key, JobState::Cancelling),
                    None => self.end(*run, key, Conclusion::Cancelled, now),
                }
                self.advance(*run, now);
            }
        }
    }

    /// Ends a run that never began, for it waited for its group.
    pub(super) fn end_held(&mut self, id: u64, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if let Some(live) = run.live.as_deref_mut() {
            live.held = false;
        }
        let keys: Vec<String> = match run.live.as_deref() {
            Some(live) => live.plan.jobs.iter().map(|job| job.key.clone()).collect(),
            None => return,
        };
        for key in keys {
            let over = |state: &JobState| state.is_completed();
            let state = self.live_mut(id).and_then(|live| live.states.get(&key).map(over));
            if state != Some(true) {
                self.end(id, &key, Conclusion::Cancelled, now);
            }
        }
        self.complete_run(id, sekisho_workflow::plan::Conclusion::Cancelled, now);
        self.settle_groups(now);
    }
}

/// Keys of the calls around a job.
fn around(jobs: &[PlannedJob], key: &str) -> Vec<String> {
    let parent = |key: &str| jobs.iter().find(|job| job.key == key)?.parent.clone();
    std::iter::successors(parent(key), |call| parent(call)).collect()
}

#[cfg(test)]
mod tests;
