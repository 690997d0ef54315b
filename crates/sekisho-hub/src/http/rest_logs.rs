//! Logs of jobs and runs over REST.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use serde::Deserialize;
use tokio_util::io::ReaderStream;

use super::reply::GithubError;
use super::rest::{self, At};
use super::rest_runs::{find_job, job_anywhere};
use crate::shared::Shared;
use crate::tokens::{LogClaims, RunLogClaims};

type Hub = State<Arc<Shared>>;

/// `GET …/actions/jobs/{job}/logs`: leads to a URL that needs no token.
pub(super) async fn job_logs(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    let (run, job) = find_job(&shared, &at).await?;
    let (logs, claims) =
        (shared.store.logs(run.id, job.id), LogClaims { run: run.id, job: job.id });
    if !rest::blocking(move || logs.is_there(&job)).await? {
        return Err(GithubError::not_found());
    }
    let (run, job) = (claims.run, claims.job);
    let sig = shared.tokens.log(claims, shared.clock.now());
    let sig = sig.ok_or_else(|| GithubError::internal(&"a URL cannot be signed"))?;
    let url = format!("{}/_blobs/{run}/{job}/job.log?sig={sig}", shared.config.base_url);
    Ok((StatusCode::FOUND, [(LOCATION, url)]).into_response())
}

/// `GET …/actions/runs/{run}/logs` and `…/attempts/{attempt}/logs`: leads to a URL that needs no
/// token.
pub(super) async fn run_logs(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    let run = at.run(&shared, at.run).await?;
    let claims = RunLogClaims { run: run.id, attempt: run.run_attempt };
    let store = shared.store.clone();
    let there = move || run.jobs.iter().any(|job| store.logs(run.id, job.id).is_there(job));
    if !rest::blocking(there).await? {
        return Err(GithubError::not_found());
    }
    let RunLogClaims { run, attempt } = claims;
    let sig = shared.tokens.run_log(claims, shared.clock.now());
    let sig = sig.ok_or_else(|| GithubError::internal(&"a URL cannot be signed"))?;
    let base = &shared.config.base_url;
    let url = format!("{base}/_blobs/{run}/attempts/{attempt}/logs.zip?sig={sig}");
    Ok((StatusCode::FOUND, [(LOCATION, url)]).into_response())
}

/// `GET /_blobs/{run}/attempts/{attempt}/logs.zip?sig=…`: where [`run_logs`] leads.
pub(super) async fn archive(
    State(shared): Hub,
    Path((run, attempt)): Path<(u64, u64)>,
    Query(query): Query<Signature>,
) -> Result<Response, GithubError> {
    let wanted = RunLogClaims { run, attempt };
    if shared.tokens.read::<RunLogClaims>(&query.sig) != Some(wanted) {
        return Err(forbidden());
    }
    let pack = move || {
        let run = shared.attempt(run, attempt)?;
        Some(shared.store.pack_logs(&run))
    };
    let file = rest::blocking(pack).await?.ok_or_else(GithubError::not_found)?;
    let file = file.map_err(|error| GithubError::internal(&error))?;
    let bytes = file.metadata().map_err(|error| GithubError::internal(&error))?.len();
    let body = Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    let headers = [
        (CONTENT_TYPE, "application/zip".to_owned()),
        (CONTENT_LENGTH, bytes.to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=logs_{run}.zip")),
    ];
    Ok((headers, body).into_response())
}

fn forbidden() -> GithubError {
    let message = "The signature is not of this URL, or too old".to_owned();
    GithubError(StatusCode::FORBIDDEN, message)
}

/// Query of [`log`] and [`archive`].
#[derive(Debug, Deserialize)]
pub(super) struct Signature {
    #[serde(default)]
    sig: String,
}

/// `GET /_blobs/{run}/{job}/job.log?sig=…`: where [`job_logs`] leads.
pub(super) async fn log(
    State(shared): Hub,
    Path((run, job, file)): Path<(u64, u64, String)>,
    Query(query): Query<Signature>,
) -> Result<Response, GithubError> {
    let granted = shared.tokens.read::<LogClaims>(&query.sig) == Some(LogClaims { run, job });
    if !granted || file != "job.log" {
        return Err(forbidden());
    }
    let read = move || {
        let job = job_anywhere(&shared, run, job)?.1;
        shared.store.logs(run, job.id).read(&job).transpose()
    };
    let text = rest::blocking(read).await?;
    let text = text.ok_or_else(GithubError::not_found)?;
    let text = text.map_err(|error| GithubError::internal(&error))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}
