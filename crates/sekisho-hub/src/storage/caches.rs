//! Which cache entry is found, which may be made, which has to go: pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use sekisho_github::wire::cache::{Access, READ, WRITE};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::JobRef;

/// Longest key, in characters, as on GitHub.
pub(crate) const MAX_KEY: usize = 512;
/// Longest version, in characters; clients send a SHA-256.
const MAX_VERSION: usize = 512;
/// The most keys of one lookup, as on GitHub.
pub(crate) const MAX_KEYS: usize = 10;
/// Entries that are kept of one repository: each costs a file and some memory.
const MAX_ENTRIES: usize = 10_000;
/// How long an entry that nobody reads is kept, as on GitHub.
const MAX_UNUSED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Uploads under way at once, of all jobs.
const MAX_RESERVED: usize = 1_000;

/// Where an entry is: there is at most one in a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Id of the repository.
    pub(crate) repository: u64,
    /// A full ref.
    pub(crate) scope: String,
    pub(crate) key: String,
    pub(crate) version: String,
}

/// An entry that can be found. This is also the form on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CacheEntry {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) place: Place,
    pub(crate) blob: Uuid,
    pub(crate) size_bytes: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) used_at: Timestamp,
}

/// An entry that is being uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reservation {
    pub(crate) place: Place,
    pub(crate) blob: Uuid,
    pub(crate) by: JobRef,
    pub(crate) until: Timestamp,
}

/// Why an entry cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReserveError {
    /// There is one, or another upload of it.
    Taken,
    /// Too many uploads are under way.
    TooMany,
}

/// All entries of all repositories.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    entries: BTreeMap<u64, CacheEntry>,
    reserved: Vec<Reservation>,
}

/// The scope that a job writes to: its own.
pub(crate) fn write_scope(access: &[Access]) -> Option<&str> {
    access.iter().find(|a| a.permission & WRITE != 0).map(|access| access.scope.as_str())
}

/// The scopes that a job reads, nearest first.
pub(crate) fn read_scopes(access: &[Access]) -> Vec<&str> {
    access.iter().filter(|a| a.permission & READ != 0).map(|a| a.scope.as_str()).collect()
}

/// What a job of a run may do: all in its own ref; of a pull request's base branch and of the
/// default branch it reads.
pub(crate) fn access(git_ref: &str, base_ref: &str, default_branch: &str) -> Vec<Access> {
    let branch = |name: &str| (!name.is_empty()).then(|| format!("refs/heads/{name}"));
    let mut all = vec![Access { scope: git_ref.to_owned(), permission: READ | WRITE }];
    for scope in [branch(base_ref), branch(default_branch)].into_iter().flatten() {
        if all.iter().all(|access| access.scope != scope) {
            all.push(Access { scope, permission: READ });
        }
    }
    all
}

/// What is left of the access of a job whose `cache-mode` allows less.
pub(crate) fn limited(all: Vec<Access>, reads: bool, writes: bool) -> Vec<Access> {
    let mask = if reads { READ } else { 0 } | if writes { WRITE } else { 0 };
    let left =
        all.into_iter().map(|access| Access { permission: access.permission & mask, ..access });
    left.filter(|access| access.permission != 0).collect()
}

/// Says what is wrong with a key or a version.
pub(crate) fn check_names(keys: &[&str], version: &str) -> Result<(), String> {
    if keys.len() > MAX_KEYS {
        return Err(format!("more than {MAX_KEYS} keys"));
    }
    for key in keys {
        if key.is_empty() || key.chars().count() > MAX_KEY {
            return Err(format!("a key has 1 to {MAX_KEY} characters"));
        }
        if key.contains(',') {
            return Err("a key has no commas".to_owned());
        }
    }
    if version.is_empty() || version.chars().count() > MAX_VERSION {
        return Err(format!("a version has 1 to {MAX_VERSION} characters"));
    }
    Ok(())
}

/// Ids of the entries of one repository that have to go, so that what is left was used not too long
/// ago and fits: the least recently used go first.
pub(crate) fn evict<'a>(
    entries: impl Iterator<Item = &'a CacheEntry>,
    quota_bytes: u64,
    now: Timestamp,
) -> Vec<u64> {
    let mut by_use: Vec<&CacheEntry> = entries.collect();
    // The newest use first; of two at the same time the newer entry.
    by_use.sort_unstable_by_key(|entry| std::cmp::Reverse((entry.used_at, entry.id)));
    let (mut bytes, mut kept) = (0_u64, 0);
    let mut full = false;
    let mut gone = Vec::new();
    for entry in by_use {
        bytes = bytes.saturating_add(entry.size_bytes);
        // Once one does not fit, no older one stays: it would be kept for its size alone.
        full |= bytes > quota_bytes || kept >= MAX_ENTRIES;
        if full || now.duration_since(entry.used_at) > MAX_UNUSED {
            gone.push(entry.id);
        } else {
            kept += 1;
        }
    }
    gone
}

