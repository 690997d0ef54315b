//! What a caller sees of a repository: what was promoted, and what its own run staged.

use std::io;

use sekisho_policy::Base;
use sekisho_store::{Blob, ManifestRecord, Repositories};
use sekisho_types::{Digest, RepositoryName};

use crate::error::{ApiResult, OrFail as _};
use crate::gate::Inner;
use crate::mirror::Mirror;
use crate::protocol::Context;
use crate::upstream::Upstream;

/// One repository, seen by one caller. Blocks.
pub(crate) struct View<'a> {
    upstream: &'a Upstream,
    mirror: Option<&'a Mirror>,
    staging: Option<Repositories>,
    repository: RepositoryName,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        gate: &'a Inner,
        staging: Option<Repositories>,
        repository: RepositoryName,
    ) -> Self {
        let mirror = gate.mirror.as_ref();
        Self { upstream: &gate.upstream, mirror, staging, repository }
    }

    /// What the sender of a request may read.
    pub(crate) fn of_reader(context: &'a Context) -> ApiResult<Self> {
        let gate = &context.gate.inner;
        let scope = context.caller.scope();
        let scope = scope.filter(|_| context.caller.may_read_staged(&context.repository));
        let staging = scope.map(|scope| gate.staging.of(&scope, gate.now()));
        let staging = staging.transpose().or_fail("opening the staging")?;
        Ok(Self::new(gate, staging, context.repository.clone()))
    }

    fn staged(&self, digest: &Digest) -> io::Result<Option<&Repositories>> {
        match &self.staging {
            Some(staging) if staging.holds(&self.repository, digest)? => Ok(Some(staging)),
            _ => Ok(None),
        }
    }

    /// The size of a blob; `None` when it is not there to be seen.
    pub(crate) fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        if let Some(staging) = self.staged(digest)?
            && let Some(size) = staging.blobs().size(digest)?
        {
            return Ok(Some(size));
        }
        self.upstream.size(&self.repository, digest)
    }

    /// Opens a blob; `None` when it is not there to be seen.
    pub(crate) fn open(&self, digest: &Digest) -> io::Result<Option<Blob>> {
        if let Some(staging) = self.staged(digest)?
            && let Some(blob) = staging.blobs().open_blob(digest)?
        {
            return Ok(Some(blob));
        }
        self.upstream.open_blob(&self.repository, digest)
    }

    /// The mirrored image that an image with these layers was built on.
    pub(crate) fn base_of(&self, diff_ids: &[Digest]) -> io::Result<Option<Base>> {
        self.mirror.map_or(Ok(None), |mirror| mirror.base_of(diff_ids))
    }

    /// The manifests that refer to another one, each read when it is asked for.
    pub(crate) fn referrers(
        &self,
        subject: &Digest,
    ) -> io::Result<impl Iterator<Item = io::Result<ManifestRecord>>> {
        self.upstream.referrers(&self.repository, subject, None)
    }

    /// A manifest that was promoted, or that the run staged as a part of something.
    pub(crate) fn manifest(
        &self,
        digest: &Digest,
    ) -> io::Result<Option<(ManifestRecord, Vec<u8>)>> {
        if let Some(staging) = &self.staging
            && let Some(record) = staging.manifest(&self.repository, digest)?
            && let Some(bytes) = staging.blobs().read(digest, record.size)?
        {
            return Ok(Some((record, bytes)));
        }
        self.upstream.manifest(&self.repository, digest)
    }
}
