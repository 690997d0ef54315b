//! The job request message: everything a runner is told about its job.

mod step;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use step::{ReferenceType, Step, StepReference};

use super::context::{ContextData, Token};
use crate::lenient::scalar::null_is_default;
use crate::secret::WireSecret;

/// `messageType` that makes a runner use the run service and the results service only.
pub const MESSAGE_TYPE: &str = "RunnerJobRequest";
/// `messageType` that makes a runner use the tenant's old service.
pub const TENANT_MESSAGE_TYPE: &str = "PipelineAgentJobRequest";
/// Name of the endpoint that carries the job's token and URLs.
pub const SYSTEM_CONNECTION: &str = "SystemVssConnection";

/// Names of the variables our two ends use.
pub mod variable {
    /// Secret: `github.token`.
    pub const TOKEN: &str = "system.github.token";
    /// Secret: `secrets.GITHUB_TOKEN`.
    pub const GITHUB_TOKEN: &str = "github_token";
    /// JSON map, shown in "Set up job".
    pub const TOKEN_PERMISSIONS: &str = "system.github.token.permissions";
    /// Key of the job in its file.
    pub const JOB: &str = "system.github.job";
    /// Base of the results service.
    pub const RESULTS_ENDPOINT: &str = "system.github.results_endpoint";
    /// The service that knows which commit an action is.
    pub const LAUNCH_ENDPOINT: &str = "system.github.launch_endpoint";
    /// The job's display name.
    pub const PHASE_DISPLAY_NAME: &str = "system.phaseDisplayName";
    /// The runner's group.
    pub const RUNNER_GROUP_NAME: &str = "system.runnerGroupName";
    /// Goes into every step's `ACTIONS_ORCHESTRATION_ID`.
    pub const ORCHESTRATION_ID: &str = "system.orchestrationId";
    /// File of the reusable workflow.
    pub const WORKFLOW_FILE: &str = "system.workflowFileFullPath";
    /// Its ref.
    pub const WORKFLOW_FILE_REF: &str = "system.workflowFileRef";
    /// Its commit.
    pub const WORKFLOW_FILE_SHA: &str = "system.workflowFileSha";
    /// `true` shows debug lines.
    pub const STEP_DEBUG: &str = "ACTIONS_STEP_DEBUG";
}

/// A job, as `acquirejob` answers it. Read it with [`crate::lenient`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentJobRequestMessage {
    /// [`MESSAGE_TYPE`].
    pub message_type: String,
    /// The run.
    pub plan: Plan,
    /// The job's timeline.
    pub timeline: Timeline,
    /// The job.
    pub job_id: Uuid,
    /// What people read.
    #[serde(default)]
    pub job_display_name: String,
    /// Internal name.
    #[serde(default)]
    pub job_name: String,
    /// `container:`; our runner refuses a job that has one.
    #[serde(default)]
    pub job_container: Option<Token>,
    /// `services:`; as above.
    #[serde(default)]
    pub job_service_containers: Option<Token>,
    /// Mapping of name to expression, evaluated after the last step.
    #[serde(default)]
    pub job_outputs: Option<Token>,
    /// The lock's id in the old flow.
    #[serde(default)]
    pub request_id: i64,
    /// Endpoints.
    pub resources: Resources,
    /// `github`, `inputs`, `vars`, `needs`, `strategy`, `matrix`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub context_data: BTreeMap<String, ContextData>,
    /// What to clean before the job.
    #[serde(default)]
    pub workspace: Option<WorkspaceOptions>,
    /// What to mask besides the secret variables.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mask: Vec<MaskHint>,
    /// Mappings, workflow then job; later wins.
    #[serde(default, deserialize_with = "null_is_default")]
    pub environment_variables: Vec<Token>,
    /// Mappings `{run:{shell,working-directory}}`, workflow then job; later wins.
    #[serde(default, deserialize_with = "null_is_default")]
    pub defaults: Vec<Token>,
    /// Deployment environment.
    #[serde(default)]
    pub actions_environment: Option<ActionsEnvironment>,
    /// Settings and secrets; names match in any case: see [`Self::variable`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub variables: BTreeMap<String, VariableValue>,
    /// The steps, in order.
    #[serde(default, deserialize_with = "null_is_default")]
    pub steps: Vec<Step>,
    /// Files that tokens refer to, by 1-based index.
    #[serde(default, deserialize_with = "null_is_default")]
    pub file_table: Vec<String>,
    /// Echoed.
    #[serde(default)]
    pub billing_owner_id: Option<String>,
}

impl AgentJobRequestMessage {
    /// The variable `name`, in any letter case.
    pub fn variable(&self, name: &str) -> Option<&VariableValue> {
        self.variables.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// The endpoint that carries the job's token.
    pub fn system_connection(&self) -> Option<&Endpoint> {
        let same = |e: &&Endpoint| e.name.eq_ignore_ascii_case(SYSTEM_CONNECTION);
        self.resources.endpoints.iter().find(same)
    }
}

/// The run, as the service calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Not looked at.
    #[serde(default)]
    pub scope_identifier: Uuid,
    /// `actions`.
    #[serde(default)]
    pub plan_type: String,
    /// 12.
    #[serde(default)]
    pub version: i32,
    /// `workflow_run_backend_id`.
    pub plan_id: Uuid,
}

