//! RunnerClass: a shape of machine, and what a pod on it may do.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A shape of machine: `default`, `cpu`, `memory`. It belongs to who runs the cluster, so a tenant
/// cannot give himself more rights than the platform has written down.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "runners.sekisho.dev",
    version = "v1alpha1",
    kind = "RunnerClass",
    plural = "runnerclasses",
    derive = "PartialEq",
    shortname = "rclass",
    category = "sekisho",
    doc = "A shape of machine, and what a pod on it may do.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.container.mode"),
    printcolumn(name = "Profile", type_ = "string", json_path = ".spec.security.profile"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".spec.capacity.prefer"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.runner.image", priority = 1)
)]
#[x_kube(
    validation = Rule::new("!(self.container.mode in ['DockerSidecar', 'BuildKit']) || self.security.profile == 'Privileged'").message("container.mode DockerSidecar and BuildKit need security.profile Privileged: the one runs a privileged container, the other one without seccomp; Rootless needs neither")
)]
#[serde(rename_all = "camelCase")]
pub struct RunnerClassSpec {
    /// Nodes must have all of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods endure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "tolerations")]
    pub tolerations: Vec<Toleration>,
    /// What the container `runner` gets, for example `cpu: "4"`, `memory: 8Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, String>,
    /// What the container `runner` may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, String>,
    /// Spot or on-demand machines.
    #[serde(default)]
    pub capacity: Capacity,
    /// What a pod may do.
    #[serde(default)]
    pub security: Security,
    /// How images are built in it.
    #[serde(default)]
    pub container: ContainerSettings,
    /// What runs the job.
    #[serde(default)]
    pub runner: RunnerImage,
    /// Where pods may connect to besides the cluster's DNS. Nothing else is reachable; the clouds'
    /// metadata addresses are not, whatever is written here. Empty: HTTPS to public addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub egress: Vec<EgressRule>,
    /// The RuntimeClass of the pods, for example one with a virtual machine for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime_class_name: Option<String>,
    /// The PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Seconds a runner has between being told to stop and being killed. A spot machine is gone
    /// 120 seconds after its notice; the runner needs some 60 to tell GitHub how the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 20, max = 3600))]
    pub termination_grace_seconds: Option<i64>,
}

/// Spot or on-demand.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.only) || !self.only || self.prefer != 'Any'").message("capacity.only needs capacity.prefer Spot or OnDemand"))]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// What is taken first.
    #[serde(default)]
    pub prefer: CapacityPreference,
    /// Whether nothing else is taken when it cannot be had; otherwise the other kind is the
    /// fallback.
    #[serde(default, skip_serializing_if = "crate::is_false")]
    pub only: bool,
}

/// A kind of capacity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CapacityPreference {
    /// Either.
    #[default]
    Any,
    /// Machines that can be taken away, for less money.
    Spot,
    /// Machines that stay.
    OnDemand,
}

/// What a pod may do.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// The Pod Security Standard that the pods obey.
    #[serde(default)]
    pub profile: SecurityProfile,
    /// Whether pods get a user namespace of their own (`hostUsers: false`).
    #[serde(default)]
    pub user_namespaces: UserNamespaces,
    /// A seccomp profile on the nodes, below the kubelet's seccomp folder. The runtime's default
    /// profile forbids user namespaces, which the native builder needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$")
    )]
    #[x_kube(validation = Rule::new("!self.contains('..')").message("localhostSeccompProfile is a path below the kubelet's seccomp folder, without `..`"))]
    pub localhost_seccomp_profile: Option<String>,
}

/// A Pod Security Standard.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum SecurityProfile {
    /// Not root, no capability, no privilege to be gained.
    #[default]
    Restricted,
    /// No known way to more privilege; a job may be root in its container.
    Baseline,
    /// Anything.
    Privileged,
}

/// Whether pods get a user namespace of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UserNamespaces {
    /// Where the API server is of a version that has them on (1.33 and later), and the nodes that the pod
    /// may land on say that their runtime can (containerd 2.0 and later).
    #[default]
    WhenAvailable,
    /// Never: for nodes whose kernel or runtime cannot, and for NFS volumes.
    Never,
}

/// How images are built.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerSettings {
    /// By which engine.
    pub mode: ContainerMode,
    /// The sidecar's image, where the mode has a sidecar.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

/// An engine that builds images in a runner's pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ContainerMode {
    /// Sekisho's own builder: in the runner's container, without a daemon and without privilege.
    #[default]
    Rootless,
    /// BuildKit beside the runner, as an ordinary user, without seccomp and AppArmor.
    BuildKit,
    /// Docker beside the runner, privileged.
    DockerSidecar,
    /// None.
    None,
}

/// What runs the job.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.flavor != 'Sekisho' || has(self.image)").message("runner.flavor Sekisho needs runner.image: the image that `sekisho build` made of the runner"))]
#[serde(rename_all = "camelCase")]
pub struct RunnerImage {
    /// Whose runner it is.
    #[serde(default)]
    pub flavor: RunnerFlavor,
    /// Its image; name it by digest. Default: GitHub's, of the version that this operator was
    /// made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

/// Whose runner runs in the container `runner`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunnerFlavor {
    /// GitHub's own, or an image made from it.
    #[default]
    GitHub,
    /// Sekisho's: `sekisho runner run`.
    Sekisho,
}

/// One place that pods may connect to: exactly one of `cidr` and `namespaceLabels`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.cidr) != has(self.namespaceLabels)").message("an egress rule must have exactly one of `cidr` and `namespaceLabels`"),
    validation = Rule::new("!has(self.podLabels) || has(self.namespaceLabels)").message("podLabels narrows namespaceLabels, and cannot stand alone")
)]
#[serde(rename_all = "camelCase")]
pub struct EgressRule {
    /// Addresses, for example `10.0.7.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 43))]
    #[x_kube(validation = Rule::new("isCIDR(self)").message("cidr must be a network, for example 10.0.7.0/24 or 2001:db8::/32"))]
    pub cidr: Option<String>,
    /// Pods in the namespaces that have all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::labels")]
    pub namespace_labels: Option<BTreeMap<String, String>>,
    /// Of those, only the pods that have all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::labels")]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// TCP ports.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,
}

fn tolerations(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let item = generator.subschema_for::<Toleration>();
    schemars::json_schema!({ "type": "array", "maxItems": 16, "items": item })
}

fn quantities(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": { "type": "string", "maxLength": 32 },
        "x-kubernetes-validations": [{
            "rule": "self.all(name, isQuantity(self[name]))",
            "message": "a resource is a quantity, for example \"4\", 500m or 8Gi"
        }]
    })
}
