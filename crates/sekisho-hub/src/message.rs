//! The job message: everything a runner is told about its job.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sekisho_github::hub_api;
use sekisho_github::wire::context::{ContextData, Token};
use sekisho_github::wire::job::{
    AgentJobRequestMessage, Endpoint, EndpointAuthorization, MESSAGE_TYPE, Plan, ReferenceType,
    Resources, SYSTEM_CONNECTION, Step, StepReference, Timeline, VariableValue, variable,
};
use sekisho_workflow::expr::Value;
use sekisho_workflow::model::{
    Access, ActionReference, CacheMode, Permissions, Step as Planned, StepAction,
};
use sekisho_workflow::plan::{PlannedJob, PlannedKind, ReadyJob, StepsTemplate};
use sekisho_workflow::token::TokenKind;
use uuid::Uuid;

use crate::config::Config;
use crate::state::{DEFAULT_GROUP_NAME, Live, LiveJob, Run};
use crate::storage;
use crate::tokens::{GithubClaims, Granted, JobClaims, Tokens};

/// What the plan's version must be for runners of every age.
const PLAN_VERSION: i32 = 12;

/// Builds the message for a job that was just acquired. `None` if the job is no longer planned.
pub(crate) fn build(
    config: &Config,
    tokens: &Tokens,
    (run, live, job, view): (&Run, &Live, &LiveJob, &hub_api::Job),
    now: Timestamp,
) -> Option<AgentJobRequestMessage> {
    let planned = live.plan.job(&job.key)?;
    let PlannedKind::Steps(template) = &planned.kind else { return None };
    let ready = job.ready.as_deref()?;
    let secrets = Minted::new(tokens, run, live, job, view, planned, now)?;
    Some(AgentJobRequestMessage {
        message_type: MESSAGE_TYPE.to_owned(),
        plan: Plan {
            scope_identifier: Uuid::nil(),
            plan_type: "actions".to_owned(),
            version: PLAN_VERSION,
            plan_id: live.plan_id,
        },
        timeline: Timeline { id: live.plan_id, change_id: 1 },
        job_id: job.guid,
        job_display_name: ready.name.clone(),
        job_name: job.key.clone(),
        job_container: None,
        job_service_containers: None,
        job_outputs: template.outputs.clone(),
        request_id: i64::try_from(view.id).unwrap_or(i64::MAX),
        resources: Resources { endpoints: vec![endpoint(config, planned, &secrets.job)] },
        context_data: context_data(live, ready),
        workspace: None,
        mask: Vec::new(),
        environment_variables: template.env.clone(),
        defaults: template.defaults.clone(),
        actions_environment: None,
        variables: variables(config, live, planned, (ready, view), &secrets),
        steps: steps(template),
        file_table: vec![file_name(live, planned)],
        billing_owner_id: None,
    })
}

/// The secrets of one job.
struct Minted {
    job: String,
    github: String,
    orchestration: String,
}

impl Minted {
    fn new(
        tokens: &Tokens,
        run: &Run,
        live: &Live,
        job: &LiveJob,
        view: &hub_api::Job,
        planned: &PlannedJob,
        now: Timestamp,
    ) -> Option<Self> {
        let (plan, guid) = (live.plan_id, job.guid);
        let (run_id, job_id) = (run.view.id, view.id);
        let orchestration = format!("{plan}.{}.__default", planned.id);
        let claims = JobClaims {
            scp: format!("Actions.GenericRead:{plan} Actions.Results:{plan}:{guid}"),
            ac: cache_access(live, &run.view.git_ref, planned.cache_mode),
            orch_id: orchestration.clone(),
            repository_id: live.facts.repository.id.to_string(),
            run: run_id,
            job: job_id,
        };
        let github = GithubClaims {
            repository: live.facts.repository.name.to_string(),
            permissions: granted(&planned.permissions),
            run: run_id,
            job: job_id,
        };
        Some(Self {
            job: tokens.job(claims, now)?,
            github: tokens.github(github, now)?,
            orchestration,
        })
    }
}

