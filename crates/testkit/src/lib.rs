//! What tests stand on where a cluster is needed. Never shipped.
//!
//! ```text
//!  ApiServer    a Kubernetes API server in memory, with fault switches   ┐ the same scenarios
//!  RealServer   etcd and kube-apiserver, where KUBEBUILDER_ASSETS is set ┘ run on both
//!  Cluster      all that a cluster has beside the API server: scheduler, kubelets,
//!               garbage collector, namespaces, quota; through the API, so on either of them
//! ```
//!
//! A definition of our kinds that is written is the one that holds from then on.
//!
//! The double leaves out what the operator does not use: CEL rules, admission of pods by security
//! level, strategic merge patches, discovery. What it has, it has as the real one does:
//! `tests/it/conformance.rs` is one table that runs against both.

mod api_server;
mod cluster;
mod real;

pub use api_server::{ApiServer, Call, Fault, FaultKind, Served, Verb};
pub use cluster::{Cluster, ClusterOptions, Containers, Ending, PodRun};
pub use real::{RealServer, install_crds};
