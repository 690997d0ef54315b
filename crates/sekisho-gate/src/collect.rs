//! Garbage: blobs that no manifest names, found and removed while pushes go on.
//!
//! The same split as a push: [`observe`] reads the namespace, [`decide`] says what is garbage, and
//! [`act`] removes it piece by piece, each piece only if nobody used it since the look began
//! ([`crate::lease`]; in a bucket [`marks`]). Manifests are never garbage: somebody may pull them by digest.

pub(crate) mod marks;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::SystemTime;

use jiff::Timestamp;
use sekisho_oci::parse_manifest;
use sekisho_store::Repositories;
use sekisho_types::{Digest, RepositoryName};

use self::marks::Marks;
use crate::config::Clock;
use crate::lease::{GRACE, Leases, Respect};

/// What a namespace holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    repositories: BTreeMap<RepositoryName, Holdings>,
    /// Everything in the store, with the time when it was written.
    blobs: BTreeMap<Digest, Timestamp>,
}

/// What one repository holds.
#[derive(Clone, Debug, Default)]
struct Holdings {
    manifests: BTreeSet<Digest>,
    /// What the manifests refer to.
    named: BTreeSet<Digest>,
    /// Manifests that cannot be read any more: whatever the repository holds may be theirs.
    unreadable: usize,
    /// Its blobs, with the time when it got them.
    links: BTreeMap<Digest, Timestamp>,
}

/// One removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The repository does not hold the blob any more.
    Unlink(RepositoryName, Digest),
    /// The bytes go.
    Delete(Digest),
}

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many repositories lost a blob that no manifest of theirs named.
    pub links: usize,
    /// How many blobs were removed.
    pub blobs: usize,
    /// How large those were together.
    pub size_bytes: u64,
    /// Manifests that could not be read: their repositories keep all that they hold.
    pub unreadable: usize,
}

/// Reads the namespace. Blocks.
pub(crate) fn observe(namespace: &Repositories) -> io::Result<Observed> {
    let mut observed = Observed::default();
    let blobs = namespace.blobs();
    // Before the links: one that is linked later is not in the list, and so no candidate.
    for digest in blobs.list()? {
        let written = blobs.written(&digest)?;
        observed.blobs.extend(written.map(|written| (digest, time(written))));
    }
    for repository in namespace.repositories()? {
        let mut holdings = Holdings::default();
        let links = namespace.links(&repository)?;
        holdings.links.extend(links.into_iter().map(|(digest, linked)| (digest, time(linked))));
        for record in namespace.manifests(&repository)? {
            let record = record?;
            let Some(bytes) = blobs.read(&record.digest, record.size)? else { continue };
            match parse_manifest(&bytes, &record.media_type) {
                Ok(manifest) => {
                    let named = manifest.references().into_iter();
                    holdings.named.extend(named.map(|it| it.descriptor.digest.clone()));
                }
                // Taken in by another version, or damaged: it may name anything.
                Err(error) => {
                    let digest = &record.digest;
                    tracing::warn!(%repository, %digest, "nothing of a repository is collected: {error}");
                    holdings.unreadable += 1;
                }
            }
            holdings.manifests.insert(record.digest);
        }
        observed.repositories.insert(repository, holdings);
    }
    Ok(observed)
}

impl Observed {
    fn unreadable(&self) -> usize {
        self.repositories.values().map(|holdings| holdings.unreadable).sum()
    }
}

/// A time that cannot be told is in the future: too young to be garbage.
fn time(of: SystemTime) -> Timestamp {
    Timestamp::try_from(of).unwrap_or(Timestamp::MAX)
}

/// What is garbage: links that no manifest of their repository needs, then bytes that nobody holds.
/// What is younger than [`GRACE`] waits for its manifest.
pub(crate) fn decide(observed: &Observed, now: Timestamp) -> Vec<Action> {
    let old = |since: &Timestamp| now.duration_since(*since) > GRACE;
    let mut actions = Vec::new();
    let mut needed: BTreeSet<&Digest> = BTreeSet::new();
    for (repository, holdings) in &observed.repositories {
        needed.extend(&holdings.manifests);
        for (digest, linked) in &holdings.links {
            if holdings.unreadable > 0 || holdings.named.contains(digest) || !old(linked) {
                needed.insert(digest);
            } else {
                actions.push(Action::Unlink(repository.clone(), digest.clone()));
            }
        }
    }
    let garbage = observed.blobs.iter().filter(|(digest, _)| !needed.contains(digest));
    actions.extend(garbage.filter(|(_, at)| old(at)).map(|(d, _)| Action::Delete(d.clone())));
    actions
}

impl Action {
    fn digest(&self) -> &Digest {
        let (Self::Unlink(_, digest) | Self::Delete(digest)) = self;
        digest
    }
}

/// Removes one piece.
fn act(namespace: &Repositories, action: &Action, collected: &mut Collected) -> io::Result<()> {
    match action {
        Action::Unlink(repository, digest) => {
            collected.links += usize::from(namespace.unlink(repository, digest)?);
        }
        Action::Delete(digest) => {
            let size = namespace.blobs().size(digest)?;
            if namespace.blobs().delete(digest)? {
                collected.blobs += 1;
                collected.size_bytes += size.unwrap_or_default();
            }
        }
    }
    Ok(())
}

/// Looks once and removes what is garbage. Blocks.
pub(crate) fn collect(
    namespace: &Repositories,
    leases: &Leases,
    now: Timestamp,
) -> io::Result<Collected> {
    let removal = leases.begin(now);
    let observed = observe(namespace)?;
    let mut collected = Collected { unreadable: observed.unreadable(), ..Collected::default() };
    for action in decide(&observed, now) {
        // Unless it came into use.
        leases.remove(&removal, Respect::Recent, action.digest(), || {
            act(namespace, &action, &mut collected)
        })?;
    }
    Ok(collected)
}

/// The same in a bucket, where other gates may be at work: what is garbage is condemned, and removed
/// by a later look. Blocks.
pub(crate) fn collect_shared(
    namespace: &Repositories,
    marks: &Marks,
    clock: &Clock,
) -> io::Result<Collected> {
    let observed = observe(namespace)?;
    let actions = decide(&observed, clock.now());
    let mut garbage: BTreeMap<&Digest, Vec<&Action>> = BTreeMap::new();
    for action in &actions {
        garbage.entry(action.digest()).or_default().push(action);
    }
    let mut collected = Collected { unreadable: observed.unreadable(), ..Collected::default() };
    for (digest, actions) in &garbage {
        marks.remove(digest, clock, || {
            actions.iter().try_for_each(|action| act(namespace, action, &mut collected))
        })?;
    }
    marks.tidy(&garbage.into_keys().collect(), clock.now())?;
    Ok(collected)
}

#[cfg(test)]
mod tests;
