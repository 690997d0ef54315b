//! Runs and jobs over REST: looked at, stopped, run again.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use sekisho_github::hub_api::{Job, Run};
use sekisho_github::rest::{WorkflowJob, WorkflowRun};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::limits::listed;
use super::reply::GithubError;
use super::rest::{self, At, Page};
use super::shown;
use crate::event::short_ref;
use crate::shared::Shared;
use crate::state::{CancelError, JobRef, RepositoryIds, RerunError, RerunOf};

type Hub = State<Arc<Shared>>;

/// Query of [`list`].
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    status: Option<String>,
    head_sha: Option<String>,
    branch: Option<String>,
    event: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

/// Query of [`jobs`].
#[derive(Debug, Deserialize)]
pub(super) struct JobFilter {
    filter: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

impl At {
    /// A run of the repository, in the attempt of the path.
    pub(super) async fn run(&self, shared: &Arc<Shared>, id: u64) -> Result<Run, GithubError> {
        let (shared, attempt) = (Arc::clone(shared), self.attempt);
        let find = move || match attempt {
            None => shared.run(id),
            Some(attempt) => shared.attempt(id, attempt),
        };
        let run = rest::blocking(find).await?;
        run.filter(|run| self.is_of(&run.repository)).ok_or_else(GithubError::not_found)
    }
}

fn run_json(shared: &Shared, run: &Run, ids: &RepositoryIds) -> WorkflowRun {
    let live = shared.look(|state| {
        let live = state.runs.get(&run.id).and_then(|run| run.live.as_deref());
        live.map(|live| live.facts.actor.clone())
    });
    let actor = live.unwrap_or_else(|| shared.config.actor.clone());
    shown::run(&shared.config.base_url, run, ids, &actor)
}

/// `GET …/actions/runs`: newest first, of those in memory.
pub(super) async fn list(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(filter): Query<Filter>,
) -> Result<Response, GithubError> {
    let ids = at.repository(&shared)?;
    let wanted = |run: &&Run| {
        let status = filter.status.as_deref().is_none_or(|status| {
            run.status.as_str() == status || run.conclusion.is_some_and(|c| c.as_str() == status)
        });
        let sha = filter.head_sha.as_ref().is_none_or(|sha| *sha == run.sha);
        let branch = filter.branch.as_ref().is_none_or(|b| b == short_ref(&run.git_ref));
        let event = filter.event.as_ref().is_none_or(|event| *event == run.event);
        at.is_of(&run.repository) && status && sha && branch && event
    };
    let (total, page): (usize, Vec<Run>) = shared.look(|state| {
        let runs = state.runs.values().rev().map(|run| &run.view);
        let all: Vec<&Run> = runs.filter(wanted).collect();
        let page = Page::new(filter.page, filter.per_page);
        (all.len(), page.of(all).into_iter().cloned().collect())
    });
    let runs: Vec<WorkflowRun> = page.iter().map(|run| run_json(&shared, run, &ids)).collect();
    Ok(listed(total, json!({ "total_count": total, "workflow_runs": runs })).into_response())
}

/// `GET …/actions/runs/{run}` and `…/attempts/{attempt}`
pub(super) async fn get(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Json<WorkflowRun>, GithubError> {
    let run = at.run(&shared, at.run).await?;
    Ok(Json(run_json(&shared, &run, &at.repository(&shared)?)))
}

/// `GET …/actions/runs/{run}/jobs` and `…/attempts/{attempt}/jobs`
pub(super) async fn jobs(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(filter): Query<JobFilter>,
) -> Result<Response, GithubError> {
    let run = at.run(&shared, at.run).await?;
    let mut attempts = vec![run];
    if filter.filter.as_deref() == Some("all") && at.attempt.is_none() {
        let (store, id, newest) = (shared.store.clone(), at.run, attempts[0].run_attempt);
        let load = move || (1..newest).filter_map(|n| store.load_attempt(id, n)).collect();
        let earlier: Vec<Run> = rest::blocking(load).await?;
        attempts.splice(0..0, earlier);
    }
    let base = &shared.config.base_url;
    let mut all: Vec<WorkflowJob> = Vec::new();
    for run in &attempts {
        // A job that was kept is in several attempts, and is one.
        let new = run.jobs.iter().filter(|job| all.iter().all(|known| known.id != job.id));
        let new: Vec<WorkflowJob> = new.map(|job| shown::job(base, run, job)).collect();
        all.extend(new);
    }
    let total = all.len();
    let page = Page::new(filter.page, filter.per_page).of(all);
    Ok(listed(total, json!({ "total_count": total, "jobs": page })).into_response())
}

/// `GET …/actions/jobs/{job}`
pub(super) async fn job(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Json<WorkflowJob>, GithubError> {
    let (run, job) = find_job(&shared, &at).await?;
    Ok(Json(shown::job(&shared.config.base_url, &run, &job)))
}

/// A job of any attempt of a run. Blocking.
pub(super) fn job_anywhere(shared: &Shared, run: u64, job: u64) -> Option<(Run, Job)> {
    let newest = shared.run(run)?;
    let earlier = (1..newest.run_attempt).rev().filter_map(|n| shared.store.load_attempt(run, n));
    let mut attempts = std::iter::once(newest).chain(earlier);
    attempts.find_map(|run| {
        let found = run.jobs.iter().find(|found| found.id == job).cloned();
        found.map(|job| (run, job))
    })
}

pub(super) async fn find_job(shared: &Arc<Shared>, at: &At) -> Result<(Run, Job), GithubError> {
    let (shared, job) = (Arc::clone(shared), at.job);
    let find = move || job_anywhere(&shared, JobRef::from_job_id(job).run, job);
    let found = rest::blocking(find).await?;
    found.filter(|(run, _)| at.is_of(&run.repository)).ok_or_else(GithubError::not_found)
}

/// `POST …/actions/runs/{run}/cancel`
pub(super) async fn cancel(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    at.run(&shared, at.run).await?;
    cancelled(shared.change(|state, now| state.cancel_run(at.run, now)))
}

/// `POST …/actions/runs/{run}/force-cancel`: without waiting for the runners.
pub(super) async fn force_cancel(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    at.run(&shared, at.run).await?;
    cancelled(shared.change(|state, now| state.force_cancel_run(at.run, now)))
}

fn cancelled(result: Result<(), CancelError>) -> Result<Response, GithubError> {
    match result {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response()),
        Err(CancelError::Completed | CancelError::NotFound) => Err(GithubError(
            StatusCode::CONFLICT,
            "Cannot cancel a workflow run that is completed".to_owned(),
        )),
    }
}

/// `GET …/actions/runs/{run}/pending_deployments`: none, for a workflow with an `environment` is
/// refused when it is pushed.
pub(super) async fn pending_deployments(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    at.run(&shared, at.run).await?;
    Ok(Json(json!([])).into_response())
}

/// `POST …/actions/runs/{run}/pending_deployments`: there is nothing to review.
pub(super) async fn review_deployments(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    at.run(&shared, at.run).await?;
    Err(GithubError::unprocessable("There are no pending deployments of this workflow run"))
}

/// `POST …/actions/runs/{run}/rerun`
pub(super) async fn rerun(hub: Hub, at: Path<At>, body: Bytes) -> Result<Response, GithubError> {
    again(hub, at, &body, RerunOf::All).await
}

/// `POST …/actions/runs/{run}/rerun-failed-jobs`
pub(super) async fn rerun_failed(
    hub: Hub,
    at: Path<At>,
    body: Bytes,
) -> Result<Response, GithubError> {
    again(hub, at, &body, RerunOf::Failed).await
}

/// `POST …/actions/jobs/{job}/rerun`
pub(super) async fn rerun_job(
    hub: Hub,
    Path(mut at): Path<At>,
    body: Bytes,
) -> Result<Response, GithubError> {
    at.run = JobRef::from_job_id(at.job).run;
    let job = at.job;
    again(hub, Path(at), &body, RerunOf::Job(job)).await
}

async fn again(
    State(shared): Hub,
    Path(at): Path<At>,
    body: &[u8],
    which: RerunOf,
) -> Result<Response, GithubError> {
    // `enable_debug_logging` and its kin are taken and mean nothing here.
    if !body.is_empty() && serde_json::from_slice::<serde_json::Map<_, _>>(body).is_err() {
        return Err(GithubError(StatusCode::BAD_REQUEST, "Problems parsing JSON".to_owned()));
    }
    let run = at.run(&shared, at.run).await?;
    let guids = run.jobs.iter().map(|_| Uuid::new_v4()).collect();
    let reader = Arc::clone(&shared);
    let kept = rest::blocking(move || reader.kept(at.run)).await?;
    let began = shared.change(|state, now| {
        if let Some((view, kept)) = kept {
            state.revive(view, kept);
        }
        state.rerun(at.run, which, guids, now)
    });
    match began {
        Ok(_) => Ok((StatusCode::CREATED, Json(json!({}))).into_response()),
        Err(RerunError::NotFound) => Err(GithubError::not_found()),
        Err(error) => Err(GithubError(StatusCode::FORBIDDEN, error.to_string())),
    }
}
