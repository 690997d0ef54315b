//! What the hub knows, and how it changes: pure functions of the state, the request and the time.
//!
//! Nothing here reads a clock, a file or a socket. A method changes the state and leaves
//! [`Effect`]s behind; [`crate::shared`] carries them out, in order, before anybody else sees the
//! new state.
//!
//! ```text
//! job:  Waiting ─▶ (Held ─▶) Queued ─▶ Offered ─▶ Running ─▶ Done
//!                            ▲          │ not taken in time, at most MAX_OFFERS times
//!                            └──────────┘
//! ```

mod concurrency;
mod expire;
mod groups;
mod jobs;
mod owner;
mod pulls;
mod repositories;
mod rerun;
mod runners;
mod runs;
mod scale_sets;
mod steps;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sekisho_github::hub_api::{self, EventKind, Queue, QueuedJob, RunnerState, RunnerStatus};
use sekisho_workflow::expr::Contexts;
use sekisho_workflow::plan::{Concurrency, JobState, Plan, ReadyJob};
use uuid::Uuid;

pub(crate) use concurrency::{ConcurrencyGroups, Holder, Member};
pub(crate) use expire::end_interrupted;
pub(crate) use groups::{DEFAULT_GROUP, DEFAULT_GROUP_NAME, Group, GroupError, Groups};
pub(crate) use jobs::{Completion, JobError};
pub(crate) use owner::Owner;
pub(crate) use pulls::{MAX_PULLS, MAX_TEXT, PullError, PullRequest, PullState, Pulls, Side};
pub(crate) use repositories::{Repositories, RepositoryIds};
pub(crate) use rerun::{Kept, RerunError, RerunOf, contexts};
pub(crate) use runners::{
    LabelError, Life, Message, NewRunner, RegisterError, Repeat, Runner, SessionError,
};
pub(crate) use runs::{CancelError, NewRun, RunFacts};
pub(crate) use scale_sets::{Definition, Entry, Order, Replay, ScaleSets, SetError};
pub(crate) use steps::StepState;

/// Ids of jobs of one run: its id times this, and up; as many as a hundred attempts may have.
pub(crate) const JOBS_PER_RUN: u64 = 100_000;
/// Completed runs that are kept in memory; older ones are read from disk when asked for.
pub(crate) const MAX_COMPLETED_IN_MEMORY: usize = 200;

/// Everything the hub knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) runs: BTreeMap<u64, Run>,
    pub(crate) runners: BTreeMap<u64, Runner>,
    pub(crate) repositories: Repositories,
    pub(crate) scale_sets: ScaleSets,
    pub(crate) groups: Groups,
    pub(crate) concurrency: ConcurrencyGroups,
    pub(crate) pulls: Pulls,
    next_run: u64,
    next_runner: u64,
    seq: u64,
    effects: Vec<Effect>,
}

/// What is to be done outside about a change.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Append to the run's events.
    Event {
        /// The run.
        run: u64,
        /// What happened.
        kind: EventKind,
    },
    /// Write the run down.
    Save {
        /// The run.
        run: u64,
    },
    /// Write down an attempt that is over, for another begins.
    SaveAttempt(Box<hub_api::Run>),
    /// Write the runners down that outlive the process.
    SaveRunners,
}

/// A job, by the run it is of and its own id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobRef {
    pub(crate) run: u64,
    pub(crate) job: u64,
}

impl JobRef {
    /// From the job's id alone.
    pub(crate) fn from_job_id(job: u64) -> Self {
        Self { run: job / JOBS_PER_RUN, job }
    }
}

/// A run, and what is needed while it is not over.
#[derive(Debug)]
pub(crate) struct Run {
    /// What is shown and stored.
    pub(crate) view: hub_api::Run,
    /// `None` for a run of an earlier process, which is over.
    pub(crate) live: Option<Box<Live>>,
}

/// What is known of a run of this process.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) plan_id: Uuid,
    pub(crate) plan: Plan,
    pub(crate) contexts: Contexts,
    pub(crate) facts: RunFacts,
    /// In the order of `view.jobs`.
    pub(crate) jobs: Vec<LiveJob>,
    /// What the planner is told, by key; calls too.
    states: BTreeMap<String, JobState>,
    cancelled: bool,
    /// The group that the run must have before it begins.
    concurrency: Option<Concurrency>,
    /// It waits for that.
    held: bool,
}

/// What is known of a job of this process.
#[derive(Debug)]
pub(crate) struct LiveJob {
    pub(crate) key: String,
    /// The runner's name for the job.
    pub(crate) guid: Uuid,
    /// Evaluated when its needs were met.
    pub(crate) ready: Option<Box<ReadyJob>>,
    pub(crate) phase: Phase,
    /// How often it was offered to a runner.
    offers: u32,
    /// Of the newest step update.
    change_order: i64,
    /// Fixed when the hub stops the job: the runner's own word does not change it.
    forced: Option<hub_api::Conclusion>,
    /// Its runner has said how it ended, and was not told yet that this is on disk: it may say it again.
    reported: bool,
}

/// Where a job is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Phase {
    /// For the jobs it needs.
    Waiting,
    /// For its concurrency groups.
    Held,
    /// For a runner.
    Queued,
    /// A runner was told of it.
    Offered {
        /// The runner.
        runner: u64,
        /// Names the offer.
        request: Uuid,
        /// When it is offered to another.
        until: Timestamp,
    },
    /// A runner has it.
    Running(Running),
    /// Over.
    Done,
}

/// A job on its runner.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running {
    pub(crate) runner: u64,
    /// When the runner is given up, unless it renews.
    pub(crate) locked_until: Timestamp,
    /// When its `timeout-minutes` are over.
    time_limit: Timestamp,
    /// It was told to stop: when it is given up.
    stop_until: Option<Timestamp>,
}

