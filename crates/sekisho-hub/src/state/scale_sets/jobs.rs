//! Jobs of a set, from the queue to their end.

use jiff::Timestamp;
use sekisho_github::hub_api::Conclusion;
use sekisho_github::wire::scale_set::{
    JobMessage, JobMessageKind, JobResult, MAX_JOBS, SCALE_SETS,
};

use super::{Definition, Entry, Owner, ScaleSet, SetError, request_id};
use crate::config::Assignment;
use crate::state::{JobRef, Phase, State};

/// A job of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetJob {
    stage: Stage,
    /// All that is known of it; each message is a copy with more in it.
    facts: JobMessage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody was told.
    Waiting,
    /// The listener may acquire it.
    Available,
    /// It is the set's; its runner is to come.
    Assigned,
    /// A runner has it.
    Running,
}

impl ScaleSet {
    /// Whether a job is the set's, and a runner of the set may have it.
    fn is_assigned(&self, job: u64) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.stage == Stage::Assigned)
    }
}

impl State {
    /// A job waits for a runner: if a set takes it, it is the set's.
    pub(in crate::state) fn bind(&mut self, at: JobRef) {
        if self.scale_sets.sets.is_empty() || self.scale_sets.of_job(at.job).is_some() {
            return;
        }
        let Some((run, live, job, view)) = self.job(at) else { return };
        if job.phase != Phase::Queued {
            return;
        }
        let Some(from) = self.origin(at) else { return };
        let allows = |set: &Definition| self.groups.allows(&set.scope, set.group, &from);
        let taker = self.scale_sets.taker(&run.view.repository, &view.labels, allows);
        let Some(set) = taker else { return };
        let name = &live.facts.repository.name;
        let planned = live.plan.job(&job.key);
        let source = planned.and_then(|planned| live.plan.files.get(planned.file));
        let queued = view.queued_at.unwrap_or(run.view.created_at);
        let facts = JobMessage {
            kind: JobMessageKind::Available,
            runner_request_id: request_id(at),
            repository_name: name.name().to_owned(),
            owner_name: name.owner().to_owned(),
            job_id: job.guid.to_string(),
            job_workflow_ref: source.map(|source| source.workflow_ref()).unwrap_or_default(),
            job_display_name: view.name.clone(),
            workflow_run_id: i64::try_from(at.run).unwrap_or(i64::MAX),
            event_name: run.view.event.clone(),
            request_labels: view.labels.clone(),
            queue_time: Some(queued),
            scale_set_assign_time: None,
            runner_assign_time: None,
            finish_time: None,
            acquire_job_url: None,
            result: None,
            runner_id: None,
            runner_name: None,
        };
        self.scale_sets.of_job.insert(at.job, set);
        self.scale_sets.woken.insert(set);
        if let Some(set) = self.scale_sets.sets.get_mut(&set) {
            set.waiting.insert((queued, at.job));
            set.jobs.insert(at.job, SetJob { stage: Stage::Waiting, facts });
        }
    }

    /// Whether a runner of `set` may have a job; `None`: one of no set.
    pub(in crate::state) fn may_have(&self, set: Option<u64>, job: u64) -> bool {
        let of = self.scale_sets.of_job(job);
        of == set
            && of.is_none_or(|of| {
                self.scale_sets.sets.get(&of).is_some_and(|found| found.is_assigned(job))
            })
    }

    /// Takes jobs that no runner has from the sets of a group that does not allow them any more. Whoever
    /// listens is told that they are over for the set; they wait for another.
    pub(super) fn take_from_sets(&mut self, group: u64, now: Timestamp) {
        let in_group = |set: &&ScaleSet| set.definition.group == group;
        let taken = |set: &ScaleSet| {
            let jobs = set.jobs.iter().map(|(id, job)| (JobRef::from_job_id(*id), job.stage));
            let told =
                jobs.filter(|(_, stage)| matches!(stage, Stage::Available | Stage::Assigned));
            let unfit = told.map(|(at, _)| at).filter(|at| {
                self.origin(*at)
                    .is_some_and(|from| !self.groups.allows(&set.definition.scope, group, &from))
            });
            unfit.collect::<Vec<_>>()
        };
        let all: Vec<JobRef> =
            self.scale_sets.sets.values().filter(in_group).flat_map(taken).collect();
        for at in all {
            self.set_job_completed(at, Conclusion::Cancelled, now);
        }
    }

    /// Assigns waiting jobs, oldest first, until the set has `capacity`.
    pub(super) fn assign_up_to(&mut self, set: u64, capacity: u64, now: Timestamp) {
        let mut any = false;
        loop {
            let Some(found) = self.scale_sets.sets.get(&set) else { return };
            if found.assigned >= capacity {
                break;
            }
            let Some(job) = found.waiting.first().map(|(_, job)| *job) else { break };
            any |= self.assign(set, job, now);
        }
        if any {
            self.offer_jobs(now);
        }
    }

    /// Tells the listener of every job that waits.
    pub(super) fn announce(&mut self, set: u64) {
        let Some(found) = self.scale_sets.sets.get_mut(&set) else { return };
        let waiting = std::mem::take(&mut found.waiting);
        for (_, id) in waiting {
            let Some(found) = self.scale_sets.sets.get_mut(&set) else { return };
            let Some(job) = found.jobs.get_mut(&id) else { continue };
            job.stage = Stage::Available;
            let message = JobMessage {
                acquire_job_url: Some(format!("{SCALE_SETS}/{set}/acquirejobs")),
                ..job.facts.clone()
            };
            self.tell(set, message);
        }
    }

