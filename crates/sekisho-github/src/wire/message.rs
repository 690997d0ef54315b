//! The broker's messages.

use serde::{Deserialize, Serialize};

/// Query of `GET message` and `POST acknowledge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageQuery {
    /// The session.
    pub session_id: String,
    /// What the runner is doing.
    #[serde(default)]
    pub status: RunnerStatus,
    /// The runner's version.
    #[serde(default)]
    pub runner_version: String,
    /// `Linux`.
    #[serde(default)]
    pub os: String,
    /// `X64`, `ARM64`.
    #[serde(default)]
    pub architecture: String,
    /// `true`: the runner does not update itself.
    #[serde(default)]
    pub disable_update: bool,
}

/// What a runner says of itself with each poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunnerStatus {
    /// Waiting for a job.
    #[default]
    Online,
    /// Running one: cancellations still arrive.
    Busy,
    /// Going away.
    Offline,
}

impl RunnerStatus {
    /// The text of the query parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "Online",
            Self::Busy => "Busy",
            Self::Offline => "Offline",
        }
    }
}

/// One message, as the broker sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAgentMessage {
    /// Increases.
    #[serde(default, deserialize_with = "crate::lenient::scalar::int_or_text")]
    pub message_id: i64,
    /// See [`MessageType`]; compared in any case.
    pub message_type: String,
    /// JSON text; its type depends on `message_type`.
    #[serde(default)]
    pub body: String,
    /// Set where `body` is encrypted: base64 of the initialisation vector. The old queue only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iv: Option<String>,
}

/// The messages a broker sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// Body: [`RunnerJobRequest`].
    RunnerJobRequest,
    /// Body: a whole [`super::job::AgentJobRequestMessage`].
    PipelineAgentJobRequest,
    /// Body: [`super::tenant::BrokerMigration`]. The old queue only.
    BrokerMigration,
    /// An update is offered by the old queue; ignored, for the runner lives for one job.
    AgentRefresh,
    /// Body: [`JobCancellation`].
    JobCancellation,
    /// An update is offered; ignored, for the runner lives for one job.
    RunnerRefresh,
    /// The cached OAuth token is to be dropped.
    ForceTokenRefresh,
    /// New configuration is offered; ignored, as above.
    RunnerRefreshConfig,
    /// The runner is to exit with code 0.
    HostedRunnerShutdown,
}

impl MessageType {
    const ALL: [(Self, &'static str); 9] = [
        (Self::RunnerJobRequest, "RunnerJobRequest"),
        (Self::PipelineAgentJobRequest, "PipelineAgentJobRequest"),
        (Self::BrokerMigration, "BrokerMigration"),
        (Self::AgentRefresh, "AgentRefresh"),
        (Self::JobCancellation, "JobCancellation"),
        (Self::RunnerRefresh, "RunnerRefresh"),
        (Self::ForceTokenRefresh, "ForceTokenRefresh"),
        (Self::RunnerRefreshConfig, "RunnerRefreshConfig"),
        (Self::HostedRunnerShutdown, "HostedRunnerShutdown"),
    ];

    /// Reads the name in any letter case; `None` for a type that is not known.
    pub fn parse(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, text)| text.eq_ignore_ascii_case(name));
        found.map(|(kind, _)| *kind)
    }

    /// The name that is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunnerJobRequest => "RunnerJobRequest",
            Self::PipelineAgentJobRequest => "PipelineAgentJobRequest",
            Self::BrokerMigration => "BrokerMigration",
            Self::AgentRefresh => "AgentRefresh",
            Self::JobCancellation => "JobCancellation",
            Self::RunnerRefresh => "RunnerRefresh",
            Self::ForceTokenRefresh => "ForceTokenRefresh",
            Self::RunnerRefreshConfig => "RunnerRefreshConfig",
            Self::HostedRunnerShutdown => "HostedRunnerShutdown",
        }
    }
}

/// A job is there for this runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerJobRequest {
    /// The message's own id, for people.
    #[serde(default)]
    pub id: String,
    /// What `acquirejob` is asked for.
    pub runner_request_id: String,
    /// Whether to `POST acknowledge` first.
    #[serde(default)]
    pub should_acknowledge: bool,
    /// Base of the run service; ends with `/`.
    pub run_service_url: String,
    /// Echoed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
}

/// The job is to be cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCancellation {
    /// Which job; a cancellation of another job is ignored.
    pub job_id: uuid::Uuid,
    /// `hh:mm:ss`: how long the job may take to end; at least a minute is given.
    #[serde(default)]
    pub timeout: String,
}

/// Body of `POST acknowledge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledge {
    /// From [`RunnerJobRequest::runner_request_id`].
    pub runner_request_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_types_are_read_in_any_case() {
        for (kind, name) in MessageType::ALL {
            assert_eq!(MessageType::parse(&name.to_lowercase()), Some(kind));
            assert_eq!(kind.as_str(), name);
        }
        assert_eq!(MessageType::parse("Surprise"), None);
    }
}
