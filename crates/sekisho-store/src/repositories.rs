//! Which repository holds which blobs, manifests and tags.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fs_err as fs;
use sekisho_types::{Algorithm, Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::atomic::{TEMPORARY_PREFIX, create_dir_durable, found, write_atomic};
use crate::blobs::BlobStore;
use crate::json;

// A component of a repository name never begins with an underscore, so these folders cannot be
// taken for one.
const BLOBS: &str = "_blobs";
const MANIFESTS: &str = "_manifests";
const TAGS: &str = "_tags";
const REFERRERS: &str = "_referrers";

/// What is known about a manifest beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecord {
    /// Of the bytes.
    pub digest: Digest,
    /// As it was pushed, without parameters.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Digest>,
    /// What a referrers list shows as `artifactType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The document's annotations, a JSON object; `Null` when it has none.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub annotations: Value,
}

/// Some tags, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagPage {
    /// In byte order.
    pub tags: Vec<Tag>,
    /// There are more after the last one.
    pub more: bool,
}

/// The repositories of one namespace, over one store of blobs. Cheap to clone.
///
/// A blob can be reached only through a repository that holds it: [`Repositories::link`] is what
/// grants access, the store itself grants none.
///
/// The order of writes is the caller's: blobs, then the manifest, then the tag. Each write is all
/// or nothing, so whatever point a crash hits, a name points to what is there.
#[derive(Clone, Debug)]
pub struct Repositories {
    root: Arc<Path>,
    blobs: BlobStore,
}

impl Repositories {
    /// Opens the namespace in `dir`; `blobs` holds the content.
    pub fn open(dir: &Path, blobs: BlobStore) -> io::Result<Self> {
        create_dir_durable(dir)?;
        Ok(Self { root: dir.into(), blobs })
    }

