//! Another attempt of a run that is over.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sekisho_github::hub_api::{self, Conclusion, Status};
use sekisho_workflow::expr::{Contexts, Value};
use sekisho_workflow::plan::{
    Concurrency, JobState, Plan, Rerun, RunObserved, conclude_calls, rerun,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::jobs::planners;
use super::runs::{job_view, live_job};
use super::{Effect, JOBS_PER_RUN, Live, LiveJob, NewRun, Phase, Run, RunFacts, State};

/// Attempts of one run.
const MAX_ATTEMPTS: u64 = 50;

/// What is to be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RerunOf {
    /// Everything.
    All,
    /// What failed or was cancelled, and what needs it.
    Failed,
    /// One job, by its id, and what needs it.
    Job(u64),
}

/// Why a run is not run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RerunError {
    /// There is no such run or job in memory.
    #[error("Not Found")]
    NotFound,
    /// It is not over.
    #[error("This workflow is already running")]
    Running,
    /// Nothing of it failed.
    #[error("This workflow run has no failed jobs")]
    Nothing,
    /// Its plan was not kept.
    #[error("Unable to retry this workflow run because its plan was not kept")]
    TooOld,
    /// [`MAX_ATTEMPTS`], or no more ids for jobs.
    #[error("Unable to retry this workflow run because it was retried too often")]
    TooOften,
}

/// What is kept of a run beside its view, so that it can be run again after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    plan_id: Uuid,
    plan: Plan,
    facts: RunFacts,
    /// The `inputs` context.
    inputs: serde_json::Value,
    concurrency: Option<Concurrency>,
}

impl Kept {
    /// Of a run that is about to begin.
    pub(crate) fn of(new: &NewRun) -> Self {
        Self {
            plan_id: new.plan_id,
            plan: new.plan.clone(),
            facts: new.facts.clone(),
            inputs: new.contexts.get("inputs").map(Value::to_json).unwrap_or_default(),
            concurrency: new.concurrency.clone(),
        }
    }

    /// The run of an earlier process, which is over.
    fn revive(self, view: &hub_api::Run) -> Live {
        let mut states = BTreeMap::new();
        for job in &view.jobs {
            let conclusion = planners(job.conclusion.unwrap_or(Conclusion::Cancelled));
            let (tolerated, outputs) = (job.tolerated, job.outputs.clone());
            let state = JobState::Completed { conclusion, tolerated, outputs };
            states.insert(job.key.clone(), state);
        }
        for (key, call) in &view.calls {
            let (conclusion, outputs) = (planners(call.conclusion), call.outputs.clone());
            let state = JobState::Completed { conclusion, tolerated: false, outputs };
            states.insert(key.clone(), state);
        }
        let contexts = contexts(&self.facts, Value::from(&self.inputs));
        let seen = RunObserved {
            plan: &self.plan,
            contexts: &contexts,
            jobs: &states,
            cancelled: false,
            completed: true,
        };
        let calls = conclude_calls(&seen);
        states.extend(calls);
        let known = view.jobs.iter().filter_map(|job| self.plan.job(&job.key));
        let jobs = known.map(|job| LiveJob { phase: Phase::Done, ..live_job(job, Uuid::nil()) });
        Live {
            plan_id: self.plan_id,
            jobs: jobs.collect(),
            plan: self.plan,
            contexts,
            facts: self.facts,
            states,
            cancelled: false,
            concurrency: self.concurrency,
            held: false,
        }
    }
}

/// What a run's expressions see.
pub(crate) fn contexts(facts: &RunFacts, inputs: Value) -> Contexts {
    let vars = facts.vars.iter().map(|(name, value)| (name.as_str(), value.as_str().into()));
    Contexts::new()
        .with("github", Value::from(facts.github.clone()))
        .with("vars", Value::object(vars))
        .with("inputs", inputs)
}

impl State {
    /// A run of an earlier process can be run again from now on. One that this process began, or
    /// whose view has jobs that the plan does not know, stays as it is.
    pub(crate) fn revive(&mut self, view: hub_api::Run, kept: Kept) {
        let known = self.runs.get(&view.id);
        let whole = view.jobs.iter().all(|job| kept.plan.job(&job.key).is_some());
        if !whole || known.is_some_and(|run| run.live.is_some()) {
            return;
        }
        let view = known.map_or(view, |run| run.view.clone());
        let live = Some(Box::new(kept.revive(&view)));
        self.runs.insert(view.id, Run { view, live });
    }

    /// Begins another attempt and gives its number. `guids` are the runners' names for its jobs: as
    /// many as the run has.
    pub(crate) fn rerun(
        &mut self,
        id: u64,
        which: RerunOf,
        guids: Vec<Uuid>,
        now: Timestamp,
    ) -> Result<u64, RerunError> {
        let again = self.begins_anew(id, which)?;
        let run = self.runs.get_mut(&id).ok_or(RerunError::NotFound)?;
        let live = run.live.as_deref_mut().ok_or(RerunError::TooOld)?;
        let over = Box::new(run.view.clone());
        let attempt = run.view.run_attempt + 1;
        let first = run.view.jobs.iter().map(|job| job.id).max().unwrap_or(id * JOBS_PER_RUN) + 1;
        let end = first + run.view.jobs.len() as u64;
        if attempt > MAX_ATTEMPTS || end > (id + 1) * JOBS_PER_RUN {
            return Err(RerunError::TooOften);
        }
        let mut ids = first..;
        let places = live.jobs.iter_mut().zip(&mut run.view.jobs).zip(guids);
        for ((job, view), guid) in places.filter(|((job, _), _)| again.contains(&job.key)) {
            let (Some(planned), Some(new_id)) = (live.plan.job(&job.key), ids.next()) else {
                return Err(RerunError::TooOld);
            };
            *job = live_job(planned, guid);
            *view = job_view(new_id, attempt, planned);
        }
        live.states.retain(|key, _| !again.contains(key));
        run.view.calls.retain(|key, _| !again.contains(key));
        live.cancelled = false;
        live.facts.github["run_attempt"] = attempt.to_string().into();
        live.contexts.set("github", Value::from(live.facts.github.clone()));
        let view = &mut run.view;
        (view.run_attempt, view.conclusion) = (attempt, None);
        (view.started_at, view.completed_at) = (None, None);
        self.effects.push(Effect::SaveAttempt(over));
        self.open_run(id, now);
        Ok(attempt)
    }

    /// Keys of jobs and calls of the next attempt.
    fn begins_anew(&self, id: u64, which: RerunOf) -> Result<BTreeSet<String>, RerunError> {
        let run = self.runs.get(&id).ok_or(RerunError::NotFound)?;
        if run.view.status != Status::Completed {
            return Err(RerunError::Running);
        }
        let which = match which {
            RerunOf::All => Rerun::All,
            RerunOf::Failed => Rerun::Failed,
            RerunOf::Job(job) => {
                let found = run.view.jobs.iter().find(|view| view.id == job);
                Rerun::Job(&found.ok_or(RerunError::NotFound)?.key)
            }
        };
        let live = run.live.as_deref().ok_or(RerunError::TooOld)?;
        let again = rerun(&live.plan, &live.states, which);
        if again.is_empty() { Err(RerunError::Nothing) } else { Ok(again) }
    }
}
