//! Answers that are no success, in the distribution-spec's form.

use std::io;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::ext::ReasonPhrase;
use serde_json::{Value, json};
use uuid::Uuid;

/// Longest status line's phrase, in bytes; old clients show nothing else of a refusal.
const MAX_PHRASE_BYTES: usize = 200;

/// How long a client waits before it comes again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

/// The spec's error codes, with the status that each has here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    Unavailable,
    Unknown,
}

impl Code {
    fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::BlobUnknown => (StatusCode::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::BlobUploadInvalid => (StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::BlobUploadUnknown => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::DigestInvalid => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            Self::ManifestBlobUnknown => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            Self::ManifestInvalid => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::ManifestUnknown => (StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::NameInvalid => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            Self::NameUnknown => (StatusCode::NOT_FOUND, "NAME_UNKNOWN"),
            Self::SizeInvalid => (StatusCode::BAD_REQUEST, "SIZE_INVALID"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
            Self::Denied => (StatusCode::FORBIDDEN, "DENIED"),
            Self::Unsupported => (StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            Self::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    code: Code,
    message: String,
    detail: Value,
}

/// One answer that is no success.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    entries: Vec<Entry>,
    headers: Vec<(HeaderName, HeaderValue)>,
    phrase: Option<String>,
}

pub(crate) type ApiResult<T = Response> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let entries = vec![Entry { code, message: message.into(), detail: Value::Null }];
        let mut error = Self { status: code.parts().0, entries, headers: Vec::new(), phrase: None };
        if matches!(code, Code::TooManyRequests | Code::Unavailable) {
            error.headers.push((header::RETRY_AFTER, RETRY_AFTER_SECONDS.into()));
        }
        error
    }

    /// A refusal by policy: one entry per reason, the first one on the status line too.
    pub(crate) fn denied(reasons: Vec<(String, Value)>) -> Self {
        let phrase = reasons.first().map(|(message, _)| message.clone());
        let entry = |(message, detail)| Entry { code: Code::Denied, message, detail };
        Self {
            status: StatusCode::FORBIDDEN,
            entries: reasons.into_iter().map(entry).collect(),
            headers: Vec::new(),
            phrase,
        }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_detail(mut self, detail: Value) -> Self {
        if let Some(entry) = self.entries.first_mut() {
            entry.detail = detail;
        }
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Another time to come again, in seconds.
    pub(crate) fn with_retry_after(mut self, seconds: &str) -> Self {
        self.headers.retain(|(name, _)| *name != header::RETRY_AFTER);
        self.with_header(header::RETRY_AFTER, seconds)
    }

    /// Our own failure: logged here, once, and told to the client only as a number to ask about.
    pub(crate) fn internal(doing: &str, error: &dyn std::fmt::Display) -> Self {
        let request_id = Uuid::new_v4();
        tracing::error!(%request_id, "gate failed {doing}: {error}");
        Self::new(Code::Unknown, format!("the gate failed; its log knows more under {request_id}"))
    }

    /// A failure of the disk or bucket; a full one is worth coming back for, and so is what was busy or
    /// did not answer.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            tracing::error!("gate is out of disk space {doing}: {error}");
            return Self::new(Code::Unavailable, "the gate is out of disk space");
        }
        if error.kind() == io::ErrorKind::ResourceBusy {
            tracing::error!("gate is busy {doing}: {error}");
            return Self::new(Code::Unavailable, "the gate is busy; try again");
        }
        if is_away(error) {
            tracing::error!("gate's storage does not answer {doing}: {error}");
            return Self::new(Code::Unavailable, "the gate's storage does not answer; try again");
        }
        Self::internal(doing, error)
    }

    /// It may ship and did not get there: worth coming back for.
    pub(crate) fn promotion(decision: &str, error: &io::Error) -> Self {
        tracing::error!(decision, "image not promoted: {error}");
        let message = format!(
            "decision {decision} lets it pass, but it could not be promoted yet; push again"
        );
        Self::new(Code::Unavailable, message)
    }

    /// What is said first.
    pub(crate) fn message(&self) -> String {
        self.entries.first().map(|entry| entry.message.clone()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

/// Whether the storage did not answer.
pub(crate) fn is_away(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::NotConnected)
}

/// What a header or status line can hold: printable ASCII.
pub(crate) fn printable(text: &str, max_bytes: usize) -> String {
    let keep = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().map(keep).take(max_bytes).collect()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let entry = |entry: &Entry| {
            let mut object = json!({"code": entry.code.parts().1, "message": entry.message});
            if !entry.detail.is_null() {
                object["detail"] = entry.detail.clone();
            }
            object
        };
        let errors: Vec<Value> = self.entries.iter().map(entry).collect();
        let mut response = (self.status, Json(json!({"errors": errors}))).into_response();
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        let phrase = self.phrase.map(|phrase| printable(&phrase, MAX_PHRASE_BYTES));
        if let Some(Ok(phrase)) = phrase.map(|text| ReasonPhrase::try_from(text.into_bytes())) {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::internal(doing, &error)),
    }
}

/// Turns disk errors into answers.
pub(crate) trait OrFail<T> {
    fn or_fail(self, doing: &'static str) -> ApiResult<T>;
}

impl<T> OrFail<T> for io::Result<T> {
    fn or_fail(self, doing: &'static str) -> ApiResult<T> {
        self.map_err(|error| ApiError::io(doing, &error))
    }
}
