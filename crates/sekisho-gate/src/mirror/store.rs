//! What is kept of other registries: in a folder, or in a bucket for all gates on it.
//!
//! ```text
//! DIR/content/blobs/…                               content, verified before it has its name
//!    /fetching/…                                    what is being fetched; emptied when a gate opens
//!    /repositories/<upstream>/<name>/_blobs/…       which repository has which blob
//!                                   /_manifests/…   their media types
//!                                   /_tags/…        what a tag was, and when that was so
//!    /bases/<first diff_id>/…                       images by their lowest layer
//!    /used/…                                        when content was used, to the hour
//! ```

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use sekisho_policy::Base;
use sekisho_store::{Blob, BlobStore, Bucket, Records};
use sekisho_types::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::evict::Kept;

/// A use is written down when the last one that was is older.
const NOTED: SignedDuration = SignedDuration::from_hours(1);

/// Most digests of which the last use is remembered.
const MAX_NOTED: usize = 100_000;

/// Most images that are compared for one lowest layer.
const MAX_BASES: usize = 1000;

/// What a tag was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) digest: Digest,
    pub(crate) checked_at: Timestamp,
}

/// An image that others can be built on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaseRecord {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) created: Option<Timestamp>,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct MediaType {
    media_type: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Store {
    records: Records,
    blobs: BlobStore,
    fetching: PathBuf,
    noted: Arc<Mutex<HashMap<Digest, Timestamp>>>,
}

impl Store {
    pub(crate) fn open(dir: &Path, bucket: Option<&Bucket>) -> io::Result<Self> {
        let fetching = dir.join("fetching");
        if fetching.try_exists()? {
            fs::remove_dir_all(&fetching)?;
        }
        fs::create_dir_all(&fetching)?;
        let content = dir.join("content");
        let (records, blobs) = match bucket.map(|bucket| bucket.below("mirror")) {
            None => (Records::in_folder(dir)?, BlobStore::open(&content)?),
            Some(bucket) => {
                let blobs = BlobStore::in_bucket(bucket.below("content"), &content)?;
                (Records::in_bucket(bucket), blobs)
            }
        };
        Ok(Self { records, blobs, fetching, noted: Arc::default() })
    }

    /// A file of one's own to fetch into.
    pub(crate) fn fetching(&self) -> PathBuf {
        self.fetching.join(Uuid::new_v4().to_string())
    }

    /// Whether the bytes are here, for whichever repository.
    pub(crate) fn has(&self, digest: &Digest) -> io::Result<bool> {
        self.blobs.contains(digest)
    }

    /// Takes in what was fetched, whose digest is looked at once more on the way.
    pub(crate) fn take(&self, path: &Path, digest: &Digest) -> io::Result<()> {
        let taken = (|| {
            let mut writer = self.blobs.writer()?;
            io::copy(&mut fs::File::open(path)?, &mut writer)?;
            writer.commit(&self.blobs, Some(digest)).map(drop).map_err(io::Error::other)
        })();
        fs::remove_file(path)?;
        taken
    }

