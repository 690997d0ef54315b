//! What ECR's API says, read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde::Deserialize;

use super::{Password, Problem, USER};

/// Longest answer. A password has some 2 KiB.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Longest text that is said on.
const MAX_MESSAGE: usize = 400;
const MAX_KIND: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Vec<Authorization>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: String,
    /// In seconds.
    expires_at: f64,
}

/// An error as the JSON protocols of AWS have it. Source: Smithy, "AWS JSON 1.1 protocol", "Operation error serialization".
#[derive(Default, Deserialize)]
struct Failure {
    #[serde(rename = "__type", default)]
    kind: String,
    #[serde(alias = "Message", default)]
    message: String,
}

/// An answer that was asked for at `now`.
pub(super) fn read(status: u16, body: &[u8], now: Timestamp) -> Result<Password, Problem> {
    if status == 200 {
        return password(body, now);
    }
    let failure: Failure = serde_json::from_slice(body).unwrap_or_default();
    // `com.amazonaws.ecr#ServerException`, or without what is before its name.
    let kind = clean(failure.kind.rsplit('#').next().unwrap_or_default(), MAX_KIND);
    let kind = if kind.is_empty() { "without a reason".to_owned() } else { kind };
    Err(match (status, kind.as_str()) {
        // Of all messages this one alone is said on: that of a wrong signature repeats the request, with the
        // session's token.
        (_, "AccessDeniedException" | "AccessDenied") => {
            let message = clean(&failure.message, MAX_MESSAGE);
            Problem::Denied(if message.is_empty() {
                "the role may not".to_owned()
            } else {
                message
            })
        }
        // Too many requests are a 400 in this protocol.
        (429 | 500.., _) | (_, "ThrottlingException" | "RequestLimitExceeded") => {
            Problem::Busy { status, kind }
        }
        _ => Problem::Refused { status, kind },
    })
}

fn password(body: &[u8], asked: Timestamp) -> Result<Password, Problem> {
    let problem = |what: &str| Problem::Unreadable(what.to_owned());
    // The error's own words may hold a piece of the answer.
    let answer: Answer = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        problem(&format!("it breaks off or has another form at line {line}, column {column}"))
    })?;
    let first = answer.authorization_data.into_iter().next();
    let given = first.ok_or_else(|| problem("it holds no `authorizationData`"))?;
    let token = STANDARD.decode(given.authorization_token).ok();
    let token = token.and_then(|bytes| String::from_utf8(bytes).ok());
    let token = token.ok_or_else(|| problem("its token is no text in base64"))?;
    let secret = match token.split_once(':') {
        Some((USER, secret)) if !secret.is_empty() => SecretString::from(secret.to_owned()),
        _ => return Err(problem("its token is not `AWS` and a password")),
    };
    let expires = SignedDuration::try_from_secs_f64(given.expires_at).ok();
    let expires = expires.and_then(|since| Timestamp::from_duration(since).ok());
    let expires = expires.ok_or_else(|| problem("its `expiresAt` is no time"))?;
    Ok(Password { secret, asked, expires })
}

/// Somebody else's words, in one line of bounded length.
pub(super) fn clean(text: &str, max: usize) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cut: String = plain.take(max).collect();
    if text.chars().nth(max).is_some() {
        cut.push('…');
    }
    cut
}
