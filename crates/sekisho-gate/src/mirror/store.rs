//! What is kept of other registries.
//!
//! ```text
//! DIR/blobs/<algorithm>/<hex>                       content, verified before it has this name
//!    /repositories/<upstream>/<name>/_blobs/…       which repository has which blob
//!                                   /_manifests/…   their media types
//!                                   /_tags/…        what a tag was, and when that was so
//!    /bases/<first diff_id>/…                       images by their lowest layer
//! ```

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use sekisho_policy::Base;
use sekisho_store::json;
use sekisho_types::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

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
    dir: PathBuf,
}

impl Store {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn of(&self, repository: &RepositoryName, kind: &str, name: &str) -> PathBuf {
        // No part of a repository's name begins with an underscore.
        self.dir.join("repositories").join(repository.as_str()).join(kind).join(name)
    }

    /// Where a blob is, or will be; its folder is made.
    pub(crate) fn blob(&self, digest: &Digest) -> io::Result<PathBuf> {
        let folder = self.dir.join("blobs").join(digest.algorithm().as_str());
        fs::create_dir_all(&folder)?;
        Ok(folder.join(digest.hex()))
    }

    pub(crate) fn holds(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        self.of(repository, "_blobs", &named(digest)).try_exists()
    }

    /// Says that the repository has a blob that is here.
    pub(crate) fn link(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<()> {
        json::write(&self.of(repository, "_blobs", &named(digest)), &())
    }

    /// A manifest of the repository: its media type and bytes.
    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<(String, Vec<u8>)>> {
        let path = self.of(repository, "_manifests", &named(digest));
        let Some(MediaType { media_type }) = json::read(&path)? else { return Ok(None) };
        match fs::read(self.blob(digest)?) {
            Ok(bytes) => Ok(Some((media_type, bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a manifest whose digest was verified.
    pub(crate) fn put_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        sekisho_store::write_atomic(&self.blob(digest)?, bytes, false)?;
        let record = MediaType { media_type: media_type.to_owned() };
        json::write(&self.of(repository, "_manifests", &named(digest)), &record)
    }

    pub(crate) fn tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> io::Result<Option<TagRecord>> {
        json::read(&self.of(repository, "_tags", tag.as_str()))
    }

    pub(crate) fn put_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        record: &TagRecord,
    ) -> io::Result<()> {
        json::write(&self.of(repository, "_tags", tag.as_str()), record)
    }

    pub(crate) fn put_base(&self, record: &BaseRecord) -> io::Result<()> {
        let Some(first) = record.diff_ids.first() else { return Ok(()) };
        json::write(&self.dir.join("bases").join(named(first)).join(named(&record.digest)), record)
    }

    /// The image with the most layers whose layers are the lowest of these.
    pub(crate) fn base_of(&self, diff_ids: &[Digest]) -> io::Result<Option<Base>> {
        let Some(first) = diff_ids.first() else { return Ok(None) };
        let entries = match fs::read_dir(self.dir.join("bases").join(named(first))) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut best: Option<BaseRecord> = None;
        for entry in entries.take(MAX_BASES) {
            let Some(record) = json::read::<BaseRecord>(&entry?.path())? else { continue };
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

fn named(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_with_the_most_layers_is_the_base() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
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
