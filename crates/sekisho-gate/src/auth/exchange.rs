//! `POST /oidc/exchange`: an OIDC token for a session token, in the manner of RFC 8693.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::identify::{Refused, Unidentified, Verified};
use super::worker::{self, Peer};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::gate::Gate;

/// Largest body, in bytes: a token and a few words.
pub(crate) const MAX_FORM_BYTES: usize = 64 * 1024;

/// The one thing that is read; the other fields of RFC 8693 may stand there.
#[derive(Deserialize)]
pub(crate) struct Request {
    #[serde(alias = "token")]
    pub(crate) subject_token: String,
}

pub(crate) async fn exchange(
    State(gate): State<Gate>,
    request: axum::extract::Request,
) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let (headers, peer) = (parts.headers, Peer::of(&parts.extensions));
    let Some(request) = read::<Request>(&headers, body).await else {
        return Ok(refused("invalid_request", "give a `subject_token`, as JSON or as a form"));
    };
    let verified = match verify(&gate, &request.subject_token, peer).await? {
        Ok(verified) => verified,
        Err(error) => return Ok(refused("invalid_grant", &error.to_string())),
    };
    let repository = verified.identity.repository.clone();
    let (run_id, run_attempt) =
        (verified.identity.run_id.clone(), verified.identity.run_attempt.clone());
    let Some((token, expires_in)) = session(&gate, verified).await? else {
        return Ok(refused("invalid_grant", &Refused::Replayed.to_string()));
    };
    tracing::info!(repository, run_id, "session opened");
    Ok(secret(json!({
        "token": token,
        "access_token": token,
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": expires_in,
        "repository": repository,
        "run_id": run_id,
        "run_attempt": run_attempt,
    })))
}

/// Verifies an OIDC token that was not exchanged yet. The inner error is the token's fault.
pub(crate) async fn verify(
    gate: &Gate,
    token: &str,
    peer: Peer,
) -> ApiResult<Result<Verified, Refused>> {
    let verified = match gate.inner.issuers.verify(token, gate.inner.now()).await {
        Ok(verified) => verified,
        Err(Unidentified::Refused(error)) => return Ok(Err(error)),
        Err(Unidentified::Unavailable) => {
            let message = "the issuer's keys cannot be fetched";
            return Err(ApiError::new(Code::Unavailable, message));
        }
    };
    if !worker::may_use(&gate.inner, &verified.identity, peer) {
        return Ok(Err(Refused::Elsewhere));
    }
    let inner = gate.inner.clone();
    blocking("looking for an exchanged token", move || {
        let Verified { identity, jti, expires } = &verified;
        let known = inner.exchanged.contains(&identity.issuer, jti, *expires);
        let known = known.or_fail("looking for an exchanged token")?;
        Ok(if known { Err(Refused::Replayed) } else { Ok(verified) })
    })
    .await
}

/// Takes the token and opens a session; `None` when somebody else took it first.
pub(crate) async fn session(gate: &Gate, verified: Verified) -> ApiResult<Option<(String, i64)>> {
    let inner = gate.inner.clone();
    blocking("exchanging a token", move || {
        let Verified { identity, jti, expires } = verified;
        let taken = inner.exchanged.take(&identity.issuer, &jti, expires);
        if !taken.or_fail("exchanging a token")? {
            return Ok(None);
        }
        let session = inner.sessions.session(&identity, inner.now());
        session.map(Some).ok_or_else(|| ApiError::internal("signing a session", &"no token"))
    })
    .await
}

/// A body of fields, as JSON or as a form.
pub(crate) async fn read<T: serde::de::DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
) -> Option<T> {
    let bytes = axum::body::to_bytes(body, MAX_FORM_BYTES).await.ok()?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    fields(kind, &bytes)
}

/// What the fields of a body of that content type are.
pub(crate) fn fields<T: serde::de::DeserializeOwned>(
    kind: Option<&str>,
    bytes: &[u8],
) -> Option<T> {
    if kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/json")) {
        return serde_json::from_slice(bytes).ok();
    }
    let fields = url::form_urlencoded::parse(bytes);
    let object: serde_json::Map<String, Value> = fields
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect();
    serde_json::from_value(Value::Object(object)).ok()
}

/// An answer that holds a token: nobody on the way keeps it.
pub(crate) fn secret(body: Value) -> Response {
    let mut response = Json(body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// RFC 6749, 5.2.
fn refused(error: &str, description: &str) -> Response {
    let body = json!({"error": error, "error_description": description});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