impl Live {
    /// Whether the run has a concurrency group.
    pub(crate) fn has_group(&self) -> bool {
        self.concurrency.is_some()
    }
}

impl State {
    /// The state at start. `runs` are completed; `highest_run` counts those not loaded too.
    pub(crate) fn new(
        runs: Vec<hub_api::Run>,
        highest_run: u64,
        mut repositories: Repositories,
    ) -> Self {
        for run in &runs {
            repositories.saw_run_number(&run.repository, &run.workflow_path, run.run_number);
        }
        let runs = runs.into_iter().map(|view| (view.id, Run { view, live: None })).collect();
        Self {
            runs,
            repositories,
            next_run: highest_run + 1,
            next_runner: 1,
            seq: 1,
            ..Self::default()
        }
    }

    /// What is to be done outside, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Number of the newest change of the queue.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// The scheduler's observation. Jobs of scale sets are none of its business.
    pub(crate) fn queue(&self) -> Queue {
        let mut jobs: Vec<QueuedJob> = self
            .unfinished()
            .flat_map(|run| run.view.jobs.iter().map(move |job| (run, job)))
            .filter(|(_, job)| job.status == hub_api::Status::Queued)
            .filter(|(_, job)| self.scale_sets.of_job(job.id).is_none())
            .map(|(run, job)| QueuedJob {
                job_id: job.id,
                run_id: run.view.id,
                repository: run.view.repository.clone(),
                name: job.name.clone(),
                labels: job.labels.clone(),
                queued_at: job.queued_at.unwrap_or(run.view.created_at),
            })
            .collect();
        jobs.sort_by_key(|job| (job.queued_at, job.job_id));
        let runners = self
            .runners
            .values()
            .map(|runner| RunnerState {
                id: runner.id,
                name: runner.name.clone(),
                status: runner.status(),
                busy: runner.job.is_some(),
                job_id: runner.job.map(|job| job.job),
            })
            .collect();
        Queue { seq: self.seq, jobs, runners }
    }

    /// Jobs that wait for a runner and were not offered to one, oldest first.
    fn queued(&self) -> Vec<JobRef> {
        let mut queued = Vec::new();
        for run in self.unfinished() {
            let jobs = run.live.iter().flat_map(|live| &live.jobs).zip(&run.view.jobs);
            for (_, view) in jobs.filter(|(job, _)| job.phase == Phase::Queued) {
                let at = JobRef { run: run.view.id, job: view.id };
                queued.push((view.queued_at, at));
            }
        }
        queued.sort_by_key(|(since, at)| (*since, at.job));
        queued.into_iter().map(|(_, at)| at).collect()
    }

    fn unfinished(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(|run| run.view.status != hub_api::Status::Completed)
    }

    /// The live job, its view, and its run's live part.
    pub(crate) fn job(&self, at: JobRef) -> Option<(&Run, &Live, &LiveJob, &hub_api::Job)> {
        let run = self.runs.get(&at.run)?;
        let live = run.live.as_deref()?;
        let index = run.view.jobs.iter().position(|job| job.id == at.job)?;
        Some((run, live, live.jobs.get(index)?, run.view.jobs.get(index)?))
    }

    fn phase(&self, at: JobRef) -> Option<&Phase> {
        self.job(at).map(|(_, _, job, _)| &job.phase)
    }

    fn job_mut(&mut self, at: JobRef) -> Option<(&mut LiveJob, &mut hub_api::Job)> {
        let run = self.runs.get_mut(&at.run)?;
        let live = run.live.as_deref_mut()?;
        let index = run.view.jobs.iter().position(|job| job.id == at.job)?;
        Some((live.jobs.get_mut(index)?, run.view.jobs.get_mut(index)?))
    }

    fn live_mut(&mut self, run: u64) -> Option<&mut Live> {
        self.runs.get_mut(&run)?.live.as_deref_mut()
    }

    fn emit(&mut self, run: u64, kind: EventKind) {
        self.effects.push(Effect::Event { run, kind });
    }

    fn emit_job(&mut self, at: JobRef) {
        let Some((_, job)) = self.job_mut(at) else { return };
        let kind = EventKind::Job {
            job_id: job.id,
            name: job.name.clone(),
            status: job.status,
            conclusion: job.conclusion,
            runner_name: job.runner_name.clone(),
        };
        self.emit(at.run, kind);
        self.effects.push(Effect::Save { run: at.run });
    }

    fn touch_queue(&mut self) {
        self.seq += 1;
    }

    /// Lines of a job's live log came in.
    pub(crate) fn log(
        &mut self,
        at: JobRef,
        step_id: Option<String>,
        start_line: Option<u64>,
        lines: Vec<String>,
    ) {
        if matches!(self.phase(at), Some(Phase::Running(_))) && !lines.is_empty() {
            self.emit(at.run, EventKind::Log { job_id: at.job, step_id, start_line, lines });
        }
    }

    /// Forgets the oldest completed runs beyond [`MAX_COMPLETED_IN_MEMORY`].
    pub(crate) fn trim(&mut self) -> Vec<u64> {
        let done = |run: &&Run| run.view.status == hub_api::Status::Completed;
        let excess =
            self.runs.values().filter(done).count().saturating_sub(MAX_COMPLETED_IN_MEMORY);
        let old: Vec<u64> =
            self.runs.values().filter(done).map(|run| run.view.id).take(excess).collect();
        for id in &old {
            self.runs.remove(id);
        }
        old
    }
}

impl Runner {
    /// Whether it listens.
    pub(crate) fn status(&self) -> RunnerStatus {
        if self.session.is_some() { RunnerStatus::Online } else { RunnerStatus::Offline }
    }
}

#[cfg(test)]
mod tests;
