//! What an answer that is no success says.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

use crate::error::RegistryError;
use crate::http::{Client, Request};

/// Largest error body that is read, in bytes: a verdict with all its findings fits.
const ERROR_BODY_BYTES_MAX: usize = 256 * 1024;

impl Client {
    /// Turns a status that is no success into an error, with what the body says.
    pub(crate) async fn check(
        &self,
        request: &Request<'_>,
        response: Response,
    ) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let registry = request.repository.registry.clone();
        let body = self.error_body(response).await;
        let Said { code, message, detail } = said(&body);
        Err(match status.as_u16() {
            401 => RegistryError::Unauthorized { registry, message },
            403 => {
                let message =
                    if message.is_empty() { format!("`{registry}` denies it") } else { message };
                RegistryError::Denied { message, detail }
            }
            404 => RegistryError::NotFound { what: request.what.clone() },
            429 => RegistryError::TooManyRequests { registry, message, retry_after },
            status @ 500..=599 => RegistryError::Unavailable { registry, status, message },
            status => RegistryError::Refused { registry, status, code, message },
        })
    }

    /// What there is of an error's body: its absence changes nothing.
    async fn error_body(&self, response: Response) -> Vec<u8> {
        let registry = "";
        self.body(registry, response, ERROR_BODY_BYTES_MAX).await.unwrap_or_default()
    }
}

/// The first error of an OCI error body.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: serde_json::Value,
}

#[derive(serde::Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(serde::Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: serde_json::Value,
}

/// An answer that is no OCI error is shown as far as it is short text.
pub(crate) fn said(body: &[u8]) -> Said {
    if let Ok(Errors { errors }) = serde_json::from_slice::<Errors>(body)
        && let Some(first) = errors.into_iter().next()
    {
        let message = first.message.unwrap_or_default();
        return Said { code: first.code, message, detail: first.detail };
    }
    let text = std::str::from_utf8(body).unwrap_or_default().trim();
    let is_page = text.starts_with('<') || text.len() > 300;
    Said { message: if is_page { String::new() } else { text.to_owned() }, ..Said::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_are_read_as_far_as_they_go() {
        let body =
            br#"{"errors":[{"code":"DENIED","message":"no: x","detail":{"a":1}},{"code":"B"}]}"#;
        assert_eq!(
            said(body),
            Said {
                code: "DENIED".into(),
                message: "no: x".into(),
                detail: serde_json::json!({"a": 1})
            }
        );
        assert_eq!(said(b" gone \n").message, "gone");
        assert_eq!(said(b"<html>").message, "");
        assert_eq!(said(b"\xff").message, "");
        assert_eq!(said(br#"{"errors":[]}"#).message, r#"{"errors":[]}"#);
    }
}
