//! Fetching a large blob: resumed where the link was cut, in several parts where that works.
//!
//! ```text
//!  part 0  GET                    200 ──▶ the whole body, in order      (no ranges here)
//!          GET Range: bytes=0-    206 ──▶ part 0; and then, at once:
//!  part 1  GET Range: bytes=a-b   206
//!  part 2  GET Range: bytes=c-d   206
//! ```
//!
//! A part that breaks goes on from its last byte; only an attempt that brought nothing counts against
//! the attempts. Bytes go to a temporary file, and are hashed as they come as far as they are in order;
//! the rest is hashed when all are there. The file gets its name once size and digest are right; to have it
//! survive a loss of power is the caller's business.
//!
//! Source: OCI distribution-spec 1.1, "Pulling blobs"; RFC 9110, section 14.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};

use sekisho_oci::Descriptor;

use crate::endpoint::Repository;
use crate::error::RegistryError;
use crate::http::{Client, Request, Scope, lock};
use crate::pull::Hasher;

/// Parts of a blob that are fetched at once.
const PARTS: u64 = 4;

/// How much is hashed at once when it is read back.
const CHUNK_BYTES: usize = 1 << 20;

/// The file that a blob becomes.
struct Target {
    file: std::fs::File,
    path: PathBuf,
    /// The digest of the first so many bytes.
    hashed: Mutex<(Hasher, u64)>,
}

impl Target {
    fn fail(&self, source: std::io::Error) -> RegistryError {
        RegistryError::File { path: self.path.clone(), source }
    }

    /// A write of a piece goes to the page cache: it takes no longer than handing it to a thread.
    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), RegistryError> {
        self.file.write_all_at(bytes, at).map_err(|error| self.fail(error))?;
        let mut hashed = lock(&self.hashed);
        if hashed.1 == at {
            hashed.0.update(bytes);
            hashed.1 += bytes.len() as u64;
        }
        Ok(())
    }

    /// Starts the digest again: the blob comes from its beginning once more.
    fn restart(&self, want: &Descriptor) {
        *lock(&self.hashed) = (Hasher::new(want.digest.algorithm()), 0);
    }

    /// Size and digest of all that was written.
    fn check(&self, want: &Descriptor) -> Result<(), RegistryError> {
        let fail = |error| self.fail(error);
        let size = self.file.metadata().map_err(fail)?.len();
        if size != want.size {
            let (digest, expected) = (want.digest.clone(), want.size);
            return Err(RegistryError::Size { digest, expected, found: size });
        }
        let fresh = (Hasher::new(want.digest.algorithm()), 0);
        let (mut hasher, mut at) = std::mem::replace(&mut *lock(&self.hashed), fresh);
        let mut buffer = vec![0; CHUNK_BYTES];
        while at < size {
            let read = self.file.read_at(&mut buffer, at).map_err(fail)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        let found = hasher.finish();
        match found == want.digest {
            true => Ok(()),
            false => Err(RegistryError::Digest { expected: want.digest.clone(), found }),
        }
    }
}

/// Fetches a blob. Cancel-safe: the temporary file is removed with the future.
pub(crate) async fn pull(
    client: &Client,
    repository: &Repository,
    want: &Descriptor,
    path: &Path,
) -> Result<(), RegistryError> {
    let fail = |source| RegistryError::File { path: path.to_owned(), source };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    let temporary = tempfile::NamedTempFile::new_in(&folder).map_err(fail)?;
    let target = Arc::new(Target {
        file: temporary.reopen().map_err(fail)?,
        path: path.to_owned(),
        hashed: Mutex::new((Hasher::new(want.digest.algorithm()), 0)),
    });
    fetch(client, repository, want, &target).await?;
    let (checked, wanted) = (Arc::clone(&target), want.clone());
    let joined = tokio::task::spawn_blocking(move || checked.check(&wanted)).await;
    joined.unwrap_or_else(|error| Err(fail(std::io::Error::other(error))))?;
    temporary.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

/// The first part, and the others when the registry knows ranges.
async fn fetch(
    client: &Client,
    repository: &Repository,
    want: &Descriptor,
    target: &Target,
) -> Result<(), RegistryError> {
    let parts = parts(want.size, client.options.ranged_bytes_min);
    let Some((first, others)) = parts.split_first() else { return Ok(()) };
    let ranged = !others.is_empty();
    let mut first = Part { client, repository, want, target, range: first.clone(), ranged };
    let begun = first.begin().await?;
    if begun.status() != StatusCode::PARTIAL_CONTENT {
        // All of it comes.
        (first.range, first.ranged) = (0..want.size, false);
        return first.run(Some(begun)).await;
    }
    let others = others.iter().map(|range| {
        let mut part = Part { range: range.clone(), ..first.clone() };
        async move { part.run(None).await }
    });
    let others = try_join_all(others.collect::<Vec<_>>());
    // The first that fails drops the others.
    tokio::try_join!(first.run(Some(begun)), others).map(drop)
}

/// Whether a `Content-Range` is of the stretch that was asked for, or of its beginning.
pub(crate) fn is_asked(said: &str, asked: &Range<u64>, size: u64) -> bool {
    let read = || {
        let (range, total) = said.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let total = total == "*" || total.parse() == Ok(size);
        Some(first == asked.start && first <= last && last < asked.end && total)
    };
    read().unwrap_or_default()
}

/// Where a blob is cut.
fn parts(size: u64, ranged_bytes_min: u64) -> Vec<Range<u64>> {
    if size <= ranged_bytes_min.max(PARTS) {
        return std::iter::once(0..size).collect();
    }
    let length = size.div_ceil(PARTS);
    let start = (0..PARTS).map(|part| part * length);
    start.filter(|start| *start < size).map(|start| start..(start + length).min(size)).collect()
}

/// A stretch of a blob.
#[derive(Clone)]
struct Part<'a> {
    client: &'a Client,
    repository: &'a Repository,
    want: &'a Descriptor,
    target: &'a Target,
    /// What is still to come.
    range: Range<u64>,
    /// Ask for a range also from the beginning.
    ranged: bool,
}

