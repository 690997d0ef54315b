//! Runs: made from a plan, driven by the planner, ended by it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sekisho_github::hub_api::{self, CallResult, Conclusion, EventKind, Status};
use sekisho_workflow::expr::Contexts;
use sekisho_workflow::plan::{
    self, Concurrency, JobAction, JobState, Plan, PlannedJob, PlannedKind, RunObserved, decide,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::jobs::failure;
use super::repositories::RepositoryIds;
use super::{Effect, JOBS_PER_RUN, JobRef, Live, LiveJob, Phase, Run, State};
use crate::names::RepoName;

/// How often the planner is asked in a row: each job changes at most a few times without a runner.
const MAX_ROUNDS: usize = 4 * plan::MAX_PLANNED_JOBS;

/// Facts of a run that its jobs and tokens are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunFacts {
    pub(crate) repository: RepositoryIds,
    pub(crate) actor: String,
    pub(crate) actor_id: u64,
    /// The `github` context, as JSON.
    pub(crate) github: serde_json::Value,
    /// The `vars` context.
    pub(crate) vars: BTreeMap<String, String>,
}

/// A run that is about to begin.
#[derive(Debug)]
pub(crate) struct NewRun {
    /// From [`State::reserve_run`].
    pub(crate) id: u64,
    /// From [`State::reserve_run`].
    pub(crate) number: u64,
    pub(crate) git_ref: String,
    pub(crate) sha: String,
    pub(crate) event: String,
    /// Of a pull request.
    pub(crate) head: Option<hub_api::RunHead>,
    pub(crate) workflow_name: String,
    pub(crate) workflow_path: String,
    pub(crate) plan_id: Uuid,
    /// The runners' names for the jobs: as many as the plan has, calls too.
    pub(crate) guids: Vec<Uuid>,
    pub(crate) plan: Plan,
    pub(crate) contexts: Contexts,
    pub(crate) facts: RunFacts,
    /// The group that it must have before it begins.
    pub(crate) concurrency: Option<Concurrency>,
}

/// Why a run was not cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CancelError {
    /// There is no such run in memory.
    NotFound,
    /// It is over.
    Completed,
}

impl State {
    /// Id and number for a run to be made.
    pub(crate) fn reserve_run(&mut self, repository: &RepoName, workflow: &str) -> (u64, u64) {
        let id = self.next_run;
        self.next_run += 1;
        (id, self.repositories.next_run_number(repository, workflow))
    }

    /// Makes a run, and queues what can begin.
    pub(crate) fn create_run(&mut self, new: NewRun, now: Timestamp) -> u64 {
        let id = new.id;
        let steps = |job: &&PlannedJob| matches!(job.kind, PlannedKind::Steps(_));
        let planned: Vec<&PlannedJob> = new.plan.jobs.iter().filter(steps).collect();
        let ids = (id * JOBS_PER_RUN)..;
        let view = hub_api::Run {
            id,
            repository: new.facts.repository.name.to_string(),
            git_ref: new.git_ref,
            sha: new.sha,
            event: new.event,
            head: new.head,
            workflow_name: new.workflow_name,
            workflow_path: new.workflow_path,
            run_number: new.number,
            run_attempt: 1,
            status: Status::Queued,
            conclusion: None,
            created_at: now,
            started_at: None,
            completed_at: None,
            jobs: ids.zip(&planned).map(|(id, job)| job_view(id, 1, job)).collect(),
            calls: BTreeMap::new(),
        };
        let jobs = planned.iter().zip(new.guids).map(|(job, guid)| live_job(job, guid)).collect();
        let live = Live {
            plan_id: new.plan_id,
            plan: new.plan,
            contexts: new.contexts,
            facts: new.facts,
            jobs,
            states: BTreeMap::new(),
            cancelled: false,
            concurrency: new.concurrency,
            held: false,
        };
        self.runs.insert(id, Run { view, live: Some(Box::new(live)) });
        self.open_run(id, now);
        id
    }

