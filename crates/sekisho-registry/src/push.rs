//! Push.
//!
//! ```text
//! HEAD blob ── there ──▶ done
//!   │ not there
//! POST uploads/ ──▶ Location
//!   ├─ small:  PUT Location?digest=D   with the bytes
//!   └─ large:  PATCH Location          with the bytes ──▶ Location
//!              PUT Location?digest=D
//! ```
//!
//! A break in between starts again with a new POST: no registry is asked to remember a half.

use std::path::Path;
use std::time::Duration;

use fs_err as fs;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, WARNING};
use reqwest::{Body, Response, StatusCode};
use tokio_util::io::ReaderStream;
use url::Url;

use sekisho_types::{Digest, RepositoryName};

use crate::endpoint::{Reference, Repository, may_follow};
use crate::error::RegistryError;
use crate::http::{Build, Client, Request, Scope, location};
use crate::pull::{content_digest, digest_of, display};

/// What is read of a file at once, in bytes.
const READ_BYTES: usize = 128 * 1024;

/// Most bytes of warnings that are kept: the specification's limit.
const WARNING_BYTES_MAX: usize = 4096;

/// By this header a registry, as ours is, says that a push is worth its while whatever stands there already.
const DECIDES: &str = "sekisho-decides";

/// How a blob came to be in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobPush {
    /// It was there, or in another repository of the registry, which now shares it.
    Existed,
    /// It was sent.
    Uploaded,
}

/// What a registry said to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Of the manifest.
    pub digest: Digest,
    /// `Warning: 299`: it was taken, and there is something to know.
    pub warnings: Vec<String>,
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The manifest.
    pub digest: Digest,
    /// The registry decides at every push, by what it knows then: pushing what stands there is no waste.
    pub decides: bool,
}

