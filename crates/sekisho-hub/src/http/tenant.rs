//! The tenant's side of scale sets and groups; runners are in [`super::agents`], sessions and the queue in
//! [`super::queue`].

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use sekisho_github::wire::scale_set::{
    BudgetError, Counted, Exception, JitConfig, JitRequest, Label, RunnerEvent, RunnerGroup,
    RunnerReference, ScaleSet, ScaleSetRequest, exception, read,
};
use serde::Deserialize;

use super::guard::bearer;
use super::registration::tenant_url;
use super::rest::{self, NewRegistration};
use crate::faults::{Call, Fault};
use crate::names::is_plain_path;
use crate::shared::Shared;
use crate::state::{DEFAULT_GROUP, Definition, Group, Owner, RegisterError, SetError};
use crate::store::NotWritten;
use crate::tokens::TenantClaims;

/// The most labels of a set, as on GitHub.
const MAX_LABELS: usize = 100;
/// Longest name or label, in characters.
const MAX_NAME: usize = 256;

type Hub = State<Arc<Shared>>;
pub(super) type Reply<T> = Result<T, TenantFault>;

/// The tenant's errors.
#[derive(Debug)]
pub(super) struct TenantFault {
    status: StatusCode,
    key: String,
    message: String,
}

impl TenantFault {
    pub(super) fn new(status: StatusCode, key: &str, message: impl Into<String>) -> Self {
        Self { status, key: key.to_owned(), message: message.into() }
    }

    pub(super) fn unauthorized() -> Self {
        let why = "the token is not the right one, or too old";
        Self::new(StatusCode::UNAUTHORIZED, exception::UNAUTHORIZED, why)
    }

    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, exception::BAD_REQUEST, why)
    }
}

impl IntoResponse for TenantFault {
    fn into_response(self) -> Response {
        let body = Exception::new(&self.key, self.message);
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<SetError> for TenantFault {
    fn from(error: SetError) -> Self {
        let (status, key, why) = match error {
            SetError::NotFound => {
                (StatusCode::NOT_FOUND, exception::SET_NOT_FOUND, "there is no such scale set")
            }
            SetError::NameTaken => (
                StatusCode::CONFLICT,
                exception::SET_EXISTS,
                "the runner group has a scale set of this name",
            ),
            SetError::TooMany => {
                (StatusCode::BAD_REQUEST, exception::BAD_REQUEST, "there are too many scale sets")
            }
            SetError::SessionConflict => (
                StatusCode::CONFLICT,
                exception::SESSION_CONFLICT,
                "the scale set already has an active session",
            ),
            SetError::SessionExpired => (
                StatusCode::BAD_REQUEST,
                exception::SESSION_EXPIRED,
                "the session is not there any more",
            ),
            SetError::NothingToAcquire => (
                StatusCode::NOT_FOUND,
                "VssServiceException",
                "jobs are assigned by the service: there is nothing to acquire",
            ),
        };
        Self::new(status, key, why)
    }
}

impl From<NotWritten> for TenantFault {
    fn from(error: NotWritten) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "VssServiceException", error.to_string())
    }
}

impl From<BudgetError> for TenantFault {
    fn from(error: BudgetError) -> Self {
        Self::bad(format!("bad request: {error}"))
    }
}

/// Whose tenant: the owner that the admin token is of. One that was had to remove a runner is none here.
pub(super) fn owner(shared: &Shared, headers: &HeaderMap) -> Reply<Owner> {
    let claims = claims(shared, headers)?;
    let registers = claims.event == RunnerEvent::Register.as_str();
    if registers {
        Ok(Owner::from(claims.owner.as_str()))
    } else {
        Err(TenantFault::unauthorized())
    }
}

/// The same of whoever only looks for runners and removes them: any admin token does.
pub(super) fn owner_of_runners(shared: &Shared, headers: &HeaderMap) -> Reply<Owner> {
    claims(shared, headers).map(|claims| Owner::from(claims.owner.as_str()))
}

fn claims(shared: &Shared, headers: &HeaderMap) -> Reply<TenantClaims> {
    let claims = bearer(headers).and_then(|token| shared.tokens.read::<TenantClaims>(token));
    claims.ok_or_else(TenantFault::unauthorized)
}

/// Query of [`list`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SetQuery {
    runner_group_id: Option<u64>,
    name: Option<String>,
}

