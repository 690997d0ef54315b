//! Referrers: what says something about a manifest.

use axum::response::IntoResponse as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use sekisho_oci::{Descriptor, Manifest, media_type, parse_manifest};
use sekisho_store::ManifestRecord;
use sekisho_types::{Digest, RepositoryName, Tag};
use serde_json::{Value, json};

use super::{Context, parameter};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::upstream::Upstream;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Most referrers of one subject that are looked at.
const MAX_REFERRERS: usize = 10_000;

/// Most referrers in one answer, whatever `n` says.
const MAX_PAGE: usize = 1000;

/// Largest list in one answer, in bytes: clients take it for a manifest, of 4 MiB at most.
const MAX_PAGE_BYTES: usize = 3 * 1024 * 1024;

/// GET: an index of the manifests with this subject, in order of their digests, page by page.
pub(super) async fn get(context: Context, subject: Digest, request: &Parts) -> ApiResult {
    let filter = parameter(request, "artifactType");
    let n = match parameter(request, "n") {
        None => MAX_PAGE,
        Some(text) => text
            .parse::<usize>()
            .map(|n| n.clamp(1, MAX_PAGE))
            .map_err(|_| ApiError::new(Code::SizeInvalid, "`n` is no number"))?,
    };
    let last = parameter(request, "last");
    let (repository, of) = (context.repository.clone(), subject.clone());
    let found = blocking("listing referrers", move || {
        let upstream = &context.gate.inner.upstream;
        let filed = upstream.referrers(&repository, &of, MAX_REFERRERS);
        let mut all: Vec<Value> =
            filed.or_fail("listing referrers")?.iter().map(descriptor).collect();
        for old in fallback(upstream, &repository, &of)? {
            if all.iter().all(|known| known["digest"] != old["digest"]) {
                all.push(old);
            }
        }
        all.sort_by(|a, b| name(a).cmp(name(b)));
        Ok(all)
    });
    let mut wanted = found.await?;
    if let Some(filter) = &filter {
        wanted.retain(|entry| entry["artifactType"] == **filter);
    }
    if let Some(last) = &last {
        wanted.retain(|entry| name(entry) > last.as_str());
    }
    let total = wanted.len();
    wanted.truncate(page(&wanted, n));

    let next = wanted.last().filter(|_| wanted.len() < total).map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &n.to_string()).append_pair("last", name(last));
        if let Some(filter) = &filter {
            query.append_pair("artifactType", filter);
        }
        let query = query.finish();
        format!("</v2/{}/referrers/{subject}?{query}>; rel=\"next\"", context.repository)
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": wanted,
    });
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(media_type::OCI_INDEX))];
    let mut response = (kind, index.to_string()).into_response();
    let headers = response.headers_mut();
    if filter.is_some() {
        headers.insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    let next = next.and_then(|next| HeaderValue::from_str(&next).ok());
    headers.extend(next.map(|next| (header::LINK, next)));
    Ok(response)
}

fn name(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap_or_default()
}

/// How many entries fit into one answer; one always does.
fn page(entries: &[Value], n: usize) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take(n).take_while(|entry| {
        bytes += entry.to_string().len();
        bytes <= MAX_PAGE_BYTES
    });
    fits.count().max(1)
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

/// The tag that clients keep a list of referrers under at registries without this endpoint.
///
/// Source: distribution-spec 1.1, "Referrers Tag Schema": at most 32 characters of the algorithm and
/// 64 of the hash.
fn fallback_tag(subject: &Digest) -> Option<Tag> {
    let hex = subject.hex();
    format!("{}-{}", subject.algorithm().as_str(), hex.get(..64).unwrap_or(hex)).parse().ok()
}

/// What a client listed under the fallback tag, if that is still there.
fn fallback(
    upstream: &Upstream,
    repository: &RepositoryName,
    subject: &Digest,
) -> ApiResult<Vec<Value>> {
    let Some(tag) = fallback_tag(subject) else { return Ok(Vec::new()) };
    let Some(digest) = upstream.resolve(repository, &tag).or_fail("reading a tag")? else {
        return Ok(Vec::new());
    };
    let listed = upstream.manifest(repository, &digest).or_fail("reading a list")?;
    let parsed = listed.map(|(record, bytes)| parse_manifest(&bytes, &record.media_type));
    // An image under that tag is just an image.
    let Some(Ok(Manifest::Index(index))) = parsed else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for entry in index.manifests {
        let Descriptor { digest, .. } = &entry;
        if upstream.manifest(repository, digest).or_fail("reading a manifest")?.is_some() {
            entries.extend(serde_json::to_value(entry).ok());
        }
    }
    Ok(entries)
}
