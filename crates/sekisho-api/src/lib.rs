//! The custom resources of the operator, and the schemas that the API server checks them with.
//!
//! ```text
//!  GitHubConnection   where GitHub is and how to sign in            written by a user
//!  RunnerClass        a shape of machine and what it may do         written by the platform, for the whole cluster
//!  RunnerDeployment   which jobs are taken, by how many runners     written by a user
//!    └ RunnerReplicaSet   the runners of one revision               written by the operator
//!        └ Runner             one registration, one pod, one job    written by the operator
//! ```
//!
//! Every rule that can be checked without asking anybody stands in the schema, as a bound or a CEL
//! rule with a sentence, so that there is no admission webhook. What only GitHub or the cluster can
//! tell (a missing secret, an unknown runner group) becomes a condition with a [`Reason`].
//!
//! The schemas are generated into `deploy/crds` by `cargo xtask crds`; a test compares them.
//!
//! Compatibility: fields are only ever added, and optional; a stored object of the version before
//! is read by this one, and the version before ignores what it does not know.

#![expect(unreachable_pub, reason = "what kube's derive makes inside a function is `pub`")]
#![expect(clippy::duplicated_attributes, reason = "each column has its own arguments")]

mod class;
pub mod condition;
mod connection;
mod deployment;
mod replica_set;
mod runner;
pub mod schema;

pub use class::{
    Capacity, CapacityPreference, ContainerMode, ContainerSettings, EgressRule, RunnerClass,
    RunnerClassSpec, RunnerFlavor, RunnerImage, Security, SecurityProfile, UserNamespaces,
};
pub use condition::Reason;
pub use connection::{
    AppAuth, Auth, GitHubConnection, GitHubConnectionSpec, GitHubConnectionStatus, ProxySettings,
    SecretKeyRef, TokenAuth, Webhook,
};
pub use deployment::{
    Acquisition, AcquisitionMode, JobCounts, PodTemplate, Rollout, RunnerDeployment,
    RunnerDeploymentSpec, RunnerDeploymentStatus, ScaleSetStatus, Scaling, TemplateError,
    TemplateMetadata, TrustZone, read_pod_spec,
};
pub use replica_set::{
    RunnerCounts, RunnerReplicaSet, RunnerReplicaSetSpec, RunnerReplicaSetStatus,
};
pub use runner::{
    JobResult, JobStatus, Lifecycle, PodStatus, RegistrationStatus, Runner, RunnerSpec,
    RunnerStatus, Timeline,
};

/// The API group of all kinds.
pub const GROUP: &str = "runners.sekisho.dev";

/// The version that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// On runners, pods, secrets and network policies: the name of their RunnerDeployment.
pub const LABEL_DEPLOYMENT: &str = "runners.sekisho.dev/deployment";

/// On replica sets, runners and pods: the revision they are of.
pub const LABEL_REVISION: &str = "runners.sekisho.dev/revision";

/// On pods and on namespaces: the [`TrustZone`] they belong to.
pub const LABEL_TRUST_ZONE: &str = "runners.sekisho.dev/trust-zone";

/// On a RunnerDeployment or a Runner, with the value `true`: do not wait for running jobs while it
/// is deleted.
pub const ANNOTATION_STOP_NOW: &str = "runners.sekisho.dev/stop-now";

/// On a GitHubConnection, by the operator: of which repositories webhooks told, and when, as JSON.
pub const ANNOTATION_JOBS: &str = "runners.sekisho.dev/jobs";

/// The finalizer of a Runner: its registration at GitHub is outside the cluster, where no garbage
/// collector takes it.
pub const FINALIZER_REGISTRATION: &str = "runners.sekisho.dev/registration";

/// The finalizer of a RunnerDeployment: its scale set at GitHub.
pub const FINALIZER_SCALE_SET: &str = "runners.sekisho.dev/scale-set";

/// The longest name of a RunnerDeployment: the name of a runner is made of it, a mark of the
/// cluster, the revision and a number, and GitHub allows 64 characters.
pub const DEPLOYMENT_NAME_LENGTH_MAX: usize = 30;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if asks for it")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}