/// `GET runnerscalesets`
pub(super) async fn list(
    State(shared): Hub,
    headers: HeaderMap,
    Query(query): Query<SetQuery>,
) -> Reply<Json<Counted<ScaleSet>>> {
    let owner = owner(&shared, &headers)?;
    let tenant = tenant_url(&shared);
    let found: Vec<ScaleSet> = shared.look(|state| {
        let wanted = |definition: &Definition| {
            query.runner_group_id.is_none_or(|group| group == definition.group)
                && query.name.as_ref().is_none_or(|n| n.eq_ignore_ascii_case(&definition.name))
        };
        let sets = state.scale_sets.of(&owner).filter(|set| wanted(&set.definition));
        sets.filter_map(|set| state.shown_set(set.id, &tenant)).collect()
    });
    Ok(Json(found.into()))
}

/// `POST runnerscalesets`: 200, not 201.
pub(super) async fn create(
    State(shared): Hub,
    headers: HeaderMap,
    body: Bytes,
) -> Reply<Json<ScaleSet>> {
    let owner = owner(&shared, &headers)?;
    let mut request: ScaleSetRequest = read(&body)?;
    check(&request)?;
    drop_labels(&shared, &mut request);
    let name = request.name.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| TenantFault::bad("a scale set needs a name"))?;
    let labels = request.labels.filter(|labels| !labels.is_empty());
    let definition = Definition {
        labels: labels.unwrap_or_else(|| vec![Label::new(&name)]),
        name,
        group: group(&shared, &owner, request.runner_group_id.unwrap_or(1))?,
        scope: owner,
        disable_update: request.runner_setting.unwrap_or_default().disable_update,
        created_on: shared.clock.now(),
    };
    let id = shared.change(|state, _| state.create_set(definition))?;
    // Its id is given once.
    shared.saver.flushed().await?;
    shown(&shared, id)
}

/// `GET runnerscalesets/{id}`
pub(super) async fn get(
    State(shared): Hub,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Reply<Json<ScaleSet>> {
    let owner = owner(&shared, &headers)?;
    shared.look(|state| state.scale_sets.get(&owner, id).map(drop))?;
    shown(&shared, id)
}

/// `PATCH runnerscalesets/{id}`
pub(super) async fn update(
    State(shared): Hub,
    headers: HeaderMap,
    Path(id): Path<u64>,
    body: Bytes,
) -> Reply<Json<ScaleSet>> {
    let owner = owner(&shared, &headers)?;
    let mut change: ScaleSetRequest = read(&body)?;
    check(&change)?;
    drop_labels(&shared, &mut change);
    if let Some(id) = change.runner_group_id.filter(|id| *id != 0) {
        group(&shared, &owner, id)?;
    } else {
        change.runner_group_id = None;
    }
    shared.change(|state, _| state.update_set(&owner, id, change))?;
    shared.saver.flushed().await?;
    shown(&shared, id)
}

/// `DELETE runnerscalesets/{id}`
pub(super) async fn delete(
    State(shared): Hub,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Reply<StatusCode> {
    let owner = owner(&shared, &headers)?;
    shared.change(|state, now| state.delete_set(&owner, id, now))?;
    shared.saver.flushed().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(shared: &Shared, id: u64) -> Reply<Json<ScaleSet>> {
    let tenant = tenant_url(shared);
    let set = shared.look(|state| state.shown_set(id, &tenant));
    set.map(Json).ok_or_else(|| SetError::NotFound.into())
}

fn check(request: &ScaleSetRequest) -> Reply<()> {
    let plain =
        |text: &str| text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control);
    let names = request.name.iter().map(String::as_str);
    let labels = request.labels.iter().flatten().map(|label| label.name.as_str());
    let count = request.labels.as_ref().map_or(0, Vec::len);
    if count > MAX_LABELS || !names.chain(labels).all(plain) {
        return Err(TenantFault::bad(format!(
            "names and labels have at most {MAX_NAME} characters, and a set {MAX_LABELS} labels"
        )));
    }
    Ok(())
}

/// A group that there is for an owner.
fn group(shared: &Shared, owner: &Owner, id: i64) -> Reply<u64> {
    let known = u64::try_from(id).ok();
    let known = known.filter(|id| shared.look(|state| state.groups.get(owner, *id).is_some()));
    known.ok_or_else(|| TenantFault::bad(format!("there is no runner group {id}")))
}

fn drop_labels(shared: &Shared, request: &mut ScaleSetRequest) {
    let Some(labels) = request.labels.as_mut().filter(|labels| labels.len() > 1) else { return };
    let drops = |fault: &Fault| matches!(fault, Fault::LabelsDropped);
    if shared.strike(Call::ScaleSet, drops).is_some() {
        labels.truncate(1);
    }
}

/// `GET runnerscalesets/{id}/acquirablejobs`, for listeners of before the message queue.
pub(super) async fn acquirable(
    State(shared): Hub,
    headers: HeaderMap,
    Path(id): Path<u64>,
) -> Reply<Response> {
    let owner = owner(&shared, &headers)?;
    let jobs = shared.look(|state| state.acquirable(&owner, id))?;
    if jobs.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(Counted::from(jobs)).into_response())
}

/// Query of [`groups`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupQuery {
    group_name: Option<String>,
}

