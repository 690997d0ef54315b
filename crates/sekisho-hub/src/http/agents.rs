//! The tenant's side of runners: looked up, and removed.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use http::{HeaderMap, StatusCode};
use sekisho_github::wire::scale_set::{Counted, RunnerReference};
use serde::Deserialize;

use super::tenant::{Reply, owner_of_runners, refused};
use crate::shared::Shared;
use crate::state::{RegisterError, Runner};

type Hub = State<Arc<Shared>>;

/// Query of [`runners`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunnerQuery {
    agent_name: Option<String>,
}

/// `GET agents`
pub(super) async fn runners(
    State(shared): Hub,
    headers: HeaderMap,
    Query(query): Query<RunnerQuery>,
) -> Reply<Json<Counted<RunnerReference>>> {
    let owner = owner_of_runners(&shared, &headers)?;
    let found: Vec<RunnerReference> = shared.look(|state| {
        let named = |runner: &Runner| {
            query.agent_name.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(&runner.name))
        };
        let wanted = |runner: &&Runner| runner.scope == owner && named(runner);
        state.runners.values().filter(wanted).map(reference).collect()
    });
    Ok(Json(found.into()))
}

/// `GET agents/{id}`
pub(super) async fn runner(
    State(shared): Hub,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Reply<Json<RunnerReference>> {
    let owner = owner_of_runners(&shared, &headers)?;
    let found = shared.look(|state| state.runner_of(&owner, id).map(reference));
    found.map(Json).ok_or_else(|| refused(RegisterError::NotFound, &id.to_string()))
}

/// `DELETE agents/{id}`
pub(super) async fn remove_runner(
    State(shared): Hub,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Reply<StatusCode> {
    let owner = owner_of_runners(&shared, &headers)?;
    let removed = shared.change(|state, now| state.remove_runner_of(&owner, id, now));
    removed.map(|()| StatusCode::NO_CONTENT).map_err(|error| refused(error, &id.to_string()))
}

fn reference(runner: &Runner) -> RunnerReference {
    let number = |id: u64| i64::try_from(id).unwrap_or(i64::MAX);
    RunnerReference {
        id: number(runner.id),
        name: runner.name.clone(),
        runner_scale_set_id: runner.set.map_or(0, number),
    }
}
