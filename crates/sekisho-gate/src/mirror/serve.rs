//! What a client sees of other registries: manifests and blobs, to read.

use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, header};
use sekisho_types::Digest;

use super::{Source, Target};
use crate::error::{ApiError, ApiResult, Code};
use crate::gate::Gate;
use crate::protocol::{CONTENT_DIGEST, blobs, of_digest, parameter};
use crate::route::{Endpoint, Reference};

/// Says whose content it is to who asked by `ns`.
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// Answers a request for another registry's content.
pub(crate) async fn serve(
    gate: &Gate,
    target: Target,
    endpoint: Endpoint,
    request: &Parts,
) -> ApiResult {
    let source = match target {
        Target::Mirrored(source) => source,
        Target::NotAllowed(message) => return Err(ApiError::new(Code::Denied, message)),
    };
    if request.method != Method::GET && request.method != Method::HEAD {
        let message = "what is mirrored is read, and never pushed or deleted";
        return Err(ApiError::new(Code::Denied, message));
    }
    let is_head = request.method == Method::HEAD;
    let mut response = match endpoint {
        Endpoint::Manifest(reference) => manifest(gate, &source, reference, is_head).await?,
        Endpoint::Blob(digest) => blob(gate, &source, &digest, request).await?,
        Endpoint::Tags | Endpoint::Uploads | Endpoint::Upload(_) | Endpoint::Referrers(_) => {
            let message = "of what is mirrored only manifests and blobs can be read";
            return Err(ApiError::new(Code::NameUnknown, message));
        }
    };
    if parameter(request, "ns").is_some() {
        let namespace = HeaderValue::from_str(&source.registry.name).ok();
        response.headers_mut().extend(namespace.map(|it| (NAMESPACE, it)));
    }
    Ok(response)
}

async fn manifest(gate: &Gate, source: &Source, reference: Reference, is_head: bool) -> ApiResult {
    let (mirror, now) = (gate.inner.mirror()?, gate.inner.now());
    let digest = match reference {
        Reference::Digest(digest) => digest,
        Reference::Tag(tag) => mirror.resolve(source, &tag, now).await?,
        Reference::Neither => {
            return Err(ApiError::new(Code::ManifestUnknown, "this is neither tag nor digest"));
        }
    };
    let (media_type, bytes) = mirror.manifest(source, &digest, now).await?;
    let length = bytes.len() as u64;
    let body = if is_head { Body::empty() } else { Body::from(bytes) };
    let mut response = answer(body, &digest, length)?;
    let kind = HeaderValue::from_str(&media_type)
        .map_err(|error| ApiError::internal("serving a manifest", &error))?;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    let etag = HeaderValue::from_str(&format!("\"{digest}\"")).ok();
    response.headers_mut().extend(etag.map(|etag| (header::ETAG, etag)));
    Ok(response)
}

async fn blob(gate: &Gate, source: &Source, digest: &Digest, request: &Parts) -> ApiResult {
    let blob = gate.inner.mirror()?.blob(source, digest, gate.inner.now()).await?;
    blobs::answer(blob, digest, request).await
}

fn answer(body: Body, digest: &Digest, length: u64) -> ApiResult<Response> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response.headers_mut().insert(CONTENT_DIGEST, of_digest(digest)?);
    Ok(response)
}
