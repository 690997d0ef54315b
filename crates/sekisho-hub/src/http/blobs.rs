//! Uploads in the dialect of Azure's blob storage: as much of it as runners speak.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use sekisho_github::wire::azure::{VERSION, error_xml};
use serde::Deserialize;
use uuid::Uuid;

use crate::shared::Shared;
use crate::store::{LogName, UploadError};
use crate::tokens::BlobClaims;

/// The largest body of one request, in bytes: blocks are 2 MiB.
const MAX_BLOCK: usize = 16 * 1024 * 1024;

/// Query of an upload.
#[derive(Debug, Deserialize)]
pub(super) struct Upload {
    #[serde(default)]
    sig: String,
    #[serde(default)]
    comp: String,
}

/// A refusal, in XML.
pub(super) struct Refused(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, code, message) = self;
        let body = error_xml(code, &message);
        let headers = [
            ("content-type", "application/xml".to_owned()),
            ("x-ms-error-code", code.to_owned()),
            ("x-ms-request-id", Uuid::new_v4().to_string()),
            ("x-ms-version", VERSION.to_owned()),
        ];
        (status, headers, body).into_response()
    }
}

/// `PUT /_blobs/{run}/{job}/{file}?sig=…[&comp=appendblock[&seal=true]]`
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Path((run, job, file)): Path<(u64, u64, String)>,
    Query(query): Query<Upload>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refused> {
    let claims = shared.tokens.read::<BlobClaims>(&query.sig);
    let granted = claims.is_some_and(|c| (c.run, c.job, c.name.as_str()) == (run, job, &file));
    let (true, Some(name)) = (granted, LogName::parse(&file)) else {
        let why = "the signature is not of this URL, or too old";
        return Err(Refused(StatusCode::FORBIDDEN, "AuthenticationFailed", why.to_owned()));
    };
    let content = to_bytes(body, MAX_BLOCK).await.map_err(|_| {
        let why = format!("a request takes at most {MAX_BLOCK} bytes");
        Refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", why)
    })?;
    let kind = headers.get("x-ms-blob-type").map(|kind| kind.as_bytes().to_ascii_lowercase());
    let logs = shared.store.logs(run, job);
    let append = match (query.comp.as_str(), kind.as_deref()) {
        ("appendblock", _) => true,
        ("seal", _) => return Ok(created()),
        ("", Some(b"blockblob" | b"appendblob") | None) => false,
        _ => {
            let why = "only block blobs and append blobs are taken".to_owned();
            return Err(Refused(StatusCode::BAD_REQUEST, "InvalidHeaderValue", why));
        }
    };
    let stored = tokio::task::spawn_blocking(move || {
        if append { logs.append(name, &content) } else { logs.put(name, &content) }
    });
    match stored.await {
        Ok(Ok(())) => Ok(created()),
        Ok(Err(error @ (UploadError::TooLarge(_) | UploadError::TooMany))) => {
            Err(Refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", error.to_string()))
        }
        Ok(Err(error)) => Err(internal(&error)),
        Err(error) => Err(internal(&error)),
    }
}

pub(super) fn internal(error: &dyn std::error::Error) -> Refused {
    tracing::error!("an upload cannot be stored: {error}");
    let why = "an error of the hub: see its log".to_owned();
    Refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", why)
}

/// The answer to a write.
pub(super) fn created() -> Response {
    let now = http_date(crate::clock::now());
    let headers = [
        ("etag", format!("\"{}\"", Uuid::new_v4().simple())),
        ("last-modified", now),
        ("x-ms-request-id", Uuid::new_v4().to_string()),
        ("x-ms-version", VERSION.to_owned()),
    ];
    (StatusCode::CREATED, headers).into_response()
}

/// A time as HTTP writes it.
pub(super) fn http_date(at: jiff::Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
