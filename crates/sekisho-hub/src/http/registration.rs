//! How a client of scale sets gets to the tenant.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use sekisho_github::rest::{Address, RegistrationToken};
use sekisho_github::wire::scale_set::{
    RegisterRequest, Registration, RunnerEvent, TOKEN_SCHEMA, read,
};

use super::authorize::{Owner as Place, remote_auth};
use super::reply::GithubError;
use crate::shared::Shared;
use crate::state::Owner;
use crate::tokens::{REGISTRATION_TOKEN, RegistrationClaims, TenantClaims};

/// `POST {scope}/actions/runners/registration-token`
pub(super) async fn registration_token(
    State(shared): State<Arc<Shared>>,
    Extension(owner): Extension<Place>,
) -> Result<Response, GithubError> {
    token(&shared, &owner, RunnerEvent::Register)
}

/// `POST {scope}/actions/runners/remove-token`
pub(super) async fn remove_token(
    State(shared): State<Arc<Shared>>,
    Extension(owner): Extension<Place>,
) -> Result<Response, GithubError> {
    token(&shared, &owner, RunnerEvent::Remove)
}

fn token(shared: &Shared, owner: &Place, event: RunnerEvent) -> Result<Response, GithubError> {
    let now = shared.clock.now();
    let claims = RegistrationClaims { owner: owner.scope(), event: event.into() };
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
    let token = remote_auth(&headers).ok_or_else(refused)?;
    let claims = shared.tokens.read::<RegistrationClaims>(token).ok_or_else(refused)?;
    let request: RegisterRequest = read(&body)
        .map_err(|error| GithubError::unprocessable(format!("Invalid request: {error}")))?;
    let address = Address::parse(&request.url, false).map_err(|_| GithubError::not_found())?;
    let owner = Owner::from(address.scope());
    // A token of another place, or for the other event, is none.
    let fits = owner.as_str() == claims.owner && request.runner_event.as_str() == claims.event;
    if !fits {
        return Err(refused());
    }
    let claims = TenantClaims { owner: claims.owner, event: claims.event };
    let token = shared.tokens.tenant(claims, shared.clock.now());
    let token = token.ok_or_else(|| GithubError::internal(&"no tenant token"))?;
    Ok(Json(Registration {
        url: tenant_url(&shared),
        token: token.into(),
        token_schema: TOKEN_SCHEMA.to_owned(),
        // Runners register over REST: see `super::register`.
        use_v2_flow: true,
    }))
}

/// The tenant: all owners have one.
pub(super) fn tenant_url(shared: &Shared) -> String {
    format!("{}/_tenant/", shared.config.base_url)
}
