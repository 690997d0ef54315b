//! Error bodies of the broker, the run service and the results service.

use serde::{Deserialize, Serialize};

/// Error body of the broker and of the run service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceError {
    /// `actions-broker-listener` or `actions-run-service`.
    #[serde(default)]
    pub source: String,
    /// See [`kind`]; the run service sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<String>,
    /// The HTTP status again.
    #[serde(default)]
    pub status_code: u16,
    /// For people.
    #[serde(default)]
    pub error_message: String,
}

/// The broker's error kinds that a runner acts on.
pub mod kind {
    /// The registration is gone: exit.
    pub const RUNNER_NOT_FOUND: &str = "RunnerNotFound";
    /// The runner is too old: exit 7 or 1.
    pub const RUNNER_VERSION_TOO_OLD: &str = "RunnerVersionTooOld";
    /// The session is gone: make a new one.
    pub const RUNNER_SESSION_INVALID: &str = "RunnerSessionInvalid";
    /// The job is gone before it was acknowledged: an ephemeral runner exits 0.
    pub const ACKNOWLEDGE_JOB_NOT_FOUND: &str = "AcknowledgeJobNotFound";
    /// The runner is being taken away: exit.
    pub const HOSTED_RUNNER_DEPROVISIONED: &str = "HostedRunnerDeprovisioned";
    /// Another process holds the runner's session.
    pub const SESSION_CONFLICT: &str = "RunnerSessionConflict";
}

/// Value of `source` in the broker's errors.
pub const SOURCE_BROKER: &str = "actions-broker-listener";
/// Value of `source` in the run service's errors.
pub const SOURCE_RUN_SERVICE: &str = "actions-run-service";

/// Twirp error body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwirpError {
    /// `not_found`, `unauthenticated`, `invalid_argument`, `internal`, …
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub msg: String,
}
