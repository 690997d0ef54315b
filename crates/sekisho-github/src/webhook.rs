//! Webhooks: whether a delivery is GitHub's, and what it says.
//!
//! Source: protocol reference 1.9. The signature is checked on the raw bytes, in constant time,
//! before anything is parsed. Deliveries are not repeated when they fail and come in any order:
//! [`Delivery::id`] tells whether one was seen before.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::rest::{Account, RepositoryInfo, WorkflowJob, WorkflowRun};
use crate::wire::scale_set::json_depth;

/// Largest delivery, in bytes, as GitHub says.
pub const MAX_BODY_BYTES: usize = 25 * 1024 * 1024;

/// The deepest nesting that is read: payloads have about 8.
const MAX_DEPTH: usize = 64;

/// What a signature begins with.
const SCHEME: &str = "sha256=";

/// Longest name of an event, in bytes.
const MAX_EVENT_BYTES: usize = 64;

/// Why a delivery is not taken. None of these quotes it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Answer 413.
    #[error("the delivery has more than 25 MiB")]
    TooLarge,
    /// Answer 401: no `X-Hub-Signature-256`, or one that is not made with any of the secrets.
    #[error("the delivery is not signed with this hook's secret")]
    Signature,
    /// Answer 400: a header is missing or malformed.
    #[error("the delivery's header `{0}` is missing or malformed")]
    Header(&'static str),
    /// Answer 400: nested too deep.
    #[error("the delivery is nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Answer 400: the payload of a known event is not what it should be.
    #[error(
        "the payload of a `{event}` delivery has another shape, at line {line} column {column}"
    )]
    Payload {
        /// The event.
        event: &'static str,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
}

/// One delivery whose signature was good.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// `X-GitHub-Delivery`: the same when it is delivered again.
    pub id: Uuid,
    /// `X-GitHub-Hook-ID`.
    pub hook_id: Option<u64>,
    /// What happened.
    pub event: WebhookEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum WebhookEvent {
    /// A job changed.
    WorkflowJob(Box<WorkflowJobEvent>),
    /// A run changed.
    WorkflowRun(Box<WorkflowRunEvent>),
    /// A ref was moved.
    Push(Box<PushEvent>),
    /// The hook was made.
    Ping(PingEvent),
    /// An event that means nothing here.
    Other(String),
}

/// What happened to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobActionKind {
    /// It waits for a runner.
    Queued,
    /// It waits for an approval.
    Waiting,
    /// A runner has it.
    InProgress,
    /// It is over.
    Completed,
    /// A word that this version does not know.
    #[serde(other)]
    Unknown,
}

/// What happened to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunActionKind {
    /// It was asked for.
    Requested,
    /// Its first job began.
    InProgress,
    /// It is over.
    Completed,
    /// A word that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Payload of `workflow_job`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowJobEvent {
    /// What happened.
    pub action: JobActionKind,
    /// To which job.
    pub workflow_job: WorkflowJob,
    /// Where.
    pub repository: RepositoryInfo,
    /// By whom.
    #[serde(default)]
    pub sender: Account,
    /// Of which App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<InstallationRef>,
}

/// Payload of `workflow_run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRunEvent {
    /// What happened.
    pub action: RunActionKind,
    /// To which run.
    pub workflow_run: WorkflowRun,
    /// Where.
    pub repository: RepositoryInfo,
    /// By whom.
    #[serde(default)]
    pub sender: Account,
    /// Of which App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<InstallationRef>,
}

/// Payload of `push`, as far as a build plane needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushEvent {
    /// Full.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit before; zeros for a new ref.
    pub before: String,
    /// The commit after; zeros for a removed ref.
    pub after: String,
    /// It is new.
    #[serde(default)]
    pub created: bool,
    /// It is gone.
    #[serde(default)]
    pub deleted: bool,
    /// History was rewritten.
    #[serde(default)]
    pub forced: bool,
    /// Where.
    pub repository: RepositoryInfo,
    /// By whom.
    #[serde(default)]
    pub sender: Account,
    /// Of which App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<InstallationRef>,
}

