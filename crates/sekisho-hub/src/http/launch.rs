//! The launch service: which commit an action is, and its files. Actions are repositories of the hub.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use sekisho_github::lenient;
use sekisho_github::wire::launch::{
    ActionRequest, ArchiveToken, ResolveActions, ResolveError, ResolveErrors, ResolvedAction,
    ResolvedActions,
};
use uuid::Uuid;

use super::guard::{basic, bearer};
use super::reply::ServiceFault;
use crate::names::{RepoName, is_sha};
use crate::shared::Shared;
use crate::tokens::{GithubClaims, Granted, JobClaims};

/// Most actions of one question.
const MAX_ACTIONS: usize = 500;

/// `POST /actions/build/{plan}/jobs/{job}/runnerresolve/actions`, with the job's token.
pub(super) async fn resolve(
    State(shared): State<Arc<Shared>>,
    Path((plan, guid)): Path<(Uuid, Uuid)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ServiceFault> {
    let refused = |status, why: &str| ServiceFault::run(status, why);
    let claims = bearer(&headers).and_then(|token| shared.tokens.read::<JobClaims>(token));
    let unknown = || refused(StatusCode::UNAUTHORIZED, "the token is not a job's");
    let at = claims.ok_or_else(unknown)?.at();
    let job = shared.look(|state| {
        let (run, live, job, view) = state.job(at)?;
        let is_it = live.plan_id == plan && job.guid == guid;
        is_it.then(|| (run.view.repository.clone(), run.view.id, view.id))
    });
    let gone = || refused(StatusCode::NOT_FOUND, "the job is not there any more");
    let (repository, run, id) = job.ok_or_else(gone)?;
    let question: ResolveActions = lenient::from_slice(&body).map_err(|error| {
        ServiceFault::run(StatusCode::BAD_REQUEST, format!("bad request: {error}"))
    })?;
    if question.actions.len() > MAX_ACTIONS {
        return Err(refused(StatusCode::BAD_REQUEST, "there are too many actions"));
    }
    let permissions = Granted::from([("contents".to_owned(), "read".to_owned())]);
    let claims = GithubClaims { repository, permissions, run, job: id };
    let now = shared.clock.now();
    let token = shared.tokens.github(claims, now).unwrap_or_default();
    let answer = tokio::task::spawn_blocking(move || look_up(&shared, question.actions, &token));
    let (found, missing) = answer.await.map_err(|error| ServiceFault::internal(&error))?;
    if missing.is_empty() {
        return Ok(Json(ResolvedActions { actions: found }).into_response());
    }
    let errors = ResolveErrors { errors: missing };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(errors)).into_response())
}

type Found = BTreeMap<String, ResolvedAction>;
type Missing = BTreeMap<String, ResolveError>;

fn look_up(shared: &Shared, actions: Vec<ActionRequest>, token: &str) -> (Found, Missing) {
    let (mut found, mut missing) = (Found::new(), Missing::new());
    for request in actions {
        match look_up_one(shared, &request, token) {
            Ok(action) => drop(found.insert(request.key(), action)),
            Err(message) => drop(missing.insert(request.key(), ResolveError { message })),
        }
    }
    (found, missing)
}

fn look_up_one(
    shared: &Shared,
    request: &ActionRequest,
    token: &str,
) -> Result<ResolvedAction, String> {
    let name: RepoName = request.action.parse().map_err(|error| format!("{error}"))?;
    let missing = || {
        let base = &shared.config.base_url;
        format!("there is no repository `{name}` here; push it to {base}/{name}")
    };
    let repository = shared.git.repository(&name).ok_or_else(missing)?;
    let sha = repository.resolve(&request.version).map_err(|error| {
        tracing::error!("an action cannot be looked up: {error}");
        "the repository cannot be read".to_owned()
    })?;
    let sha = sha.ok_or_else(|| format!("`{name}` has no `{}`", request.version))?;
    Ok(ResolvedAction {
        name: request.action.clone(),
        resolved_name: name.to_string(),
        tar_url: format!("{}/_launch/{name}/tarball/{sha}", shared.config.base_url),
        resolved_sha: sha,
        authentication: Some(ArchiveToken { token: token.into() }),
    })
}

/// `GET /_launch/{owner}/{name}/tarball/{sha}`, with the `github.token` of a job that runs.
pub(super) async fn tarball(
    State(shared): State<Arc<Shared>>,
    Path((owner, name, sha)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ServiceFault> {
    let password = basic(&headers).map(|(_, password)| password);
    let known = password.and_then(|token| shared.tokens.read::<GithubClaims>(&token));
    if known.is_none_or(|claims| !shared.is_running(claims.at())) {
        let why = "the token is not that of a job that runs";
        return Err(ServiceFault::run(StatusCode::UNAUTHORIZED, why));
    }
    let missing = || ServiceFault::run(StatusCode::NOT_FOUND, "there is no such commit");
    let name = RepoName::new(&owner, &name).map_err(|_| missing())?;
    let repository = shared.git.repository(&name).filter(|_| is_sha(&sha)).ok_or_else(missing)?;
    let archive = tokio::task::spawn_blocking(move || {
        let top = format!("{}-{}-{}", name.owner(), name.name(), &sha[..7]);
        repository.archive(&sha, &top)
    });
    let archive = archive.await.map_err(|error| ServiceFault::internal(&error))?;
    let archive = archive.map_err(|error| ServiceFault::internal(&error))?;
    Ok(([(CONTENT_TYPE, "application/gzip")], archive).into_response())
}
