//! What the operator does next: one plain function for each kind.
//!
//! ```text
//!  connection            is GitHub reachable, as whom
//!  deployment            how many runners, of which revision
//!    └ replica_set       which runners are made, which are stopped
//!        └ runner        one registration, one pod, one job
//!  session               who listens to GitHub, with which capacity; what a message records
//!  sweep                 what stands at GitHub or in the cluster and belongs to nobody
//!  why                   why a job waits, where it runs, how it was lost
//! ```
//!
//! Each module has an `Observed` (all that may be looked at), and a `decide` that makes a plan of it:
//! idempotent effects, in order. Nothing here reads a clock, a socket or randomness; times and jitter
//! are given. Who acts does the effects of a plan in their order, stops at the first that fails, and
//! observes again. An empty plan means that there is nothing to do until something changes.
//!
//! The decisions are levels, not edges: what is done depends on what is there, never on what was done
//! before. So a crash between two effects, a stale read and a second controller are all the same case,
//! and `tests/it` plays them all at once.

mod at;
pub mod backoff;
pub mod connection;
pub mod deployment;
pub mod failure;
pub mod name;
pub mod replica_set;
pub mod runner;
pub mod session;
pub mod sweep;
pub mod why;

pub use at::At;
pub use failure::Failure;

/// What a condition is to say: see [`sekisho_api::condition::Claim`].
pub use sekisho_api::condition::Claim;
