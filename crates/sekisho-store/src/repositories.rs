//! Which repository holds which blobs, manifests and tags.

mod put;

use std::io;
use std::path::Path;
use std::time::SystemTime;

use sekisho_types::{Algorithm, Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::blobs::BlobStore;
use crate::records::Records;

// A component of a repository name never begins with an underscore, so these folders cannot be
// taken for one.
const BLOBS: &str = "_blobs";
const MANIFESTS: &str = "_manifests";
const TAGS: &str = "_tags";
const REFERRERS: &str = "_referrers";
/// There once was a manifest: a repository without any is not an unknown one.
const KNOWN: &str = "_known";

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
    records: Records,
    blobs: BlobStore,
}

/// What a tag must name at the moment when it is pointed elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Whatever it names.
    Any,
    /// This, or nothing: what somebody saw when he decided to move it.
    Seen(Option<&'a Digest>),
}

impl Repositories {
    /// Opens the namespace in `dir`; `blobs` holds the content.
    pub fn open(dir: &Path, blobs: BlobStore) -> io::Result<Self> {
        Ok(Self::on(Records::in_folder(dir)?, blobs))
    }

    /// A namespace in any place.
    pub fn on(records: Records, blobs: BlobStore) -> Self {
        Self { records, blobs }
    }

    /// The content.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    fn folder(repository: &RepositoryName, kind: &str) -> String {
        // `RepositoryName` has no empty, `.` or `..` component.
        format!("{repository}/{kind}")
    }

    fn by_digest(repository: &RepositoryName, kind: &str, digest: &Digest) -> String {
        join_digest(&Self::folder(repository, kind), digest)
    }

    fn tag_name(repository: &RepositoryName, tag: &Tag) -> String {
        format!("{repository}/{TAGS}/{tag}")
    }

    /// Whether `repository` holds the blob.
    pub fn holds(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        self.records.exists(&Self::by_digest(repository, BLOBS, digest))
    }

    /// Takes a manifest out: the tags that name it first, then its record, then its entry under its
    /// subject. `false` when the repository did not hold it. The bytes stay in the store.
    pub fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<bool> {
        let Some(record) = self.manifest(repository, digest)? else { return Ok(false) };
        for name in self.records.names(&Self::folder(repository, TAGS))? {
            let Ok(tag) = name.parse::<Tag>() else { continue };
            if self.resolve(repository, &tag)?.as_ref() == Some(digest) {
                self.delete_tag(repository, &tag)?;
            }
        }
        if let Some(subject) = &record.subject {
            let folder = Self::by_digest(repository, REFERRERS, subject);
            self.records.remove(&join_digest(&folder, digest))?;
        }
        self.records.remove(&Self::by_digest(repository, MANIFESTS, digest))
    }

    /// Every manifest that the repository holds. Each is read when it is asked for: one may have megabytes.
    pub fn manifests(
        &self,
        repository: &RepositoryName,
    ) -> io::Result<impl Iterator<Item = io::Result<ManifestRecord>> + use<>> {
        let folder = Self::folder(repository, MANIFESTS);
        let names = self.digests(&folder)?.into_iter().map(|(it, _)| join_digest(&folder, &it));
        Ok(self.records.read_each(names.collect()))
    }

    /// Every blob that the repository holds, with the time when it was linked.
    pub fn links(&self, repository: &RepositoryName) -> io::Result<Vec<(Digest, SystemTime)>> {
        self.digests(&Self::folder(repository, BLOBS))
    }

    /// Says that `repository` does not hold the blob any more; `false` when it did not.
    pub fn unlink(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        self.records.remove(&Self::by_digest(repository, BLOBS, digest))
    }

    /// Every repository of the namespace, in order.
    pub fn repositories(&self) -> io::Result<Vec<RepositoryName>> {
        let mut all = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(name) = folders.pop() {
            let mut holds_something = false;
            for entry in self.records.names(&name)? {
                if entry.starts_with('_') {
                    holds_something = true;
                } else {
                    folders.push(if name.is_empty() { entry } else { format!("{name}/{entry}") });
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
        self.records.read_json(&Self::by_digest(repository, MANIFESTS, digest))
    }

    /// The manifests that say something about `subject`, in order of their digests, from behind `last` on.
    /// Each is read when it is asked for.
    pub fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&str>,
    ) -> io::Result<impl Iterator<Item = io::Result<ManifestRecord>> + use<>> {
        let folder = Self::by_digest(repository, REFERRERS, subject);
        let mut names = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512].map(Algorithm::as_str) {
            let listed = self.records.names(&format!("{folder}/{algorithm}"))?;
            let behind = |name: &String| {
                last.is_none_or(|last| format!("{algorithm}:{name}").as_str() > last)
            };
            let listed = listed.into_iter().filter(behind);
            names.extend(listed.map(|name| format!("{folder}/{algorithm}/{name}")));
        }
        Ok(self.records.read_each(names))
    }

    /// What a tag points to; `None` when there is no such tag.
    pub fn resolve(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<Option<Digest>> {
        self.records.read_json(&Self::tag_name(repository, tag))
    }

    /// Takes a tag away; `false` when there was none. What it named stays.
    pub fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<bool> {
        self.records.remove(&Self::tag_name(repository, tag))
    }

    /// At most `limit` tags after `last`; `None` when the repository holds nothing at all.
    pub fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> io::Result<Option<TagPage>> {
        let names = self.records.names(&Self::folder(repository, TAGS))?;
        if names.is_empty() && !self.records.exists(&Self::folder(repository, KNOWN))? {
            return Ok(None);
        }
        let mut tags: Vec<Tag> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if let Some(last) = last {
            tags.retain(|tag| tag.as_str() > last);
        }
        let more = tags.len() > limit;
        tags.truncate(limit);
        Ok(Some(TagPage { tags, more }))
    }

    /// The digests that values in a folder are named after, with the time of their last change.
    fn digests(&self, folder: &str) -> io::Result<Vec<(Digest, SystemTime)>> {
        let mut all = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for (name, modified) in
                self.records.times(&format!("{folder}/{}", algorithm.as_str()))?
            {
                let digest = format!("{}:{name}", algorithm.as_str()).parse();
                all.extend(digest.ok().map(|digest| (digest, modified)));
            }
        }
        Ok(all)
    }
}

fn join_digest(folder: &str, digest: &Digest) -> String {
    format!("{folder}/{}/{}", digest.algorithm().as_str(), digest.hex())
}