    /// Jobs that the listener may acquire, oldest first; none where they are assigned.
    pub(crate) fn acquirable(&self, owner: &Owner, set: u64) -> Result<Vec<JobMessage>, SetError> {
        let found = self.scale_sets.get(owner, set)?;
        if self.scale_sets.assignment == Assignment::Automatic {
            return Ok(Vec::new());
        }
        let free = |job: &&SetJob| matches!(job.stage, Stage::Waiting | Stage::Available);
        let shown = |job: &SetJob| JobMessage {
            acquire_job_url: Some(format!("{SCALE_SETS}/{set}/acquirejobs")),
            ..job.facts.clone()
        };
        Ok(found.jobs.values().filter(free).take(MAX_JOBS).map(shown).collect())
    }

    /// A job is the set's from now on. False if it cannot be.
    pub(super) fn assign(&mut self, set: u64, id: u64, now: Timestamp) -> bool {
        let Some(found) = self.scale_sets.sets.get_mut(&set) else { return false };
        let Some(job) = found.jobs.get_mut(&id) else { return false };
        match job.stage {
            Stage::Waiting => {
                // As [`Self::bind`] put it there.
                found.waiting.remove(&(job.facts.queue_time.unwrap_or(now), id));
            }
            Stage::Available => {}
            // It was acquired before, and the answer was lost.
            Stage::Assigned => return true,
            Stage::Running => return false,
        }
        job.stage = Stage::Assigned;
        found.assigned += 1;
        job.facts.scale_set_assign_time = Some(now);
        let message = JobMessage { kind: JobMessageKind::Assigned, ..job.facts.clone() };
        self.tell(set, message);
        true
    }

    /// A runner has a job of a set.
    pub(in crate::state) fn set_job_started(&mut self, at: JobRef, runner: u64, now: Timestamp) {
        let Some(set) = self.scale_sets.of_job(at.job) else { return };
        let name = self.runners.get(&runner).map(|runner| runner.name.clone());
        let Some(found) = self.scale_sets.sets.get_mut(&set) else { return };
        let Some(job) = found.jobs.get_mut(&at.job) else { return };
        job.stage = Stage::Running;
        found.running += 1;
        job.facts.runner_assign_time = Some(now);
        job.facts.runner_id = i64::try_from(runner).ok();
        job.facts.runner_name = name;
        let message = JobMessage { kind: JobMessageKind::Started, ..job.facts.clone() };
        self.tell(set, message);
    }

    /// A job of a set is over.
    pub(in crate::state) fn set_job_completed(
        &mut self,
        at: JobRef,
        conclusion: Conclusion,
        now: Timestamp,
    ) {
        let Some(set) = self.scale_sets.of_job.remove(&at.job) else { return };
        let Some(found) = self.scale_sets.sets.get_mut(&set) else { return };
        let Some(job) = found.jobs.remove(&at.job) else { return };
        match job.stage {
            // Nobody was told that it is there: nobody needs to be told that it is not.
            Stage::Waiting => {
                found.waiting.remove(&(job.facts.queue_time.unwrap_or(now), at.job));
                return;
            }
            Stage::Available => {}
            Stage::Assigned => found.assigned = found.assigned.saturating_sub(1),
            Stage::Running => {
                found.assigned = found.assigned.saturating_sub(1);
                found.running = found.running.saturating_sub(1);
            }
        }
        self.tell(set, completed(job.facts, conclusion, now));
    }

    /// Jobs of an earlier process are over: whoever was told of them is told so.
    pub(crate) fn end_orphans(&mut self, now: Timestamp) {
        let mut orphans = Vec::new();
        for (id, set) in &self.scale_sets.sets {
            let open = set.log.open().filter(|job| {
                let known = u64::try_from(job.runner_request_id).ok();
                known.is_none_or(|known| !set.jobs.contains_key(&known))
            });
            orphans.extend(open.map(|job| (*id, job.clone())));
        }
        for (set, job) in orphans {
            let at = JobRef::from_job_id(u64::try_from(job.runner_request_id).unwrap_or(0));
            let view = self.runs.get(&at.run);
            let view = view.and_then(|run| run.view.jobs.iter().find(|view| view.id == at.job));
            let conclusion = view.and_then(|view| view.conclusion);
            self.tell(set, completed(job, conclusion.unwrap_or(Conclusion::Cancelled), now));
        }
    }

    fn tell(&mut self, set: u64, job: JobMessage) {
        let Some(found) = self.scale_sets.sets.get_mut(&set) else { return };
        let message = found.log.push(job.clone());
        self.scale_sets.journal.push(Entry::Job { set, message, job: Box::new(job) });
        self.scale_sets.woken.insert(set);
    }
}

fn completed(facts: JobMessage, conclusion: Conclusion, now: Timestamp) -> JobMessage {
    JobMessage {
        kind: JobMessageKind::Completed,
        finish_time: Some(now),
        result: Some(match conclusion {
            Conclusion::Success => JobResult::Succeeded,
            Conclusion::Failure => JobResult::Failed,
            Conclusion::Cancelled => JobResult::Canceled,
            Conclusion::Skipped => JobResult::Skipped,
        }),
        runner_id: Some(facts.runner_id.unwrap_or(0)),
        runner_name: Some(facts.runner_name.clone().unwrap_or_default()),
        acquire_job_url: None,
        ..facts
    }
}