    /// Begins an attempt; at once, or when it has its group.
    pub(super) fn open_run(&mut self, id: u64, now: Timestamp) {
        let held = self.claim_for_run(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        let status = if held { Status::Pending } else { Status::Queued };
        run.view.status = status;
        self.emit(id, EventKind::Run { status, conclusion: None });
        self.effects.push(Effect::Save { run: id });
        self.advance(id, now);
    }

    /// A job of the run has started.
    pub(super) fn start_run(&mut self, id: u64, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if run.view.status != Status::Queued {
            return;
        }
        run.view.status = Status::InProgress;
        run.view.started_at = Some(now);
        self.emit(id, EventKind::Run { status: Status::InProgress, conclusion: None });
        self.effects.push(Effect::Save { run: id });
    }

    /// Stops a run: what waits is over at once, what runs is told to stop.
    pub(crate) fn cancel_run(&mut self, id: u64, now: Timestamp) -> Result<(), CancelError> {
        let run = self.runs.get_mut(&id).ok_or(CancelError::NotFound)?;
        let live = run.live.as_deref_mut().ok_or(CancelError::Completed)?;
        if run.view.status == Status::Completed {
            return Err(CancelError::Completed);
        }
        live.cancelled = true;
        if live.held {
            self.end_held(id, now);
        }
        self.advance(id, now);
        Ok(())
    }

    /// Ends a run without waiting for its runners.
    pub(crate) fn force_cancel_run(&mut self, id: u64, now: Timestamp) -> Result<(), CancelError> {
        self.cancel_run(id, now)?;
        let Some(run) = self.runs.get(&id) else { return Ok(()) };
        let jobs: Vec<u64> = run.view.jobs.iter().map(|job| job.id).collect();
        for job in jobs {
            let at = JobRef { run: id, job };
            if let Some(Phase::Running(running)) = self.phase(at) {
                self.lose_job(at, running.runner, "The run was cancelled by force.", now);
            }
        }
        Ok(())
    }

    /// Does what the planner says, until it says nothing more.
    pub(super) fn advance(&mut self, id: u64, now: Timestamp) {
        for _ in 0..MAX_ROUNDS {
            let Some(run) = self.runs.get(&id) else { break };
            let Some(live) = run.live.as_deref() else { break };
            if run.view.status == Status::Completed || live.held {
                break;
            }
            let actions = decide(&RunObserved {
                plan: &live.plan,
                contexts: &live.contexts,
                jobs: &live.states,
                cancelled: live.cancelled,
                completed: false,
            });
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.apply(id, action, now);
            }
        }
        self.settle_groups(now);
        self.offer_jobs(now);
    }

    fn apply(&mut self, run: u64, action: JobAction, now: Timestamp) {
        match action {
            JobAction::Queue(ready) => {
                let Some(at) = self.find(run, &ready.key) else { return };
                self.set_state(run, &ready.key, JobState::Queued);
                let Some((job, view)) = self.job_mut(at) else { return };
                view.name.clone_from(&ready.name);
                view.labels = ready.labels.iter().map(|label| label.to_lowercase()).collect();
                let groups: Vec<Concurrency> = ready.concurrency.iter().cloned().collect();
                let key = ready.key.clone();
                job.ready = Some(ready);
                if groups.is_empty() {
                    self.enqueue(at, now);
                } else {
                    job.phase = Phase::Held;
                    self.claim_for_job(run, &key, groups, now);
                }
            }
            JobAction::Start { key, concurrency, .. } if concurrency.is_empty() => {
                self.set_state(run, &key, JobState::Running);
            }
            JobAction::Start { key, concurrency, .. } => {
                self.set_state(run, &key, JobState::Queued);
                self.claim_for_job(run, &key, concurrency, now);
            }
            JobAction::Skip { key } => self.end(run, &key, Conclusion::Skipped, now),
            JobAction::Fail { key, message } => {
                self.remark(run, &key, &message);
                self.end(run, &key, Conclusion::Failure, now);
            }
            JobAction::Cancel { key } => match self.find(run, &key) {
                Some(at) => self.stop_job(at, now),
                None => self.end(run, &key, Conclusion::Cancelled, now),
            },
            JobAction::Complete { key, conclusion, outputs, message } => {
                if let Some(message) = message {
                    self.remark(run, &key, &message);
                }
                let state = JobState::Completed { conclusion, tolerated: false, outputs };
                self.set_state(run, &key, state);
            }
            JobAction::CompleteRun { conclusion } => self.complete_run(run, conclusion, now),
        }
    }

