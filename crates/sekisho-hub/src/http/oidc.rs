//! The issuer of ID tokens: what a job proves its identity with.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, Header};
use sekisho_github::wire::oidc::{Discovery, IdTokenClaims, IdTokenResponse};
use sekisho_workflow::model::Access;
use sekisho_workflow::plan::WorkflowSource;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::guard::bearer;
use super::reply::GithubError;
use crate::config::{Config, SubjectForm};
use crate::event::ref_type;
use crate::shared::Shared;
use crate::state::{JobRef, Phase, State as Hub};
use crate::tokens::JobClaims;

/// How long an ID token lives, as on GitHub.
const LIFE: SignedDuration = SignedDuration::from_mins(5);
/// Longest audience, in bytes.
const MAX_AUDIENCE: usize = 1024;

/// `GET {issuer}/.well-known/openid-configuration`
pub(super) async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Discovery> {
    let issuer = issuer(&shared.config);
    let claims = serde_json::to_value(IdTokenClaims::default()).unwrap_or_default();
    let names = claims.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    Json(Discovery {
        jwks_uri: format!("{issuer}/.well-known/jwks"),
        issuer,
        subject_types_supported: vec!["public".to_owned(), "pairwise".to_owned()],
        response_types_supported: vec!["id_token".to_owned()],
        claims_supported: names,
        id_token_signing_alg_values_supported: vec!["RS256".to_owned()],
        scopes_supported: vec!["openid".to_owned()],
    })
}

/// `GET {issuer}/.well-known/jwks`
pub(super) async fn jwks(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, GithubError> {
    let key = shared.keys.oidc().await.ok_or_else(|| GithubError::internal(&"no signing key"))?;
    let key = json!({
        "kty": "RSA", "alg": "RS256", "use": "sig", "kid": key.kid, "n": key.n, "e": key.e,
    });
    Ok(Json(json!({ "keys": [key] })))
}

/// Query of [`id_token`].
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    audience: Option<String>,
}

/// `GET {issuer}/id?api-version=2.0[&audience=…]`, with the token of a job that runs and has
/// `id-token: write`.
pub(super) async fn id_token(
    State(shared): State<Arc<Shared>>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, GithubError> {
    let claims = bearer(&headers).and_then(|token| shared.tokens.read::<JobClaims>(token));
    let denied = || GithubError(StatusCode::UNAUTHORIZED, "Bad credentials".to_owned());
    let at = claims.ok_or_else(denied)?.at();
    let audience = wanted.audience.filter(|audience| !audience.is_empty());
    if audience.as_ref().is_some_and(|audience| audience.len() > MAX_AUDIENCE) {
        return Err(GithubError(StatusCode::BAD_REQUEST, "the audience is too long".to_owned()));
    }
    let now = shared.clock.told(shared.clock.now());
    let claims = shared.look(|state| facts(state, &shared.config, at, audience, now))?;
    let key = shared.keys.oidc().await.ok_or_else(|| GithubError::internal(&"no signing key"))?;
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(key.kid.clone());
    let token = jsonwebtoken::encode(&header, &claims, &key.signer)
        .map_err(|error| GithubError::internal(&error))?;
    let count = token.len().try_into().unwrap_or(i64::MAX);
    let body = IdTokenResponse { count, value: token.into() };
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

fn issuer(config: &Config) -> String {
    format!("{}/_services/token", config.base_url)
}

/// Everything that is said about a job that runs.
fn facts(
    state: &Hub,
    config: &Config,
    at: JobRef,
    audience: Option<String>,
    now: Timestamp,
) -> Result<IdTokenClaims, GithubError> {
    let forbidden = |why: &str| GithubError(StatusCode::FORBIDDEN, why.to_owned());
    let (run, live, job, _) = state.job(at).ok_or_else(GithubError::not_found)?;
    if !matches!(job.phase, Phase::Running(_)) {
        return Err(forbidden("the job is not running"));
    }
    let planned = live.plan.job(&job.key).ok_or_else(GithubError::not_found)?;
    if planned.permissions.get("id-token") < Access::Write {
        return Err(forbidden("the job has no `id-token: write` permission"));
    }
    let view = &run.view;
    let text = |name: &str| live.facts.github[name].as_str().unwrap_or_default().to_owned();
    let ids = &live.facts.repository;
    let empty = WorkflowSource {
        repository: String::new(),
        path: String::new(),
        git_ref: String::new(),
        sha: String::new(),
    };
    let called = live.plan.files.get(planned.file).unwrap_or(&empty);
    let started = live.plan.files.first().unwrap_or(&empty);
    Ok(IdTokenClaims {
        iss: issuer(config),
        aud: audience.unwrap_or_else(|| format!("{}/{}", config.base_url, ids.name.owner())),
        sub: subject(config.subject, ids, &view.event, &view.git_ref),
        jti: Uuid::new_v4().to_string(),
        iat: now.as_second(),
        nbf: now.as_second(),
        exp: (now + LIFE).as_second(),
        git_ref: view.git_ref.clone(),
        ref_type: ref_type(&view.git_ref).to_owned(),
        ref_protected: "false".to_owned(),
        sha: view.sha.clone(),
        base_ref: text("base_ref"),
        head_ref: text("head_ref"),
        repository: ids.name.to_string(),
        repository_id: ids.id.to_string(),
        repository_owner: ids.name.owner().to_owned(),
        repository_owner_id: ids.owner_id.to_string(),
        repository_visibility: "private".to_owned(),
        actor: live.facts.actor.clone(),
        actor_id: live.facts.actor_id.to_string(),
        workflow: view.workflow_name.clone(),
        workflow_ref: started.workflow_ref(),
        workflow_sha: started.sha.clone(),
        job_workflow_ref: called.workflow_ref(),
        job_workflow_sha: called.sha.clone(),
        event_name: view.event.clone(),
        run_id: view.id.to_string(),
        run_number: view.run_number.to_string(),
        run_attempt: view.run_attempt.to_string(),
        check_run_id: at.job.to_string(),
        runner_environment: "self-hosted".to_owned(),
        environment: None,
    })
}

/// `repo:O/R:ref:refs/heads/B`, a colon within a value written `%3A`; `repo:O/R:pull_request` for what a
/// pull request brings.
fn subject(
    form: SubjectForm,
    ids: &crate::state::RepositoryIds,
    event: &str,
    git_ref: &str,
) -> String {
    let repository = match form {
        SubjectForm::Names => ids.name.to_string(),
        SubjectForm::Immutable => {
            format!("{}@{}/{}@{}", ids.name.owner(), ids.owner_id, ids.name.name(), ids.id)
        }
    };
    if event == "pull_request" {
        return format!("repo:{repository}:pull_request");
    }
    format!("repo:{repository}:ref:{}", git_ref.replace(':', "%3A"))
}
