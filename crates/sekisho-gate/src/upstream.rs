//! Where allowed images go. On one machine that is a folder.

use std::io;
use std::path::Path;

use sekisho_oci::parse_manifest;
use sekisho_store::{Blob, BlobStore, Expected, ManifestRecord, Repositories, TagPage};
use sekisho_types::{Digest, RepositoryName, Tag};

/// A registry that takes promoted images and serves them.
///
/// Everything is idempotent, for a promotion that was cut short is done again from its start. The
/// caller writes blobs before the manifest that names them, and the manifest before its tag.
pub trait Upstream: Send + Sync {
    /// The size of a blob that the repository holds; `None` when it does not.
    fn size(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<Option<u64>>;

    /// Opens a blob that the repository holds.
    fn open_blob(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<Option<Blob>>;

    /// Gives the repository a blob that `from` holds.
    fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &BlobStore,
    ) -> io::Result<()>;

    /// Gives the repository a blob of the gate's own.
    fn put_bytes(&self, repository: &RepositoryName, bytes: &[u8]) -> io::Result<()>;

    /// A manifest and its bytes.
    fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<Option<(ManifestRecord, Vec<u8>)>>;

    /// Gives the repository a manifest.
    fn put_manifest(
        &self,
        repository: &RepositoryName,
        record: &ManifestRecord,
        bytes: &[u8],
    ) -> io::Result<()>;

    /// What a tag points to.
    fn resolve(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<Option<Digest>>;

    /// Points a tag to a manifest that the repository holds, if it still names what was seen;
    /// `false` when somebody else moved it.
    fn tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        seen: Option<&Digest>,
    ) -> io::Result<bool>;

    /// At most `limit` tags after `last`; `None` for a repository that holds nothing.
    fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> io::Result<Option<TagPage>>;

    /// The manifests with this subject, at most `limit`.
    fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
    ) -> io::Result<Vec<ManifestRecord>>;

    /// Takes a tag away; `false` when there was none.
    fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<bool>;

    /// Takes a manifest and the tags that name it away; `false` when there was none.
    fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool>;

    /// Takes a blob from the repository; `false` when it did not hold it.
    fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool>;

    /// A manifest of the repository that names the blob.
    fn named_by(&self, repository: &RepositoryName, blob: &Digest) -> io::Result<Option<Digest>>;

    /// The namespace, where its garbage is the gate's to collect.
    fn namespace(&self) -> Option<&Repositories>;

    /// The blobs, where they lie on the same file system as the staging, to be linked from there.
    fn local_blobs(&self) -> Option<&BlobStore>;
}

/// A namespace in a folder or bucket.
#[derive(Clone, Debug)]
pub struct DiskUpstream {
    repositories: Repositories,
}

impl DiskUpstream {
    /// Opens the namespace in `dir`, and makes it where there is none.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let blobs = BlobStore::open(&dir.join("content"))?;
        Ok(Self { repositories: Repositories::open(&dir.join("repositories"), blobs)? })
    }

    /// A namespace in any place.
    pub fn on(repositories: Repositories) -> Self {
        Self { repositories }
    }
}

impl Upstream for DiskUpstream {
    fn size(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<Option<u64>> {
        if self.repositories.holds(repository, digest)? {
            self.repositories.blobs().size(digest)
        } else {
            Ok(None)
        }
    }

    fn open_blob(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<Option<Blob>> {
        if self.repositories.holds(repository, digest)? {
            self.repositories.blobs().open_blob(digest)
        } else {
            Ok(None)
        }
    }

    fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &BlobStore,
    ) -> io::Result<()> {
        self.repositories.blobs().adopt(from, digest)?;
        // Fails when the blob was in neither store.
        self.repositories.link(repository, digest)
    }

    fn put_bytes(&self, repository: &RepositoryName, bytes: &[u8]) -> io::Result<()> {
        let mut writer = self.repositories.blobs().writer()?;
        io::Write::write_all(&mut writer, bytes)?;
        let committed = writer.commit(self.repositories.blobs(), None).map_err(io::Error::other)?;
        self.repositories.link(repository, &committed.digest)
    }

    fn manifest(
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

    fn put_manifest(
        &self,
        repository: &RepositoryName,
        record: &ManifestRecord,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.repositories.file_manifest(repository, record, bytes)
    }

    fn resolve(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<Option<Digest>> {
        self.repositories.resolve(repository, tag)
    }

    fn tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        seen: Option<&Digest>,
    ) -> io::Result<bool> {
        self.repositories.move_tag(repository, tag, digest, Expected::Seen(seen))
    }

    fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> io::Result<Option<TagPage>> {
        self.repositories.tags(repository, last, limit)
    }

    fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
    ) -> io::Result<Vec<ManifestRecord>> {
        self.repositories.referrers(repository, subject, limit)
    }

    fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<bool> {
        self.repositories.delete_tag(repository, tag)
    }

    fn delete_manifest(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        self.repositories.delete_manifest(repository, digest)
    }

    fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        // The bytes go with the garbage: another repository may hold them.
        self.repositories.unlink(repository, digest)
    }

    fn named_by(&self, repository: &RepositoryName, blob: &Digest) -> io::Result<Option<Digest>> {
        for record in self.repositories.manifests(repository)? {
            let bytes = self.repositories.blobs().read(&record.digest, record.size)?;
            let manifest = parse_manifest(&bytes.unwrap_or_default(), &record.media_type)
                .map_err(io::Error::other)?;
            if manifest.references().iter().any(|it| it.descriptor.digest == *blob) {
                return Ok(Some(record.digest));
            }
        }
        Ok(None)
    }

    fn namespace(&self) -> Option<&Repositories> {
        Some(&self.repositories)
    }

    fn local_blobs(&self) -> Option<&BlobStore> {
        Some(self.repositories.blobs())
    }
}
