//! Promotion: blobs, then the manifest, then the tag.
//!
//! Every action may be done again, so a promotion that was cut short anywhere is repeated from its
//! start: at no moment does a tag name a manifest that is not there, or a manifest a missing blob.

use std::io;

use sekisho_store::{BlobStore, ManifestRecord};
use sekisho_types::{Digest, RepositoryName, Tag};

use crate::upstream::Upstream;

/// What upstream holds already, and what it should.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// Every blob of the manifest, with whether upstream holds it.
    blobs: Vec<(Digest, bool)>,
    record: ManifestRecord,
    /// Upstream holds the manifest.
    has_manifest: bool,
    /// The tag that is wanted, with what it names now.
    tag: Option<(Tag, Option<Digest>)>,
}

/// One idempotent write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Blob(Digest),
    Manifest(ManifestRecord),
    Tag(Tag, Digest),
}

pub(crate) fn observe(
    upstream: &dyn Upstream,
    repository: &RepositoryName,
    blobs: Vec<Digest>,
    record: &ManifestRecord,
    tag: &Option<Tag>,
) -> io::Result<Observed> {
    let held = |digest: Digest| {
        let size = upstream.size(repository, &digest)?;
        Ok((digest, size.is_some()))
    };
    let tag = match tag {
        Some(tag) => Some((tag.clone(), upstream.resolve(repository, tag)?)),
        None => None,
    };
    Ok(Observed {
        blobs: blobs.into_iter().map(held).collect::<io::Result<_>>()?,
        has_manifest: upstream.manifest(repository, &record.digest)?.is_some(),
        record: record.clone(),
        tag,
    })
}

/// What is left to do, in order.
pub(crate) fn plan(observed: Observed) -> Vec<Action> {
    let Observed { blobs, record, has_manifest, tag } = observed;
    let mut actions: Vec<Action> =
        blobs.into_iter().filter(|(_, held)| !held).map(|(d, _)| Action::Blob(d)).collect();
    let digest = record.digest.clone();
    // One with a subject is filed in two places; done again, both are there for sure.
    if !has_manifest || record.subject.is_some() {
        actions.push(Action::Manifest(record));
    }
    if let Some((tag, now)) = tag
        && now.as_ref() != Some(&digest)
    {
        actions.push(Action::Tag(tag, digest));
    }
    actions
}

pub(crate) fn act(
    upstream: &dyn Upstream,
    repository: &RepositoryName,
    staging: &BlobStore,
    manifest: &[u8],
    action: &Action,
) -> io::Result<()> {
    match action {
        Action::Blob(digest) => upstream.put_blob(repository, digest, staging),
        Action::Manifest(record) => upstream.put_manifest(repository, record, manifest),
        Action::Tag(tag, digest) => upstream.tag(repository, tag, digest),
    }
}

#[cfg(test)]
mod tests;
