//! Runners on Kubernetes, each for one job: the effects around the decisions of `sekisho-reconcile`.
//!
//! ```text
//!  API server ── watches ─▶ stores ─▶ queue of keys ─▶ observe ─▶ decide ─▶ act ─▶ API server, GitHub
//!                                        ▲
//!  GitHub ── one listener a set ─▶ record on the Runner, acknowledge ──┘
//! ```
//!
//! A key (a Runner, a set, a deployment, a connection) is worked on by one task at a time, and again
//! if something happened meanwhile. Whoever holds the lease of a RunnerDeployment works on it, on its
//! sets and its runners, and listens for its jobs; other replicas stand by with warm stores.
//!
//! Nothing that was decided is kept but what may be lost: after a restart everything is observed again.

mod admin;
mod asks;
mod connection;
mod context;
mod demand;
mod deployment;
mod failure;
mod github;
mod lean;
mod lease;
mod listen;
mod metrics;
mod operator;
mod owned;
mod poll;
mod pulse;
mod queue;
mod reach;
mod record;
mod replica_set;
mod runner;
mod session;
mod stored;
mod sweep;
mod watch;
mod webhook;

pub use operator::{Operator, Settings};
pub use reach::{ReachError, client_options};
