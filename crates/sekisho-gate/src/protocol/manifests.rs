//! Manifests, tags, referrers.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sekisho_oci::{MAX_MANIFEST_BYTES, media_type};
use sekisho_types::{Digest, Tag};
use serde_json::json;

use super::{CONTENT_DIGEST, Context, DECIDES, created, of_digest, parameter, parameters};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::push::view::View;
use crate::push::{self, Done, Put};
use crate::route::Reference;

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Where a promoter copied the image to.
const PROMOTED: HeaderName = HeaderName::from_static("sekisho-promoted");

/// Most tags in one answer, whatever `n` says.
const MAX_TAGS: usize = 1000;

/// Most tags that one push by digest may name; distribution-spec asks for at least 10.
const MAX_TAG_PARAMETERS: usize = 32;

pub(super) fn unknown() -> ApiError {
    ApiError::new(Code::ManifestUnknown, "there is no such manifest in this repository")
}

pub(super) async fn get(context: Context, reference: Reference, method: &Method) -> ApiResult {
    let found = blocking("reading a manifest", move || {
        let upstream = &context.gate.inner.upstream;
        match &reference {
            Reference::Tag(tag) => {
                let digest = upstream.resolve(&context.repository, tag).or_fail("reading a tag")?;
                let Some(digest) = digest else { return Err(unknown()) };
                upstream.manifest(&context.repository, &digest).or_fail("reading a manifest")
            }
            Reference::Digest(digest) => {
                let found = upstream.manifest(&context.repository, digest);
                if let Some(found) = found.or_fail("reading a manifest")? {
                    return Ok(Some(found));
                }
                let view = View::of_reader(&context)?;
                let found = view.manifest(digest).or_fail("reading a manifest")?;
                let gate = &context.gate.inner;
                let missing = || context.caller.unknown(gate, &context.repository, unknown());
                found.map(Some).ok_or_else(missing)
            }
            Reference::Neither => Ok(None),
        }
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
    headers.insert(DECIDES, HeaderValue::from_static("every-push"));
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
    let more = tag_parameters(request, tag.as_ref())?;
    // Each tag is a push of its own, decided and recorded as such.
    let tags = if more.is_empty() { vec![tag] } else { more.iter().cloned().map(Some).collect() };
    let mut response = created(&location, &digest)?;
    for tag in tags {
        let put = Put {
            identity: identity.clone(),
            repository: context.repository.clone(),
            tag,
            digest: digest.clone(),
            content_type: content_type.clone(),
            bytes: bytes.clone(),
        };
        tell(response.headers_mut(), push::put(context.gate.clone(), put).await?)?;
    }
    for tag in &more {
        let tag = HeaderValue::from_str(tag.as_str()).ok();
        response.headers_mut().extend(tag.map(|tag| (TAG, tag)));
    }
    Ok(response)
}

/// What a client is told of a push, beside that it is done. Several pushes are told of as one.
fn tell(headers: &mut HeaderMap, done: Done) -> ApiResult<()> {
    if let Some(subject) = &done.subject {
        headers.insert(SUBJECT, of_digest(subject)?);
    }
    if let Some(elsewhere) = done.elsewhere {
        headers.extend(HeaderValue::from_str(&elsewhere).ok().map(|value| (PROMOTED, value)));
    }
    headers.remove(header::WARNING);
    for warning in done.warnings {
        let value = HeaderValue::from_str(&warning).ok();
        headers.extend(value.map(|value| (header::WARNING, value)));
    }
    Ok(())
}

/// The tags of a push by digest: `?tag=a&tag=b`.
fn tag_parameters(request: &Parts, of_path: Option<&Tag>) -> ApiResult<Vec<Tag>> {
    let texts = parameters(request, "tag");
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    if of_path.is_some() {
        let message = "tags as parameters go with a digest in the path, not with a tag";
        return Err(ApiError::new(Code::ManifestInvalid, message));
    }
    if texts.len() > MAX_TAG_PARAMETERS {
        let message = format!("at most {MAX_TAG_PARAMETERS} tags at once");
        return Err(
            ApiError::new(Code::ManifestInvalid, message).with_status(StatusCode::URI_TOO_LONG)
        );
    }
    let mut tags: Vec<Tag> = Vec::new();
    for text in texts {
        let tag: Tag = text.parse().map_err(|error| {
            ApiError::new(Code::ManifestInvalid, format!("a parameter is no tag: {error}"))
        })?;
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Ok(tags)
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
