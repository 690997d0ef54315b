//! Runner groups over REST, as the place that asks has them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use sekisho_github::rest::{RunnerGroup, RunnerGroupChange};
use serde::Deserialize;
use serde_json::json;

use super::authorize::Owner as Place;
use super::limits::listed;
use super::reply::GithubError;
use super::rest::{self, Page};
use crate::shared::Shared;
use crate::state::{DEFAULT_GROUP, Group, GroupError, Owner, Runner};

type Hub = State<Arc<Shared>>;
type Of = Extension<Place>;

/// Which group, and which runner of it.
#[derive(Debug, Deserialize)]
pub(super) struct GroupPath {
    #[serde(default)]
    group: u64,
    #[serde(default)]
    runner: u64,
    #[serde(default)]
    repository: u64,
}

/// A group, as a place sees it: a repository has none of its own, but sees its owner's when it registers.
fn shown(shared: &Shared, place: &Owner, group: &Group) -> RunnerGroup {
    let api = format!("{}/api/v3/{}", shared.config.base_url, place.as_str());
    RunnerGroup {
        id: group.id,
        name: group.name.clone(),
        visibility: group.visibility.clone(),
        is_default: group.id == DEFAULT_GROUP,
        runners_url: format!("{api}/actions/runner-groups/{}/runners", group.id),
        inherited: group.is_inherited(place),
        allows_public_repositories: group.allows_public_repositories,
        restricted_to_workflows: group.restricted_to_workflows,
        selected_workflows: group.selected_workflows.clone(),
        workflow_restrictions_read_only: false,
    }
}

fn refused(error: GroupError) -> GithubError {
    match error {
        GroupError::NotFound => GithubError::not_found(),
        GroupError::NameTaken => {
            GithubError(StatusCode::CONFLICT, "Runner group name already exists".to_owned())
        }
        GroupError::InUse => GithubError(
            StatusCode::CONFLICT,
            "Runner group has runners or scale sets, and cannot be deleted".to_owned(),
        ),
        GroupError::Invalid(why) => GithubError::unprocessable(format!("Invalid request: {why}")),
    }
}

/// `GET …/actions/runner-groups`
pub(super) async fn groups(
    State(shared): Hub,
    Extension(place): Of,
    Query(page): Query<Page>,
) -> Response {
    let place = place.owner();
    let all: Vec<RunnerGroup> = shared.look(|state| {
        state.groups.seen_from(&place).map(|group| shown(&shared, &place, group)).collect()
    });
    let total = all.len();
    let page = page.of(all);
    listed(total, json!({ "total_count": total, "runner_groups": page })).into_response()
}

/// `POST …/actions/runner-groups`
pub(super) async fn create_group(
    State(shared): Hub,
    Extension(place): Of,
    body: Bytes,
) -> Result<(StatusCode, Json<RunnerGroup>), GithubError> {
    let place = place.owner();
    let new: RunnerGroupChange = rest::read(&body)?;
    let group = shared.change(|state, _| state.create_group(&place, new)).map_err(refused)?;
    saved(&shared).await?;
    Ok((StatusCode::CREATED, Json(shown(&shared, &place, &group))))
}

/// `GET …/actions/runner-groups/{group}`
pub(super) async fn get_group(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
) -> Result<Json<RunnerGroup>, GithubError> {
    let place = place.owner();
    let found = shared.look(|state| state.groups.get(&place, path.group).cloned());
    let found = found.map(|group| Json(shown(&shared, &place, &group)));
    found.ok_or_else(GithubError::not_found)
}

/// `PATCH …/actions/runner-groups/{group}`
pub(super) async fn update_group(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
    body: Bytes,
) -> Result<Json<RunnerGroup>, GithubError> {
    let place = place.owner();
    let change: RunnerGroupChange = rest::read(&body)?;
    let group = shared.change(|state, now| state.update_group((&place, path.group), change, now));
    let group = group.map_err(refused)?;
    saved(&shared).await?;
    Ok(Json(shown(&shared, &place, &group)))
}

