//! Runners over REST: registration for one job, and looking after them.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use rsa::traits::PublicKeyParts as _;
use secrecy::ExposeSecret as _;
use sekisho_github::hub_api::RunnerStatus;
use sekisho_github::jit::{self, CredentialData, Credentials, RsaParameters, RunnerSettings};
use sekisho_github::lenient;
use sekisho_github::rest as wire;
use sekisho_github::rest::{GenerateJitConfig, JitConfig, Label};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

use super::authorize::Owner as Place;
use super::limits::listed;
use super::reply::GithubError;
use crate::faults::{Call, Fault};
use crate::names::RepoName;
use crate::shared::Shared;
use crate::state::{
    DEFAULT_GROUP_NAME, Life, NewRunner, Owner, RegisterError, RepositoryIds, Runner,
};

/// The most labels of a runner, as on GitHub.
pub(super) const MAX_LABELS: usize = 100;
/// Longest name or label, in characters.
const MAX_NAME: usize = 256;
/// Entries of a page if the request does not say, and at most, as on GitHub.
pub(super) const PAGE: (usize, usize) = (30, 100);

type Reply = Result<Response, GithubError>;

/// Everything that is not there.
pub(super) async fn not_found() -> GithubError {
    GithubError::not_found()
}

/// The path of a request about a repository; paths have more or fewer of these.
#[derive(Debug, Deserialize)]
pub(super) struct At {
    pub(super) owner: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) run: u64,
    #[serde(default)]
    pub(super) attempt: Option<u64>,
    #[serde(default)]
    pub(super) job: u64,
    #[serde(default)]
    pub(super) artifact: u64,
    #[serde(default)]
    pub(super) cache: u64,
    /// The number of a pull request.
    #[serde(default)]
    pub(super) pull: u64,
    /// A concurrency group.
    #[serde(default)]
    pub(super) group: String,
    /// An id or a file.
    #[serde(default)]
    pub(super) workflow: String,
    #[serde(default)]
    pub(super) path: String,
}

impl At {
    /// The repository, if it is there.
    pub(super) fn repository(&self, shared: &Shared) -> Result<RepositoryIds, GithubError> {
        let name = RepoName::new(&self.owner, &self.name).map_err(|_| GithubError::not_found())?;
        shared.look(|state| state.repositories.get(&name)).ok_or_else(GithubError::not_found)
    }

    /// Whether something is of the repository `owner/name`.
    pub(super) fn is_of(&self, repository: &str) -> bool {
        repository.eq_ignore_ascii_case(&format!("{}/{}", self.owner, self.name))
    }
}

/// Runs what blocks on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, GithubError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| GithubError::internal(&error))
}

/// Reads a JSON body.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, GithubError> {
    let invalid = |error| GithubError::unprocessable(format!("Invalid request: {error}"));
    lenient::from_slice(body).map_err(invalid)
}

/// `POST …/actions/runners/generate-jitconfig`
pub(super) async fn generate_jitconfig(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Place>,
    body: Bytes,
) -> Reply {
    let mut request: GenerateJitConfig = read(&body)?;
    check(&request)?;
    let scope = place.owner();
    if shared.look(|state| state.groups.get(&scope, request.runner_group_id).is_none()) {
        return Err(GithubError::not_found());
    }
    if shared.strike(Call::Jit, |fault| matches!(fault, Fault::JitConflict)).is_some() {
        return Err(refused(RegisterError::NameTaken, &request.name));
    }
    if shared.strike(Call::Jit, |fault| matches!(fault, Fault::LabelsDropped)).is_some() {
        request.labels.truncate(1);
    }
    let name = request.name.clone();
    let GenerateJitConfig { name: _, labels, work_folder, runner_group_id: group } = request;
    let new = NewRegistration { name: name.clone(), labels, group, work_folder, set: None, scope };
    let made = register(&shared, new).await;
    let (id, encoded_jit_config) = made.map_err(|error| match error {
        Some(error) => refused(error, &name),
        None => GithubError::internal(&"no key for a runner"),
    })?;
    let runner = shared.look(|state| state.runners.get(&id).map(shown));
    let runner = runner.ok_or_else(GithubError::not_found)?;
    Ok((StatusCode::CREATED, Json(JitConfig { runner, encoded_jit_config })).into_response())
}

