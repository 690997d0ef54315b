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
//! Every call has a deadline and a limit on the answer. What the reference says is retried, is
//! retried; nothing else is.

mod broker;
mod error;
mod http;
mod job;
mod token;

pub use broker::{Client, Identity, POLL_DEADLINE};
pub use error::ClientError;
pub use job::{JobClient, LogKind};
