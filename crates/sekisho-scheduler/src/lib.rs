//! Runners as local processes: the one-machine stand-in for the operator and Kubernetes.
//!
//! It watches the hub's queue, registers exactly one runner for one job, starts it as a child
//! process with an empty environment, a fresh folder and a process group of its own, and removes
//! the registration, the folder and every stray process when it ends, however it ends.
//!
//! ```text
//!  observe ── queue long poll, exits of children, clock ─▶ Observed
//!  decide  ── pure, in `decide` ─────────────────────────▶ [Action]
//!  act     ── JIT config, spawn, signal, deregister ─────▶ hub and kernel
//! ```

pub mod decide;
mod hub;
mod process;
mod scheduler;
mod stray;

pub use process::{Started, started};
pub use scheduler::{Config, Scheduler};
