//! The pod of a runner, its secret and its network policy: custom resources in, Kubernetes objects
//! out. No client, no clock, no randomness.
//!
//! ```text
//!  RunnerClass ─▶ base ─┐
//!                       ├─▶ merge ─▶ harden ─▶ check ─▶ Pod
//!  pod template ─▶ owned┘   by name   defaults   the profile's rules
//! ```
//!
//! The pod is made before its registration. It mounts a secret of its own name, which does not exist
//! yet: the kubelet holds the containers back until it does. The registration (a *JIT
//! configuration*) so never stands in an argument, an image or the pod's object, and a pod that finds
//! no node costs none.
//!
//! Hardening is what a pod has when nobody asks for anything; a class of a weaker profile lets a
//! template loosen it, and nothing else does.

mod base;
mod capacity;
mod error;
mod merge;
mod network;
mod owned;
mod pod;
mod profile;
mod reach;
mod secret;
mod users;
mod zone;

pub use base::user;
pub use error::{PodError, Violation};
pub use network::{EgressError, METADATA_NETWORKS, dns, everywhere_but, network_policies};
pub use pod::{Cluster, RunnerPod, pod};
pub use reach::Reach;
pub use secret::{Given, jit_secret};
pub use users::{NodeView, ids_can_be_mapped};
pub use zone::{GroupUse, ZoneError, check_group, check_namespace};

/// The container that runs the job.
pub const CONTAINER_RUNNER: &str = "runner";

/// The sidecar of container mode `DockerSidecar`.
pub const CONTAINER_DOCKER: &str = "docker";

/// The sidecar of container mode `BuildKit`.
pub const CONTAINER_BUILDKIT: &str = "buildkit";

/// The key of the registration in its secret.
pub const JIT_KEY: &str = "jitconfig";

/// The key of the authorities in the same secret, where the connection has any.
pub const CA_KEY: &str = "ca.crt";

/// The key of the proxy's address in it, where that has a password.
pub const PROXY_KEY: &str = "proxy";

/// Where the registration's secret is mounted in the container `runner`.
pub const JIT_FOLDER: &str = "/run/sekisho/jit";

/// GitHub's runner, of the release whose wire Sekisho speaks.
pub const RUNNER_IMAGE: &str = "ghcr.io/actions/actions-runner:2.336.0";

/// Docker, of the version whose client GitHub's runner image brings.
pub const DOCKER_IMAGE: &str = "docker.io/library/docker:29.7.1-dind";

/// BuildKit for ordinary users.
pub const BUILDKIT_IMAGE: &str = "docker.io/moby/buildkit:v0.29.0-rootless";

/// Seconds between SIGTERM and SIGKILL, where the class says nothing: a spot machine is gone 120
/// seconds after its notice, and GitHub's runner takes up to 60 to end a job and to say so.
pub const TERMINATION_GRACE_SECONDS: i64 = 90;

/// The most a pod may write to its node's disk, where the class says nothing: a job that fills a disk
/// is evicted alone, and not with its neighbours.
pub const EPHEMERAL_STORAGE_LIMIT: &str = "32Gi";

/// What is set aside of it.
pub const EPHEMERAL_STORAGE_REQUEST: &str = "2Gi";
