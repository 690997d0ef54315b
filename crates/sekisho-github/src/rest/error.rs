//! What can go wrong between Sekisho and GitHub's REST: what was tried, what was said, what to do.

use jiff::Timestamp;

use super::app::SignError;
use crate::http::{HttpError, first_line, shorten};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The HTTP client could not be made.
    #[error("no client for GitHub")]
    Client(#[source] HttpError),
    /// The App's key did not sign.
    #[error("{operation} needs a token, and the App could not say who it is")]
    Sign {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: SignError,
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
    #[error("{operation} was answered {status}: {message}")]
    Status {
        /// What was tried.
        operation: &'static str,
        /// The HTTP status.
        status: u16,
        /// The service's words, with those about single fields.
        message: String,
        /// The permission that the call needs.
        needs: &'static str,
        /// `X-GitHub-Request-Id`, for GitHub's support.
        request_id: Option<String>,
    },
    /// A limit is reached, or what is left of it is kept for more important calls.
    #[error("{operation} must wait until {until}: {}", if *.secondary { "a secondary rate limit is reached" } else { "the rate limit is used up" })]
    Limited {
        /// What was tried.
        operation: &'static str,
        /// When to try again.
        until: Timestamp,
        /// Not the hourly limit.
        secondary: bool,
    },
    /// The answer is not what was asked for.
    #[error("{operation} was answered with {reason}")]
    Body {
        /// What was tried.
        operation: &'static str,
        /// What is wrong; never the content.
        reason: String,
    },
    /// A list with more pages than are read.
    #[error("{operation} found more than {limit} entries")]
    TooMany {
        /// What was tried.
        operation: &'static str,
        /// How many are read.
        limit: usize,
    },
}

impl RestError {
    /// The HTTP status, when the service answered with one.
    pub fn status(&self) -> Option<u16> {
        if let Self::Status { status, .. } = self { Some(*status) } else { None }
    }

    /// When to try again, when it is a matter of time alone.
    pub fn retry_at(&self) -> Option<Timestamp> {
        if let Self::Limited { until, .. } = self { Some(*until) } else { None }
    }

    /// Whether the same call may succeed in a moment: network, 408, 5xx.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { source, .. } => source.is_lost_answer(),
            Self::Status { status, .. } => matches!(status, 408 | 500..=599),
            Self::Client(_)
            | Self::Sign { .. }
            | Self::Limited { .. }
            | Self::Body { .. }
            | Self::TooMany { .. } => false,
        }
    }

    /// What to do about it, in one sentence.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Client(_) => "check the proxy's address and the private certificates".to_owned(),
            Self::Sign { .. } => {
                "give the private key that GitHub made for the App, as PEM".to_owned()
            }
            Self::Http { .. } => {
                "check the address, the network, the proxy and, for a GHES, its certificates"
                    .to_owned()
            }
            Self::Limited { until, .. } => format!("try again after {until}"),
            Self::Body { .. } => {
                "is this the address of a GitHub server, and not of a proxy's page?".to_owned()
            }
            Self::TooMany { .. } => "ask for less, by name or state".to_owned(),
            Self::Status { status, needs, .. } => return by_status(*status, needs),
        };
        Some(text)
    }
}

fn by_status(status: u16, needs: &str) -> Option<String> {
    Some(match status {
        401 => "the token is unknown, expired or revoked: make a new one".to_owned(),
        403 => format!("give the credential the permission `{needs}`"),
        404 => format!(
            "it does not exist, or the credential cannot see it: it needs the permission `{needs}` \
             there"
        ),
        409 => "look at its present state: it is there already, or too far on".to_owned(),
        422 => "the request's fields are refused: the message says which".to_owned(),
        500..=599 => "the service has trouble: see https://www.githubstatus.com".to_owned(),
        _ => return None,
    })
}

/// The service's words out of an error body: the message, and what is said of single fields.
pub(super) fn message(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        return first_line(body);
    };
    let mut text = value["message"].as_str().unwrap_or("no message").to_owned();
    for error in value["errors"].as_array().into_iter().flatten().take(5) {
        let said = error.as_str().or_else(|| error["message"].as_str());
        let named = || {
            let (field, code) = (error["field"].as_str()?, error["code"].as_str()?);
            Some(format!("`{field}` {code}"))
        };
        if let Some(said) = said.map(str::to_owned).or_else(named) {
            text = format!("{text}; {said}");
        }
    }
    shorten(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::MAX_TEXT_CHARS;

    #[test]
    fn messages() {
        for (body, want) in [
            (r#"{"message":"Not Found","status":"404"}"#, "Not Found"),
            (r#"{"message":"Bad","errors":["a","b"]}"#, "Bad; a; b"),
            (
                r#"{"message":"Bad","errors":[{"field":"name","code":"missing"},{"message":"m"},7]}"#,
                "Bad; `name` missing; m",
            ),
            ("<html>\nx", "<html>"),
            ("[]", "no message"),
            ("", "no message"),
        ] {
            assert_eq!(message(body.as_bytes()), want, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_body_gives_a_short_message(bytes in proptest::collection::vec(0u8.., 0..300)) {
            assert!(message(&bytes).chars().count() <= MAX_TEXT_CHARS);
        }
    }
}
