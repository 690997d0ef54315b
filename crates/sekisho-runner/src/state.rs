//! What a job knows: contexts, environment, path. Pure; the job's effects change it between steps.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sekisho_github::wire::job::{AgentJobRequestMessage, variable};
use sekisho_workflow::expr::{Contexts, Object, Value};

use crate::dirs::Dirs;
use crate::plan::Status;
use crate::spec::StepSpec;

/// Keys of the `github` context that become `GITHUB_*`; no others do.
const EXPORTED: [&str; 39] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "actor_id",
    "api_url",
    "artifacts",
    "artifacts_list",
    "base_ref",
    "env",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "output",
    "path",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "state",
    "step_summary",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
];

/// Facts about the runner.
#[derive(Clone, Debug)]
pub(crate) struct RunnerFacts {
    pub(crate) name: String,
    pub(crate) architecture: &'static str,
    /// Value of `RUNNER_TRACKING_ID`.
    pub(crate) tracking: String,
}

/// The state of a job, changed between steps only.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Everything that came with the message, plus `secrets`; `github` with token and paths.
    base: Contexts,
    /// Of the runner process, scrubbed.
    process: Vec<(OsString, OsString)>,
    /// Job environment and `GITHUB_ENV`.
    pub(crate) env: BTreeMap<String, String>,
    /// `GITHUB_PATH`, the latest first.
    path: Vec<String>,
    runner: RunnerFacts,
    dirs: Dirs,
    debug: bool,
    /// `ACTIONS_ID_TOKEN_REQUEST_URL`, `_TOKEN`, `ACTIONS_ORCHESTRATION_ID`.
    id_token: Vec<(&'static str, String)>,
    /// What actions get besides: `ACTIONS_RUNTIME_TOKEN` and the services' URLs.
    services: Vec<(&'static str, String)>,
}

/// What belongs to one level of steps: the job's, or a composite action's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// The action's inputs; `None` on the job's level, where the message's stay.
    pub(crate) inputs: Option<Object>,
    /// Results so far.
    pub(crate) steps: Object,
    /// Environment of the `uses` steps around.
    pub(crate) env: Vec<(String, String)>,
    /// The action that the steps are of, or that runs.
    pub(crate) origin: Option<ActionOrigin>,
    /// `github.action_status`, which is what `success()` asks in a composite action.
    pub(crate) action_status: Option<Status>,
    /// How many actions are around.
    pub(crate) depth: usize,
    /// The steps around, by their names.
    pub(crate) path: String,
}

impl Scope {
    /// What tells one use of an action from all others of the job, in all its stages.
    pub(crate) fn key(&self, spec: &StepSpec) -> String {
        format!("{}/{}", self.path, spec.context_name)
    }
}

/// Where an action comes from.
#[derive(Clone, Debug)]
pub(crate) struct ActionOrigin {
    /// As `uses:` has it.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// `owner/repository` and the ref, of another repository's action.
    pub(crate) repository: Option<(String, String)>,
}

/// The file command files of one step.
#[derive(Clone, Debug)]
pub(crate) struct StepFiles {
    pub(crate) env: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) summary: PathBuf,
}

/// What distinguishes one step's contexts from another's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepView<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) action: &'a str,
    /// `None` where the step has not begun.
    pub(crate) files: Option<&'a StepFiles>,
    /// The step's own environment.
    pub(crate) env: &'a [(String, String)],
    pub(crate) status: Status,
}

impl State {
    /// The state at the beginning of a job.
    pub(crate) fn new(
        message: &AgentJobRequestMessage,
        process: Vec<(OsString, OsString)>,
        runner: RunnerFacts,
        dirs: Dirs,
    ) -> Self {
        let mut base = Contexts::new();
        for (name, data) in &message.context_data {
            base.set(name, data.0.clone());
        }
        let mut github = object(base.get("github"));
        let text = |name| message.variable(name).map(|v| v.value.expose().to_owned());
        let token = text(variable::TOKEN).or_else(|| text(variable::GITHUB_TOKEN));
        github.insert("token", token.map_or(Value::Null, Value::from));
        if let Some(job) = text(variable::JOB) {
            github.insert("job", job);
        }
        github.insert("workspace", path_value(&dirs.workspace));
        github.insert("event_path", path_value(&dirs.event));
        base.set("github", github);
        base.set("secrets", secrets(message));
        let debug = text(variable::STEP_DEBUG).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        Self {
            base,
            process,
            env: BTreeMap::new(),
            path: Vec::new(),
            runner,
            dirs,
            debug,
            id_token: id_token(message),
            services: services(message),
        }
    }