/// A runner that is to be registered for one job.
pub(super) struct NewRegistration {
    pub(super) name: String,
    pub(super) labels: Vec<String>,
    pub(super) group: u64,
    /// `_work` if absent.
    pub(super) work_folder: Option<String>,
    /// The scale set whose jobs it takes.
    pub(super) set: Option<u64>,
    /// Whose jobs it takes.
    pub(super) scope: Owner,
}

/// Registers a runner: its id, and its JIT configuration. `None`: there is no key for it.
pub(super) async fn register(
    shared: &Shared,
    new: NewRegistration,
) -> Result<(u64, String), Option<RegisterError>> {
    shared.look(|state| state.check_name(&new.scope, &new.name)).map_err(Some)?;
    let key = shared.keys.take().await.ok_or(None)?;
    let parameters = RsaParameters::from_key(&key).map_err(|_| None)?;
    let client_id = Uuid::new_v4();
    let runner = NewRunner {
        name: new.name.clone(),
        labels: new.labels,
        custom_labels: BTreeSet::new(),
        group: new.group,
        set: new.set,
        scope: new.scope,
        life: Life::Jit,
        client_id,
        public_key: (key.n().to_bytes_be(), key.e().to_bytes_be()),
    };
    let id = shared.change(|state, _| state.register(runner)).map_err(Some)?;
    let folder = new.work_folder.unwrap_or_else(|| "_work".to_owned());
    let base = &shared.config.base_url;
    let blob = jit_config(base, (id, new.name), folder, client_id, parameters).encode();
    Ok((id, blob.expose_secret().to_owned()))
}

