//! The manifests that install the operator: what `sekisho operator render` prints and `deploy/` holds.
//!
//! ```text
//!  namespace of the operator (restricted)     namespaces of runners, one for each trust zone
//!    Deployment, two replicas                   Role: its own kinds, pods, secrets, policies
//!    ServiceAccount, Role: leases               NetworkPolicy: nothing in, nothing out
//!    NetworkPolicy                              Runner pods, by the operator
//!
//!  namespace of the nodes' profile (privileged)
//!    DaemonSet: writes the seccomp profile into the kubelet's folder, and has no account
//!
//!  of the cluster: the definitions; a ClusterRole that reads classes, nodes, namespaces
//! ```
//!
//! The operator cannot write definitions, classes, roles or anything in another namespace.

mod class;
mod namespaces;
mod node;
mod operator;
mod rbac;
mod seccomp;
mod yaml;

pub use class::classes;
pub use namespaces::{NamespaceError, RunnerNamespace, check, namespace_name};
pub use seccomp::{SECCOMP_PROFILE, seccomp_profile};
pub use yaml::{File, RenderError, files, stream};

use serde_json::{Value, json};

/// The namespace of the operator, where nobody says otherwise.
pub const NAMESPACE: &str = "sekisho-system";

/// The name of the operator's objects.
pub const NAME: &str = "sekisho-operator";

/// The port of `/livez`, `/readyz` and `/metrics`.
pub const PORT: u16 = 8080;

/// The port of GitHub's webhooks, where they are taken.
pub const PORT_WEBHOOKS: u16 = 8081;

/// The label of a namespace whose pods may read the operator's metrics.
pub const LABEL_METRICS: &str = "runners.sekisho.dev/metrics";

/// What is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The namespace of the operator.
    pub namespace: String,
    /// The image with `sekisho`; name it by digest.
    pub image: String,
    /// How many operators there are; one works, the others stand by.
    pub replicas: u8,
    /// Whether GitHub's webhooks are taken: a service, and a port that the network may reach.
    pub webhooks: bool,
    /// Whether each node gets the seccomp profile that [`classes`] name.
    pub node_profile: bool,
    /// Ports that the operator connects to beside those of HTTPS and the API server: a proxy's.
    pub egress_ports: Vec<u16>,
    /// Where runners are.
    pub runners: Vec<RunnerNamespace>,
}

/// Everything, in the order in which it is applied: what others stand in comes first.
///
/// # Errors
/// When a definition cannot be written down; a test renders all of them.
pub fn manifests(install: &Install) -> Result<Vec<Value>, RenderError> {
    let mut all = vec![namespaces::of_operator(install)];
    all.extend(install.runners.iter().map(namespaces::of_runners));
    if install.node_profile {
        all.push(node::namespace(install));
    }
    for crd in sekisho_api::schema::crds() {
        all.push(serde_json::to_value(&crd).map_err(RenderError::Json)?);
    }
    all.extend(without_definitions(install));
    Ok(all)
}

/// All but namespaces and definitions.
fn without_definitions(install: &Install) -> Vec<Value> {
    let mut all = rbac::of_operator(install);
    for runners in &install.runners {
        all.extend(rbac::of_runners(install, runners));
        all.push(namespaces::deny_all(&runners.name));
    }
    all.extend(operator::all(install));
    if install.node_profile {
        all.extend(node::all(install));
    }
    all
}

/// Labels of everything that is installed.
fn labels() -> Value {
    json!({
        "app.kubernetes.io/name": NAME,
        "app.kubernetes.io/part-of": "sekisho",
        "app.kubernetes.io/version": env!("CARGO_PKG_VERSION")
    })
}
