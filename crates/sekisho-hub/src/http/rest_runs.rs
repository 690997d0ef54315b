//! Runs and jobs over REST, as much as is read and cancelled.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use sekisho_github::hub_api::{Job, Run, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::GithubError;
use super::rest::Page;
use crate::event::short_ref;
use crate::shared::Shared;
use crate::state::{CancelError, JobRef};

type Hub = State<Arc<Shared>>;

/// Where a request is about; paths have more or fewer of these.
#[derive(Debug, Deserialize)]
pub(super) struct At {
    owner: String,
    name: String,
    #[serde(default)]
    run: u64,
    #[serde(default)]
    job: u64,
    #[serde(default = "first")]
    attempt: u64,
}

fn first() -> u64 {
    1
}

/// Query of [`list`].
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    status: Option<String>,
    head_sha: Option<String>,
    branch: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

impl At {
    fn is_of(&self, run: &Run) -> bool {
        run.repository.eq_ignore_ascii_case(&format!("{}/{}", self.owner, self.name))
    }

    async fn run(&self, shared: &Arc<Shared>, id: u64) -> Result<Run, GithubError> {
        let shared = Arc::clone(shared);
        let found = tokio::task::spawn_blocking(move || shared.run(id)).await;
        let run = found.map_err(|error| GithubError::internal(&error))?;
        run.filter(|run| self.is_of(run) && self.attempt == run.run_attempt)
            .ok_or_else(GithubError::not_found)
    }
}

/// `GET …/actions/runs`: newest first, of those in memory.
pub(super) async fn list(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(filter): Query<Filter>,
) -> Json<Value> {
    let wanted = |run: &&Run| {
        let status = filter.status.as_deref().is_none_or(|status| {
            run.status.as_str() == status || run.conclusion.is_some_and(|c| c.as_str() == status)
        });
        let sha = filter.head_sha.as_ref().is_none_or(|sha| *sha == run.sha);
        let branch = filter.branch.as_ref().is_none_or(|b| b == short_ref(&run.git_ref));
        at.is_of(run) && status && sha && branch
    };
    let base = &shared.config.base_url;
    let all: Vec<Value> = shared.look(|state| {
        let runs = state.runs.values().rev().map(|run| &run.view);
        runs.filter(wanted).map(|run| run_json(base, run)).collect()
    });
    let total = all.len();
    Json(json!({ "total_count": total, "workflow_runs": page(&filter).of(all) }))
}

fn page(filter: &Filter) -> Page {
    Page::new(filter.page, filter.per_page)
}

/// `GET …/actions/runs/{run}`
pub(super) async fn get(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Json<Value>, GithubError> {
    let run = at.run(&shared, at.run).await?;
    Ok(Json(run_json(&shared.config.base_url, &run)))
}

/// `GET …/actions/runs/{run}/attempts/{attempt}`
pub(super) async fn get_attempt(hub: Hub, at: Path<At>) -> Result<Json<Value>, GithubError> {
    get(hub, at).await
}

/// `GET …/actions/runs/{run}/jobs`
pub(super) async fn jobs(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, GithubError> {
    let run = at.run(&shared, at.run).await?;
    let base = &shared.config.base_url;
    let all: Vec<Value> = run.jobs.iter().map(|job| job_json(base, &run, job)).collect();
    Ok(Json(json!({ "total_count": all.len(), "jobs": page.of(all) })))
}

/// `GET …/actions/runs/{run}/attempts/{attempt}/jobs`
pub(super) async fn attempt_jobs(
    hub: Hub,
    at: Path<At>,
    page: Query<Page>,
) -> Result<Json<Value>, GithubError> {
    jobs(hub, at, page).await
}

/// `GET …/actions/jobs/{job}`
pub(super) async fn job(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Json<Value>, GithubError> {
    let (run, job) = find_job(&shared, &at).await?;
    Ok(Json(job_json(&shared.config.base_url, &run, &job)))
}

/// `GET …/actions/jobs/{job}/logs`: the text itself, without a detour.
pub(super) async fn job_logs(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    let (run, job) = find_job(&shared, &at).await?;
    let logs = shared.store.logs(run.id, job.id);
    let text = tokio::task::spawn_blocking(move || logs.read(&job)).await;
    let text = text.map_err(|error| GithubError::internal(&error))?;
    let text = text.map_err(|error| GithubError::internal(&error))?;
    let text = text.ok_or_else(GithubError::not_found)?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

async fn find_job(shared: &Arc<Shared>, at: &At) -> Result<(Run, Job), GithubError> {
    let run = at.run(shared, JobRef::from_job_id(at.job).run).await?;
    let job = run.jobs.iter().find(|job| job.id == at.job).cloned();
    job.map(|job| (run, job)).ok_or_else(GithubError::not_found)
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

fn run_json(base: &str, run: &Run) -> Value {
    let url = format!("{base}/api/v3/repos/{}/actions/runs/{}", run.repository, run.id);
    json!({
        "id": run.id,
        "name": run.workflow_name,
        "path": run.workflow_path,
        "head_branch": short_ref(&run.git_ref),
        "head_sha": run.sha,
        "event": run.event,
        "status": run.status,
        "conclusion": run.conclusion,
        "run_number": run.run_number,
        "run_attempt": run.run_attempt,
        "created_at": run.created_at,
        "run_started_at": run.started_at.unwrap_or(run.created_at),
        "updated_at": run.completed_at.or(run.started_at).unwrap_or(run.created_at),
        "url": url,
        "jobs_url": format!("{url}/jobs"),
        "cancel_url": format!("{url}/cancel"),
        "html_url": format!("{base}/{}/actions/runs/{}", run.repository, run.id),
        "repository": { "full_name": run.repository },
    })
}

fn job_json(base: &str, run: &Run, job: &Job) -> Value {
    let api = format!("{base}/api/v3/repos/{}/actions", run.repository);
    let steps: Vec<Value> = job
        .steps
        .iter()
        .map(|step| {
            json!({
                "name": step.name, "status": rest_status(step.status),
                "conclusion": step.conclusion, "number": step.number,
                "started_at": step.started_at, "completed_at": step.completed_at,
            })
        })
        .collect();
    json!({
        "id": job.id,
        "run_id": run.id,
        "run_url": format!("{api}/runs/{}", run.id),
        "run_attempt": run.run_attempt,
        "head_sha": run.sha,
        "head_branch": short_ref(&run.git_ref),
        "url": format!("{api}/jobs/{}", job.id),
        "html_url": format!("{base}/{}/actions/runs/{}/job/{}", run.repository, run.id, job.id),
        "status": job.status,
        "conclusion": job.conclusion,
        "created_at": job.queued_at.unwrap_or(run.created_at),
        "started_at": job.started_at.or(job.queued_at).unwrap_or(run.created_at),
        "completed_at": job.completed_at,
        "name": job.name,
        "steps": steps,
        "labels": job.labels,
        "runner_name": job.runner_name,
        "workflow_name": run.workflow_name,
    })
}

/// Steps know no `pending`.
fn rest_status(status: Status) -> Status {
    if status == Status::Pending { Status::Queued } else { status }
}
