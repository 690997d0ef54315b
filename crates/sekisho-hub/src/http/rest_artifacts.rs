//! Artifacts over REST.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::LOCATION;
use serde_json::{Value, json};

use super::artifacts::download_url;
use super::limits::listed;
use super::reply::GithubError;
use super::rest::{self, At, Page};
use crate::event::short_ref;
use crate::shared::Shared;
use crate::storage::Artifact;

type Hub = State<Arc<Shared>>;

fn find(shared: &Shared, at: &At) -> Result<Artifact, GithubError> {
    let found = shared.storage.artifacts(|all| all.get(at.artifact).cloned());
    let found = found.filter(|artifact| at.is_of(&artifact.run.repository));
    found.ok_or_else(GithubError::not_found)
}

/// `GET …/actions/artifacts`: newest first.
pub(super) async fn list(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(page): Query<Page>,
) -> Response {
    list_of(&shared, &at, &page, |_| true)
}

/// `GET …/actions/runs/{run}/artifacts`: newest first.
pub(super) async fn of_run(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let (reader, id) = (Arc::clone(&shared), at.run);
    let run = rest::blocking(move || reader.run(id)).await?;
    if !run.is_some_and(|run| at.is_of(&run.repository)) {
        return Err(GithubError::not_found());
    }
    Ok(list_of(&shared, &at, &page, |artifact| artifact.run.run == id))
}

fn list_of(shared: &Shared, at: &At, page: &Page, wanted: impl Fn(&Artifact) -> bool) -> Response {
    let base = &shared.config.base_url;
    let all: Vec<Value> = shared.storage.artifacts(|all| {
        let ours = all.all().rev().filter(|artifact| {
            at.is_of(&artifact.run.repository) && page.is_named(&artifact.name) && wanted(artifact)
        });
        ours.map(|artifact| shown(base, artifact)).collect()
    });
    let total = all.len();
    listed(total, json!({ "total_count": total, "artifacts": page.of(all) })).into_response()
}

/// `GET …/actions/artifacts/{artifact}`
pub(super) async fn get(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Json<Value>, GithubError> {
    let artifact = find(&shared, &at)?;
    Ok(Json(shown(&shared.config.base_url, &artifact)))
}

/// `GET …/actions/artifacts/{artifact}/zip`: leads to a URL that needs no token.
pub(super) async fn zip(State(shared): Hub, Path(at): Path<At>) -> Result<Response, GithubError> {
    let artifact = find(&shared, &at)?;
    let url = download_url(&shared, artifact);
    let url = url.ok_or_else(|| GithubError::internal(&"a URL cannot be signed"))?;
    Ok((StatusCode::FOUND, [(LOCATION, url)]).into_response())
}

/// `DELETE …/actions/artifacts/{artifact}`
pub(super) async fn delete(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<StatusCode, GithubError> {
    let id = find(&shared, &at)?.id;
    match rest::blocking(move || shared.storage.delete_artifact(id)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(GithubError::not_found()),
    }
}

fn shown(base: &str, artifact: &Artifact) -> Value {
    let run = &artifact.run;
    let url = format!("{base}/api/v3/repos/{}/actions/artifacts/{}", run.repository, artifact.id);
    json!({
        "id": artifact.id,
        "name": artifact.name,
        "size_in_bytes": artifact.size_bytes,
        "url": url,
        "archive_download_url": format!("{url}/zip"),
        "expired": false,
        "digest": artifact.digest,
        "created_at": artifact.created_at,
        "updated_at": artifact.created_at,
        "expires_at": artifact.expires_at,
        "workflow_run": {
            "id": run.run,
            "head_branch": short_ref(&run.git_ref),
            "head_sha": run.sha,
        },
    })
}