    /// The content.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    fn folder(&self, repository: &RepositoryName, kind: &str) -> PathBuf {
        // `RepositoryName` has no empty, `.` or `..` component.
        self.root.join(repository.as_str()).join(kind)
    }

    fn by_digest(&self, repository: &RepositoryName, kind: &str, digest: &Digest) -> PathBuf {
        join_digest(self.folder(repository, kind), digest)
    }

    fn tag_path(&self, repository: &RepositoryName, tag: &Tag) -> PathBuf {
        self.folder(repository, TAGS).join(tag.as_str())
    }

    /// Says that `repository` holds the blob, which must be in the store already.
    ///
    /// # Errors
    /// `NotFound` when it is not: a link never points to nothing.
    pub fn link(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<()> {
        self.require(digest)?;
        let path = self.by_digest(repository, BLOBS, digest);
        if path.exists() { Ok(()) } else { write_atomic(&path, b"", false) }
    }

    fn require(&self, digest: &Digest) -> io::Result<()> {
        if self.blobs.contains(digest)? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("blob {digest} is not in the store")))
    }

    /// Whether `repository` holds the blob.
    pub fn holds(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        Ok(found(fs::metadata(self.by_digest(repository, BLOBS, digest)))?.is_some())
    }

    /// Files a manifest whose bytes are in the store, and lists it under its subject.
    ///
    /// # Errors
    /// `NotFound` when the bytes are not in the store.
    pub fn put_manifest(
        &self,
        repository: &RepositoryName,
        record: &ManifestRecord,
    ) -> io::Result<()> {
        self.require(&record.digest)?;
        json::write(&self.by_digest(repository, MANIFESTS, &record.digest), record)?;
        let Some(subject) = &record.subject else { return Ok(()) };
        let folder = self.by_digest(repository, REFERRERS, subject);
        json::write(&join_digest(folder, &record.digest), record)
    }

    /// Takes a manifest out: the tags that name it first, then its record, then its entry under its
    /// subject. `false` when the repository did not hold it. The bytes stay in the store.
    pub fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<bool> {
        let Some(record) = self.manifest(repository, digest)? else { return Ok(false) };
        for name in names(&self.folder(repository, TAGS))? {
            let Ok(tag) = name.parse::<Tag>() else { continue };
            if self.resolve(repository, &tag)?.as_ref() == Some(digest) {
                self.delete_tag(repository, &tag)?;
            }
        }
        if let Some(subject) = &record.subject {
            let folder = self.by_digest(repository, REFERRERS, subject);
            remove(&join_digest(folder, digest))?;
        }
        remove(&self.by_digest(repository, MANIFESTS, digest))
    }

    /// Every manifest that the repository holds.
    pub fn manifests(&self, repository: &RepositoryName) -> io::Result<Vec<ManifestRecord>> {
        let folder = self.folder(repository, MANIFESTS);
        let mut records = Vec::new();
        for (digest, _) in digests(&folder)? {
            records.extend(self.manifest(repository, &digest)?);
        }
        Ok(records)
    }

    /// Every blob that the repository holds, with the time when it was linked.
    pub fn links(&self, repository: &RepositoryName) -> io::Result<Vec<(Digest, SystemTime)>> {
        digests(&self.folder(repository, BLOBS))
    }

    /// Says that `repository` does not hold the blob any more; `false` when it did not.
    pub fn unlink(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        remove(&self.by_digest(repository, BLOBS, digest))
    }

    /// Every repository of the namespace, in order.
    pub fn repositories(&self) -> io::Result<Vec<RepositoryName>> {
        let mut all = Vec::new();
        let mut folders = vec![(self.root.to_path_buf(), String::new())];
        while let Some((folder, name)) = folders.pop() {
            let mut holds_something = false;
            for entry in names(&folder)? {
                if entry.starts_with('_') {
                    holds_something = true;
                } else {
                    let below =
                        if name.is_empty() { entry.clone() } else { format!("{name}/{entry}") };
                    folders.push((folder.join(entry), below));
                }
            }
            if holds_something {
                all.extend(name.parse::<RepositoryName>().ok());
            }
        }
        all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(all)
    }

    /// What is known about a manifest; `None` when the repository does not hold it.
    pub fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<ManifestRecord>> {
        json::read(&self.by_digest(repository, MANIFESTS, digest))
    }

    /// The manifests that say something about `subject`, by digest. At most `limit`.
    pub fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
    ) -> io::Result<Vec<ManifestRecord>> {
        let folder = self.by_digest(repository, REFERRERS, subject);
        let mut records: Vec<ManifestRecord> = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for name in names(&folder.join(algorithm.as_str()))? {
                if records.len() < limit {
                    records.extend(json::read(&folder.join(algorithm.as_str()).join(name))?);
                }
            }
        }
        Ok(records)
    }

    /// Points a tag to a manifest that the repository holds.
    ///
    /// # Errors
    /// `NotFound` when it does not: a tag never names what is missing.
    pub fn tag(&self, repository: &RepositoryName, tag: &Tag, digest: &Digest) -> io::Result<()> {
        if self.manifest(repository, digest)?.is_none() {
            let message = format!("repository `{repository}` has no manifest {digest}");
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        json::write(&self.tag_path(repository, tag), digest)
    }

    /// What a tag points to; `None` when there is no such tag.
    pub fn resolve(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<Option<Digest>> {
        json::read(&self.tag_path(repository, tag))
    }

    /// Takes a tag away; `false` when there was none. What it named stays.
    pub fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<bool> {
        remove(&self.tag_path(repository, tag))
    }

    /// At most `limit` tags after `last`; `None` when the repository holds nothing at all.
    pub fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> io::Result<Option<TagPage>> {
        if !self.folder(repository, MANIFESTS).is_dir() {
            return Ok(None);
        }
        let mut tags: Vec<Tag> =
            names(&self.folder(repository, TAGS))?.iter().filter_map(|n| n.parse().ok()).collect();
        if let Some(last) = last {
            tags.retain(|tag| tag.as_str() > last);
        }
        let more = tags.len() > limit;
        tags.truncate(limit);
        Ok(Some(TagPage { tags, more }))
    }
}

/// Removes a file so that it stays removed; `false` when there was none.
fn remove(path: &Path) -> io::Result<bool> {
    if found(fs::remove_file(path))?.is_none() {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(true)
}

/// The digests that files in `folder` are named after, with the time of their last change.
fn digests(folder: &Path) -> io::Result<Vec<(Digest, SystemTime)>> {
    let mut all = Vec::new();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let folder = folder.join(algorithm.as_str());
        for name in names(&folder)? {
            let Ok(digest) = format!("{}:{name}", algorithm.as_str()).parse() else { continue };
            // One that goes away meanwhile was deleted.
            let Some(metadata) = found(fs::metadata(folder.join(name)))? else { continue };
            all.push((digest, metadata.modified()?));
        }
    }
    Ok(all)
}

fn join_digest(folder: PathBuf, digest: &Digest) -> PathBuf {
    folder.join(digest.algorithm().as_str()).join(digest.hex())
}

/// The names in a folder in byte order, without temporary files; none when there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let Some(entries) = found(fs::read_dir(folder))? else { return Ok(Vec::new()) };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not UTF-8 is not ours.
        let name = entry?.file_name().into_string().ok();
        names.extend(name.filter(|name| !name.starts_with(TEMPORARY_PREFIX)));
    }
    names.sort();
    Ok(names)
}
