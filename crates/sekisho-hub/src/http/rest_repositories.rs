//! The repositories of an organization.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::limits::listed;
use super::rest::Page;
use super::shown;
use crate::shared::Shared;

/// `GET /orgs/{owner}/repos`: the newest first, whatever order is asked for.
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(owner): Path<String>,
    Query(page): Query<Page>,
) -> Response {
    let base = &shared.config.base_url;
    let all = shared.look(|state| state.repositories.of_owner(&owner));
    let all: Vec<Value> = all.iter().map(|it| json!(shown::repository(base, it, None))).collect();
    listed(all.len(), json!(page.of(all))).into_response()
}