/// Whether a name or a label may be one.
pub(super) fn is_plain(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

fn check(request: &GenerateJitConfig) -> Result<(), GithubError> {
    if !is_plain(&request.name) || request.name.contains('/') {
        return Err(GithubError::unprocessable("Invalid name"));
    }
    let labels = &request.labels;
    if !(1..=MAX_LABELS).contains(&labels.len()) || !labels.iter().all(|label| is_plain(label)) {
        return Err(GithubError::unprocessable("Invalid labels: 1 to 100 are wanted"));
    }
    if request.work_folder.as_deref().is_some_and(|f| !crate::names::is_plain_path(f)) {
        return Err(GithubError::unprocessable("Invalid work_folder"));
    }
    Ok(())
}

fn jit_config(
    base: &str,
    (id, name): (u64, String),
    work_folder: String,
    client_id: Uuid,
    key: RsaParameters,
) -> jit::JitConfig {
    let broker = format!("{base}/_broker/");
    jit::JitConfig {
        runner: RunnerSettings {
            agent_id: id.try_into().unwrap_or(i64::MAX),
            agent_name: name,
            pool_id: 1,
            pool_name: DEFAULT_GROUP_NAME.to_owned(),
            disable_update: true,
            ephemeral: true,
            // The old queue, below the broker: it sends everybody there.
            server_url: broker.clone(),
            git_hub_url: String::new(),
            work_folder,
            use_v2_flow: true,
            server_url_v2: broker,
            skip_session_recover: None,
            monitor_socket_address: None,
            use_runner_admin_flow: None,
            is_hosted_server: None,
        },
        credentials: Credentials {
            scheme: "OAuth".to_owned(),
            data: CredentialData {
                client_id: client_id.to_string(),
                authorization_url: format!("{base}/_oauth/token"),
                require_fips_cryptography: true,
                oauth_endpoint_url: None,
                authorization_url_v2: None,
                enable_auth_migration_by_default: None,
            },
        },
        key,
    }
}

pub(super) fn refused(error: RegisterError, name: &str) -> GithubError {
    match error {
        RegisterError::NameTaken => GithubError(
            StatusCode::CONFLICT,
            format!("Already exists - A runner with the name {name} already exists."),
        ),
        RegisterError::TooMany => GithubError::unprocessable("Too many runners are registered"),
        RegisterError::NotFound => GithubError::not_found(),
        RegisterError::Busy => {
            GithubError::unprocessable("Runner is currently running a job and cannot be deleted.")
        }
    }
}

/// The labels of a runner: those of its registration, then its own.
pub(super) fn labels(runner: &Runner) -> Vec<Label> {
    let label = |name: &String| {
        let custom = runner.custom_labels.contains(name);
        let kind = if custom { "custom" } else { "read-only" };
        Label { id: Some(0), name: name.clone(), kind: Some(kind.to_owned()) }
    };
    runner.labels.iter().map(label).collect()
}

/// A runner, as it is shown.
pub(super) fn shown(runner: &Runner) -> wire::Runner {
    wire::Runner {
        id: runner.id,
        name: runner.name.clone(),
        os: runner.os.clone(),
        status: match runner.status() {
            RunnerStatus::Online => "online".to_owned(),
            RunnerStatus::Offline => "offline".to_owned(),
        },
        busy: runner.is_busy(),
        labels: labels(runner),
        runner_group_id: Some(runner.group),
        ephemeral: Some(runner.life != Life::Lasting),
    }
}

/// Query of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    name: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

impl Page {
    /// A page of a list that has other parameters too.
    pub(super) fn new(page: Option<usize>, per_page: Option<usize>) -> Self {
        Self { name: None, page, per_page }
    }

    /// Whether the list is to have what is called so.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_ref().is_none_or(|wanted| wanted == name)
    }

    /// This page of `all`.
    pub(super) fn of<T>(&self, all: Vec<T>) -> Vec<T> {
        let size = self.per_page.unwrap_or(PAGE.0).clamp(1, PAGE.1);
        let page = self.page.unwrap_or(1).max(1) - 1;
        all.into_iter().skip(page.saturating_mul(size)).take(size).collect()
    }
}

/// `GET …/actions/runners`
pub(super) async fn list_runners(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Place>,
    Query(page): Query<Page>,
) -> Response {
    let owner = place.owner();
    let all: Vec<wire::Runner> = shared.look(|state| {
        let named = |runner: &Runner| page.name.as_ref().is_none_or(|name| *name == runner.name);
        let wanted = |runner: &&Runner| runner.scope == owner && named(runner);
        state.runners.values().filter(wanted).map(shown).collect()
    });
    let total = all.len();
    listed(total, json!({ "total_count": total, "runners": page.of(all) })).into_response()
}

/// `GET …/actions/runners/{id}`
pub(super) async fn get_runner(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Place>,
    Path(path): Path<RunnerPath>,
) -> Result<Json<wire::Runner>, GithubError> {
    let runner = shared.look(|state| state.runner_of(&place.owner(), path.id).map(shown));
    runner.map(Json).ok_or_else(GithubError::not_found)
}

/// `DELETE …/actions/runners/{id}`
pub(super) async fn delete_runner(
    State(shared): State<Arc<Shared>>,
    Extension(place): Extension<Place>,
    Path(path): Path<RunnerPath>,
) -> Result<StatusCode, GithubError> {
    let owner = place.owner();
    let removed = shared.change(|state, now| state.remove_runner_of(&owner, path.id, now));
    removed.map(|()| StatusCode::NO_CONTENT).map_err(|error| refused(error, ""))
}

/// The last part of a path; what is before it does not matter here.
#[derive(Debug, Deserialize)]
pub(super) struct RunnerPath {
    id: u64,
}