impl Caches {
    /// With the entries of earlier processes.
    pub(crate) fn new(entries: impl IntoIterator<Item = CacheEntry>) -> Self {
        let entries = entries.into_iter().map(|entry| (entry.id, entry)).collect();
        Self { entries, reserved: Vec::new() }
    }

    /// All entries, oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &CacheEntry> {
        self.entries.values()
    }

    /// Whether an entry can be made.
    pub(crate) fn check_free(&self, place: &Place) -> Result<(), ReserveError> {
        let made = self.entries.values().any(|entry| entry.place == *place);
        if made || self.reserved.iter().any(|reserved| reserved.place == *place) {
            return Err(ReserveError::Taken);
        }
        if self.reserved.len() >= MAX_RESERVED {
            return Err(ReserveError::TooMany);
        }
        Ok(())
    }

    /// Notes an upload that begins.
    pub(crate) fn reserve(&mut self, reservation: Reservation) -> Result<(), ReserveError> {
        self.check_free(&reservation.place)?;
        self.reserved.push(reservation);
        Ok(())
    }

    /// The upload that a job has under way there.
    pub(crate) fn reserved(&self, place: &Place, by: JobRef) -> Option<Uuid> {
        let ours = |r: &&Reservation| r.place == *place && r.by == by;
        self.reserved.iter().find(ours).map(|reserved| reserved.blob)
    }

    /// The upload is an entry now. False if it was given up meanwhile.
    #[must_use]
    pub(crate) fn commit(&mut self, entry: CacheEntry) -> bool {
        let before = self.reserved.len();
        self.reserved.retain(|reserved| reserved.blob != entry.blob);
        let known = self.reserved.len() < before;
        if known {
            self.entries.insert(entry.id, entry);
        }
        known
    }

    /// Ends uploads that took too long or whose job is over, and gives their blobs.
    pub(crate) fn abandon(&mut self, now: Timestamp, runs: impl Fn(JobRef) -> bool) -> Vec<Uuid> {
        let mut blobs = Vec::new();
        self.reserved.retain(|reserved| {
            let alive = reserved.until > now && runs(reserved.by);
            blobs.extend((!alive).then_some(reserved.blob));
            alive
        });
        blobs
    }

    /// The entry that a lookup finds.
    ///
    /// The nearer scope wins; in it the exact key, then, for each key in its order, the newest
    /// entry whose key begins so.
    pub(crate) fn find(
        &self,
        repository: u64,
        scopes: &[&str],
        keys: &[&str],
        version: &str,
    ) -> Option<&CacheEntry> {
        let exact = *keys.first()?;
        scopes.iter().find_map(|scope| {
            let here = || {
                self.entries.values().rev().filter(|entry| {
                    let place = &entry.place;
                    (place.repository, place.scope.as_str(), place.version.as_str())
                        == (repository, scope, version)
                })
            };
            here().find(|entry| entry.place.key == exact).or_else(|| {
                keys.iter().find_map(|key| {
                    let begins = here().filter(|entry| entry.place.key.starts_with(key));
                    begins.max_by_key(|entry| (entry.created_at, entry.id))
                })
            })
        })
    }

    /// Notes that an entry was read; gives it if that is to be written down.
    pub(crate) fn touch(&mut self, id: u64, now: Timestamp) -> Option<CacheEntry> {
        /// How exact the time of the last use is: each change of it is a write.
        const GRAIN: SignedDuration = SignedDuration::from_mins(1);
        let entry = self.entries.get_mut(&id)?;
        if now.duration_since(entry.used_at) < GRAIN {
            return None;
        }
        entry.used_at = now;
        Some(entry.clone())
    }

    /// Takes out an entry of a repository.
    pub(crate) fn remove(&mut self, repository: u64, id: u64) -> Option<CacheEntry> {
        let ours = |entry: &CacheEntry| entry.place.repository == repository;
        self.entries.get(&id).filter(|entry| ours(entry))?;
        self.entries.remove(&id)
    }

    /// Takes out what has to go, of all repositories.
    pub(crate) fn sweep(&mut self, quota_bytes: u64, now: Timestamp) -> Vec<CacheEntry> {
        let repositories: BTreeSet<u64> =
            self.entries.values().map(|entry| entry.place.repository).collect();
        let gone = repositories.into_iter().flat_map(|repository| {
            let of = self.entries.values().filter(move |e| e.place.repository == repository);
            evict(of, quota_bytes, now)
        });
        let gone: Vec<u64> = gone.collect();
        gone.iter().filter_map(|id| self.entries.remove(id)).collect()
    }
}

#[cfg(test)]
mod tests;
