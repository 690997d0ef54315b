//! Runner: one registration, one pod, one job.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::deployment::{AcquisitionMode, TrustZone};

/// One registration, one pod, one job. Made by the operator.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "runners.sekisho.dev",
    version = "v1alpha1",
    kind = "Runner",
    plural = "runners",
    namespaced,
    status = "RunnerStatus",
    derive = "PartialEq",
    shortname = "rn",
    category = "sekisho",
    doc = "One registration, one pod, one job.",
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Succeeded')].reason"
    ),
    printcolumn(name = "Repository", type_ = "string", json_path = ".status.job.repository"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.job.displayName"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.job.result"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.pod.node", priority = 1),
    printcolumn(name = "Run", type_ = "integer", json_path = ".status.job.runId", priority = 1),
    printcolumn(
        name = "Registration",
        type_ = "integer",
        json_path = ".status.registration.id",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Succeeded')].message",
        priority = 1
    ),
    // Of the object and not of the type: RunnerReplicaSet has a `RunnerSpec` with a rule of its own.
    validation = Rule::new("self.spec == oldSelf.spec").message("the spec of a Runner cannot be changed: another one takes its place")
)]
#[serde(rename_all = "camelCase")]
pub struct RunnerSpec {
    /// The RunnerDeployment in this namespace.
    #[schemars(length(min = 1, max = 30))]
    pub deployment: String,
    /// The GitHubConnection in this namespace.
    #[schemars(length(min = 1, max = 253))]
    pub connection_ref: String,
    /// The RunnerClass.
    #[schemars(length(min = 1, max = 253))]
    pub class_ref: String,
    /// How the runner is registered.
    pub mode: AcquisitionMode,
    /// The runner group on GitHub.
    #[schemars(length(min = 1, max = 64))]
    pub group: String,
    /// What a job asks for with `runs-on`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 64)))]
    pub labels: Vec<String>,
    /// Whose code it runs.
    pub trust_zone: TrustZone,
    /// How long it may stay in each state.
    #[serde(default)]
    pub lifecycle: Lifecycle,
}

/// How long a runner may stay in each state, in seconds.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// From the pod's creation until its containers run: finding a node, pulling images.
    #[schemars(range(min = 10, max = 86_400))]
    pub pending_timeout_seconds: u32,
    /// From there until GitHub sees the runner.
    #[schemars(range(min = 10, max = 3_600))]
    pub registration_timeout_seconds: u32,
    /// Without a job, before it is replaced.
    #[schemars(range(min = 60, max = 86_400))]
    pub idle_timeout_seconds: u32,
    /// With a job. GitHub's own bound is five days.
    #[schemars(range(min = 60, max = 432_000))]
    pub max_job_seconds: u32,
    /// For removing registration, secret and pod; then the record is left to the sweep, so that a
    /// finalizer never holds a namespace.
    #[schemars(range(min = 10, max = 3_600))]
    pub deletion_timeout_seconds: u32,
    /// How long a runner that failed is kept to be looked at.
    #[schemars(range(min = 0, max = 86_400))]
    pub failed_ttl_seconds: u32,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            pending_timeout_seconds: 600,
            registration_timeout_seconds: 180,
            idle_timeout_seconds: 1_800,
            max_job_seconds: 21_600,
            deletion_timeout_seconds: 300,
            failed_ttl_seconds: 900,
        }
    }
}

/// What the operator knows of a Runner. Never a token.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerStatus {
    /// The generation of the spec that the conditions are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Its record at GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationStatus>,
    /// Its pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodStatus>,
    /// Its job, written by who reads GitHub's messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// When it reached which state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// `Succeeded`: `Unknown` while it lives, and the reason is its state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::schema")]
    pub conditions: Vec<Condition>,
}

/// A record at GitHub.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegistrationStatus {
    /// GitHub's number of it.
    pub id: i64,
}

/// A pod.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// The pod that the registration was made for; another of its name is not it.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
}

/// A job.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// GitHub's name of the job for this scale set; a number or a UUID.
    #[schemars(length(max = 64))]
    pub id: String,
    /// The workflow run.
    pub run_id: i64,
    /// `owner/name`.
    #[schemars(length(max = 256))]
    pub repository: String,
    /// What GitHub's page calls it.
    #[schemars(length(max = 256))]
    pub display_name: String,
    /// The file and ref of the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub workflow_ref: Option<String>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Time>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
}

/// How GitHub concluded a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JobResult {
    /// `success`.
    Succeeded,
    /// `failure`.
    Failed,
    /// `cancelled`.
    Cancelled,
    /// Any other.
    Other,
}

/// When a runner reached which state.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeline {
    /// The pod was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_created: Option<Time>,
    /// The registration was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<Time>,
    /// GitHub saw the runner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<Time>,
    /// It ended, well or badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
}
