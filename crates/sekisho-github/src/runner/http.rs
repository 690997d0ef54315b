//! The answers of a runner's services: what they say, and what is wrong with them.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::error::ClientError;
use crate::http::{self, Answer, first_line, shorten};
use crate::lenient;
use crate::rest::budget::retry_after;
use crate::retry::{Policy, retry_when_told};
use crate::secret::WireSecret;
use crate::wire::error::{ServiceError, TwirpError};
use crate::wire::oauth::TokenError;

/// Calls that do little: token, session, renew, complete, step updates.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Until a piece of a log is uploaded.
pub(super) const UPLOAD_DEADLINE: Duration = Duration::from_secs(120);
/// Largest answer to an ordinary call, in bytes.
pub(super) const MAX_ANSWER: usize = 1024 * 1024;

/// Sends, and reads the whole answer, all within `deadline`; whatever its status.
///
/// Cancel-safe: dropping it closes the request.
pub(super) async fn send(
    operation: &'static str,
    request: RequestBuilder,
    deadline: Duration,
    max_body: usize,
) -> Result<Answer, ClientError> {
    let answer = http::send(request, deadline, max_body).await;
    answer.map_err(|source| ClientError::Http { operation, source })
}

/// Tries again as `policy` says, and not before the service wants it.
///
/// # Errors
/// That of the last try.
pub(super) async fn retry<T, F, Fut>(
    policy: Policy,
    is_retryable: impl Fn(&ClientError) -> bool,
    operation: F,
) -> Result<T, ClientError>
where
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, ClientError>>,
{
    retry_when_told(policy, is_retryable, ClientError::retry_after, operation).await
}

/// Speaks with a job's token.
#[derive(Clone)]
pub(super) struct JobHttp {
    pub(super) client: http::Client,
    pub(super) token: WireSecret,
}

impl JobHttp {
    /// One try; the answer has a status of success.
    pub(super) async fn send(
        &self,
        operation: &'static str,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<Answer, ClientError> {
        let request = request.bearer_auth(self.token.expose());
        send(operation, request, deadline, MAX_ANSWER).await?.success(operation)
    }

    /// JSON for JSON; one try.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        url: &Url,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let request = self.client.post(url.clone()).json(body);
        self.send(operation, request, CALL_DEADLINE).await?.json(operation)
    }
}

impl Answer {
    /// The answer itself when its status is 2xx, else what the service said.
    pub(super) fn success(self, operation: &'static str) -> Result<Self, ClientError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let (kind, message) = refusal(&self.body);
        let (status, retry_after) = (self.status, retry_after(&self.headers));
        Err(ClientError::Status { operation, status, kind, message, retry_after })
    }

    /// The body as `T`, read leniently.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        operation: &'static str,
    ) -> Result<T, ClientError> {
        lenient::from_slice(&self.body).map_err(|error| {
            let reason = match error.classify() {
                serde_json::error::Category::Data => without_values(&error),
                _ => "something that is not JSON".to_owned(),
            };
            ClientError::Body { operation, reason }
        })
    }
}

/// What is wrong with a body, without quoting it: a job message holds secrets.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if ["missing field", "duplicate field", "unknown field"].iter().any(|p| text.starts_with(p)) {
        return format!("unexpected JSON ({})", text.chars().take(120).collect::<String>());
    }
    "JSON of another shape".to_owned()
}

/// Kind and message out of any of the four error bodies, or the body's first line.
fn refusal(body: &[u8]) -> (Option<String>, String) {
    if let Ok(e) = lenient::from_slice::<TokenError>(body) {
        return (Some(shorten(&e.error)), shorten(&e.error_description));
    }
    if let Ok(e) = lenient::from_slice::<ServiceError>(body)
        && !(e.error_message.is_empty() && e.error_kind.is_none())
    {
        return (e.error_kind.as_deref().map(shorten), shorten(&e.error_message));
    }
    if let Ok(e) = lenient::from_slice::<TwirpError>(body)
        && !e.code.is_empty()
    {
        return (Some(shorten(&e.code)), shorten(&e.msg));
    }
    (None, first_line(body))
}

/// Reads a base URL; it gets its trailing `/` if a service forgot it.
pub(super) fn base_url(text: &str, what: &'static str) -> Result<Url, ClientError> {
    let mut url = Url::parse(text).map_err(|_| ClientError::Url { what })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(ClientError::Url { what });
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// `base` + `path`; `path` is one of ours, so joining cannot fail.
pub(super) fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path()));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_error_bodies_are_understood() {
        let table = [
            (
                r#"{"error":"invalid_client","error_description":"gone"}"#,
                (Some("invalid_client"), "gone"),
            ),
            (
                r#"{"source":"actions-broker-listener","errorKind":"RunnerNotFound","statusCode":404,"errorMessage":"no"}"#,
                (Some("RunnerNotFound"), "no"),
            ),
            (
                r#"{"source":"actions-run-service","statusCode":404,"errorMessage":"m"}"#,
                (None, "m"),
            ),
            (r#"{"code":"not_found","msg":"nope"}"#, (Some("not_found"), "nope")),
            ("<html>\nx", (None, "<html>")),
        ];
        for (body, (kind, message)) in table {
            let got = refusal(body.as_bytes());
            assert_eq!((got.0.as_deref(), got.1.as_str()), (kind, message));
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_again() {
        let answer = |after: Option<&str>| {
            let mut headers = reqwest::header::HeaderMap::new();
            if let Some(after) = after {
                headers.insert(reqwest::header::RETRY_AFTER, after.parse().unwrap());
            }
            let answer = Answer { status: 429, headers, body: Vec::new() };
            answer.success("asking").unwrap_err().retry_after()
        };
        assert_eq!(answer(Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(answer(Some("soon")), None);
        assert_eq!(answer(None), None);
    }

    #[test]
    fn bases_get_their_slash() {
        let base = base_url("http://127.0.0.1:1/_run/x", "base").unwrap();
        assert_eq!(join(&base, "acquirejob").as_str(), "http://127.0.0.1:1/_run/x/acquirejob");
        assert!(base_url("ftp://x/", "base").is_err());
        assert!(base_url("x", "base").is_err());
    }
}
