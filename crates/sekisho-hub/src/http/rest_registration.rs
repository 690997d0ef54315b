//! Labels of runners.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use sekisho_github::rest::Labels;
use serde::Deserialize;
use serde_json::Value;

use super::authorize::Owner;
use super::reply::GithubError;
use super::rest;
use crate::shared::Shared;
use crate::state::{LabelError, Runner};

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
