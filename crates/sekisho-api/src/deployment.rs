//! RunnerDeployment: which jobs are taken, and by how many runners.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Condition;
use crate::replica_set::RunnerCounts;
use crate::runner::Lifecycle;

/// Which jobs are taken, and by how many runners.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "runners.sekisho.dev",
    version = "v1alpha1",
    kind = "RunnerDeployment",
    plural = "runnerdeployments",
    namespaced,
    status = "RunnerDeploymentStatus",
    derive = "PartialEq",
    shortname = "rdeploy",
    category = "sekisho",
    doc = "Which jobs are taken, and by how many runners.",
    validation = Rule::new("size(self.metadata.name) <= 30").message("metadata.name has at most 30 characters: the names of runners are made of it, and GitHub allows them 64"),
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.runners.live", label_selector_path = ".status.selector"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.jobs.waiting"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desired"),
    printcolumn(name = "Pending", type_ = "integer", json_path = ".status.runners.pending"),
    printcolumn(name = "Idle", type_ = "integer", json_path = ".status.runners.idle"),
    printcolumn(name = "Busy", type_ = "integer", json_path = ".status.runners.busy"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Labels", type_ = "string", json_path = ".spec.labels", priority = 1),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.classRef", priority = 1),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[x_kube(
    validation = Rule::new("has(self.replicas) != has(self.scaling)").message("exactly one of `replicas` (a fixed number) and `scaling` (as many as there are jobs) must be set"),
    validation = Rule::new("self.acquisition.mode == 'Registration' || !('self-hosted' in self.labels)").message("a scale set has no label `self-hosted`: remove it and write `runs-on` without it, or use acquisition.mode Registration")
)]
#[serde(rename_all = "camelCase")]
pub struct RunnerDeploymentSpec {
    /// The GitHubConnection in this namespace.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("connectionRef cannot be changed: create another RunnerDeployment"))]
    pub connection_ref: String,
    /// The RunnerClass.
    #[schemars(length(min = 1, max = 253))]
    pub class_ref: String,
    /// The runner group on GitHub; it decides which repositories may use the runners.
    #[serde(default = "default_group")]
    #[schemars(length(min = 1, max = 64))]
    pub group: String,
    /// What a job asks for with `runs-on`. The first is the scale set's name.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 64)))]
    #[x_kube(
        validation = Rule::new("self.all(label, label.matches('^[A-Za-z0-9._-]+$'))").message("a label has letters, digits, `.`, `_` and `-`"),
        validation = Rule::new("self[0] == oldSelf[0]").message("the first label is the scale set's name and cannot be changed: create another RunnerDeployment")
    )]
    pub labels: Vec<String>,
    /// How it is learned that there are jobs.
    #[serde(default)]
    pub acquisition: Acquisition,
    /// A fixed number of runners, whether there are jobs or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<i32>,
    /// As many runners as there are jobs, between bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Whose code the jobs run. A namespace has one zone, and a runner group has one zone.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("trustZone cannot be changed: create another RunnerDeployment, in a namespace of that zone"))]
    pub trust_zone: TrustZone,
    /// Laid over the pod that the class makes. Its container `runner` runs the job.
    #[serde(default)]
    pub template: PodTemplate,
    /// How long a runner may stay in each state.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// How runners of a new revision replace those of an old one.
    #[serde(default)]
    pub rollout: Rollout,
}

fn default_group() -> String {
    "Default".to_owned()
}

/// How it is learned that there are jobs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acquisition {
    /// Over which of GitHub's interfaces.
    #[x_kube(validation = Rule::new("self == oldSelf").message("acquisition.mode cannot be changed: create another RunnerDeployment"))]
    #[serde(default)]
    pub mode: AcquisitionMode,
    /// Whether a scale set of this name that somebody else made is taken over: it is then changed, used and
    /// in the end deleted as if it had been made here. Without it, such a set is left alone.
    #[serde(default, skip_serializing_if = "crate::is_false")]
    pub take_over: bool,
}

/// One of GitHub's interfaces for self-hosted runners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AcquisitionMode {
    /// A scale set: a long poll of its messages. Jobs that the server assigns by itself
    /// (github.com) and jobs that have to be acquired (GitHub Enterprise Server) are both taken.
    #[default]
    ScaleSet,
    /// Runners registered one by one over REST; the queue is polled.
    Registration,
}

/// As many runners as there are jobs, between bounds.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.min <= self.max").message("scaling.min must not be above scaling.max"))]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Never fewer.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub min: i32,
    /// Never more.
    #[schemars(range(min = 0, max = 10_000))]
    pub max: i32,
    /// How many are kept ready beyond the jobs that are there.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub idle: i32,
    /// How long fewer must be enough before idle runners are stopped.
    #[serde(default = "default_scale_down_delay")]
    #[schemars(range(min = 0, max = 86_400))]
    pub scale_down_delay_seconds: u32,
}

const fn default_scale_down_delay() -> u32 {
    120
}

/// Whose code the jobs of a set run.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum TrustZone {
    /// That of pull requests from forks: anybody's.
    ForkPullRequest,
    /// That of pull requests: a member's, not reviewed yet.
    #[default]
    PullRequest,
    /// That of protected branches: reviewed.
    ProtectedBranch,
}

