//! RunnerReplicaSet: the runners of one revision.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::deployment::PodTemplate;
use crate::runner::RunnerSpec;

/// The runners of one revision. Made by the operator; only `replicas` ever changes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "runners.sekisho.dev",
    version = "v1alpha1",
    kind = "RunnerReplicaSet",
    plural = "runnerreplicasets",
    namespaced,
    status = "RunnerReplicaSetStatus",
    derive = "PartialEq",
    shortname = "rrs",
    category = "sekisho",
    doc = "The runners of one revision of a RunnerDeployment.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.runners.live",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.runners.pending"),
    printcolumn(name = "Idle", type_ = "integer", json_path = ".status.runners.idle"),
    printcolumn(name = "Busy", type_ = "integer", json_path = ".status.runners.busy"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.runners.failed"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct RunnerReplicaSetSpec {
    /// How many runners are wanted; one that failed is not counted.
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: i32,
    /// Names the content of `runner` and `template`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("revision cannot be changed: another revision is another RunnerReplicaSet"))]
    pub revision: String,
    /// What each runner is to be.
    #[x_kube(validation = Rule::new("self == oldSelf").message("runner cannot be changed: another revision is another RunnerReplicaSet"))]
    pub runner: RunnerSpec,
    /// Laid over the pod that the class makes.
    #[serde(default)]
    pub template: PodTemplate,
}

/// What the operator knows of a RunnerReplicaSet.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerReplicaSetStatus {
    /// The generation of the spec that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Selects the pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub selector: Option<String>,
    /// The number of the next runner. It is written before runners of these numbers are made, and
    /// never falls, so that no name is used twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub next_number: Option<i64>,
    /// When a runner was last seen to reach GitHub, in seconds since 1970, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_seconds: Option<i64>,
    /// How many runners there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runners: Option<RunnerCounts>,
    /// `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::schema")]
    pub conditions: Vec<Condition>,
}

/// How many runners there are, by what they do.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerCounts {
    /// Those that take part: pending, idle and busy.
    pub live: i32,
    /// GitHub does not see them yet.
    pub pending: i32,
    /// Wait for a job.
    pub idle: i32,
    /// Have a job.
    pub busy: i32,
    /// Failed, and are kept to be looked at.
    pub failed: i32,
}
