//! The broker: a runner's session, and the messages it waits for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use sekisho_github::lenient;
use sekisho_github::wire::error::kind;
use sekisho_github::wire::message::{
    Acknowledge, JobCancellation, MessageType, RunnerJobRequest, TaskAgentMessage,
};
use sekisho_github::wire::session::TaskAgentSession;
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::guard::bearer;
use super::reply::ServiceFault;
use crate::faults::{Call, Fault};
use crate::shared::Shared;
use crate::state::{Message, Repeat, SessionError};
use crate::tokens::RunnerClaims;

/// How long a poll waits for a message, as on GitHub.
const POLL: Duration = Duration::from_secs(50);
/// Longest operating system name that is kept, in characters.
const MAX_OS: usize = 100;

/// Query of every call but `POST session`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionQuery {
    #[serde(default)]
    session_id: Option<Uuid>,
}

/// Which runner asks. It may have been removed since it got its token.
pub(super) fn runner(shared: &Shared, headers: &HeaderMap) -> Result<u64, ServiceFault> {
    let claims = bearer(headers).and_then(|token| shared.tokens.read::<RunnerClaims>(token));
    let why = "the token is not one of a runner";
    claims
        .map(|claims| claims.runner)
        .ok_or_else(|| ServiceFault::broker(StatusCode::UNAUTHORIZED, "Unauthorized", why))
}

/// `POST session`
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TaskAgentSession>, ServiceFault> {
    let runner = runner(&shared, &headers)?;
    let bad =
        |error| ServiceFault::broker(StatusCode::BAD_REQUEST, "BadRequest", &format!("{error}"));
    let mut session: TaskAgentSession = lenient::from_slice(&body).map_err(bad)?;
    session.session_id = Uuid::new_v4();
    session.encryption_key = None;
    let conflict = |fault: &Fault| matches!(fault, Fault::SessionConflict);
    if shared.strike(Call::RunnerSession, conflict).is_some() {
        return Err(refused(SessionError::Conflict));
    }
    let os: String = session.agent.os_description.chars().take(MAX_OS).collect();
    let os = if os.is_empty() { "Linux".to_owned() } else { os };
    shared
        .change(|state, now| state.open_session(runner, session.session_id, &os, now))
        .map_err(refused)?;
    Ok(Json(session))
}

/// `DELETE session`: also of a runner that is gone by now.
pub(super) async fn close(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<StatusCode, ServiceFault> {
    let runner = runner(&shared, &headers)?;
    shared.change(|state, now| state.close_session(runner, now));
    Ok(StatusCode::NO_CONTENT)
}

/// `GET message`: at once if there is one, else when there is one, else 202 after [`POLL`].
pub(super) async fn message(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Query(query): Query<SessionQuery>,
) -> Result<Response, ServiceFault> {
    let runner = runner(&shared, &headers)?;
    let session = query.session_id.unwrap_or_default();
    go_wrong(&shared, runner);
    let deadline = Instant::now() + POLL;
    let mut changes = shared.changes();
    let mut first = true;
    loop {
        changes.mark_unchanged();
        match shared.change(|state, now| state.next_message(runner, session, now)) {
            Ok(Some(message)) => {
                return Ok(Json(wire(&shared.config.base_url, message)?).into_response());
            }
            Ok(None) => {}
            // It was removed while it waited: it knows that its job is over.
            Err(SessionError::RunnerNotFound | SessionError::Invalid) if !first => break,
            Err(error) => return Err(refused(error)),
        }
        first = false;
        tokio::select! {
            // All are cancel safe: the state is looked at anew in each round.
            changed = changes.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(deadline) => break,
            () = shared.stopping.cancelled() => break,
        }
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Does to a runner what a fault switch has in store for its poll.
fn go_wrong(shared: &Shared, runner: u64) {
    let of_polls = |fault: &Fault| {
        matches!(
            fault,
            Fault::RunnerVanishes
                | Fault::SessionExpired
                | Fault::DuplicateMessage
                | Fault::ReorderedMessage
                | Fault::ReplayedMessage
        )
    };
    let Some(fault) = shared.strike(Call::RunnerPoll, of_polls) else { return };
    shared.change(|state, now| match fault {
        Fault::RunnerVanishes => {
            state.runner_gone(runner, "a fault switch took it", now);
        }
        Fault::SessionExpired => state.close_session(runner, now),
        Fault::DuplicateMessage => state.repeat_message(runner, Repeat::Newest),
        Fault::ReorderedMessage => state.overtake_message(runner),
        Fault::ReplayedMessage => state.repeat_message(runner, Repeat::First),
        // `strike` gives none of these.
        _ => {}
    });
}

fn wire(base: &str, message: Message) -> Result<TaskAgentMessage, ServiceFault> {
    let (message_id, kind, body) = match message {
        Message::Offer { id, request } => {
            let body = RunnerJobRequest {
                id: id.to_string(),
                runner_request_id: request.to_string(),
                should_acknowledge: true,
                run_service_url: format!("{base}/_run/"),
                billing_owner_id: None,
            };
            (id, MessageType::RunnerJobRequest, serde_json::to_string(&body))
        }
        Message::Cancellation { id, job, within } => {
            let seconds = within.as_secs();
            let (minutes, seconds) = (seconds / 60, seconds % 60);
            let timeout = format!("{:02}:{:02}:{seconds:02}", minutes / 60, minutes % 60);
            let body = JobCancellation { job_id: job, timeout };
            (id, MessageType::JobCancellation, serde_json::to_string(&body))
        }
    };
    let body = body.map_err(|error| ServiceFault::internal(&error))?;
    Ok(TaskAgentMessage { message_id, message_type: kind.as_str().to_owned(), body, iv: None })
}

/// `POST acknowledge`
pub(super) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ServiceFault> {
    let runner = runner(&shared, &headers)?;
    let request: Option<Acknowledge> = lenient::from_slice(&body).ok();
    let request = request.and_then(|request| request.runner_request_id.parse().ok());
    if request.is_some_and(|request| shared.look(|state| state.acknowledge(runner, request))) {
        return Ok(StatusCode::OK);
    }
    let why = "the job is not offered to this runner any more";
    Err(ServiceFault::broker(StatusCode::NOT_FOUND, kind::ACKNOWLEDGE_JOB_NOT_FOUND, why))
}

fn refused(error: SessionError) -> ServiceFault {
    let (status, kind, why) = match error {
        SessionError::RunnerNotFound => {
            (StatusCode::NOT_FOUND, kind::RUNNER_NOT_FOUND, "the registration is gone")
        }
        SessionError::Conflict => {
            (StatusCode::CONFLICT, kind::SESSION_CONFLICT, "the runner has a session already")
        }
        SessionError::Invalid => (
            StatusCode::BAD_REQUEST,
            kind::RUNNER_SESSION_INVALID,
            "the session is not this runner's",
        ),
    };
    ServiceFault::broker(status, kind, why)
}
