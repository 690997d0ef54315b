//! What a repository is given.

use std::io::{self, Write as _};

use sekisho_types::{Digest, RepositoryName, Tag};

use super::{
    BLOBS, Expected, KNOWN, MANIFESTS, ManifestRecord, REFERRERS, Repositories, join_digest,
};
use crate::batch::Batch;
use crate::blobs::BlobStore;
use crate::writer::{BlobWriter, CommitError, Committed};

impl Repositories {
    /// Says that `repository` holds the blob, which must be in the store already.
    ///
    /// # Errors
    /// `NotFound` when it is not: a link never points to nothing.
    pub fn link(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<()> {
        let mut batch = Batch::default();
        self.link_in(&mut batch, repository, digest)?;
        batch.commit()
    }

    fn link_in(
        &self,
        batch: &mut Batch,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> io::Result<()> {
        self.require(batch, digest)?;
        let name = Self::by_digest(repository, BLOBS, digest);
        if self.records.exists(&name)? {
            return Ok(());
        }
        self.records.write_in(batch, &name, b"")
    }

    /// Ends the writing of a blob that `repository` will hold: a commit and a link.
    pub fn commit(
        &self,
        repository: &RepositoryName,
        writer: BlobWriter,
        expected: &Digest,
    ) -> Result<Committed, CommitError> {
        let mut batch = Batch::default();
        let committed = writer.commit_in(&self.blobs, expected, &mut batch)?;
        self.link_in(&mut batch, repository, expected)?;
        batch.commit()?;
        Ok(committed)
    }

    /// Gives `repository` a blob of these bytes.
    pub fn put_in(
        &self,
        batch: &mut Batch,
        repository: &RepositoryName,
        bytes: &[u8],
    ) -> io::Result<()> {
        let digest = self.blobs.put_in(batch, bytes)?;
        self.link_in(batch, repository, &digest)
    }

    /// Gives `repository` a blob that `from` has, or this store already; `false` when neither has it.
    pub fn adopt_in(
        &self,
        batch: &mut Batch,
        repository: &RepositoryName,
        digest: &Digest,
        from: &BlobStore,
    ) -> io::Result<bool> {
        let is_here = self.blobs.adopt_in(batch, from, digest)?;
        if is_here {
            self.link_in(batch, repository, digest)?;
        }
        Ok(is_here)
    }

    fn require(&self, batch: &Batch, digest: &Digest) -> io::Result<()> {
        if batch.makes(&self.blobs.path(digest)) || self.blobs.contains(digest)? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("blob {digest} is not in the store")))
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
        let mut batch = Batch::default();
        self.put_manifest_in(&mut batch, repository, record)?;
        batch.commit()
    }

    fn put_manifest_in(
        &self,
        batch: &mut Batch,
        repository: &RepositoryName,
        record: &ManifestRecord,
    ) -> io::Result<()> {
        self.require(batch, &record.digest)?;
        let known = Self::folder(repository, KNOWN);
        if !self.records.exists(&known)? {
            self.records.write_in(batch, &known, b"")?;
        }
        let json = serde_json::to_vec(record).map_err(io::Error::other)?;
        let names = Self::names_of(repository, record);
        names.iter().try_for_each(|name| self.records.write_in(batch, name, &json))
    }

    /// Where a manifest is filed: by its digest, and under its subject.
    fn names_of(repository: &RepositoryName, record: &ManifestRecord) -> Vec<String> {
        let name = Self::by_digest(repository, MANIFESTS, &record.digest);
        let under = record.subject.as_ref().map(|subject| {
            let folder = Self::by_digest(repository, REFERRERS, subject);
            join_digest(&folder, &record.digest)
        });
        [name].into_iter().chain(under).collect()
    }

    /// Puts a manifest's bytes into the store, and files it.
    ///
    /// # Errors
    /// The bytes are not those of the record.
    pub fn file_manifest(
        &self,
        repository: &RepositoryName,
        record: &ManifestRecord,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut batch = Batch::default();
        self.file_manifest_in(&mut batch, repository, record, bytes)?;
        batch.commit()
    }

    /// As [`Repositories::file_manifest`], with a batch.
    pub fn file_manifest_in(
        &self,
        batch: &mut Batch,
        repository: &RepositoryName,
        record: &ManifestRecord,
        bytes: &[u8],
    ) -> io::Result<()> {
        let mut writer = self.blobs.writer()?;
        writer.write_all(bytes)?;
        writer.commit_in(&self.blobs, &record.digest, batch)?;
        self.put_manifest_in(batch, repository, record)
    }

    /// Points a tag to a manifest that the repository holds, whatever it named before.
    ///
    /// # Errors
    /// `NotFound` when it does not: a tag never names what is missing.
    pub fn tag(&self, repository: &RepositoryName, tag: &Tag, digest: &Digest) -> io::Result<()> {
        self.move_tag(Batch::default(), repository, tag, digest, Expected::Any).map(drop)
    }

    /// Commits a batch, and points a tag to a manifest that the repository holds then, if it names what
    /// was expected; `false` when somebody else was faster.
    ///
    /// # Errors
    /// As [`Repositories::tag`].
    pub fn move_tag(
        &self,
        batch: Batch,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        expected: Expected<'_>,
    ) -> io::Result<bool> {
        let manifest = Self::by_digest(repository, MANIFESTS, digest);
        let is_made = self.records.path(&manifest).is_some_and(|path| batch.makes(&path));
        if !is_made && self.manifest(repository, digest)?.is_none() {
            let message = format!("repository `{repository}` has no manifest {digest}");
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let name = Self::tag_name(repository, tag);
        let bytes = serde_json::to_vec(digest).map_err(io::Error::other)?;
        let is_expected = |now: Option<&[u8]>| match expected {
            Expected::Any => true,
            Expected::Seen(seen) => match now {
                // The same word twice is one.
                Some(now) if seen.is_none() => now == bytes,
                Some(now) => serde_json::from_slice(now).ok().as_ref() == seen,
                None => seen.is_none(),
            },
        };
        self.records.swap_after(batch, &name, &bytes, &is_expected)
    }
}