/// The job's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Its id.
    pub id: Uuid,
    /// 1.
    #[serde(default)]
    pub change_id: i64,
}

/// Endpoints the job may talk to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Among them [`SYSTEM_CONNECTION`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Base URL; of [`SYSTEM_CONNECTION`]: the run service, ending with `/`.
    pub url: String,
    /// Not looked at.
    #[serde(default)]
    pub is_shared: bool,
    /// Not looked at.
    #[serde(default)]
    pub is_ready: bool,
    /// How to authenticate.
    pub authorization: EndpointAuthorization,
    /// `FeedStreamUrl`, `ResultsServiceUrl`, `GenerateIdTokenUrl`, …; see [`Self::data`].
    #[serde(default, deserialize_with = "null_is_default")]
    pub data: BTreeMap<String, String>,
}

impl Endpoint {
    /// The datum `name`, in any letter case.
    pub fn data(&self, name: &str) -> Option<&str> {
        let mut entries = self.data.iter();
        entries.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The bearer token.
    pub fn access_token(&self) -> Option<&WireSecret> {
        let mut entries = self.authorization.parameters.iter();
        entries.find(|(key, _)| key.eq_ignore_ascii_case("AccessToken")).map(|(_, value)| value)
    }
}

/// How to authenticate at an endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointAuthorization {
    /// `OAuth`.
    #[serde(default)]
    pub scheme: String,
    /// `AccessToken`: the job's JWT.
    #[serde(default, deserialize_with = "null_is_default")]
    pub parameters: BTreeMap<String, WireSecret>,
}

/// `workspace:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceOptions {
    /// `all`, `outputs`, `resources`.
    #[serde(default)]
    pub clean: Option<String>,
}

/// Something to mask.
#[derive(Clone, Serialize, Deserialize)]
pub struct MaskHint {
    /// `regex` or `variable`, in any case.
    #[serde(rename = "type")]
    pub kind: String,
    /// The pattern, or the variable's name.
    pub value: String,
}

impl fmt::Debug for MaskHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskHint").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Deployment environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActionsEnvironment {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Evaluated at the job's end.
    #[serde(default)]
    pub url: Option<Token>,
}

/// A setting or a secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariableValue {
    /// The text.
    #[serde(default, deserialize_with = "null_is_default")]
    pub value: WireSecret,
    /// Whether it becomes `secrets.<NAME>` and is masked.
    #[serde(default)]
    pub is_secret: bool,
}

impl VariableValue {
    /// A setting.
    pub fn plain(value: impl Into<String>) -> Self {
        Self { value: value.into().into(), is_secret: false }
    }

    /// A secret.
    pub fn secret(value: impl Into<String>) -> Self {
        Self { value: value.into().into(), is_secret: true }
    }
}

impl fmt::Debug for VariableValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_secret {
            return f.write_str("[redacted]");
        }
        fmt::Debug::fmt(self.value.expose(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"{"MessageType":"RunnerJobRequest",
        "plan":{"scopeIdentifier":"00000000-0000-0000-0000-000000000000","planType":"actions",
          "version":12,"PLANID":"00000000-0000-0000-0000-000000000001"},
        "timeline":{"id":"00000000-0000-0000-0000-000000000002"},
        "jobId":"00000000-0000-0000-0000-000000000003","jobDisplayName":"build",
        "resources":{"endpoints":[{"name":"systemvssconnection","url":"http://127.0.0.1:1/x/",
          "authorization":{"scheme":"OAuth","parameters":{"AccessToken":"hunter2hunter2"}},
          "data":{"FeedStreamUrl":"ws://127.0.0.1:1/feed"}}]},
        "contextData":{"github":{"t":2,"d":[{"k":"repository","v":"acme/app"}]}},
        "variables":{"System.GitHub.Token":{"value":"hunter2hunter2","isSecret":true},
          "A":{"value":"plain"}},
        "mask":null,"environmentVariables":[],"defaults":[],"fileTable":[],
        "steps":[{"id":"00000000-0000-0000-0000-000000000004","reference":{"type":"Script"},
          "inputs":{"type":2,"map":[{"Key":"script","Value":"true"}]}}]}"#;

    #[test]
    fn reads_a_minimal_message_in_any_case() {
        let job: AgentJobRequestMessage = crate::lenient::from_str(MINIMAL).unwrap();
        let endpoint = job.system_connection().unwrap();
        assert_eq!(endpoint.access_token().unwrap().expose(), "hunter2hunter2");
        assert_eq!(endpoint.data("feedstreamurl"), Some("ws://127.0.0.1:1/feed"));
        assert_eq!(job.variable(variable::TOKEN).unwrap().value.expose(), "hunter2hunter2");
        assert_eq!(job.steps[0].reference.kind, ReferenceType::Script);
        assert!(job.steps[0].enabled);
        assert_eq!(job.context_data["github"].0.get("repository").to_text(), "acme/app");
    }

    #[test]
    fn debug_shows_no_secret() {
        let job: AgentJobRequestMessage = crate::lenient::from_str(MINIMAL).unwrap();
        let text = format!("{job:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("plain"));
    }
}