impl Client {
    /// Makes a blob of another repository of the same registry a blob of this one, without sending
    /// it. `false`: the registry does not do so, and the blob must be pushed.
    pub async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<bool, RegistryError> {
        let mut url = self.url(repository, "blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &digest.to_string())
            .append_pair("from", from.as_str());
        let mut scope = Scope::push(repository);
        scope.0.push(format!("repository:{from}:pull"));
        let request = Request {
            repository,
            scope: &scope,
            url: url.clone(),
            deadline: self.options.answer_deadline,
            what: repository.to_string(),
            build: &|http, url| Ok(http.post(url).header(CONTENT_LENGTH, 0)),
        };
        let response = match self.send(request).await {
            Ok(response) => response,
            // No right to read the other repository is no reason not to push.
            Err(RegistryError::Denied { .. } | RegistryError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if response.status() == StatusCode::CREATED {
            return Ok(true);
        }
        // The registry began an upload instead, which nobody will finish.
        if let Some(url) = location(&response, &url).filter(|to| may_follow(&url, to)) {
            let request = Request {
                repository,
                scope: &scope,
                url,
                deadline: self.options.answer_deadline,
                what: repository.to_string(),
                build: &|http, url| Ok(http.delete(url)),
            };
            if let Err(error) = self.send_once(&request).await {
                tracing::debug!(%error, "upload is left to the registry's own cleaning");
            }
        }
        Ok(false)
    }

    /// Pushes a blob of `size` bytes from a file, unless it is there.
    ///
    /// The file must not change meanwhile. The registry checks the digest, and so did who made it.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        file: &Path,
    ) -> Result<BlobPush, RegistryError> {
        self.push_blob_of(repository, digest, size, file, None).await
    }

    /// As [`Self::push_blob`], of a blob that another repository of the registry has: where it is shared, the
    /// file is not even looked at.
    pub async fn push_blob_of(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        file: &Path,
        other: Option<&RepositoryName>,
    ) -> Result<BlobPush, RegistryError> {
        let scope = Scope::push(repository);
        if self.has_blob_as(repository, &scope, digest).await?.is_some() {
            return Ok(BlobPush::Existed);
        }
        if let Some(other) = other
            && self.mount(repository, digest, other).await?
        {
            return Ok(BlobPush::Existed);
        }
        let mut attempt = 1;
        loop {
            match self.upload(repository, &scope, digest, size, file).await {
                Ok(()) => return Ok(BlobPush::Uploaded),
                Err(error) => self.pause(error, attempt).await?,
            }
            attempt += 1;
        }
    }

    async fn upload(
        &self,
        repository: &Repository,
        scope: &Scope,
        digest: &Digest,
        size: u64,
        file: &Path,
    ) -> Result<(), RegistryError> {
        let start = self.url(repository, "blobs/uploads/")?;
        let answer = self.options.answer_deadline;
        let empty = |http: &reqwest::Client, url| Ok(http.post(url).header(CONTENT_LENGTH, 0));
        let send = async |url, deadline, build: &Build<'_>| {
            let what = repository.to_string();
            self.send_once(&Request { repository, scope, url, deadline, what, build }).await
        };
        let response = send(start.clone(), answer, &empty).await?;
        let mut session = self.session(repository, &response, &start)?;
        // The rate counts from the first byte; the answer may take its own time.
        let seconds = size / self.options.upload_rate_min.max(1);
        let upload_deadline = answer + Duration::from_secs(seconds);
        let large = size > self.options.monolithic_bytes_max;
        if large {
            let patch = |http: &reqwest::Client, url| {
                let builder = http.patch(url).header(CONTENT_TYPE, "application/octet-stream");
                Ok(builder.header(CONTENT_LENGTH, size).body(body(file, size)?))
            };
            let response = send(session.clone(), upload_deadline, &patch).await?;
            session = self.session(repository, &response, &session)?;
        }
        session.query_pairs_mut().append_pair("digest", &digest.to_string());
        let response = if large {
            let put = |http: &reqwest::Client, url| Ok(http.put(url).header(CONTENT_LENGTH, 0));
            // A registry may hash the whole blob now.
            let deadline = self.options.decision_deadline.max(upload_deadline);
            send(session, deadline, &put).await?
        } else {
            let put = |http: &reqwest::Client, url| {
                let builder = http.put(url).header(CONTENT_TYPE, "application/octet-stream");
                Ok(builder.header(CONTENT_LENGTH, size).body(body(file, size)?))
            };
            send(session, upload_deadline, &put).await?
        };
        match content_digest(&response).filter(|found| found.algorithm() == digest.algorithm()) {
            Some(found) if found != *digest => {
                Err(RegistryError::Digest { expected: digest.clone(), found })
            }
            _ => Ok(()),
        }
    }

    /// Where the next request of an upload goes.
    fn session(
        &self,
        repository: &Repository,
        response: &Response,
        from: &Url,
    ) -> Result<Url, RegistryError> {
        location(response, from).filter(|to| may_follow(from, to)).ok_or_else(|| {
            self.protocol(&repository.registry, "an upload has no usable `Location`")
        })
    }

    /// Whether a manifest is there for who will push to the repository; a registry takes no manifest whose
    /// blobs it does not have.
    pub async fn has_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bool, RegistryError> {
        let reference = Reference::Digest(digest.clone());
        match self.head_manifest(repository, &Scope::push(repository), &reference).await {
            Ok(response) => Ok(response.status() == StatusCode::OK),
            Err(RegistryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a name leads to, for who will push to it; `None` when it leads nowhere, or the registry does not
    /// say.
    pub async fn standing(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Standing>, RegistryError> {
        match self.head_manifest(repository, &Scope::push(repository), reference).await {
            Ok(response) => {
                let decides = response.headers().contains_key(DECIDES);
                Ok(content_digest(&response).map(|digest| Standing { digest, decides }))
            }
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pushes a manifest under a tag or its own digest. What the registry says to it, it says here:
    /// a refusal is [`RegistryError::Denied`], with the registry's own words.
    pub async fn push_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<Pushed, RegistryError> {
        let bytes = bytes::Bytes::copy_from_slice(bytes);
        let digest = match reference {
            Reference::Digest(digest) => {
                let found = digest_of(digest.algorithm(), &bytes);
                if found != *digest {
                    return Err(RegistryError::Digest { expected: digest.clone(), found });
                }
                found
            }
            Reference::Tag(_) => Digest::sha256(&bytes),
        };
        let request = Request {
            repository,
            scope: &Scope::push(repository),
            url: self.url(repository, &format!("manifests/{reference}"))?,
            deadline: self.options.decision_deadline,
            what: display(repository, reference),
            build: &|http, url| {
                Ok(http.put(url).header(CONTENT_TYPE, media_type).body(bytes.clone()))
            },
        };
        let response = self.send(request).await?;
        let said = content_digest(&response);
        if let Some(found) = said.filter(|said| said.algorithm() == digest.algorithm())
            && found != digest
        {
            return Err(RegistryError::Digest { expected: digest, found });
        }
        Ok(Pushed { digest, warnings: warnings(&response) })
    }
}

/// The file as a body. It is opened anew for each attempt.
fn body(path: &Path, size: u64) -> Result<Body, RegistryError> {
    let fail = |source| RegistryError::File { path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(fail)?;
    let found = file.metadata().map_err(fail)?.len();
    if found != size {
        let problem = format!("it has {found} bytes instead of {size}");
        return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, problem)));
    }
    let file = tokio::fs::File::from_std(file.into());
    Ok(Body::wrap_stream(ReaderStream::with_capacity(file, READ_BYTES)))
}

/// The texts of `Warning: 299 - "text"`.
fn warnings(response: &Response) -> Vec<String> {
    let mut left = WARNING_BYTES_MAX;
    let mut warnings = Vec::new();
    for value in response.headers().get_all(WARNING) {
        let Some(text) = value.to_str().ok().and_then(warning) else { continue };
        let Some(rest) = left.checked_sub(text.len()) else { break };
        left = rest;
        warnings.push(text);
    }
    warnings
}

pub(crate) fn warning(value: &str) -> Option<String> {
    let quoted = value.trim().strip_prefix("299 ")?.trim_start().strip_prefix('-')?.trim_start();
    let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
    Some(inner.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_warnings() {
        assert_eq!(warning(r#"299 - "it \"ends\" soon""#).as_deref(), Some("it \"ends\" soon"));
        assert_eq!(warning("110 - \"stale\""), None);
        assert_eq!(warning("299 - plain"), None);
    }
}