/// As REST names them.
fn granted(permissions: &Permissions) -> Granted {
    permissions.iter().map(|(key, access)| (key.replace('-', "_"), access.to_string())).collect()
}

/// What the job may do with caches, as its clients read it.
fn cache_access(live: &Live, git_ref: &str, mode: Option<CacheMode>) -> String {
    let github = &live.facts.github;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let base_ref = text(&github["base_ref"]);
    let default_branch = text(&github["event"]["repository"]["default_branch"]);
    let mode = mode.unwrap_or(CacheMode::Write);
    // Its scope is that of the base branch, and what it does may be led by the pull request.
    let led = text(&github["event_name"]) == "pull_request_target";
    let access = storage::access(git_ref, &base_ref, &default_branch);
    let access = storage::limited(access, mode.reads(), mode.writes() && !led);
    serde_json::to_string(&access).unwrap_or_default()
}

fn endpoint(config: &Config, planned: &PlannedJob, token: &str) -> Endpoint {
    let base = &config.base_url;
    // http becomes ws, and https wss.
    let socket = base.replacen("http", "ws", 1);
    let mut data = BTreeMap::from([
        ("CacheServerUrl".to_owned(), format!("{base}/")),
        ("ResultsServiceUrl".to_owned(), format!("{base}/_results/")),
        ("PipelinesServiceUrl".to_owned(), format!("{base}/_run/")),
        ("FeedStreamUrl".to_owned(), format!("{socket}/_run/feed")),
    ]);
    if planned.permissions.get("id-token") >= Access::Write {
        let url = format!("{base}/_services/token/id?api-version=2.0");
        data.insert("GenerateIdTokenUrl".to_owned(), url);
    }
    let parameters = BTreeMap::from([("AccessToken".to_owned(), token.into())]);
    Endpoint {
        name: SYSTEM_CONNECTION.to_owned(),
        url: format!("{base}/_run/"),
        is_shared: false,
        is_ready: true,
        authorization: EndpointAuthorization { scheme: "OAuth".to_owned(), parameters },
        data,
    }
}

fn context_data(live: &Live, ready: &ReadyJob) -> BTreeMap<String, ContextData> {
    let vars = live.facts.vars.iter().map(|(name, value)| (name.as_str(), value.as_str().into()));
    let entry = |name: &str, value: Value| (name.to_owned(), ContextData::from(value));
    BTreeMap::from([
        entry("github", Value::from(live.facts.github.clone())),
        entry("vars", Value::object(vars)),
        entry("needs", ready.needs.clone()),
        entry("inputs", ready.inputs.clone()),
        entry("strategy", ready.strategy.clone()),
        entry("matrix", ready.matrix.clone()),
    ])
}

