//! What can go wrong between us and the Actions service.

use std::time::Duration;

use super::jit::NameTaken;
use crate::http::{Answer, HttpError, first_line, shorten};
use crate::lenient;
use crate::rest::RestError;
use crate::rest::budget::retry_after;
use crate::wire::scale_set::{BudgetError, Exception, exception};

/// A call that failed. No variant holds a URL or a token.
#[derive(Debug, thiserror::Error)]
pub enum ScaleSetError {
    /// REST gave no registration token.
    #[error("the Actions service cannot be reached without a registration token")]
    Rest {
        /// Why there is none.
        #[source]
        source: RestError,
    },
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
    #[error("{operation} was answered {status}{}: {message}", .kind.as_ref().map(|kind| format!(" {kind}")).unwrap_or_default())]
    Status {
        /// What was tried.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// The `typeName`, if there is one.
        kind: Option<String>,
        /// The service's words, shortened.
        message: String,
        /// How long it wants to be left alone.
        wait: Option<Duration>,
    },
    /// The answer makes no sense.
    #[error("{operation} was answered with something else")]
    Body {
        /// What was tried.
        operation: &'static str,
        /// What is wrong with it.
        #[source]
        source: BudgetError,
    },
    /// An address in an answer is none, or another one than it should be.
    #[error("{operation} was answered with an address that cannot be used")]
    Url {
        /// What was tried.
        operation: &'static str,
    },
    /// Several things have a name that is unique.
    #[error("{count} {what} are called `{name}`")]
    Ambiguous {
        /// What they are.
        what: &'static str,
        /// The name.
        name: String,
        /// How many.
        count: usize,
    },
    /// There is no such group.
    #[error("there is no runner group `{name}`")]
    NoSuchGroup {
        /// Its name.
        name: String,
    },
    /// The runner's name cannot be had.
    #[error("no JIT configuration for `{name}`")]
    NameTaken {
        /// The runner's name.
        name: String,
        /// Why not.
        #[source]
        source: NameTaken,
    },
    /// The message is of another set's log.
    #[error("the message is of scale set {of}, and the session of {session}")]
    ForeignMessage {
        /// Whose message.
        of: i64,
        /// Whose session.
        session: i64,
    },
    /// There is no session at the moment: the message will be sent again.
    #[error("there is no session")]
    NoSession,
}

impl ScaleSetError {
    /// The answer itself when its status is wanted, else what the service said.
    pub(super) fn check(operation: &'static str, answer: Answer) -> Result<Answer, Self> {
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let (kind, message) = match lenient::from_slice::<Exception>(&answer.body) {
            Ok(error) if !(error.type_name.is_empty() && error.message.is_empty()) => {
                let kind = Some(error.type_name).filter(|kind| !kind.is_empty());
                (kind.as_deref().map(shorten), shorten(&error.message))
            }
            _ => (None, first_line(&answer.body)),
        };
        let wait = retry_after(&answer.headers);
        Err(Self::Status { operation, status: answer.status, kind, message, wait })
    }

    /// The HTTP status, when a service answered with one.
    pub fn status(&self) -> Option<u16> {
        if let Self::Status { status, .. } = self { Some(*status) } else { None }
    }

    /// Whether the service named this error; see [`exception`].
    pub fn is(&self, exception: &str) -> bool {
        matches!(self, Self::Status { kind: Some(kind), .. } if kind.contains(exception))
    }

    /// Whether the set is not there.
    pub fn is_set_gone(&self) -> bool {
        self.is(exception::SET_NOT_FOUND)
    }

    /// Whether the runner is at a job, and can be removed later.
    pub fn is_busy(&self) -> bool {
        self.is(exception::JOB_STILL_RUNNING)
    }

    /// Whether it was asked too often, and how long the service wants to be left alone.
    pub fn throttled(&self) -> Option<Option<Duration>> {
        match self {
            Self::Status { status: 429, wait, .. } => Some(*wait),
            Self::Status { status: 403, wait: Some(wait), .. } => Some(Some(*wait)),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: network, deadline, 408, 429, 5xx, odd answers.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_lost_answer(),
            Self::Status { status, .. } => {
                matches!(status, 408 | 429 | 500 | 502..=599) || self.throttled().is_some()
            }
            Self::Body { .. } => true,
            Self::Rest { source } => source.is_transient() || source.retry_at().is_some(),
            Self::Url { .. }
            | Self::Ambiguous { .. }
            | Self::NoSuchGroup { .. }
            | Self::NameTaken { .. }
            | Self::ForeignMessage { .. }
            | Self::NoSession => false,
        }
    }
}
