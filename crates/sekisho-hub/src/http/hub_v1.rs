//! The hub's own API: see [`sekisho_github::hub_api`].

use std::io::SeekFrom;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use sekisho_github::hub_api::{Dispatch, Pushed, Queue, Run, RunnerGone, Runs};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::Instant;

use super::reply::Problem;
use super::work;
use crate::names::{RepoName, is_plain_ref, is_sha};
use crate::push;
use crate::shared::Shared;
use crate::state::{CancelError, RepositoryIds};
use crate::store::NotWritten;

/// The longest wait for a change of the queue.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Runs that are listed if the request does not say, and at most.
const LIMIT: (usize, usize) = (30, 200);
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 500;
/// How much of the events is read at once, in bytes.
const CHUNK: u64 = 256 * 1024;

type Hub = State<Arc<Shared>>;

/// Everything that is not there.
pub(super) async fn not_found() -> Problem {
    Problem::not_found("endpoint")
}

/// `GET health`: whether all that is done is written down. 503 while the disk takes nothing.
pub(super) async fn health(State(shared): Hub) -> Result<Json<serde_json::Value>, Problem> {
    match shared.saver.failures() {
        0 => Ok(Json(serde_json::json!({ "status": "ok" }))),
        _ => Err(NotWritten.into()),
    }
}

/// Query of [`queue`].
#[derive(Debug, Deserialize)]
pub(super) struct QueueQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

/// `GET queue`
pub(super) async fn queue(State(shared): Hub, Query(query): Query<QueueQuery>) -> Json<Queue> {
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms).min(MAX_WAIT);
    let mut changes = shared.changes();
    loop {
        changes.mark_unchanged();
        // The number of another process says nothing about ours.
        if shared.look(|state| state.seq() != query.after) {
            break;
        }
        tokio::select! {
            // All are cancel safe: the state is looked at anew in each round.
            changed = changes.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(deadline) => break,
            () = shared.stopping.cancelled() => break,
        }
    }
    Json(shared.look(crate::state::State::queue))
}

/// `POST runners/{id}/gone`
pub(super) async fn gone(
    State(shared): Hub,
    Path(id): Path<u64>,
    Json(gone): Json<RunnerGone>,
) -> Result<StatusCode, Problem> {
    let reason: String = gone.reason.chars().take(MAX_REASON).collect();
    if shared.change(|state, now| state.runner_gone(id, &reason, now)) {
        shared.saver.flushed().await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found("runner"))
}

/// Query of [`runs`].
#[derive(Debug, Deserialize)]
pub(super) struct RunsQuery {
    limit: Option<usize>,
}

/// `GET runs`
pub(super) async fn runs(State(shared): Hub, Query(query): Query<RunsQuery>) -> Json<Runs> {
    let limit = query.limit.unwrap_or(LIMIT.0).min(LIMIT.1);
    let newest = |state: &crate::state::State| {
        state.runs.values().rev().take(limit).map(|run| run.view.clone()).collect()
    };
    Json(Runs { runs: shared.look(newest) })
}

/// `GET runs/{id}`
pub(super) async fn run(State(shared): Hub, Path(id): Path<u64>) -> Result<Json<Run>, Problem> {
    find(shared, id).await.map(Json)
}

async fn find(shared: Arc<Shared>, id: u64) -> Result<Run, Problem> {
    let found = tokio::task::spawn_blocking(move || shared.run(id)).await;
    found.map_err(|error| Problem::internal(&error))?.ok_or_else(|| Problem::not_found("run"))
}

/// `POST runs/{id}/cancel`
pub(super) async fn cancel(State(shared): Hub, Path(id): Path<u64>) -> Result<StatusCode, Problem> {
    let over = || Problem::new(StatusCode::CONFLICT, "completed", "the run is over");
    match shared.change(|state, now| state.cancel_run(id, now)) {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(CancelError::Completed) => Err(over()),
        // Only runs that are over leave the memory.
        Err(CancelError::NotFound) => Err(find(shared, id).await.map_or_else(|e| e, |_| over())),
    }
}

/// Query of [`events`].
#[derive(Debug, Deserialize)]
pub(super) struct EventsQuery {
    #[serde(default)]
    after: u64,
}

/// `GET runs/{id}/events`
pub(super) async fn events(
    State(shared): Hub,
    Path(id): Path<u64>,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Problem> {
    find(Arc::clone(&shared), id).await?;
    let tail = shared.event_tail(id).ok_or_else(|| Problem::not_found("stream of events"))?;
    let file = tokio::fs::File::open(&tail.path).await;
    let file = file.map_err(|error| Problem::internal(&error))?;
    let reading = Reading { shared, run: id, file, at: 0, skip: query.after };
    let stream = futures_util::stream::try_unfold(reading, Reading::next);
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(stream)).into_response())
}

