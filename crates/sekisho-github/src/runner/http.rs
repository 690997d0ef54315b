//! One HTTP client, deadlines and limits for every call.

use std::time::Duration;

use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;
use url::Url;

use super::error::ClientError;
use crate::lenient;
use crate::wire::error::{ServiceError, TwirpError};
use crate::wire::oauth::TokenError;

/// Calls that do little: token, session, renew, complete, step updates.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Until a connection stands.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Largest answer to an ordinary call, in bytes.
pub(super) const MAX_ANSWER: usize = 1024 * 1024;
/// Longest message of a service that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 500;

/// A whole answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The client for a runner whose services have these URLs.
///
/// Where all are plain HTTP (one machine), the system's certificates are not read: that is most of
/// the time it takes to make a client.
pub(super) fn client(urls: &[&str], user_agent: &str) -> Result<reqwest::Client, ClientError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(ClientError::NoCryptoProvider);
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(user_agent)
        .connect_timeout(CONNECT_DEADLINE)
        .redirect(reqwest::redirect::Policy::none());
    if urls.iter().all(|url| url.starts_with("http://")) {
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|source| ClientError::Build { source })
}

/// Sends, and reads the whole answer, all within `deadline`.
///
/// Cancel-safe: dropping it closes the request.
pub(super) async fn send(
    operation: &'static str,
    request: RequestBuilder,
    deadline: Duration,
    max_body: usize,
) -> Result<Answer, ClientError> {
    let transport =
        |source: reqwest::Error| ClientError::Transport { operation, source: source.without_url() };
    let exchange = async {
        let mut response = request.send().await.map_err(transport)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > max_body {
                let reason = format!("more than {max_body} bytes");
                return Err(ClientError::Body { operation, reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    };
    match tokio::time::timeout(deadline, exchange).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::Deadline { operation, deadline }),
    }
}

impl Answer {
    /// The answer itself when its status is 2xx, else what the service said.
    pub(super) fn success(self, operation: &'static str) -> Result<Self, ClientError> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let (kind, message) = refusal(&self.body);
        Err(ClientError::Status { operation, status: self.status, kind, message })
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
    let short = |text: &str| -> String {
        text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
    };
    if let Ok(e) = lenient::from_slice::<TokenError>(body) {
        return (Some(short(&e.error)), short(&e.error_description));
    }
    if let Ok(e) = lenient::from_slice::<ServiceError>(body)
        && !(e.error_message.is_empty() && e.error_kind.is_none())
    {
        return (e.error_kind.as_deref().map(short), short(&e.error_message));
    }
    if let Ok(e) = lenient::from_slice::<TwirpError>(body)
        && !e.code.is_empty()
    {
        return (Some(short(&e.code)), short(&e.msg));
    }
    let text = String::from_utf8_lossy(body);
    (None, short(text.lines().next().unwrap_or("no message")))
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
    fn bases_get_their_slash() {
        let base = base_url("http://127.0.0.1:1/_run/x", "base").unwrap();
        assert_eq!(join(&base, "acquirejob").as_str(), "http://127.0.0.1:1/_run/x/acquirejob");
        assert!(base_url("ftp://x/", "base").is_err());
        assert!(base_url("x", "base").is_err());
    }
}
