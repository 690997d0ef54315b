//! Where allowed images go: the gate's own namespace, in a folder or a bucket.

use std::io;

use sekisho_oci::parse_manifest;
use sekisho_store::{Batch, Blob, BlobStore, Expected, ManifestRecord, Repositories, TagPage};
use sekisho_types::{Digest, RepositoryName, Tag};

/// Something that a repository is given.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Write<'a> {
    /// A blob that this store holds.
    Blob(&'a Digest, &'a BlobStore),
    /// A blob of the gate's own.
    Bytes(&'a [u8]),
    /// A manifest, and its bytes.
    Manifest(&'a ManifestRecord, &'a [u8]),
    /// A tag that is to name a manifest of the repository, if it still names what was seen.
    Tag {
        /// Which one.
        tag: &'a Tag,
        /// What it is to name.
        digest: &'a Digest,
        /// What it named.
        seen: Option<&'a Digest>,
    },
}

/// The namespace that takes promoted images and serves them, in a folder or bucket.
///
/// Everything is idempotent, for a promotion that was cut short is done again from its start. The
/// caller names blobs before the manifest that names them, and the manifest before its tag.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    repositories: Repositories,
}

impl Upstream {
    /// A namespace in any place.
    pub(crate) fn on(repositories: Repositories) -> Self {
        Self { repositories }
    }

    /// The size of a blob that the repository holds; `None` when it does not.
    pub(crate) fn size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<u64>> {
        if self.repositories.holds(repository, digest)? {
            self.repositories.blobs().size(digest)
        } else {
            Ok(None)
        }
    }

    /// Opens a blob that the repository holds.
    pub(crate) fn open_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<Blob>> {
        if self.repositories.holds(repository, digest)? {
            self.repositories.blobs().open_blob(digest)
        } else {
            Ok(None)
        }
    }

    /// Writes in order, durably; they come as a whole where the place can do that. `false`: somebody else
    /// moved a tag, and what was to come from there on did not.
    pub(crate) fn write(
        &self,
        repository: &RepositoryName,
        writes: &[Write<'_>],
    ) -> io::Result<bool> {
        let (to, mut batch) = (&self.repositories, Batch::default());
        for write in writes {
            match *write {
                Write::Blob(digest, from) => {
                    if !to.adopt_in(&mut batch, repository, digest, from)? {
                        let message = format!("blob {digest} is not in the store");
                        return Err(io::Error::new(io::ErrorKind::NotFound, message));
                    }
                }
                Write::Bytes(bytes) => to.put_in(&mut batch, repository, bytes)?,
                Write::Manifest(record, bytes) => {
                    to.file_manifest_in(&mut batch, repository, record, bytes)?;
                }
                Write::Tag { tag, digest, seen } => {
                    let before = std::mem::take(&mut batch);
                    if !to.move_tag(before, repository, tag, digest, Expected::Seen(seen))? {
                        return Ok(false);
                    }
                }
            }
        }
        batch.commit().map(|()| true)
    }

    /// A manifest and its bytes.
    pub(crate) fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<(ManifestRecord, Vec<u8>)>> {
        let Some(record) = self.repositories.manifest(repository, digest)? else {
            return Ok(None);
        };
        let bytes = self.repositories.blobs().read(digest, record.size)?;
        Ok(bytes.map(|bytes| (record, bytes)))
    }

    /// What a tag points to.
    pub(crate) fn resolve(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> io::Result<Option<Digest>> {
        self.repositories.resolve(repository, tag)
    }

    /// At most `limit` tags after `last`; `None` for a repository that holds nothing.
    pub(crate) fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> io::Result<Option<TagPage>> {
        self.repositories.tags(repository, last, limit)
    }

    /// The manifests with this subject from behind `last` on, each read when it is asked for.
    pub(crate) fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<&str>,
    ) -> io::Result<impl Iterator<Item = io::Result<ManifestRecord>>> {
        self.repositories.referrers(repository, subject, last)
    }

    /// Takes a tag away; `false` when there was none.
    pub(crate) fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<bool> {
        self.repositories.delete_tag(repository, tag)
    }

    /// Takes a manifest and the tags that name it away; `false` when there was none.
    pub(crate) fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<bool> {
        self.repositories.delete_manifest(repository, digest)
    }

    /// Takes a blob from the repository; `false` when it did not hold it.
    pub(crate) fn delete_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<bool> {
        // The bytes go with the garbage: another repository may hold them.
        self.repositories.unlink(repository, digest)
    }

    /// A manifest of the repository that names the blob.
    pub(crate) fn named_by(
        &self,
        repository: &RepositoryName,
        blob: &Digest,
    ) -> io::Result<Option<Digest>> {
        for record in self.repositories.manifests(repository)? {
            let record = record?;
            let bytes = self.repositories.blobs().read(&record.digest, record.size)?;
            let manifest = parse_manifest(&bytes.unwrap_or_default(), &record.media_type);
            // One that cannot be read any more may name anything.
            let names = manifest.map_or(true, |manifest| {
                manifest.references().iter().any(|it| it.descriptor.digest == *blob)
            });
            if names {
                return Ok(Some(record.digest));
            }
        }
        Ok(None)
    }

    /// The namespace, whose garbage is the gate's to collect.
    pub(crate) fn namespace(&self) -> &Repositories {
        &self.repositories
    }

    /// The blobs, which lie where the staging does and are linked from there.
    pub(crate) fn blobs(&self) -> &BlobStore {
        self.repositories.blobs()
    }
}