impl Part<'_> {
    /// Asks for what is still to come.
    async fn ask(&self) -> Result<Response, RegistryError> {
        let Range { start, end } = self.range;
        let build = |http: &reqwest::Client, url| {
            let request = http.get(url);
            Ok(match start > 0 || self.ranged {
                true => request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1))),
                false => request,
            })
        };
        let scope = Scope::pull(self.repository);
        let digest = &self.want.digest;
        let request: Request<'_> =
            self.client.blob_request(self.repository, &scope, digest, &build)?;
        let response = self.client.send_once(&request).await?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            self.check_range(&response)?;
        }
        Ok(response)
    }

    /// The first answer, after as many attempts as it takes.
    async fn begin(&self) -> Result<Response, RegistryError> {
        let mut attempt = 1;
        loop {
            match self.ask().await {
                Ok(response) => return Ok(response),
                Err(error) => self.client.pause(error, attempt).await?,
            }
            attempt += 1;
        }
    }

    /// A registry that sends another stretch than it was asked for must not be believed.
    fn check_range(&self, response: &Response) -> Result<(), RegistryError> {
        let said = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        match said.is_some_and(|said| is_asked(said, &self.range, self.want.size)) {
            true => Ok(()),
            false => {
                let Range { start, end } = self.range;
                let said = said.unwrap_or("nothing");
                let problem = format!("it was asked for bytes {start} to {end} and sends `{said}`");
                Err(self.client.protocol(&self.repository.registry, problem))
            }
        }
    }

    /// Takes the stretch, with new requests where the link is cut.
    async fn run(&mut self, begun: Option<Response>) -> Result<(), RegistryError> {
        let mut response = begun;
        let mut attempt = 1;
        while self.range.start < self.range.end || response.is_some() {
            let before = self.range.start;
            let taken = match response.take() {
                Some(response) => self.take(response).await,
                None => match self.ask().await {
                    Ok(response) => self.take(response).await,
                    Err(error) => Err(error),
                },
            };
            let error = match taken {
                Ok(()) if self.range.start < self.range.end => self.short(),
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Who brought something may go on bringing.
            attempt = if self.range.start > before { 1 } else { attempt };
            self.client.pause(error, attempt).await?;
            attempt += 1;
        }
        Ok(())
    }

    /// The body ended before all of it came.
    fn short(&self) -> RegistryError {
        let (digest, expected) = (self.want.digest.clone(), self.want.size);
        RegistryError::Size { digest, expected, found: self.range.start }
    }

    async fn take(&mut self, mut response: Response) -> Result<(), RegistryError> {
        if response.status() != StatusCode::PARTIAL_CONTENT && self.range.start > 0 {
            // It knows no ranges after all: from the beginning, unless that is another part's.
            if self.ranged {
                let problem = "it sends the whole of a blob that it was asked a part of";
                return Err(self.client.protocol(&self.repository.registry, problem));
            }
            self.range.start = 0;
            self.target.restart(self.want);
        }
        while let Some(chunk) = self.client.chunk(&self.repository.registry, &mut response).await? {
            let room = self.range.end - self.range.start;
            if chunk.len() as u64 > room {
                let (digest, expected) = (self.want.digest.clone(), self.want.size);
                let found = self.range.start + chunk.len() as u64;
                return Err(RegistryError::Size { digest, expected, found });
            }
            self.target.put(self.range.start, &chunk)?;
            self.range.start += chunk.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_a_blob_once() {
        for (size, min, want) in [
            (0, 10, "0..0"),
            (10, 10, "0..10"),
            (11, 10, "0..3 3..6 6..9 9..11"),
            (5, 0, "0..2 2..4 4..5"),
            (100, 0, "0..25 25..50 50..75 75..100"),
        ] {
            let cut: Vec<_> = parts(size, min).iter().map(|part| format!("{part:?}")).collect();
            assert_eq!(cut.join(" "), want, "{size}");
        }
    }
}
