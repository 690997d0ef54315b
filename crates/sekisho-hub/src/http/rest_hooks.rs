//! Webhooks over REST: which there are, what they were told, and once more.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::authorize::Owner;
use super::limits::listed;
use super::reply::GithubError;
use super::rest::Page;
use crate::hooks::{Done, Hook};
use crate::shared::Shared;

type Hub = State<Arc<Shared>>;

/// Which hook, and which delivery of it.
#[derive(Debug, Deserialize)]
pub(super) struct At {
    #[serde(default)]
    hook: u64,
    #[serde(default)]
    delivery: u64,
}

impl At {
    fn hook<'a>(&self, shared: &'a Shared) -> Result<&'a Hook, GithubError> {
        shared.hooks.get(self.hook).ok_or_else(GithubError::not_found)
    }
}

/// `GET …/hooks`
pub(super) async fn list(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Query(page): Query<Page>,
) -> Response {
    let api = format!("{}/api/v3/{}", shared.config.base_url, owner.scope());
    let all: Vec<Value> = shared.hooks.all().iter().map(|hook| hook.shown(&api)).collect();
    listed(all.len(), json!(page.of(all))).into_response()
}

/// `POST …/hooks/{hook}/pings`
pub(super) async fn ping(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<StatusCode, GithubError> {
    shared.hooks.ping(at.hook(&shared)?);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/hooks/{hook}/deliveries`: newest first.
pub(super) async fn deliveries(
    State(shared): Hub,
    Extension(place): Extension<Owner>,
    Path(at): Path<At>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let all = at.hook(&shared)?.deliveries(&place.owner());
    let all: Vec<Value> = all.iter().map(Done::shown).collect();
    Ok(listed(all.len(), json!(page.of(all))).into_response())
}

/// `GET …/hooks/{hook}/deliveries/{delivery}`
pub(super) async fn delivery(
    State(shared): Hub,
    Extension(place): Extension<Owner>,
    Path(at): Path<At>,
) -> Result<Json<Value>, GithubError> {
    let done = at.hook(&shared)?.delivery(&place.owner(), at.delivery);
    done.map(|done| Json(done.shown_whole())).ok_or_else(GithubError::not_found)
}

/// `POST …/hooks/{hook}/deliveries/{delivery}/attempts`
pub(super) async fn redeliver(
    State(shared): Hub,
    Extension(place): Extension<Owner>,
    Path(at): Path<At>,
) -> Result<Response, GithubError> {
    match shared.hooks.redeliver(at.hook(&shared)?, &place.owner(), at.delivery) {
        true => Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response()),
        false => Err(GithubError::not_found()),
    }
}