    /// Whether debug lines are shown.
    pub(crate) fn debug(&self) -> bool {
        self.debug
    }

    /// The folders.
    pub(crate) fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// A key of the `github` context, as text.
    pub(crate) fn github(&self, key: &str) -> String {
        self.base.get("github").map(|github| github.get(key).to_text()).unwrap_or_default()
    }

    /// The event that started the run.
    pub(crate) fn event(&self) -> Value {
        self.base.get("github").map(|github| github.get("event")).unwrap_or_default()
    }

    /// Puts folders before the path; one that is there already moves to the front.
    pub(crate) fn prepend_path(&mut self, folders: Vec<String>) {
        for folder in folders {
            self.path.retain(|other| *other != folder);
            self.path.insert(0, folder);
        }
    }

    /// The contexts of a step.
    pub(crate) fn contexts(&self, view: &StepView<'_>) -> Contexts {
        let mut contexts = self.base.clone();
        let mut github = object(self.base.get("github"));
        github.insert("action", view.action);
        if let Some(files) = view.files {
            github.insert("env", path_value(&files.env));
            github.insert("path", path_value(&files.path));
            github.insert("output", path_value(&files.output));
            github.insert("state", path_value(&files.state));
            github.insert("step_summary", path_value(&files.summary));
        }
        if let Some(origin) = &view.scope.origin {
            github.insert("action_path", path_value(&origin.folder));
            if let Some((repository, git_ref)) = &origin.repository {
                github.insert("action_repository", repository.as_str());
                github.insert("action_ref", git_ref.as_str());
            }
        }
        if let Some(status) = view.scope.action_status {
            github.insert("action_status", status.as_str());
        }
        contexts.set("github", github);
        if let Some(inputs) = &view.scope.inputs {
            contexts.set("inputs", inputs.clone());
        }
        contexts.set("steps", view.scope.steps.clone());
        contexts.set("runner", self.runner_context());
        let mut job = object(self.base.get("job"));
        job.insert("status", view.status.as_str());
        contexts.set("job", job);
        let mut env = Object::case_sensitive();
        for (name, value) in &self.env {
            env.insert(name, value.as_str());
        }
        for (name, value) in view.scope.env.iter().chain(view.env) {
            env.insert(name, value.as_str());
        }
        contexts.set("env", env);
        contexts
    }

    /// The whole environment of a process of a step.
    pub(crate) fn environment(&self, view: &StepView<'_>) -> BTreeMap<OsString, OsString> {
        let mut env: BTreeMap<OsString, OsString> = self.process.iter().cloned().collect();
        let has_ci = env.contains_key(&OsString::from("CI")) || self.env.contains_key("CI");
        if !has_ci {
            env.insert("CI".into(), "true".into());
        }
        let step = view.scope.env.iter().chain(view.env).map(|(name, value)| (name, value));
        for (name, value) in self.env.iter().chain(step) {
            env.insert(name.into(), value.into());
        }
        let contexts = self.contexts(view);
        let github = contexts.get("github").cloned().unwrap_or_default();
        for key in EXPORTED {
            match github.get(key) {
                Value::Null | Value::Array(_) | Value::Object(_) => {}
                value => {
                    let name = format!("GITHUB_{}", key.to_ascii_uppercase());
                    env.insert(name.into(), value.to_text().into());
                }
            }
        }
        if let Value::Object(runner) = self.runner_context() {
            for (key, value) in runner.iter() {
                let name = format!("RUNNER_{}", key.to_ascii_uppercase());
                env.insert(name.into(), value.to_text().into());
            }
        }
        env.insert("GITHUB_ACTIONS".into(), "true".into());
        env.insert(crate::orphan::TRACKING.into(), self.runner.tracking.clone().into());
        for (name, value) in &self.id_token {
            env.insert((*name).into(), value.into());
        }
        let path = self.search_path(&env);
        env.insert("PATH".into(), path.into());
        env
    }

