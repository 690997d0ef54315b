//! How a client of scale sets gets to the tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use sekisho_github::rest::{Address, RegistrationToken};
use sekisho_github::wire::scale_set::{
    RegisterRequest, Registration, RunnerEvent, TOKEN_SCHEMA, read,
};

use super::reply::GithubError;
use crate::shared::Shared;
use crate::state::Owner;
use crate::tokens::{REGISTRATION_TOKEN, RegistrationClaims, TenantClaims};

/// `POST {scope}/actions/runners/registration-token`
pub(super) async fn registration_token(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Response, GithubError> {
    token(&shared, &path, RunnerEvent::Register)
}

/// `POST {scope}/actions/runners/remove-token`
pub(super) async fn remove_token(
    State(shared): State<Arc<Shared>>,
    Path(path): Path<BTreeMap<String, String>>,
) -> Result<Response, GithubError> {
    token(&shared, &path, RunnerEvent::Remove)
}

fn token(
    shared: &Shared,
    path: &BTreeMap<String, String>,
    event: RunnerEvent,
) -> Result<Response, GithubError> {
    let part = |name: &str| path.get(name).map(String::as_str);
    let owner = match (part("owner"), part("name"), part("enterprise")) {
        (_, _, Some(enterprise)) => format!("enterprises/{enterprise}"),
        (Some(owner), Some(name), None) => format!("repos/{owner}/{name}"),
        (Some(owner), None, None) => format!("orgs/{owner}"),
        _ => return Err(GithubError::not_found()),
    };
    let owner = Owner::from(owner.as_str()).as_str().to_owned();
    let now = shared.clock.now();
    let claims = RegistrationClaims { owner, event: event.into() };
    let token = shared.tokens.registration(claims, now);
    let token = token.ok_or_else(|| GithubError::internal(&"no registration token"))?;
    let expires_at = shared.clock.told(now + REGISTRATION_TOKEN);
    let body = RegistrationToken { token: token.into(), expires_at };
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `POST /actions/runner-registration`, with a registration token as `RemoteAuth`.
pub(super) async fn register(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Registration>, GithubError> {
    let refused = || GithubError(StatusCode::UNAUTHORIZED, "Bad credentials".to_owned());
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = token.and_then(|text| text.split_once(' ')).ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("remoteauth") {
        return Err(refused());
    }
    let claims = shared.tokens.read::<RegistrationClaims>(token.trim()).ok_or_else(refused)?;
    let request: RegisterRequest = read(&body)
        .map_err(|error| GithubError::unprocessable(format!("Invalid request: {error}")))?;
    let address = Address::parse(&request.url, false).map_err(|_| GithubError::not_found())?;
    let owner = Owner::from(address.scope());
    // A token of another place, or for the other event, is none.
    let fits = owner.as_str() == claims.owner && request.runner_event.as_str() == claims.event;
    if !fits {
        return Err(refused());
    }
    let claims = TenantClaims { owner: owner.as_str().to_owned() };
    let token = shared.tokens.tenant(claims, shared.clock.now());
    let token = token.ok_or_else(|| GithubError::internal(&"no tenant token"))?;
    Ok(Json(Registration {
        url: tenant_url(&shared),
        token: token.into(),
        token_schema: TOKEN_SCHEMA.to_owned(),
        // Runners that are not JIT are not registered here.
        use_v2_flow: false,
    }))
}

/// The tenant: all owners have one.
pub(super) fn tenant_url(shared: &Shared) -> String {
    format!("{}/_tenant/", shared.config.base_url)
}
