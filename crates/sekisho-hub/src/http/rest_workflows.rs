//! Workflow files over REST: read, and started by hand.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use sekisho_github::rest::{ContentEntry, Dispatched};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::reply::GithubError;
use super::rest::{self, At};
use super::work;
use crate::event::Actor;
use crate::git::{GitError, Repository, TreeFile};
use crate::names::is_plain_path;
use crate::push::{DispatchError, workflow_dispatched};
use crate::shared::Shared;

type Hub = State<Arc<Shared>>;

/// Largest file whose content is told, in bytes, as on GitHub.
const MAX_CONTENT: usize = 1024 * 1024;

/// Query of [`contents`].
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(rename = "ref")]
    git_ref: Option<String>,
}

/// `GET …/contents/{path}?ref=`: a file, or the files of a folder.
pub(super) async fn contents(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, GithubError> {
    let ids = at.repository(&shared)?;
    let api = format!("{}/api/v3/repos/{}", shared.config.base_url, ids.name);
    let read = move || {
        let repository = shared.git.repository(&ids.name)?;
        Some(read(&repository, &api, &at.path, wanted.git_ref.as_deref()))
    };
    match rest::blocking(read).await?.unwrap_or(Ok(None)) {
        Ok(Some(Contents::File(entry))) => Ok(Json(entry).into_response()),
        Ok(Some(Contents::Folder(entries))) => Ok(Json(entries).into_response()),
        Ok(None) => Err(GithubError::not_found()),
        Err(error) => Err(GithubError::internal(&error)),
    }
}

enum Contents {
    File(ContentEntry),
    Folder(Vec<ContentEntry>),
}

fn read(
    repository: &Repository,
    api: &str,
    path: &str,
    git_ref: Option<&str>,
) -> Result<Option<Contents>, GitError> {
    let path = path.trim_matches('/');
    let default = repository.default_branch_name()?;
    let Some(sha) = repository.resolve(git_ref.unwrap_or(&default))? else { return Ok(None) };
    if !is_plain_path(path) {
        return Ok(None);
    }
    let entry = |file: &TreeFile| ContentEntry {
        kind: "file".to_owned(),
        name: file.path.rsplit('/').next().unwrap_or_default().to_owned(),
        path: file.path.clone(),
        sha: file.sha.clone(),
        size: file.size as u64,
        encoding: None,
        content: None,
        url: format!("{api}/contents/{}", file.path),
    };
    if let Some(file) = repository.find(&sha, path)? {
        let mut entry = entry(&file);
        if file.size > MAX_CONTENT {
            (entry.encoding, entry.content) = (Some("none".to_owned()), Some(String::new()));
        } else {
            let text = BASE64_STANDARD.encode(repository.content(&file, MAX_CONTENT)?);
            (entry.encoding, entry.content) = (Some("base64".to_owned()), Some(in_lines(&text)));
        }
        return Ok(Some(Contents::File(entry)));
    }
    let files = repository.list(&sha, path)?;
    let entries: Vec<ContentEntry> = files.iter().map(entry).collect();
    Ok((!entries.is_empty()).then_some(Contents::Folder(entries)))
}

/// Lines of 60, as GitHub has them.
fn in_lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len() + text.len() / 60 + 1);
    for (count, digit) in text.chars().enumerate() {
        lines.push(digit);
        if count % 60 == 59 {
            lines.push('\n');
        }
    }
    if !lines.is_empty() && !lines.ends_with('\n') {
        lines.push('\n');
    }
    lines
}

#[derive(Debug, Deserialize)]
struct Dispatch {
    #[serde(rename = "ref")]
    git_ref: String,
    #[serde(default)]
    inputs: Map<String, Value>,
    #[serde(default)]
    return_run_details: bool,
}

/// `POST …/actions/workflows/{id or file}/dispatches`
pub(super) async fn dispatch(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Path(at): Path<At>,
    body: Bytes,
) -> Result<Response, GithubError> {
    let ids = at.repository(&shared)?;
    let wanted: Dispatch = serde_json::from_slice(&body).map_err(|error| {
        GithubError::unprocessable(format!("Invalid request.\n\nFor 'ref' and 'inputs': {error}"))
    })?;
    let base = format!("{}/{}/actions/runs", shared.config.base_url, ids.name);
    let api = format!("{}/api/v3/repos/{}/actions/runs", shared.config.base_url, ids.name);
    let details = wanted.return_run_details;
    let turn = Arc::clone(&shared.readers).acquire_owned().await;
    let turn = turn.map_err(|error| GithubError::internal(&error))?;
    let reader = Arc::clone(&shared);
    let start = move || {
        let what = (at.workflow.as_str(), wanted.git_ref.as_str());
        workflow_dispatched(&reader, &ids, what, &wanted.inputs, &actor)
    };
    match rest::blocking(work::holding(turn, start)).await? {
        Ok(_) if !details => Ok(StatusCode::NO_CONTENT.into_response()),
        Ok(run) => Ok(Json(Dispatched {
            workflow_run_id: run,
            run_url: format!("{api}/{run}"),
            html_url: format!("{base}/{run}"),
        })
        .into_response()),
        Err(DispatchError::NotFound) => Err(GithubError::not_found()),
        Err(DispatchError::Refused(why)) => Err(GithubError::unprocessable(why)),
        Err(DispatchError::Git(error)) => Err(GithubError::internal(&error)),
    }
}