/// Payload of `ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingEvent {
    /// A proverb.
    #[serde(default)]
    pub zen: String,
    /// The hook.
    pub hook_id: u64,
}

/// An App's installation by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallationRef {
    /// The number.
    pub id: u64,
}

/// The value of `X-Hub-Signature-256` for a body.
pub fn sign(secret: &SecretString, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let tag = hmac::sign(&key, body);
    tag.as_ref().iter().fold(SCHEME.to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Whether the header's signature is one of `body` by any of the secrets: two while one is
/// changed. An empty secret signs nothing.
pub fn is_signed(secrets: &[SecretString], header: &str, body: &[u8]) -> bool {
    let Some(tag) = header.strip_prefix(SCHEME).and_then(from_hex) else { return false };
    let mut good = false;
    for secret in secrets.iter().filter(|secret| !secret.expose_secret().is_empty()) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        // Each is tried: the time does not tell which it was.
        good |= hmac::verify(&key, body, &tag).is_ok();
    }
    good
}

/// 32 bytes.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        let (high, low) = (digit(pair[0])?, digit(pair[1])?);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

impl Delivery {
    /// Checks a request's signature and reads it.
    ///
    /// # Errors
    /// See [`WebhookError`], in that order.
    pub fn receive(
        secrets: &[SecretString],
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, WebhookError> {
        if body.len() > MAX_BODY_BYTES {
            return Err(WebhookError::TooLarge);
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let signature = text("x-hub-signature-256").ok_or(WebhookError::Signature)?;
        if !is_signed(secrets, signature, body) {
            return Err(WebhookError::Signature);
        }
        let id = text("x-github-delivery").and_then(|id| id.parse().ok());
        let id = id.ok_or(WebhookError::Header("X-GitHub-Delivery"))?;
        let event = text("x-github-event").filter(|event| {
            (1..=MAX_EVENT_BYTES).contains(&event.len()) && !event.contains(char::is_whitespace)
        });
        let event = event.ok_or(WebhookError::Header("X-GitHub-Event"))?;
        let hook_id = text("x-github-hook-id").and_then(|id| id.parse().ok());
        let form = text(CONTENT_TYPE.as_str())
            .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let event = if form {
            let mut fields = url::form_urlencoded::parse(body);
            let payload = fields.find(|(name, _)| name == "payload");
            let payload = payload.ok_or(WebhookError::Header("Content-Type"))?.1;
            WebhookEvent::parse(event, payload.as_bytes())?
        } else {
            WebhookEvent::parse(event, body)?
        };
        Ok(Self { id, hook_id, event })
    }
}

impl WebhookEvent {
    /// Reads the payload of an event.
    ///
    /// # Errors
    /// `TooDeep` or `Payload`.
    pub fn parse(event: &str, payload: &[u8]) -> Result<Self, WebhookError> {
        if json_depth(payload) > MAX_DEPTH {
            return Err(WebhookError::TooDeep);
        }
        Ok(match event {
            "workflow_job" => Self::WorkflowJob(read("workflow_job", payload)?),
            "workflow_run" => Self::WorkflowRun(read("workflow_run", payload)?),
            "push" => Self::Push(read("push", payload)?),
            "ping" => Self::Ping(read("ping", payload)?),
            other => Self::Other(other.to_owned()),
        })
    }
}

fn read<T: DeserializeOwned>(event: &'static str, payload: &[u8]) -> Result<T, WebhookError> {
    serde_json::from_slice(payload).map_err(|error| WebhookError::Payload {
        event,
        line: error.line(),
        column: error.column(),
    })
}

/// A node id in GitHub's old form: opaque, and the same for the same thing.
pub fn node_id(kind: &str, id: u64) -> String {
    BASE64_STANDARD.encode(format!("{:03}:{kind}{id}", kind.len()))
}

#[cfg(test)]
mod tests;
