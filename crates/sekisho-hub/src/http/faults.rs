//! The fault switches: done to requests, and set.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::SignedDuration;
use serde::Serialize;

use super::reply::Problem;
use crate::faults::{Call, Fault, MAX_RULES, Plan, SetClock, Strike};
use crate::shared::Shared;

/// The longest that an answer is kept back.
const MAX_DELAY: Duration = Duration::from_secs(10 * 60);
/// How much of an answer comes before it is cut.
const BEFORE_CUT: &[u8] = b"{\"";

/// Does what the plan says to a request.
pub(super) async fn strike(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let call = Call::of(request.method(), request.uri().path());
    let fault = call.and_then(|call| shared.strike(call, Fault::is_of_the_wire));
    let Some(fault) = fault else { return next.run(request).await };
    let wait = |ms| tokio::time::sleep(Duration::from_millis(ms).min(MAX_DELAY));
    match fault {
        Fault::Status { status, after_ms } => {
            wait(after_ms).await;
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, "a fault switch is on\n").into_response()
        }
        Fault::Unauthorized { after_ms } => {
            wait(after_ms).await;
            let challenge = [(http::header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "a fault switch is on\n").into_response()
        }
        Fault::Cut { done } => {
            if done {
                let _ = next.run(request).await;
            }
            cut()
        }
        Fault::Slow { after_ms } => {
            wait(after_ms).await;
            next.run(request).await
        }
        Fault::RateLimit { wait_s } => limited(wait_s, shared.clock.now().as_second()),
        // Not of the wire: `strike` gives none of these.
        _ => next.run(request).await,
    }
}

/// An answer that promises more than there is.
fn cut() -> Response {
    let parts =
        [Ok(Bytes::from_static(BEFORE_CUT)), Err(std::io::Error::other("cut by a fault switch"))];
    let mut response = Body::from_stream(futures_util::stream::iter(parts)).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

fn limited(wait_s: u64, now: i64) -> Response {
    let mut headers = HeaderMap::new();
    let reset = now.saturating_add(i64::try_from(wait_s).unwrap_or(i64::MAX));
    for (name, value) in [
        ("retry-after", wait_s.to_string()),
        ("x-ratelimit-limit", "5000".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-used", "5000".to_owned()),
        ("x-ratelimit-reset", reset.to_string()),
        ("x-ratelimit-resource", "core".to_owned()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    let body = serde_json::json!({
        "message": "API rate limit exceeded",
        "documentation_url": "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api",
    });
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(body)).into_response()
}

/// Answer of `GET faults`.
#[derive(Debug, Serialize)]
pub(super) struct Struck {
    struck: Vec<Strike>,
}

/// `GET faults`: what went wrong so far.
pub(super) async fn struck(State(shared): State<Arc<Shared>>) -> Json<Struck> {
    Json(Struck { struck: shared.struck() })
}

/// `PUT faults`: a plan in place of the one there is.
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Json(plan): Json<Plan>,
) -> Result<StatusCode, Problem> {
    if plan.rules.len() > MAX_RULES {
        let title = format!("a plan has at most {MAX_RULES} rules");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title));
    }
    shared.arm(plan);
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE faults`: nothing more goes wrong, and others are told the right time.
pub(super) async fn clear(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.arm(Plan::default());
    shared.clock.skew(SignedDuration::ZERO);
    StatusCode::NO_CONTENT
}

/// `POST clock`
pub(super) async fn clock(
    State(shared): State<Arc<Shared>>,
    Json(set): Json<SetClock>,
) -> StatusCode {
    shared.advance(SignedDuration::from_secs(set.advance_s.into()));
    if let Some(skew) = set.skew_s {
        shared.clock.skew(SignedDuration::from_secs(skew.into()));
    }
    StatusCode::NO_CONTENT
}
