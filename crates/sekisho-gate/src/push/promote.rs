//! Promotion: blobs, then manifests, then what is said about them, then the tag.
//!
//! Every action may be done again, so a promotion that was cut short anywhere is repeated from its
//! start: at no moment does a tag name a manifest that is not there, or a manifest a missing blob.
//!
//! [`Permit`] is the only way in, and only a decision that lets the image pass makes one.

use std::io;

use bytes::Bytes;
use sekisho_store::{BlobStore, ManifestRecord};
use sekisho_types::{Digest, RepositoryName, Tag};

use crate::decisions::Decision;
use crate::upstream::{Upstream, Write};

/// How often a tag that somebody else moved meanwhile is looked at again.
const MAX_TURNS: usize = 16;

/// A decision that lets one image pass. Nothing is promoted without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permit<'a>(&'a Decision);

impl<'a> Permit<'a> {
    /// `None` for a decision that refuses or holds.
    pub(crate) fn of(decision: &'a Decision) -> Option<Self> {
        decision.verdict.decision.passes().then_some(Self(decision))
    }

    pub(crate) fn decision(self) -> &'a Decision {
        self.0
    }
}

/// A manifest and what it needs.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) record: ManifestRecord,
    pub(crate) bytes: Bytes,
    pub(crate) blobs: Vec<Digest>,
}

/// What is said about an image, made by the gate.
#[derive(Clone, Debug)]
pub(crate) struct Attestation {
    pub(crate) blob: Vec<u8>,
    pub(crate) record: ManifestRecord,
    pub(crate) manifest: Vec<u8>,
}

/// What upstream holds already, and what it should.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    /// Every blob of every manifest, with whether upstream holds it.
    blobs: Vec<(Digest, bool)>,
    /// The manifests, the root last, with whether upstream holds it.
    items: Vec<(ManifestRecord, bool)>,
    /// What is said about the root, with whether upstream holds it.
    attestation: Option<(Digest, bool)>,
    /// The tag that is wanted, with what it names now.
    tag: Option<(Tag, Option<Digest>)>,
}

/// One idempotent write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Blob(Digest),
    Manifest(ManifestRecord),
    Attest(Digest),
    /// The tag, what it shall name, and what it named when we looked.
    Tag(Tag, Digest, Option<Digest>),
}

/// What is to be promoted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    permit: Permit<'a>,
    items: &'a [Item],
    attestation: Option<&'a Attestation>,
}

impl<'a> Wanted<'a> {
    /// The root of `items`, their last, must be what was decided about.
    pub(crate) fn new(
        permit: Permit<'a>,
        items: &'a [Item],
        attestation: Option<&'a Attestation>,
    ) -> Option<Self> {
        let is_decided = items.last()?.record.digest == permit.decision().digest;
        is_decided.then_some(Self { permit, items, attestation })
    }

    fn repository(&self) -> &'a RepositoryName {
        &self.permit.decision().repository
    }
}

pub(crate) fn observe(upstream: &Upstream, wanted: Wanted<'_>) -> io::Result<Observed> {
    let repository = wanted.repository();
    let mut blobs: Vec<(Digest, bool)> = Vec::new();
    let mut items = Vec::new();
    for item in wanted.items {
        for digest in &item.blobs {
            if blobs.iter().all(|(known, _)| known != digest) {
                blobs.push((digest.clone(), upstream.size(repository, digest)?.is_some()));
            }
        }
        let held = upstream.manifest(repository, &item.record.digest)?.is_some();
        items.push((item.record.clone(), held));
    }
    let attestation = match wanted.attestation {
        Some(it) => {
            let digest = &it.record.digest;
            Some((digest.clone(), upstream.manifest(repository, digest)?.is_some()))
        }
        None => None,
    };
    let tag = match &wanted.permit.decision().tag {
        Some(tag) => Some((tag.clone(), upstream.resolve(repository, tag)?)),
        None => None,
    };
    Ok(Observed { blobs, items, attestation, tag })
}

/// What is left to do, in order.
pub(crate) fn plan(observed: Observed) -> Vec<Action> {
    let Observed { blobs, items, attestation, tag } = observed;
    let mut actions: Vec<Action> =
        blobs.into_iter().filter(|(_, held)| !held).map(|(d, _)| Action::Blob(d)).collect();
    let root = items.last().map(|(record, _)| record.digest.clone());
    for (record, held) in items {
        // One with a subject is filed in two places; done again, both are there for sure.
        if !held || record.subject.is_some() {
            actions.push(Action::Manifest(record));
        }
    }
    actions.extend(attestation.filter(|(_, held)| !held).map(|(it, _)| Action::Attest(it)));
    if let (Some((tag, now)), Some(root)) = (tag, root)
        && now.as_ref() != Some(&root)
    {
        actions.push(Action::Tag(tag, root, now));
    }
    actions
}

/// Does what was planned, or a part of it. `false`: the tag moved since it was looked at.
pub(crate) fn act(
    upstream: &Upstream,
    wanted: Wanted<'_>,
    staging: &BlobStore,
    actions: &[Action],
) -> io::Result<bool> {
    let unwanted = || io::Error::other("this was not wanted");
    let mut writes = Vec::new();
    for action in actions {
        match action {
            Action::Blob(digest) => writes.push(Write::Blob(digest, staging)),
            Action::Manifest(record) => {
                let item = wanted.items.iter().find(|item| item.record == *record);
                writes.push(Write::Manifest(record, &item.ok_or_else(unwanted)?.bytes));
            }
            Action::Attest(_) => {
                let Attestation { blob, record, manifest } =
                    wanted.attestation.ok_or_else(unwanted)?;
                writes.extend([Write::Bytes(blob), Write::Manifest(record, manifest)]);
            }
            Action::Tag(tag, digest, seen) => {
                writes.push(Write::Tag { tag, digest, seen: seen.as_ref() });
            }
        }
    }
    upstream.write(wanted.repository(), &writes)
}

/// Promotes: looks, and does what is left, until nothing is.
///
/// `overtaken` names another push that has the tag by right. It is asked after each look: who is not
/// overtaken then writes only if the tag is still as it was seen. `Some`: so it was, and nothing was done.
pub(crate) fn promote(
    upstream: &Upstream,
    wanted: Wanted<'_>,
    staging: &BlobStore,
    overtaken: impl Fn() -> io::Result<Option<Digest>>,
) -> io::Result<Option<Digest>> {
    for _ in 0..MAX_TURNS {
        let observed = observe(upstream, wanted)?;
        if let Some(by) = overtaken()? {
            return Ok(Some(by));
        }
        if act(upstream, wanted, staging, &plan(observed))? {
            return Ok(None);
        }
    }
    Err(io::Error::other("others move the tag again and again"))
}

#[cfg(test)]
mod tests;