fn variables(
    config: &Config,
    live: &Live,
    planned: &PlannedJob,
    (ready, view): (&ReadyJob, &hub_api::Job),
    secrets: &Minted,
) -> BTreeMap<String, VariableValue> {
    let group = view.runner_group_name.as_deref().unwrap_or(DEFAULT_GROUP_NAME);
    let results = format!("{}/_results/", config.base_url);
    let mut all: BTreeMap<String, VariableValue> = [
        (variable::JOB, VariableValue::plain(&planned.id)),
        (variable::TOKEN, VariableValue::secret(&secrets.github)),
        (variable::GITHUB_TOKEN, VariableValue::secret(&secrets.github)),
        (variable::TOKEN_PERMISSIONS, VariableValue::plain(permissions(&planned.permissions))),
        (variable::RESULTS_ENDPOINT, VariableValue::plain(results)),
        (variable::LAUNCH_ENDPOINT, VariableValue::plain(format!("{}/", config.base_url))),
        (variable::PHASE_DISPLAY_NAME, VariableValue::plain(&ready.name)),
        (variable::RUNNER_GROUP_NAME, VariableValue::plain(group)),
        (variable::ORCHESTRATION_ID, VariableValue::plain(&secrets.orchestration)),
        ("system.culture", VariableValue::plain("en-US")),
        ("DistributedTask.EnhancedAnnotations", VariableValue::plain("true")),
        ("DistributedTask.UploadStepSummary", VariableValue::plain("true")),
        ("DistributedTask.NewActionMetadata", VariableValue::plain("true")),
        ("DistributedTask.EnableCompositeActions", VariableValue::plain("true")),
        ("actions_send_job_level_annotations", VariableValue::plain("true")),
        ("actions_uses_cache_service_v2", VariableValue::plain("true")),
        ("actions_set_orchestration_id_env_for_actions", VariableValue::plain("true")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(mode) = planned.cache_mode {
        all.insert("actions_cache_mode".to_owned(), VariableValue::plain(mode.as_str()));
    }
    if let Some(source) = live.plan.files.get(planned.file).filter(|_| planned.file > 0) {
        let path = format!("{}/{}", source.repository, source.path);
        all.insert(variable::WORKFLOW_FILE.to_owned(), VariableValue::plain(path));
        all.insert(variable::WORKFLOW_FILE_REF.to_owned(), VariableValue::plain(&source.git_ref));
        all.insert(variable::WORKFLOW_FILE_SHA.to_owned(), VariableValue::plain(&source.sha));
    }
    all
}

/// `{"Contents":"read","IdToken":"write","Metadata":"read"}`
fn permissions(permissions: &Permissions) -> String {
    let pascal = |key: &str| -> String {
        let capital = |word: &str| {
            let mut letters = word.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(letters).collect::<String>()
        };
        key.split('-').map(capital).collect()
    };
    let mut map: BTreeMap<String, String> =
        permissions.iter().map(|(key, access)| (pascal(key), access.to_string())).collect();
    map.insert("Metadata".to_owned(), "read".to_owned());
    serde_json::to_string(&map).unwrap_or_else(|_| "{}".to_owned())
}

fn steps(template: &StepsTemplate) -> Vec<Step> {
    template.steps.iter().map(step).collect()
}

fn step(planned: &Planned) -> Step {
    let (reference, inputs) = match &planned.action {
        StepAction::Run { script, shell, working_directory } => {
            let mut inputs = vec![("script", script.clone())];
            inputs.extend(shell.clone().map(|shell| ("shell", shell)));
            inputs.extend(working_directory.clone().map(|folder| ("workingDirectory", folder)));
            let reference = StepReference { kind: ReferenceType::Script, ..Default::default() };
            (reference, Some(Token::mapping(inputs)))
        }
        StepAction::Uses { action, with } => (reference(action), with.clone()),
    };
    Step {
        kind: "action".to_owned(),
        id: Uuid::new_v4(),
        name: Some(planned.context_name.clone()),
        context_name: Some(planned.context_name.clone()),
        enabled: true,
        condition: Some(planned.condition.clone()),
        display_name_token: planned.name.clone(),
        reference,
        inputs: inputs.or_else(|| Some(Token::new(TokenKind::Mapping(Vec::new())))),
        environment: planned.env.clone(),
        continue_on_error: planned.continue_on_error.clone(),
        timeout_in_minutes: planned.timeout_minutes.clone(),
        background: false,
    }
}

fn reference(action: &ActionReference) -> StepReference {
    let repository = ReferenceType::Repository;
    match action {
        ActionReference::Repository { name, path, reference } => StepReference {
            kind: repository,
            name: Some(name.clone()),
            git_ref: Some(reference.clone()),
            repository_type: Some("GitHub".to_owned()),
            path: Some(path.clone()).filter(|path| !path.is_empty()),
            image: None,
        },
        ActionReference::Local { path } => StepReference {
            kind: repository,
            repository_type: Some("self".to_owned()),
            path: Some(path.clone()),
            ..Default::default()
        },
        ActionReference::Docker { image } => StepReference {
            kind: ReferenceType::ContainerRegistry,
            image: Some(image.clone()),
            ..Default::default()
        },
    }
}

/// The file that the job's tokens are of: by path alone if it is of the run's own repository.
fn file_name(live: &Live, planned: &PlannedJob) -> String {
    let own = live.facts.repository.name.to_string();
    match live.plan.files.get(planned.file) {
        Some(source) if source.repository == own => source.path.clone(),
        Some(source) => source.workflow_ref(),
        None => String::new(),
    }
}
