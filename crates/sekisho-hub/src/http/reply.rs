//! Answers, in the form of each service that is stood in for.

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::ALLOW;
use http::{HeaderName, HeaderValue, StatusCode};
use sekisho_github::hub_api;
use sekisho_github::wire::error::{SOURCE_BROKER, SOURCE_RUN_SERVICE, ServiceError, TwirpError};
use serde_json::json;
use uuid::Uuid;

use crate::store::NotWritten;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-github-request-id");
/// All that is said of an error of our own.
const INTERNAL: &str = "an error of the hub: see its log";

/// Gives every answer an id, which the log names too.
pub(super) async fn request_id(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().simple().to_string();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    if response.status().is_server_error() {
        tracing::warn!("{method} {path} was answered {}: request {id}", response.status());
    }
    // RFC 9457 wants the id in the body too.
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = with_allow(&response, problem.body(id.clone()));
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Gives refusals of the framework (bad query, bad path) the form of our own.
pub(super) async fn problems(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let ours = response.extensions().get::<Problem>().is_some();
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = Problem::new(status, "bad_request", "the request is not understood");
    with_allow(&response, problem.into_response())
}

/// Which methods there are is said of a path, whatever the form of the answer.
fn with_allow(before: &Response, mut after: Response) -> Response {
    if let Some(allow) = before.headers().get(ALLOW) {
        after.headers_mut().insert(ALLOW, allow.clone());
    }
    after
}

/// GitHub's REST: a message.
#[derive(Debug)]
pub(crate) struct GithubError(pub(super) StatusCode, pub(super) String);

impl GithubError {
    pub(super) fn not_found() -> Self {
        Self(StatusCode::NOT_FOUND, "Not Found".to_owned())
    }

    pub(super) fn unprocessable(message: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, message.into())
    }

    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("{error}");
        Self(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL.to_owned())
    }
}

impl From<NotWritten> for GithubError {
    fn from(error: NotWritten) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for GithubError {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        let body = json!({
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": status.as_str(),
        });
        (status, Json(body)).into_response()
    }
}

/// The broker's and the run service's errors.
#[derive(Debug)]
pub(super) struct ServiceFault {
    source: &'static str,
    status: StatusCode,
    kind: Option<&'static str>,
    message: String,
}

impl ServiceFault {
    pub(super) fn broker(status: StatusCode, kind: &'static str, message: &str) -> Self {
        Self { source: SOURCE_BROKER, status, kind: Some(kind), message: message.to_owned() }
    }

    pub(super) fn run(status: StatusCode, message: impl Into<String>) -> Self {
        Self { source: SOURCE_RUN_SERVICE, status, kind: None, message: message.into() }
    }

    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("{error}");
        Self::run(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL)
    }
}

impl From<NotWritten> for ServiceFault {
    fn from(error: NotWritten) -> Self {
        Self::run(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for ServiceFault {
    fn into_response(self) -> Response {
        let body = ServiceError {
            source: self.source.to_owned(),
            error_kind: self.kind.map(str::to_owned),
            status_code: self.status.as_u16(),
            error_message: self.message,
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Twirp's errors.
#[derive(Debug)]
pub(super) struct TwirpFault(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

impl TwirpFault {
    pub(super) fn unauthenticated() -> Self {
        let message = "the token is not one of a job".to_owned();
        Self(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, "invalid_argument", message.into())
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self(StatusCode::NOT_FOUND, "not_found", message.to_owned())
    }

    pub(super) fn denied(message: &str) -> Self {
        Self(StatusCode::FORBIDDEN, "permission_denied", message.to_owned())
    }

    pub(super) fn bad_route() -> Self {
        Self(StatusCode::NOT_FOUND, "bad_route", "there is no such method".to_owned())
    }

    pub(super) fn internal() -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, "internal", INTERNAL.to_owned())
    }
}

impl IntoResponse for TwirpFault {
    fn into_response(self) -> Response {
        let Self(status, code, msg) = self;
        (status, Json(TwirpError { code: code.to_owned(), msg })).into_response()
    }
}

/// Our own: RFC 9457. The body is written where the request's id is known.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    title: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, title: impl Into<String>) -> Self {
        Self { status, code, title: title.into() }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("{error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", INTERNAL)
    }

    fn body(self, request_id: String) -> Response {
        let body = hub_api::Problem {
            title: self.title,
            status: self.status.as_u16(),
            code: self.code.to_owned(),
            request_id,
        };
        let kind = [(http::header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, Json(body)).into_response()
    }
}

impl From<NotWritten> for Problem {
    fn from(error: NotWritten) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_written", error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