    /// A job waits for a runner from now on.
    pub(super) fn enqueue(&mut self, at: JobRef, now: Timestamp) {
        let Some((job, view)) = self.job_mut(at) else { return };
        view.status = Status::Queued;
        view.queued_at = Some(now);
        job.phase = Phase::Queued;
        self.bind(at);
        self.touch_queue();
        self.emit_job(at);
    }

    /// Says what went wrong at a job, or at the first job of a call.
    pub(super) fn remark(&mut self, run: u64, key: &str, message: &str) {
        if let Some(at) = self.find(run, key).or_else(|| self.first_within(run, key)) {
            self.annotate(at, failure(message));
        }
    }

    /// Ends a job, or a call, without a runner.
    pub(super) fn end(&mut self, run: u64, key: &str, conclusion: Conclusion, now: Timestamp) {
        match self.find(run, key) {
            Some(at) => self.finish_job(at, conclusion, BTreeMap::new(), now),
            None => {
                self.set_state(run, key, JobState::completed(super::jobs::planners(conclusion)));
            }
        }
    }

    pub(super) fn complete_run(&mut self, id: u64, conclusion: plan::Conclusion, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let conclusion = shown(conclusion);
        run.view.status = Status::Completed;
        run.view.conclusion = Some(conclusion);
        run.view.completed_at = Some(now);
        if let Some(live) = run.live.as_deref_mut() {
            // Late uploads need the jobs, and who runs it again needs plan and states.
            live.jobs.iter_mut().for_each(|job| job.ready = None);
        }
        self.release_run(id);
        self.emit(id, EventKind::Run { status: Status::Completed, conclusion: Some(conclusion) });
        self.effects.push(Effect::Save { run: id });
    }

    pub(super) fn set_state(&mut self, run: u64, key: &str, state: JobState) {
        if state.is_completed() {
            self.release_job(run, key);
        }
        let call = self.find(run, key).is_none();
        let Some(run) = self.runs.get_mut(&run) else { return };
        if let JobState::Completed { conclusion, outputs, .. } = &state
            && call
        {
            let result = CallResult { conclusion: shown(*conclusion), outputs: outputs.clone() };
            run.view.calls.insert(key.to_owned(), result);
        }
        if let Some(live) = run.live.as_deref_mut() {
            live.states.insert(key.to_owned(), state);
        }
    }

    /// The job with this key; calls are no jobs.
    pub(super) fn find(&self, run: u64, key: &str) -> Option<JobRef> {
        self.find_by(run, |job| job == key)
    }

    /// The first job of a call: where a remark about the call goes.
    fn first_within(&self, run: u64, call: &str) -> Option<JobRef> {
        self.find_by(run, |job| job.strip_prefix(call).is_some_and(|rest| rest.starts_with('/')))
    }

    fn find_by(&self, run: u64, is_it: impl Fn(&str) -> bool) -> Option<JobRef> {
        let known = self.runs.get(&run)?;
        let index = known.live.as_deref()?.jobs.iter().position(|job| is_it(&job.key))?;
        Some(JobRef { run, job: known.view.jobs.get(index)?.id })
    }
}

pub(super) fn job_view(id: u64, attempt: u64, planned: &PlannedJob) -> hub_api::Job {
    hub_api::Job {
        id,
        name: planned.name.clone(),
        key: planned.key.clone(),
        status: Status::Pending,
        conclusion: None,
        labels: Vec::new(),
        run_attempt: attempt,
        runner_id: None,
        runner_name: None,
        runner_group_id: None,
        runner_group_name: None,
        tolerated: false,
        queued_at: None,
        started_at: None,
        completed_at: None,
        steps: Vec::new(),
        outputs: BTreeMap::new(),
        annotations: Vec::new(),
    }
}

pub(super) fn live_job(planned: &PlannedJob, guid: Uuid) -> LiveJob {
    LiveJob {
        key: planned.key.clone(),
        guid,
        ready: None,
        phase: Phase::Waiting,
        offers: 0,
        change_order: 0,
        forced: None,
        reported: false,
    }
}

/// The hub's word for a conclusion.
fn shown(conclusion: plan::Conclusion) -> Conclusion {
    match conclusion {
        plan::Conclusion::Success => Conclusion::Success,
        plan::Conclusion::Failure => Conclusion::Failure,
        plan::Conclusion::Cancelled => Conclusion::Cancelled,
        plan::Conclusion::Skipped => Conclusion::Skipped,
    }
}
