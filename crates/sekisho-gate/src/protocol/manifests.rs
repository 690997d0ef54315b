//! Manifests, tags, referrers.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use sekisho_oci::{MAX_MANIFEST_BYTES, media_type};
use sekisho_store::ManifestRecord;
use sekisho_types::Digest;
use serde_json::{Value, json};

use super::{CONTENT_DIGEST, Context, created, of_digest, parameter};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::push::{self, Put};
use crate::route::Reference;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Most tags in one answer, whatever `n` says.
const MAX_TAGS: usize = 1000;

/// Most referrers in one answer; together they must stay a manifest's size.
const MAX_REFERRERS: usize = 1000;

fn unknown() -> ApiError {
    ApiError::new(Code::ManifestUnknown, "there is no such manifest in this repository")
}

pub(super) async fn get(context: Context, reference: Reference, method: &Method) -> ApiResult {
    let found = blocking("reading a manifest", move || {
        let upstream = &context.gate.inner.upstream;
        let digest = match &reference {
            Reference::Tag(tag) => {
                upstream.resolve(&context.repository, tag).or_fail("reading a tag")?
            }
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Neither => None,
        };
        let Some(digest) = digest else { return Ok(None) };
        upstream.manifest(&context.repository, &digest).or_fail("reading a manifest")
    });
    let (record, bytes) = found.await?.ok_or_else(unknown)?;
    let length = bytes.len();
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(bytes) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(&record.media_type)
        .map_err(|error| ApiError::internal("serving a manifest", &error))?;
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_DIGEST, of_digest(&record.digest)?);
    let etag = HeaderValue::from_str(&format!("\"{}\"", record.digest)).ok();
    headers.extend(etag.map(|etag| (header::ETAG, etag)));
    Ok(response)
}

pub(super) async fn put(
    context: Context,
    reference: Reference,
    request: &Parts,
    body: Body,
) -> ApiResult {
    let identity = context.caller.may_push(&context.gate.inner, &context.repository)?.clone();
    let too_large = || {
        ApiError::new(
            Code::ManifestInvalid,
            format!("a manifest has at most {MAX_MANIFEST_BYTES} bytes"),
        )
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let headers = &request.headers;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = media_type::essence(content_type.unwrap_or_default());
    let said = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if said.and_then(|text| text.parse().ok()).is_some_and(|said: usize| said > MAX_MANIFEST_BYTES)
    {
        return Err(too_large());
    }
    let bytes = axum::body::to_bytes(body, MAX_MANIFEST_BYTES).await.map_err(|_| too_large())?;
    let (tag, digest) = match reference {
        Reference::Tag(tag) => (Some(tag), Digest::sha256(&bytes)),
        Reference::Digest(digest) => (None, push::verified(digest, &bytes)?),
        Reference::Neither => {
            return Err(ApiError::new(Code::ManifestInvalid, "this is neither tag nor digest"));
        }
    };
    let location = format!("/v2/{}/manifests/{digest}", context.repository);
    let put = Put {
        identity,
        repository: context.repository,
        tag,
        digest: digest.clone(),
        content_type,
        bytes,
    };
    let done = push::put(context.gate, put).await?;
    let mut response = created(&location, &digest)?;
    if let Some(subject) = &done.subject {
        response.headers_mut().insert(SUBJECT, of_digest(subject)?);
    }
    for warning in done.warnings {
        let value = HeaderValue::from_str(&warning).ok();
        if let Some(value) = value {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

pub(super) async fn tags(context: Context, request: &Parts) -> ApiResult {
    let n = match parameter(request, "n") {
        None => MAX_TAGS,
        Some(text) => text
            .parse::<u64>()
            .map(|n| usize::try_from(n).map_or(MAX_TAGS, |n| n.min(MAX_TAGS)))
            .map_err(|_| ApiError::new(Code::SizeInvalid, "`n` is no number"))?,
    };
    let last = parameter(request, "last");
    let repository = context.repository.clone();
    let page = blocking("listing tags", move || {
        let upstream = &context.gate.inner.upstream;
        upstream.tags(&context.repository, last.as_deref(), n).or_fail("listing tags")
    });
    let page = page
        .await?
        .ok_or_else(|| ApiError::new(Code::NameUnknown, "there is no such repository"))?;
    let body = Json(json!({"name": repository.as_str(), "tags": page.tags}));
    let mut response = body.into_response();
    if let Some(last) = page.tags.last().filter(|_| page.more) {
        let link = format!("</v2/{repository}/tags/list?n={n}&last={last}>; rel=\"next\"");
        let link = HeaderValue::from_str(&link).ok();
        response.headers_mut().extend(link.map(|link| (header::LINK, link)));
    }
    Ok(response)
}

pub(super) async fn referrers(context: Context, subject: Digest, request: &Parts) -> ApiResult {
    let filter = parameter(request, "artifactType");
    let records = blocking("listing referrers", move || {
        let upstream = &context.gate.inner.upstream;
        let found = upstream.referrers(&context.repository, &subject, MAX_REFERRERS);
        found.or_fail("listing referrers")
    });
    let records = records.await?;
    let wanted = |record: &&ManifestRecord| match &filter {
        Some(filter) => record.artifact_type.as_ref() == Some(filter),
        None => true,
    };
    let manifests: Vec<Value> = records.iter().filter(wanted).map(descriptor).collect();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": manifests,
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX))];
    let mut response = (kind, index.to_string()).into_response();
    if filter.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

fn descriptor(record: &ManifestRecord) -> Value {
    let mut descriptor = json!({
        "mediaType": record.media_type,
        "digest": record.digest,
        "size": record.size,
    });
    if let Some(artifact_type) = &record.artifact_type {
        descriptor["artifactType"] = artifact_type.as_str().into();
    }
    if !record.annotations.is_null() {
        descriptor["annotations"] = record.annotations.clone();
    }
    descriptor
}