/// `GET runnergroups/`
pub(super) async fn groups(
    State(shared): Hub,
    headers: HeaderMap,
    Query(query): Query<GroupQuery>,
) -> Reply<Json<Counted<RunnerGroup>>> {
    let owner = owner(&shared, &headers)?;
    let wanted = |group: &&Group| {
        query.group_name.as_ref().is_none_or(|name| name.eq_ignore_ascii_case(&group.name))
    };
    let all: Vec<RunnerGroup> = shared.look(|state| {
        let groups: Vec<&Group> = state.groups.seen_from(&owner).filter(wanted).collect();
        let mut sizes: BTreeMap<u64, i64> = groups.iter().map(|group| (group.id, 0)).collect();
        for runner in state.runners.values().filter(|runner| runner.scope == owner) {
            sizes.entry(runner.group).and_modify(|size| *size += 1);
        }
        let shown = |group: &Group| RunnerGroup {
            id: i64::try_from(group.id).unwrap_or(i64::MAX),
            name: group.name.clone(),
            size: sizes.get(&group.id).copied().unwrap_or(0),
            is_default_group: group.id == DEFAULT_GROUP,
        };
        groups.into_iter().map(shown).collect()
    });
    Ok(Json(all.into()))
}

/// `POST runnerscalesets/{id}/generatejitconfig`
pub(super) async fn generate_jitconfig(
    State(shared): Hub,
    headers: HeaderMap,
    Path(id): Path<u64>,
    body: Bytes,
) -> Reply<Json<JitConfig>> {
    let owner = owner(&shared, &headers)?;
    let request: JitRequest = read(&body)?;
    let (labels, group) = shared.look(|state| {
        let set = state.scale_sets.get(&owner, id)?;
        let names = set.definition.labels.iter().map(|label| label.name.clone());
        Ok::<(Vec<String>, u64), SetError>((names.collect(), set.definition.group))
    })?;
    if !rest::is_plain(&request.name) || request.name.contains('/') {
        return Err(TenantFault::bad("the runner's name is not one"));
    }
    let work_folder = Some(request.work_folder).filter(|folder| !folder.is_empty());
    if work_folder.as_deref().is_some_and(|folder| !is_plain_path(folder)) {
        return Err(TenantFault::bad("the work folder is not a relative path"));
    }
    if shared.strike(Call::Jit, |fault| matches!(fault, Fault::JitConflict)).is_some() {
        return Err(refused(RegisterError::NameTaken, &request.name));
    }
    let name = request.name.clone();
    let JitRequest { name: new_name, .. } = request;
    let new =
        NewRegistration { name: new_name, labels, group, work_folder, set: Some(id), scope: owner };
    let made = rest::register(&shared, new).await;
    let (runner, blob) = made.map_err(|error| match error {
        Some(error) => refused(error, &name),
        None => {
            TenantFault::new(StatusCode::INTERNAL_SERVER_ERROR, "VssServiceException", "no key")
        }
    })?;
    let runner = RunnerReference {
        id: i64::try_from(runner).unwrap_or(i64::MAX),
        name,
        runner_scale_set_id: i64::try_from(id).unwrap_or(i64::MAX),
    };
    Ok(Json(JitConfig { runner, encoded: blob.into() }))
}

pub(super) fn refused(error: RegisterError, name: &str) -> TenantFault {
    match error {
        RegisterError::NameTaken => {
            let why = format!("a runner with the name {name} exists already");
            TenantFault::new(StatusCode::CONFLICT, "TaskAgentExistsException", why)
        }
        RegisterError::TooMany => TenantFault::bad("too many runners are registered"),
        RegisterError::NotFound => {
            let why = format!("there is no runner {name}");
            TenantFault::new(StatusCode::NOT_FOUND, "TaskAgentNotFoundException", why)
        }
        RegisterError::Busy => {
            let why = format!("the runner {name} is running a job, and cannot be removed");
            let key = format!("TaskAgent{}", exception::JOB_STILL_RUNNING);
            TenantFault::new(StatusCode::BAD_REQUEST, &key, why)
        }
    }
}
