//! Labels and groups of runners.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use sekisho_github::rest::{Labels, RunnerGroup, RunnerGroupChange};
use serde::Deserialize;
use serde_json::{Value, json};

use super::authorize::Owner;
use super::limits::listed;
use super::reply::GithubError;
use super::rest::{self, Page};
use crate::shared::Shared;
use crate::state::{DEFAULT_GROUP, Group, GroupError, LabelError, Runner};

type Hub = State<Arc<Shared>>;

/// `GET …/actions/runners/downloads`: the hub gives none out.
pub(super) async fn downloads() -> Json<Vec<Value>> {
    Json(Vec::new())
}

/// Which runner, and which label of it.
#[derive(Debug, Deserialize)]
pub(super) struct LabelPath {
    id: u64,
    #[serde(default)]
    label: String,
}

#[derive(Debug, Deserialize)]
struct NewLabels {
    labels: Vec<String>,
}

fn labels(runner: &Runner) -> Labels {
    let labels = rest::labels(runner);
    Labels { total_count: labels.len() as u64, labels }
}

/// `GET …/actions/runners/{id}/labels`
pub(super) async fn get_labels(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Path(path): Path<LabelPath>,
) -> Result<Json<Labels>, GithubError> {
    let found = shared.look(|state| state.runner_of(&owner.owner(), path.id).map(labels));
    found.map(Json).ok_or_else(GithubError::not_found)
}

/// `POST …/actions/runners/{id}/labels`
pub(super) async fn add_labels(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Path(path): Path<LabelPath>,
    body: Bytes,
) -> Result<Json<Labels>, GithubError> {
    let new = checked(&body)?;
    changed(&shared, (&owner, path.id), |runner| runner.add_labels(&new))
}

/// `PUT …/actions/runners/{id}/labels`
pub(super) async fn set_labels(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Path(path): Path<LabelPath>,
    body: Bytes,
) -> Result<Json<Labels>, GithubError> {
    let new = checked(&body)?;
    changed(&shared, (&owner, path.id), |runner| {
        runner.clear_labels();
        runner.add_labels(&new)
    })
}

/// `DELETE …/actions/runners/{id}/labels`
pub(super) async fn clear_labels(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Path(path): Path<LabelPath>,
) -> Result<Json<Labels>, GithubError> {
    changed(&shared, (&owner, path.id), |runner| {
        runner.clear_labels();
        Ok(())
    })
}

/// `DELETE …/actions/runners/{id}/labels/{label}`
pub(super) async fn remove_label(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Path(path): Path<LabelPath>,
) -> Result<Json<Labels>, GithubError> {
    changed(&shared, (&owner, path.id), |runner| runner.remove_label(&path.label))
}

fn checked(body: &[u8]) -> Result<Vec<String>, GithubError> {
    let new = rest::read::<NewLabels>(body)?.labels;
    let good = !new.is_empty() && new.iter().all(|label| rest::is_plain(label));
    if good { Ok(new) } else { Err(GithubError::unprocessable("Invalid labels")) }
}

fn changed(
    shared: &Shared,
    (place, id): (&Owner, u64),
    change: impl FnOnce(&mut Runner) -> Result<(), LabelError>,
) -> Result<Json<Labels>, GithubError> {
    let result =
        shared.change(|state, now| state.relabel((&place.owner(), id), change, now).map(labels));
    result.map(Json).map_err(|error| match error {
        LabelError::NotFound => GithubError::not_found(),
        LabelError::ReadOnly => {
            GithubError::unprocessable("Cannot remove a label that is read-only")
        }
        LabelError::TooMany => GithubError::unprocessable("A runner has at most 100 labels"),
    })
}

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

