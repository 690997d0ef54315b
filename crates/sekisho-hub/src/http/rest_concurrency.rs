//! Concurrency groups over REST.
//!
//! The reference names `group_name`, `group_url` and `group_members`; what GitHub says of a member is
//! not known, and its fields here are those that runs and jobs have elsewhere.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use sekisho_workflow::plan::ClaimState;
use serde_json::{Value, json};

use super::limits::listed;
use super::reply::GithubError;
use super::rest::{At, Page};
use crate::shared::Shared;
use crate::state::{Holder, Member, RepositoryIds, State as HubState};

type Hub = State<Arc<Shared>>;

/// `GET …/actions/concurrency_groups`
pub(super) async fn list(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let ids = at.repository(&shared)?;
    Ok(list_of(&shared, &ids, &page, |_| true))
}

/// `GET …/actions/runs/{run}/concurrency_groups`
pub(super) async fn of_run(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(page): Query<Page>,
) -> Result<Response, GithubError> {
    let ids = at.repository(&shared)?;
    let known = shared.look(|state| {
        let run = state.runs.get(&at.run);
        run.is_some_and(|run| at.is_of(&run.view.repository))
    });
    if !known {
        return Err(GithubError::not_found());
    }
    Ok(list_of(&shared, &ids, &page, |member| member.holder.run() == at.run))
}

/// `GET …/actions/concurrency_groups/{group}`
pub(super) async fn get(State(shared): Hub, Path(at): Path<At>) -> Result<Response, GithubError> {
    let ids = at.repository(&shared)?;
    let found = shared.look(|state| {
        let mut groups = state.concurrency.of(ids.id);
        let (name, members) =
            groups.find(|(name, _)| name.to_lowercase() == at.group.to_lowercase())?;
        Some(group(state, &shared.config.base_url, &ids, name, members))
    });
    found.map(|group| Json(group).into_response()).ok_or_else(GithubError::not_found)
}

fn list_of(
    shared: &Shared,
    ids: &RepositoryIds,
    page: &Page,
    wanted: impl Fn(&Member) -> bool,
) -> Response {
    let all: Vec<Value> = shared.look(|state| {
        let groups = state.concurrency.of(ids.id);
        let groups = groups.filter(|(_, members)| members.iter().any(&wanted));
        let base = &shared.config.base_url;
        groups.map(|(name, members)| group(state, base, ids, name, members)).collect()
    });
    let total = all.len();
    let body = json!({ "total_count": total, "concurrency_groups": page.of(all) });
    listed(total, body).into_response()
}

fn group(state: &HubState, base: &str, ids: &RepositoryIds, name: &str, of: &[Member]) -> Value {
    let api = format!("{base}/api/v3/repos/{}/actions", ids.name);
    let mut url = url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
    url = url.replace('+', "%20");
    let members: Vec<Value> = of.iter().map(|member| shown(state, member)).collect();
    json!({
        "group_name": name,
        "group_url": format!("{api}/concurrency_groups/{url}"),
        "group_members": members,
    })
}

fn shown(state: &HubState, member: &Member) -> Value {
    let status = match member.state {
        ClaimState::Waiting => "pending",
        ClaimState::Holding | ClaimState::Ending => "in_progress",
    };
    let job = match &member.holder {
        Holder::Run(_) => None,
        Holder::Job { run, key } => state.runs.get(run).and_then(|run| {
            let found = run.view.jobs.iter().find(|job| job.key == *key)?;
            Some((found.id, found.name.clone()))
        }),
    };
    json!({
        "run_id": member.holder.run(),
        "job_id": job.as_ref().map(|(id, _)| id),
        "job_name": job.as_ref().map(|(_, name)| name),
        "status": status,
    })
}