    /// A blob of the repository, which is used now.
    pub(crate) fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        now: Timestamp,
    ) -> io::Result<Option<Blob>> {
        if !self.records.exists(&of(repository, "_blobs", &named(digest)))? {
            return Ok(None);
        }
        self.used(digest, now);
        self.blobs.open_blob(digest)
    }

    /// Says that the repository has a blob that is here.
    pub(crate) fn link(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<()> {
        self.note(&of(repository, "_blobs", &named(digest)), &())
    }

    /// Writes what can be made again.
    fn note<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        self.records.note(name, &serde_json::to_vec(value).map_err(io::Error::other)?)
    }

    /// Remembers that content is used. That it cannot be written down costs its place, not the pull.
    pub(crate) fn used(&self, digest: &Digest, now: Timestamp) {
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            let ago = noted.get(digest).map(|at| now.duration_since(*at));
            if ago.is_some_and(|ago| (SignedDuration::ZERO..NOTED).contains(&ago)) {
                return;
            }
            if noted.len() >= MAX_NOTED {
                noted.clear();
            }
            noted.insert(digest.clone(), now);
        }
        if let Err(error) = self.note(&format!("used/{}", named(digest)), &now) {
            tracing::debug!("a use was not noted: {error}");
        }
    }

    /// All content, with its size and last use.
    pub(crate) fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        for digest in self.blobs.list()? {
            let Some(size) = self.blobs.size(&digest)? else { continue };
            let used = self.records.read_json(&format!("used/{}", named(&digest)))?;
            all.push(Kept { digest, size, used: used.unwrap_or(Timestamp::MIN) });
        }
        Ok(all)
    }

    /// Removes content; what says that a repository has it stays, and says nothing alone.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<()> {
        self.blobs.delete(digest)?;
        self.records.remove(&format!("used/{}", named(digest)))?;
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).remove(digest);
        Ok(())
    }

    /// A manifest of the repository: its media type and bytes.
    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<(String, Vec<u8>)>> {
        let media_type = self.records.read_json(&of(repository, "_manifests", &named(digest)))?;
        let Some(MediaType { media_type }) = media_type else { return Ok(None) };
        let bytes = self.blobs.read(digest, sekisho_oci::MAX_MANIFEST_BYTES as u64)?;
        Ok(bytes.map(|bytes| (media_type, bytes)))
    }

    /// Keeps a manifest whose digest was verified.
    pub(crate) fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut writer = self.blobs.writer()?;
        writer.write_all(bytes)?;
        writer.commit(&self.blobs, Some(digest)).map_err(io::Error::other)?;
        let record = MediaType { media_type: media_type.to_owned() };
        self.note(&of(repository, "_manifests", &named(digest)), &record)
    }

    pub(crate) fn tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> io::Result<Option<TagRecord>> {
        self.records.read_json(&of(repository, "_tags", tag.as_str()))
    }

    pub(crate) fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        record: &TagRecord,
    ) -> io::Result<()> {
        self.note(&of(repository, "_tags", tag.as_str()), record)
    }

    pub(crate) fn put_base(&self, record: &BaseRecord) -> io::Result<()> {
        let Some(first) = record.diff_ids.first() else { return Ok(()) };
        self.note(&format!("bases/{}/{}", named(first), named(&record.digest)), record)
    }

    /// The image with the most layers whose layers are the lowest of these.
    pub(crate) fn base_of(&self, diff_ids: &[Digest]) -> io::Result<Option<Base>> {
        let Some(first) = diff_ids.first() else { return Ok(None) };
        let folder = format!("bases/{}", named(first));
        let mut best: Option<BaseRecord> = None;
        for name in self.records.names(&folder)?.into_iter().take(MAX_BASES) {
            let record = self.records.read_json::<BaseRecord>(&format!("{folder}/{name}"))?;
            let Some(record) = record else { continue };
            let rank = |it: &BaseRecord| (it.diff_ids.len(), it.created, it.digest.to_string());
            if diff_ids.starts_with(&record.diff_ids)
                && best.as_ref().is_none_or(|best| rank(&record) > rank(best))
            {
                best = Some(record);
            }
        }
        Ok(best.map(|it| Base {
            name: it.name,
            digest: it.digest.to_string(),
            created: it.created,
            known: true,
        }))
    }
}

/// No part of a repository's name begins with an underscore.
fn of(repository: &RepositoryName, kind: &str, name: &str) -> String {
    format!("repositories/{repository}/{kind}/{name}")
}

fn named(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_with_the_most_layers_is_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let layers: Vec<Digest> =
            ["a", "b", "c", "d"].iter().map(|text| Digest::sha256(text.as_bytes())).collect();
        let put = |name: &str, diff_ids: &[Digest]| {
            let digest = Digest::sha256(name.as_bytes());
            let (name, diff_ids) = (name.to_owned(), diff_ids.to_vec());
            store.put_base(&BaseRecord { name, digest, created: None, diff_ids }).unwrap();
        };
        put("debian", &layers[..1]);
        put("python", &layers[..3]);
        put("other", &[layers[0].clone(), layers[2].clone()]);
        let name = |of: &[Digest]| store.base_of(of).unwrap().map(|base| base.name);
        assert_eq!(name(&layers).as_deref(), Some("python"));
        assert_eq!(name(&layers[..3]).as_deref(), Some("python"), "the base itself");
        assert_eq!(name(&layers[..2]).as_deref(), Some("debian"));
        assert_eq!(name(&layers[1..]), None);
        assert_eq!(name(&[]), None);
    }
}
