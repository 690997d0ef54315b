//! The runner's side of the wire: token, broker, run service, results service.
//!
//! ```text
//! JIT config ── Client ──▶ token endpoint      (assertion → access token, cached)
//!                 │  ├────▶ broker             (session, message, acknowledge)
//!                 │  └────▶ run service        (acquirejob)
//!                 └ job ─▶ JobClient ──▶ run service (renewjob, completejob)
//!                                    └─▶ results service (steps, logs, summaries)
//! ```
//!
//! The old flow is spoken where a configuration has no broker: session and queue at a tenant, which may
//! move the runner to a broker; a job that comes from there whole has its lock, timeline and logs there.
//!
//! Every call has a deadline and a limit on the answer. What the reference says is retried, is
//! retried; nothing else is.

mod actions;
mod broker;
mod cipher;
mod error;
mod feed;
#[cfg(test)]
mod hostile;
mod http;
mod job;
mod routes;
mod tenant_job;
mod token;

pub use actions::Resolution;
pub use broker::{Client, Identity, POLL_DEADLINE, Polled, Queue, Session};
pub use error::ClientError;
pub use job::{JobClient, LogKind};
/// The connection of a live feed.
pub use reqwest::Upgraded as FeedStream;
