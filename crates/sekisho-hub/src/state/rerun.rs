//! Another attempt of a run that is over.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sekisho_github::hub_api::Status;
use sekisho_workflow::expr::Value;
use sekisho_workflow::plan::{Rerun, rerun};
use uuid::Uuid;

use super::runs::{job_view, live_job};
use super::{Effect, JOBS_PER_RUN, State};

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
    /// It is of an earlier process, and its plan is gone with it.
    #[error("Unable to retry this workflow run because it was created before the hub started")]
    TooOld,
    /// [`MAX_ATTEMPTS`], or no more ids for jobs.
    #[error("Unable to retry this workflow run because it was retried too often")]
    TooOften,
}

impl State {
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
        let key = match which {
            RerunOf::Job(job) => {
                let found = run.view.jobs.iter().find(|view| view.id == job);
                Some(found.ok_or(RerunError::NotFound)?.key.as_str())
            }
            RerunOf::All | RerunOf::Failed => None,
        };
        let live = run.live.as_deref().ok_or(RerunError::TooOld)?;
        let which = match (which, key) {
            (RerunOf::Job(_), Some(key)) => Rerun::Job(key),
            (RerunOf::Failed, _) => Rerun::Failed,
            _ => Rerun::All,
        };
        let again = rerun(&live.plan, &live.states, which);
        if again.is_empty() { Err(RerunError::Nothing) } else { Ok(again) }
    }
}