/// `DELETE …/actions/runner-groups/{group}`
pub(super) async fn delete_group(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    let place = place.owner();
    shared.change(|state, _| state.delete_group(&place, path.group)).map_err(refused)?;
    saved(&shared).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Groups outlive the process, as the scale sets in them do.
async fn saved(shared: &Shared) -> Result<(), GithubError> {
    shared.save_groups();
    Ok(shared.saver.flushed().await?)
}

/// `GET …/actions/runner-groups/{group}/repositories`
pub(super) async fn group_repositories(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let base = &shared.config.base_url;
    let all = shared.look(|state| {
        let of = &state.groups.get(&place.owner(), path.group)?.repositories;
        let names = state.repositories.ids();
        let known = of.iter().filter_map(|id| state.repositories.get(names.get(id)?));
        Some(known.map(|ids| super::shown::repository(base, &ids, None)).collect::<Vec<_>>())
    });
    let all = all.ok_or_else(GithubError::not_found)?;
    let total = all.len();
    let page = page.of(all);
    Ok(listed(total, json!({ "total_count": total, "repositories": page })).into_response())
}

#[derive(Debug, Deserialize)]
struct Selected {
    selected_repository_ids: Vec<u64>,
}

/// `PUT …/actions/runner-groups/{group}/repositories`: these, and no others.
pub(super) async fn set_group_repositories(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
    body: Bytes,
) -> Result<StatusCode, GithubError> {
    let place = place.owner();
    let selected_repository_ids = Some(rest::read::<Selected>(&body)?.selected_repository_ids);
    let change = RunnerGroupChange { selected_repository_ids, ..Default::default() };
    let changed = shared.change(|state, now| state.update_group((&place, path.group), change, now));
    changed.map_err(refused)?;
    saved(&shared).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT …/actions/runner-groups/{group}/repositories/{repository}`
pub(super) async fn add_group_repository(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    select(&shared, &place.owner(), &path, true).await
}

/// `DELETE …/actions/runner-groups/{group}/repositories/{repository}`
pub(super) async fn remove_group_repository(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    select(&shared, &place.owner(), &path, false).await
}

async fn select(
    shared: &Shared,
    place: &Owner,
    path: &GroupPath,
    allowed: bool,
) -> Result<StatusCode, GithubError> {
    let (group, repository) = ((place, path.group), path.repository);
    shared
        .change(|state, now| state.change_group_repository(group, repository, allowed, now))
        .map_err(refused)?;
    saved(shared).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/actions/runner-groups/{group}/runners`: those of the place that asks.
pub(super) async fn group_runners(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let place = place.owner();
    let all = shared.look(|state| {
        state.groups.get(&place, path.group)?;
        let is_in = |runner: &&Runner| runner.group == path.group && runner.scope == place;
        Some(state.runners.values().filter(is_in).map(rest::shown).collect::<Vec<_>>())
    });
    let all = all.ok_or_else(GithubError::not_found)?;
    let total = all.len();
    let page = page.of(all);
    Ok(listed(total, json!({ "total_count": total, "runners": page })).into_response())
}

/// `PUT …/actions/runner-groups/{group}/runners/{runner}`
pub(super) async fn add_group_runner(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    moved(&shared, &place.owner(), path.runner, path.group)
}

/// `DELETE …/actions/runner-groups/{group}/runners/{runner}`: it goes to the default group.
pub(super) async fn remove_group_runner(
    State(shared): Hub,
    Extension(place): Of,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    let place = place.owner();
    let in_group = |runner: &Runner| runner.group == path.group;
    if !shared.look(|state| state.runner_of(&place, path.runner).is_some_and(in_group)) {
        return Err(GithubError::not_found());
    }
    moved(&shared, &place, path.runner, DEFAULT_GROUP)
}

fn moved(
    shared: &Shared,
    place: &Owner,
    runner: u64,
    group: u64,
) -> Result<StatusCode, GithubError> {
    match shared.change(|state, now| state.move_runner(place, runner, group, now)) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(GithubError::not_found()),
    }
}
