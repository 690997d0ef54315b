//! The configured GitHub App: who it is, where it is installed, and its tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sekisho_github::rest::{Account, Installation, InstallationToken};
use serde::Deserialize;
use serde_json::{Value, json};

use super::authorize::{INSTALLATION_TOKEN, Owner};
use super::reply::GithubError;
use crate::config::App;
use crate::shared::Shared;
use crate::tokens::{INSTALLATION_LIFE, InstallationClaims};

/// How far clocks may be apart, in seconds.
const SKEW_SECS: i64 = 60;
/// How far away the end of an App's JWT may be, in seconds, as on GitHub.
const MAX_LIFE_SECS: i64 = 600;
/// The most repositories of one token, as on GitHub.
const MAX_REPOSITORIES: usize = 500;

#[derive(Debug, Deserialize)]
struct AppClaims {
    iss: Value,
    iat: i64,
    exp: i64,
}

/// Checks an App's JWT, with GitHub's words for what is wrong with it.
pub(super) fn check_jwt(app: &App, token: &str, now: Timestamp) -> Result<(), GithubError> {
    let denied = |message: &str| GithubError(StatusCode::UNAUTHORIZED, message.to_owned());
    let malformed = || denied("A JSON web token could not be decoded");
    let key = DecodingKey::from_rsa_pem(app.public_key.as_bytes()).map_err(|_| malformed())?;
    let mut validation = Validation::new(Algorithm::RS256);
    // Times are compared below, where their words are.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.set_required_spec_claims::<&str>(&[]);
    let claims = jsonwebtoken::decode::<AppClaims>(token, &key, &validation);
    let claims = claims.map_err(|_| malformed())?.claims;
    let issuer = claims.iss.as_str().map_or_else(|| claims.iss.to_string(), str::to_owned);
    if issuer != app.client_id && issuer != app.id.to_string() {
        return Err(denied("'Issuer' claim ('iss') must be the App's client ID or ID"));
    }
    let now = now.as_second();
    if claims.exp <= now {
        return Err(denied("'Expiration time' claim ('exp') is in the past"));
    }
    if claims.exp > now + MAX_LIFE_SECS + SKEW_SECS {
        return Err(denied("'Expiration time' claim ('exp') is too far in the future"));
    }
    if claims.iat > now + SKEW_SECS {
        return Err(denied("'Issued at' claim ('iat') must be an Integer representing the past"));
    }
    Ok(())
}

fn app(shared: &Shared) -> Result<&App, GithubError> {
    shared.config.app.as_ref().ok_or_else(GithubError::not_found)
}

/// `GET /app`
pub(super) async fn get(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, GithubError> {
    let app = app(&shared)?;
    Ok(Json(json!({
        "id": app.id, "client_id": app.client_id, "slug": "sekisho", "name": "sekisho",
        "permissions": app.permissions, "installations_count": app.installations.len(),
        "html_url": format!("{}/apps/sekisho", shared.config.base_url),
    })))
}

fn shown(app: &App, id: u64, account: &str) -> Installation {
    let account = Account { login: account.to_owned(), id, kind: "Organization".to_owned() };
    let repository_selection = "all".to_owned();
    Installation { id, account, app_id: app.id, repository_selection, suspended_at: None }
}

/// `GET /app/installations`
pub(super) async fn installations(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Vec<Installation>>, GithubError> {
    let app = app(&shared)?;
    Ok(Json(app.installations.iter().map(|(id, name)| shown(app, *id, name)).collect()))
}

/// `GET /repos/{owner}/{name}/installation`, and of an organization and an enterprise.
pub(super) async fn installation(
    State(shared): State<Arc<Shared>>,
    Extension(owner): Extension<Owner>,
) -> Result<Json<Installation>, GithubError> {
    let app = app(&shared)?;
    let wanted = owner.account();
    let found = app.installations.iter().find(|(_, name)| name.eq_ignore_ascii_case(wanted));
    found.map(|(id, name)| Json(shown(app, *id, name))).ok_or_else(GithubError::not_found)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    repositories: Option<Vec<String>>,
    repository_ids: Option<Vec<u64>>,
    permissions: Option<BTreeMap<String, String>>,
}

/// `POST /app/installations/{id}/access_tokens`
pub(super) async fn access_token(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    body: Bytes,
) -> Result<(StatusCode, Json<InstallationToken>), GithubError> {
    let app = app(&shared)?;
    let account = app.installations.get(&id).ok_or_else(GithubError::not_found)?;
    let wanted: Wanted = if body.is_empty() {
        Wanted::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|_| GithubError(StatusCode::BAD_REQUEST, "Problems parsing JSON".to_owned()))?
    };
    let permissions = permissions(app, wanted.permissions)?;
    let repositories = repositories(&shared, account, wanted.repositories, wanted.repository_ids)?;
    let selection = if repositories.is_some() { "selected" } else { "all" };
    let claims = InstallationClaims {
        installation: id,
        account: account.clone(),
        repositories,
        permissions: permissions.clone(),
    };
    let at = shared.clock.now();
    let token = shared.tokens.installation(claims, at);
    let token = token.ok_or_else(|| GithubError::internal(&"a token cannot be signed"))?;
    // GitHub says whole seconds.
    let expires_at =
        shared.clock.told(at + INSTALLATION_LIFE).round(jiff::Unit::Second).unwrap_or(at);
    let answer = InstallationToken {
        token: format!("{INSTALLATION_TOKEN}{token}").into(),
        expires_at: expires_at - SignedDuration::from_secs(1),
        permissions,
        repository_selection: selection.to_owned(),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// What was asked for, if the App has it.
fn permissions(
    app: &App,
    wanted: Option<BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, GithubError> {
    let Some(wanted) = wanted else { return Ok(app.permissions.clone()) };
    for (name, access) in &wanted {
        let granted = matches!(
            (app.permissions.get(name).map(String::as_str), access.as_str()),
            (Some("write"), "read" | "write") | (Some("read"), "read")
        );
        if !granted {
            return Err(GithubError::unprocessable(
                "The permissions requested are not granted to this installation.",
            ));
        }
    }
    Ok(wanted)
}

/// Full names of the repositories; `None` for all of the account.
fn repositories(
    shared: &Shared,
    account: &str,
    names: Option<Vec<String>>,
    ids: Option<Vec<u64>>,
) -> Result<Option<Vec<String>>, GithubError> {
    if names.is_none() && ids.is_none() {
        return Ok(None);
    }
    let missing = || {
        GithubError::unprocessable(
            "There is at least one repository that does not exist or is not accessible to the \
             parent installation.",
        )
    };
    let (names, ids) = (names.unwrap_or_default(), ids.unwrap_or_default());
    if names.len() + ids.len() > MAX_REPOSITORIES {
        return Err(missing());
    }
    let of_account = |name: &crate::names::RepoName| name.owner().eq_ignore_ascii_case(account);
    shared.look(|state| {
        let mut found = Vec::new();
        for name in names {
            let name = crate::names::RepoName::new(account, &name).map_err(|_| missing())?;
            found.push(state.repositories.get(&name).ok_or_else(missing)?.name.to_string());
        }
        for id in ids {
            let known = state.repositories.by_id(id).filter(|known| of_account(&known.name));
            found.push(known.ok_or_else(missing)?.name.to_string());
        }
        Ok(Some(found))
    })
}
