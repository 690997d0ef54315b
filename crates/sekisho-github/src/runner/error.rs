//! What can go wrong between a runner and its services.

use std::time::Duration;

use crate::http::HttpError;
use crate::jit::JitError;
use crate::wire::error::kind;

/// A call that failed. No variant holds a URL: signed ones are credentials.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration cannot be used.
    #[error("the runner's configuration cannot be used")]
    Config {
        /// Why.
        #[source]
        source: JitError,
    },
    /// A URL that a service sent is none.
    #[error("{what} is not an http or https URL")]
    Url {
        /// Which one.
        what: &'static str,
    },
    /// The job message lacks something that the job cannot do without.
    #[error("the job message has no {what}")]
    Message {
        /// What.
        what: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("the runner's HTTP client cannot be made")]
    Client {
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The assertion could not be signed.
    #[error("the client assertion cannot be signed")]
    Sign,
    /// No answer.
    #[error("{operation} failed")]
    Http {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// The service said no.
    #[error("{operation} was answered {status}{}: {message}", .kind.as_ref().map(|k| format!(" {k}")).unwrap_or_default())]
    Status {
        /// What was tried.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// The broker's `errorKind`, or the token endpoint's `error`.
        kind: Option<String>,
        /// The service's words, shortened.
        message: String,
        /// How long the service asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer is not what was asked for.
    #[error("{operation} was answered with {reason}")]
    Body {
        /// What was tried.
        operation: &'static str,
        /// What is wrong with the answer; never its content.
        reason: String,
    },
    /// A file of this machine could not be read or written.
    #[error("{what} failed")]
    File {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ClientError {
    /// A log of this machine could not be read.
    pub fn reading_log(source: std::io::Error) -> Self {
        Self::File { what: "reading the log", source }
    }

    /// The HTTP status, when a service answered with one.
    pub fn status(&self) -> Option<u16> {
        if let Self::Status { status, .. } = self { Some(*status) } else { None }
    }

    /// The broker's `errorKind`, or the token endpoint's `error`.
    pub fn kind(&self) -> Option<&str> {
        if let Self::Status { kind, .. } = self { kind.as_deref() } else { None }
    }

    /// How long the service asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Status { retry_after, .. } = self { *retry_after } else { None }
    }

    /// Whether the registration is gone, so that trying again is useless.
    pub fn is_unregistered(&self) -> bool {
        let gone = [
            crate::wire::oauth::INVALID_CLIENT,
            kind::RUNNER_NOT_FOUND,
            kind::HOSTED_RUNNER_DEPROVISIONED,
        ];
        self.kind().is_some_and(|k| gone.iter().any(|g| g.eq_ignore_ascii_case(k)))
    }

    /// Whether the broker refuses this version of the runner.
    pub fn is_version_too_old(&self) -> bool {
        self.kind().is_some_and(|k| k.eq_ignore_ascii_case(kind::RUNNER_VERSION_TOO_OLD))
    }

    /// Whether the call may have been done all the same: only its answer did not arrive.
    pub fn is_lost_answer(&self) -> bool {
        matches!(self, Self::Http { source, .. } if source.is_lost_answer())
    }

    /// Whether the same call may succeed later: network, deadline, 408, 429, 5xx.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_lost_answer(),
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Config { .. }
            | Self::Url { .. }
            | Self::Message { .. }
            | Self::Client { .. }
            | Self::Sign { .. }
            | Self::Body { .. }
            | Self::File { .. } => false,
        }
    }
}
