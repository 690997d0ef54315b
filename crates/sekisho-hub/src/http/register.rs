//! Registration of a runner with a token, as `config.sh` does it: the runner brings a key of its own.
//!
//! Source: protocol reference 1.10. Of two runners that do so one sends the registration token as
//! `RemoteAuth`, the other the tenant's admin token that it had for it.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use sekisho_github::rest::Address;
use sekisho_github::wire::register::{
    LabelKind, RegisterRunner, RegisteredRunner, RunnerAuthorization, RunnerLabel, rsa_key_value,
};
use sekisho_github::wire::scale_set::RunnerEvent;
use uuid::Uuid;

use super::authorize::registrar;
use super::reply::GithubError;
use super::rest::{self, MAX_LABELS, is_plain};
use crate::shared::Shared;
use crate::state::{Life, NewRunner, Owner};

/// `POST /actions/runners/register`
pub(super) async fn register(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<RegisteredRunner>), GithubError> {
    let refused = || GithubError(StatusCode::UNAUTHORIZED, "Bad credentials".to_owned());
    let (scope, event) = registrar(&shared, &headers).ok_or_else(refused)?;
    if event != RunnerEvent::Register.as_str() {
        return Err(refused());
    }
    let request: RegisterRunner = rest::read(&body)?;
    let address = Address::parse(&request.url, false).map_err(|_| GithubError::not_found())?;
    let owner = Owner::from(address.scope());
    if owner.as_str() != scope {
        return Err(GithubError::not_found());
    }
    let name = request.name.clone();
    let replaced = request.runner_id.filter(|_| request.replace);
    let replaced = replaced.map(|id| u64::try_from(id).unwrap_or_default());
    let new = read(owner, request)?;
    if shared.look(|state| state.groups.get(&new.scope, new.group).is_none()) {
        return Err(GithubError::not_found());
    }
    let client_id = new.client_id;
    let id = shared.change(|state, now| match replaced {
        Some(id) => state.replace_runner(id, new, now).map(|()| id),
        None => state.register(new),
    });
    let id = id.map_err(|error| rest::refused(error, &name))?;
    // Who was told that he is registered is so, whatever becomes of this process.
    shared.saver.flushed().await?;
    let base = &shared.config.base_url;
    let authorization = RunnerAuthorization {
        authorization_url: format!("{base}/_oauth/token"),
        server_url: format!("{base}/_broker/"),
        client_id: client_id.to_string(),
        legacy_authorization_url: None,
    };
    Ok((StatusCode::CREATED, Json(RegisteredRunner { id, name, authorization })))
}

/// Checks what a registration says.
pub(crate) fn read(scope: Owner, request: RegisterRunner) -> Result<NewRunner, GithubError> {
    if !is_plain(&request.name) || request.name.contains('/') {
        return Err(GithubError::unprocessable("Invalid name"));
    }
    let plain = |label: &RunnerLabel| is_plain(&label.name);
    if request.labels.len() > MAX_LABELS || !request.labels.iter().all(plain) {
        return Err(GithubError::unprocessable("Invalid labels: at most 100 are wanted"));
    }
    let public_key = rsa_key_value(&request.public_key)
        .map_err(|error| GithubError::unprocessable(format!("Invalid public_key: {error}")))?;
    let of_users = |label: &&RunnerLabel| label.kind == LabelKind::User;
    let name_of = |label: &RunnerLabel| label.name.clone();
    Ok(NewRunner {
        custom_labels: request.labels.iter().filter(of_users).map(name_of).collect(),
        labels: request.labels.iter().map(name_of).collect(),
        name: request.name,
        group: request.group_id,
        set: None,
        scope,
        life: if request.ephemeral { Life::Ephemeral } else { Life::Lasting },
        client_id: Uuid::new_v4(),
        public_key,
    })
}