/// Whose groups there are: a repository has none of its own, but sees them when it registers.
fn shown(shared: &Shared, owner: &Owner, group: &Group) -> RunnerGroup {
    let api = format!("{}/api/v3/{}", shared.config.base_url, owner.scope());
    RunnerGroup {
        id: group.id,
        name: group.name.clone(),
        visibility: group.visibility.clone(),
        is_default: group.id == DEFAULT_GROUP,
        runners_url: format!("{api}/actions/runner-groups/{}/runners", group.id),
        inherited: false,
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
    Extension(owner): Extension<Owner>,
    Query(page): Query<Page>,
) -> Response {
    let all: Vec<RunnerGroup> = shared
        .look(|state| state.groups.all().map(|group| shown(&shared, &owner, group)).collect());
    let total = all.len();
    let page = page.of(all);
    listed(total, json!({ "total_count": total, "runner_groups": page })).into_response()
}

/// `POST …/actions/runner-groups`
pub(super) async fn create_group(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    body: Bytes,
) -> Result<(StatusCode, Json<RunnerGroup>), GithubError> {
    let new: RunnerGroupChange = rest::read(&body)?;
    let group = shared.change(|state, _| state.create_group(new)).map_err(refused)?;
    saved(&shared).await?;
    Ok((StatusCode::CREATED, Json(shown(&shared, &owner, &group))))
}

/// `GET …/actions/runner-groups/{group}`
pub(super) async fn get_group(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Path(path): Path<GroupPath>,
) -> Result<Json<RunnerGroup>, GithubError> {
    let found = shared.look(|state| state.groups.get(path.group).cloned());
    let found = found.map(|group| Json(shown(&shared, &owner, &group)));
    found.ok_or_else(GithubError::not_found)
}

/// `PATCH …/actions/runner-groups/{group}`
pub(super) async fn update_group(
    State(shared): Hub,
    Extension(owner): Extension<Owner>,
    Path(path): Path<GroupPath>,
    body: Bytes,
) -> Result<Json<RunnerGroup>, GithubError> {
    let change: RunnerGroupChange = rest::read(&body)?;
    let group = shared.change(|state, now| state.update_group(path.group, change, now));
    let group = group.map_err(refused)?;
    saved(&shared).await?;
    Ok(Json(shown(&shared, &owner, &group)))
}

/// `DELETE …/actions/runner-groups/{group}`
pub(super) async fn delete_group(
    State(shared): Hub,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    shared.change(|state, _| state.delete_group(path.group)).map_err(refused)?;
    saved(&shared).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Groups outlive the process, as the scale sets in them do.
async fn saved(shared: &Arc<Shared>) -> Result<(), GithubError> {
    let shared = Arc::clone(shared);
    let written = rest::blocking(move || shared.save_groups()).await?;
    written.map_err(|error| GithubError::internal(&error))
}

/// `GET …/actions/runner-groups/{group}/repositories`
pub(super) async fn group_repositories(
    State(shared): Hub,
    Path(path): Path<GroupPath>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let base = &shared.config.base_url;
    let all = shared.look(|state| {
        let of = &state.groups.get(path.group)?.repositories;
        let known = of.iter().filter_map(|id| state.repositories.by_id(*id));
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
    Path(path): Path<GroupPath>,
    body: Bytes,
) -> Result<StatusCode, GithubError> {
    let selected_repository_ids = Some(rest::read::<Selected>(&body)?.selected_repository_ids);
    let change = RunnerGroupChange { selected_repository_ids, ..Default::default() };
    shared.change(|state, now| state.update_group(path.group, change, now)).map_err(refused)?;
    saved(&shared).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT …/actions/runner-groups/{group}/repositories/{repository}`
pub(super) async fn add_group_repository(
    State(shared): Hub,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    select(&shared, &path, true).await
}

/// `DELETE …/actions/runner-groups/{group}/repositories/{repository}`
pub(super) async fn remove_group_repository(
    State(shared): Hub,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    select(&shared, &path, false).await
}

async fn select(
    shared: &Arc<Shared>,
    path: &GroupPath,
    allowed: bool,
) -> Result<StatusCode, GithubError> {
    let (group, repository) = (path.group, path.repository);
    shared
        .change(|state, now| state.change_group_repository(group, repository, allowed, now))
        .map_err(refused)?;
    saved(shared).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/actions/runner-groups/{group}/runners`
pub(super) async fn group_runners(
    State(shared): Hub,
    Path(path): Path<GroupPath>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let all = shared.look(|state| {
        state.groups.get(path.group)?;
        let of_group = state.runners.values().filter(|runner| runner.group == path.group);
        Some(of_group.map(rest::shown).collect::<Vec<_>>())
    });
    let all = all.ok_or_else(GithubError::not_found)?;
    let total = all.len();
    let page = page.of(all);
    Ok(listed(total, json!({ "total_count": total, "runners": page })).into_response())
}

/// `PUT …/actions/runner-groups/{group}/runners/{runner}`
pub(super) async fn add_group_runner(
    State(shared): Hub,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    moved(&shared, path.runner, path.group)
}

/// `DELETE …/actions/runner-groups/{group}/runners/{runner}`: it goes to the default group.
pub(super) async fn remove_group_runner(
    State(shared): Hub,
    Path(path): Path<GroupPath>,
) -> Result<StatusCode, GithubError> {
    let in_group = |runner: &Runner| runner.group == path.group;
    if !shared.look(|state| state.runners.get(&path.runner).is_some_and(in_group)) {
        return Err(GithubError::not_found());
    }
    moved(&shared, path.runner, DEFAULT_GROUP)
}

fn moved(shared: &Shared, runner: u64, group: u64) -> Result<StatusCode, GithubError> {
    match shared.change(|state, now| state.move_runner(runner, group, now)) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(GithubError::not_found()),
    }
}