/// A reader of events, somewhere in the file.
struct Reading {
    shared: Arc<Shared>,
    run: u64,
    file: tokio::fs::File,
    at: u64,
    /// Lines at the start that are not wanted: event n is line n.
    skip: u64,
}

impl Reading {
    async fn next(mut self) -> std::io::Result<Option<(Bytes, Self)>> {
        let mut changes = self.shared.changes();
        loop {
            changes.mark_unchanged();
            let Some(tail) = self.shared.event_tail(self.run) else { return Ok(None) };
            if tail.bytes > self.at {
                let bytes = self.read(tail.bytes - self.at).await?;
                if !bytes.is_empty() {
                    return Ok(Some((bytes, self)));
                }
                continue;
            }
            if tail.ended {
                return Ok(None);
            }
            tokio::select! {
                // Both are cancel safe: the tail is looked at anew in each round.
                changed = changes.changed() => if changed.is_err() { return Ok(None) },
                () = self.shared.stopping.cancelled() => {
                    // The end of the run is written after this: it is worth a moment's wait.
                    let _ = tokio::time::timeout(STOP_GRACE, changes.changed()).await;
                    let tail = self.shared.event_tail(self.run);
                    if tail.is_none_or(|tail| tail.bytes <= self.at) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The next bytes, of at most `left`, without lines that are not wanted.
    async fn read(&mut self, left: u64) -> std::io::Result<Bytes> {
        self.file.seek(SeekFrom::Start(self.at)).await?;
        let mut bytes = Vec::new();
        (&mut self.file).take(left.min(CHUNK)).read_to_end(&mut bytes).await?;
        if bytes.is_empty() {
            return Err(std::io::Error::other("the events are shorter than they were"));
        }
        self.at += bytes.len() as u64;
        let mut bytes = Bytes::from(bytes);
        while self.skip > 0 && !bytes.is_empty() {
            match bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    bytes = bytes.slice(end + 1..);
                    self.skip -= 1;
                }
                None => bytes.clear(),
            }
        }
        Ok(bytes)
    }
}

/// How long a stream waits for the end of a run that the hub's own stop ends.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Query of [`pushes`].
#[derive(Debug, Deserialize)]
pub(super) struct PushesQuery {
    repository: String,
    sha: String,
}

/// `GET pushes`
pub(super) async fn pushes(
    State(shared): Hub,
    Query(query): Query<PushesQuery>,
) -> Result<Json<Pushed>, Problem> {
    let repository = known(&shared, query.repository.parse().ok())?;
    let pushed = shared.pushed(&repository.name, &query.sha);
    pushed.map(Json).ok_or_else(|| Problem::not_found("push"))
}

/// `POST repositories/{owner}/{name}/dispatch`
pub(super) async fn dispatch(
    State(shared): Hub,
    Path((owner, name)): Path<(String, String)>,
    Json(dispatch): Json<Dispatch>,
) -> Result<Response, Problem> {
    let repository = known(&shared, RepoName::new(&owner, &name).ok())?;
    let bad = |what| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", what);
    if !is_sha(&dispatch.sha) {
        return Err(bad("`sha` must be 40 hex digits"));
    }
    let full =
        ["refs/heads/", "refs/tags/"].iter().any(|start| dispatch.git_ref.starts_with(start));
    if !full || !is_plain_ref(&dispatch.git_ref) {
        return Err(bad("`ref` must be a full branch or tag name"));
    }
    let turn = Arc::clone(&shared.readers).acquire_owned().await;
    let turn = turn.map_err(|error| Problem::internal(&error))?;
    let reader = Arc::clone(&shared);
    let start = move || push::dispatched(&reader, &repository, &dispatch.git_ref, &dispatch.sha);
    let done = tokio::task::spawn_blocking(work::holding(turn, start)).await;
    let done = done.map_err(|error| Problem::internal(&error))?;
    let pushed = done.map_err(|error| Problem::internal(&error))?;
    let pushed = pushed.ok_or_else(|| Problem::not_found("commit"))?;
    Ok((StatusCode::CREATED, Json(pushed)).into_response())
}

fn known(shared: &Shared, name: Option<RepoName>) -> Result<RepositoryIds, Problem> {
    let known = name.and_then(|name| shared.look(|state| state.repositories.get(&name)));
    known.ok_or_else(|| Problem::not_found("repository"))
}
