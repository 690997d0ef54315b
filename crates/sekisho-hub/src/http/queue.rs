//! A set's message session, and its queue.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use sekisho_github::wire::scale_set::{
    AcquiredJobs, MAX_CAPACITY, MAX_JOBS, NewSession, Session, read,
};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::guard::bearer;
use super::registration::tenant_url;
use super::tenant::{TenantFault, owner};
use crate::faults::{Call, Fault};
use crate::shared::Shared;
use crate::state::{Order, SetError};
use crate::tokens::QueueClaims;

/// How long a poll waits for a message, as on GitHub.
const POLL: Duration = Duration::from_secs(50);
/// Longest name of a session's holder that is kept, in characters.
const MAX_OWNER: usize = 256;

type Hub = State<Arc<Shared>>;
type Reply<T> = Result<T, TenantFault>;

/// `POST runnerscalesets/{id}/sessions`
pub(super) async fn create(
    State(shared): Hub,
    headers: HeaderMap,
    Path(set): Path<u64>,
    body: Bytes,
) -> Reply<Json<Session>> {
    let owner = owner(&shared, &headers)?;
    let request: NewSession = read(&body)?;
    let conflict = |fault: &Fault| matches!(fault, Fault::SessionConflict);
    if shared.strike(Call::CreateSession, conflict).is_some() {
        return Err(SetError::SessionConflict.into());
    }
    let holder: String = request.owner_name.chars().take(MAX_OWNER).collect();
    let session = Uuid::new_v4();
    shared.change(|state, now| state.open_set_session(&owner, set, session, &holder, now))?;
    told(&shared, set, session, holder)
}

/// `PATCH runnerscalesets/{id}/sessions/{session}`: a new queue token.
pub(super) async fn renew(
    State(shared): Hub,
    headers: HeaderMap,
    Path((set, session)): Path<(u64, Uuid)>,
) -> Reply<Json<Session>> {
    let owner = owner(&shared, &headers)?;
    let touch =
        |state: &mut crate::state::State, now| state.touch_set_session(&owner, set, session, now);
    let holder = shared.change(touch)?;
    told(&shared, set, session, holder)
}

fn told(shared: &Shared, set: u64, session: Uuid, owner_name: String) -> Reply<Json<Session>> {
    let tenant = tenant_url(shared);
    let shown = shared.look(|state| state.shown_set(set, &tenant));
    let statistics = shown.as_ref().and_then(|shown| shown.statistics).unwrap_or_default();
    let token = shared.tokens.queue(QueueClaims { set, session }, shared.clock.now());
    let internal = || {
        TenantFault::new(StatusCode::INTERNAL_SERVER_ERROR, "VssServiceException", "no queue token")
    };
    Ok(Json(Session {
        session_id: session,
        owner_name,
        runner_scale_set: shown,
        // With a query, as on GitHub: clients must keep it.
        message_queue_url: format!("{tenant}scalesets/message?sessionId={session}"),
        message_queue_access_token: token.ok_or_else(internal)?.into(),
        statistics,
    }))
}

/// `DELETE runnerscalesets/{id}/sessions/{session}`
pub(super) async fn delete(
    State(shared): Hub,
    headers: HeaderMap,
    Path((set, session)): Path<(u64, Uuid)>,
) -> Reply<StatusCode> {
    let owner = owner(&shared, &headers)?;
    shared.change(|state, _| state.close_set_session(&owner, set, session))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Query of [`poll`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PollQuery {
    last_message_id: Option<i64>,
}

/// `GET scalesets/message`: at once if there is a message, else when there is one, else 202 after
/// [`POLL`].
pub(super) async fn poll(
    State(shared): Hub,
    headers: HeaderMap,
    Query(query): Query<PollQuery>,
) -> Reply<Response> {
    let QueueClaims { set, session } = listener(&shared, &headers)?;
    let capacity = headers.get(MAX_CAPACITY).and_then(|value| value.to_str().ok()?.parse().ok());
    let order = order(&shared, set);
    let after = query.last_message_id.unwrap_or(0);
    let deadline = Instant::now() + POLL;
    let mut news = shared.news_of(set);
    loop {
        news.mark_unchanged();
        let polled =
            shared.change(|state, now| state.poll_set(set, session, (after, order), capacity, now));
        if let Some(message) = polled? {
            return Ok(Json(message).into_response());
        }
        tokio::select! {
            // All are cancel safe: the state is looked at anew in each round.
            changed = news.changed() => if changed.is_err() { break },
            () = tokio::time::sleep_until(deadline) => break,
            () = shared.stopping.cancelled() => break,
        }
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Which message this poll is answered with, if a fault switch has a say.
fn order(shared: &Shared, set: u64) -> Order {
    let of_messages = |fault: &Fault| {
        matches!(
            fault,
            Fault::DuplicateMessage
                | Fault::ReorderedMessage
                | Fault::ReplayedMessage
                | Fault::SessionExpired
        )
    };
    match shared.strike(Call::Poll, of_messages) {
        Some(Fault::DuplicateMessage) => Order::Repeat,
        Some(Fault::ReorderedMessage) => Order::Newest,
        Some(Fault::ReplayedMessage) => Order::Replay,
        Some(Fault::SessionExpired) => {
            // That there was none is as good.
            let _ = shared.change(|state, _| state.end_set_session(set, None));
            Order::Proper
        }
        _ => Order::Proper,
    }
}

/// `DELETE scalesets/message/{message}`
pub(super) async fn delete_message(
    State(shared): Hub,
    headers: HeaderMap,
    Path(message): Path<i64>,
) -> Reply<StatusCode> {
    let QueueClaims { set, session } = listener(&shared, &headers)?;
    shared.change(|state, now| state.delete_set_message(set, session, message, now))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST runnerscalesets/{id}/acquirejobs`, with the queue token.
pub(super) async fn acquire(
    State(shared): Hub,
    headers: HeaderMap,
    Path(set): Path<u64>,
    body: Bytes,
) -> Reply<Json<AcquiredJobs>> {
    let claims = listener(&shared, &headers)?;
    if claims.set != set {
        return Err(TenantFault::unauthorized());
    }
    let jobs: Vec<i64> = read(&body)?;
    if jobs.len() > MAX_JOBS {
        return Err(TenantFault::bad(format!("at most {MAX_JOBS} jobs are acquired at once")));
    }
    let session = claims.session;
    let acquired = shared.change(|state, now| state.acquire_set_jobs(set, session, &jobs, now))?;
    Ok(Json(acquired.into()))
}

/// Whose queue token it is.
fn listener(shared: &Shared, headers: &HeaderMap) -> Reply<QueueClaims> {
    let claims = bearer(headers).and_then(|token| shared.tokens.read::<QueueClaims>(token));
    claims.ok_or_else(TenantFault::unauthorized)
}