    /// What an action's program gets and a `run` step does not: the job's token and services.
    pub(crate) fn action_environment(&self) -> impl Iterator<Item = (OsString, OsString)> + '_ {
        self.services.iter().map(|(name, value)| ((*name).into(), value.into()))
    }

    /// Added folders, then the `PATH` of the environment.
    fn search_path(&self, env: &BTreeMap<OsString, OsString>) -> String {
        let old = env.get(&OsString::from("PATH"));
        let old = old.map(|path| path.to_string_lossy().into_owned());
        self.path.iter().cloned().chain(old).collect::<Vec<_>>().join(":")
    }

    fn runner_context(&self) -> Value {
        let mut runner = Object::new();
        runner.insert("name", self.runner.name.as_str());
        runner.insert("os", "Linux");
        runner.insert("arch", self.runner.architecture);
        runner.insert("temp", path_value(&self.dirs.temp));
        runner.insert("tool_cache", path_value(&self.dirs.tools));
        runner.insert("workspace", path_value(&self.dirs.pipeline));
        runner.insert("environment", "self-hosted");
        if self.debug {
            runner.insert("debug", "1");
        }
        Value::from(runner)
    }
}

fn object(value: Option<&Value>) -> Object {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

fn path_value(path: &Path) -> Value {
    Value::from(path.to_string_lossy().into_owned())
}

/// `secrets`: every secret variable that is not one of the runner's own.
fn secrets(message: &AgentJobRequestMessage) -> Object {
    let own = [variable::TOKEN, "system.accessToken"];
    let mut secrets = Object::new();
    for (name, value) in message.variables.iter().filter(|(_, value)| value.is_secret) {
        if !own.iter().any(|own| own.eq_ignore_ascii_case(name)) {
            secrets.insert(name, value.value.expose());
        }
    }
    secrets
}

/// What a step needs to ask for the job's identity, and nothing more of the runner's secrets.
fn id_token(message: &AgentJobRequestMessage) -> Vec<(&'static str, String)> {
    let mut env = Vec::new();
    let endpoint = message.system_connection();
    let url = endpoint.and_then(|e| e.data("GenerateIdTokenUrl")).filter(|url| !url.is_empty());
    let token = endpoint.and_then(|e| e.access_token());
    if let (Some(url), Some(token)) = (url, token) {
        env.push(("ACTIONS_ID_TOKEN_REQUEST_URL", url.to_owned()));
        env.push(("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token.expose().to_owned()));
    }
    if let Some(id) = message.variable(variable::ORCHESTRATION_ID) {
        env.push(("ACTIONS_ORCHESTRATION_ID", id.value.expose().to_owned()));
    }
    env
}

/// The job's token and the services that it is for.
fn services(message: &AgentJobRequestMessage) -> Vec<(&'static str, String)> {
    let Some(endpoint) = message.system_connection() else { return Vec::new() };
    let variable = |name| message.variable(name).map(|v| v.value.expose().to_owned());
    let data = |name| endpoint.data(name).map(str::to_owned);
    let is_on = |name| variable(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let results = data("ResultsServiceUrl").or_else(|| variable(variable::RESULTS_ENDPOINT));
    let cache_v2 = is_on("actions_uses_cache_service_v2").then(|| "True".to_owned());
    let all = [
        ("ACTIONS_RUNTIME_URL", data("PipelinesServiceUrl").or(Some(endpoint.url.clone()))),
        ("ACTIONS_RUNTIME_TOKEN", endpoint.access_token().map(|token| token.expose().to_owned())),
        ("ACTIONS_CACHE_URL", data("CacheServerUrl")),
        ("ACTIONS_RESULTS_URL", results),
        ("ACTIONS_CACHE_SERVICE_V2", cache_v2),
        ("ACTIONS_CACHE_MODE", variable("actions_cache_mode")),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_empty())?)))
        .collect()
}