impl TrustZone {
    /// The value of [`crate::LABEL_TRUST_ZONE`].
    pub const fn label(self) -> &'static str {
        match self {
            Self::ForkPullRequest => "fork-pull-request",
            Self::PullRequest => "pull-request",
            Self::ProtectedBranch => "protected-branch",
        }
    }
}

/// Laid over the pod that the class makes.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodTemplate {
    /// Labels and annotations of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// A `PodSpec` as in a Deployment; `containers` may be left out. It is checked when it is used,
    /// and a mistake in it is a condition that names the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub spec: Option<Value>,
}

/// Labels and annotations.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateMetadata {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// A pod template that is not a pod's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {reason}")]
pub struct TemplateError {
    /// The field, for example `spec.template.spec.containers[runner].image`.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl PodTemplate {
    /// The pod that is asked for; an empty one where there is none.
    ///
    /// # Errors
    /// Where a field has another type than a pod's.
    pub fn pod_spec(&self) -> Result<PodSpec, TemplateError> {
        let Some(value) = &self.spec else { return Ok(PodSpec::default()) };
        let mut value = value.clone();
        if let Some(fields) = value.as_object_mut() {
            // Required of a pod, but not of what is laid over one.
            fields.entry("containers").or_insert_with(|| serde_json::json!([]));
        }
        read_pod_spec(&value)
    }
}

/// Reads a pod's spec that stands, or is to stand, in a template.
///
/// # Errors
/// Where it is none: the first field that is not as a pod's.
pub fn read_pod_spec(value: &Value) -> Result<PodSpec, TemplateError> {
    serde_path_to_error::deserialize(value).map_err(|error| TemplateError {
        path: field(value, error.path()),
        reason: error.inner().to_string(),
    })
}

/// A field as people name it: what has a name, by its name.
fn field(value: &Value, path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let (mut text, mut at) = ("spec.template.spec".to_owned(), Some(value));
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                at = at.and_then(|it| it.get(index));
                match at.and_then(|it| it.get("name")?.as_str()) {
                    Some(name) => text.push_str(&format!("[{name}]")),
                    None => text.push_str(&format!("[{index}]")),
                }
            }
            Segment::Map { key } => {
                at = at.and_then(|it| it.get(key));
                text.push_str(&format!(".{key}"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

/// How runners of a new revision replace those of an old one. Runners with a job are never stopped.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// How many runners there may be above what is desired, in percent of it.
    #[schemars(range(min = 0, max = 100))]
    pub max_surge_percent: u32,
    /// How many of the desired runners may be missing meanwhile, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub max_unavailable_percent: u32,
    /// How many old revisions are kept to return to.
    #[schemars(range(min = 0, max = 20))]
    pub history_limit: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { max_surge_percent: 25, max_unavailable_percent: 0, history_limit: 3 }
    }
}

/// What the operator knows of a RunnerDeployment.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerDeploymentStatus {
    /// The generation of the spec that the status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The revision that new runners are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// Selects the pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub selector: Option<String>,
    /// How many runners are wanted now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,
    /// How many runners there are, of all revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runners: Option<RunnerCounts>,
    /// How many jobs there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobCounts>,
    /// The scale set at GitHub. It is this deployment's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_set: Option<ScaleSetStatus>,
    /// While the scale set is made: the runner group in which its name was found to be free. A set that is
    /// found there afterwards is this deployment's own, though its number is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub claimed_group: Option<String>,
    /// `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::schema")]
    pub conditions: Vec<Condition>,
}

/// How many jobs there are.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobCounts {
    /// Wait for a runner.
    pub waiting: i32,
    /// Run.
    pub running: i32,
}

/// The scale set at GitHub.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleSetStatus {
    /// GitHub's number of it.
    pub id: i64,
    /// Its name: the first label.
    #[schemars(length(max = 64))]
    pub name: String,
    /// The runner group that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub group: Option<String>,
    /// Labels that GitHub did not take.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub dropped_labels: Vec<String>,
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_need_not_have_containers_but_must_be_a_pods() {
        let of = |spec| PodTemplate { metadata: None, spec: Some(spec) };
        let pod = of(serde_json::json!({ "hostAliases": [{ "ip": "10.0.0.1" }] })).pod_spec();
        assert_eq!(pod.unwrap().host_aliases.unwrap()[0].ip, "10.0.0.1");
        assert_eq!(PodTemplate::default().pod_spec().unwrap(), PodSpec::default());
    }

    #[test]
    fn a_mistake_in_a_template_is_told_with_its_field() {
        #[track_caller]
        fn check(spec: Value, want: &str) {
            let template = PodTemplate { metadata: None, spec: Some(spec) };
            assert_eq!(template.pod_spec().unwrap_err().to_string(), want);
        }
        let wrong = "invalid type: integer `7`, expected a string";
        check(
            serde_json::json!({ "containers": [{ "name": 7 }] }),
            &format!("`spec.template.spec.containers[0].name`: {wrong}"),
        );
        check(
            serde_json::json!({ "containers": [
                { "name": "runner", "env": [{ "name": "A", "value": 7 }] }
            ] }),
            &format!("`spec.template.spec.containers[runner].env[A].value`: {wrong}"),
        );
        check(
            serde_json::json!({ "nodeSelector": { "a": true } }),
            "`spec.template.spec.nodeSelector.a`: invalid type: boolean `true`, expected a string",
        );
    }
}
