//! Referrers: what says something about a manifest.

use std::collections::BTreeMap;
use std::io;

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

/// Most referrers that are read for one answer, however few of them pass its filter.
const MAX_READ: usize = 10_000;

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
    let (repository, of, kind) = (context.repository.clone(), subject.clone(), filter.clone());
    let found = blocking("listing referrers", move || {
        let passes = |entry: &Value| kind.as_ref().is_none_or(|it| entry["artifactType"] == **it);
        let upstream = &context.gate.inner.upstream;
        let filed = upstream.referrers(&repository, &of, last.as_deref());
        let filed = filed.or_fail("listing referrers")?;
        let filed = filed.map(|record| record.map(|record| descriptor(&record)));
        let filed = Filed::read(filed, n, passes).or_fail("listing referrers")?;
        let mut listed = fallback(upstream, &repository, &of)?;
        listed.retain(|entry| passes(entry) && last.as_deref() < Some(name(entry)));
        Ok((repository, filed.with(listed, n)))
    });
    let (repository, Page { entries, next }) = found.await?;

    let next = next.map(|last| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("n", &n.to_string()).append_pair("last", &last);
        if let Some(filter) = &filter {
            query.append_pair("artifactType", filter);
        }
        let query = query.finish();
        format!("</v2/{repository}/referrers/{subject}?{query}>; rel=\"next\"")
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_INDEX,
        "manifests": entries,
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

/// What was filed under a subject, as far as it was read.
#[derive(Debug)]
struct Filed {
    /// By digest; `None` for what does not pass the filter.
    entries: BTreeMap<String, Option<Value>>,
    /// The last one that was read, when there are more.
    read_to: Option<String>,
}

/// One answer.
#[derive(Debug, PartialEq)]
struct Page {
    entries: Vec<Value>,
    /// What the next one begins behind, when there is one.
    next: Option<String>,
}

impl Filed {
    /// Reads a page and one more, of what comes in order; no more of them than an answer has room for, since
    /// one may have megabytes of annotations.
    fn read(
        filed: impl Iterator<Item = io::Result<Value>>,
        n: usize,
        passes: impl Fn(&Value) -> bool,
    ) -> io::Result<Self> {
        let (mut entries, mut read_to, mut passed, mut bytes) = (BTreeMap::new(), None, 0, 0);
        let mut filed = filed.peekable();
        while let Some(entry) = filed.next().transpose()? {
            let last = name(&entry).to_owned();
            let entry = Some(entry).filter(&passes);
            if let Some(entry) = &entry {
                (passed, bytes) = (passed + 1, bytes + entry.to_string().len());
            }
            entries.insert(last.clone(), entry);
            if passed > n || bytes > MAX_PAGE_BYTES || entries.len() == MAX_READ {
                read_to = filed.peek().is_some().then_some(last);
                break;
            }
        }
        Ok(Self { entries, read_to })
    }

    /// Together with what a client listed, each once.
    fn with(self, listed: Vec<Value>, n: usize) -> Page {
        let Self { mut entries, read_to } = self;
        for entry in listed {
            let digest = name(&entry).to_owned();
            if read_to.as_ref().is_none_or(|last| digest <= *last) {
                entries.entry(digest).or_insert(Some(entry));
            }
        }
        let mut entries: Vec<Value> = entries.into_values().flatten().collect();
        let total = entries.len();
        entries.truncate(fitting(&entries, n));
        let last = entries.last().filter(|_| entries.len() < total);
        let next = last.map(|last| name(last).to_owned()).or(read_to);
        Page { entries, next }
    }
}

/// How many entries fit into one answer; one always does.
fn fitting(entries: &[Value], n: usize) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> String {
        format!("sha256:{number:064x}")
    }

    fn entry(number: usize, kind: &str) -> Value {
        json!({"digest": digest(number), "artifactType": kind})
    }

    /// Every page of so many, each of `kinds` by turns, with what a client listed beside them.
    fn pages(filed: usize, kinds: &[&str], listed: &[Value], filter: &str, n: usize) -> Vec<Page> {
        let (mut pages, mut last): (Vec<Page>, Option<String>) = (Vec::new(), None);
        loop {
            let behind = |digest: &str| last.as_deref() < Some(digest);
            let all = (0..filed).map(|number| entry(number, kinds[number % kinds.len()]));
            let all = all.filter(|entry| behind(name(entry)));
            let passes = |entry: &Value| filter.is_empty() || entry["artifactType"] == filter;
            let listed = listed.iter().filter(|it| passes(it) && behind(name(it))).cloned();
            let read = Filed::read(all.map(Ok), n, passes).unwrap();
            assert!(read.entries.len() <= MAX_READ);
            let page = read.with(listed.collect(), n);
            last.clone_from(&page.next);
            pages.push(page);
            if last.is_none() {
                return pages;
            }
        }
    }

    fn numbers(pages: &[Page]) -> Vec<usize> {
        let of = |entry: &Value| usize::from_str_radix(&name(entry)[7..], 16).unwrap();
        pages.iter().flat_map(|page| page.entries.iter().map(of)).collect()
    }

    #[test]
    fn every_referrer_is_on_one_page_however_many_there_are() {
        let all = pages(25_000, &["a", "b"], &[], "", MAX_PAGE);
        assert_eq!(all.len(), 25);
        assert_eq!(numbers(&all), (0..25_000).collect::<Vec<_>>());
        let odd = pages(25_000, &["a", "b"], &[], "b", 400);
        assert_eq!(numbers(&odd), (0..12_500).map(|it| 2 * it + 1).collect::<Vec<_>>());
        assert!(odd.iter().all(|page| page.entries.len() <= 400));
        // Two that pass among many, and pages of nothing before them.
        let listed = [entry(11_000, "b"), entry(30_000, "b")];
        let few = pages(25_000, &["a"], &listed, "b", 10);
        // The first is filed as something else, whatever the list says of it.
        assert_eq!(numbers(&few), [30_000]);
        assert_eq!(few.len(), 3);
        assert_eq!(pages(0, &["a"], &[], "", 10), [Page { entries: vec![], next: None }]);
    }

    #[test]
    fn a_page_keeps_its_size_and_is_never_empty_for_that() {
        let large = json!({"digest": digest(0), "annotations": {"x": "y".repeat(MAX_PAGE_BYTES)}});
        let small = entry(1, "a");
        let filed = || [large.clone(), small.clone()].into_iter().map(Ok);
        let page = Filed::read(filed(), 10, |_| true).unwrap().with(vec![], 10);
        assert_eq!(page, Page { entries: vec![large.clone()], next: Some(digest(0)) });
        // Nor is more held than that.
        let mut read = 0;
        let many = (0..1000).map(|number| {
            read = number + 1;
            Ok(json!({"digest": digest(number), "annotations": {"x": "y".repeat(MAX_PAGE_BYTES / 2)}}))
        });
        let page = Filed::read(many, MAX_PAGE, |_| true).unwrap().with(vec![], MAX_PAGE);
        // One more is asked for, to know that there is one.
        assert_eq!((read, page.entries.len(), page.next), (3, 1, Some(digest(0))));
    }
}
