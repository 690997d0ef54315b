//! Content that must not go away just now.
//!
//! Garbage collection and deletes look first and remove later. Whatever is used in between stays:
//!
//! ```text
//!  push:     hold ─── look, decide, promote ─── release
//!  removal:  begin ── look ── decide ── remove: refused for what is held, was used since `begin`,
//!                                               or was told to be here a short while ago
//! ```

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sekisho_types::Digest;

/// How long a client that was told of content may take until it puts the manifest: a build with a
/// slow last layer. What is younger than this is no garbage either.
pub(crate) const GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Most digests that are remembered as used, some 10 MB. At more, nothing is removed until the
/// oldest are forgotten.
const MAX_REMEMBERED: usize = 100_000;

/// When something was used last.
#[derive(Clone, Copy, Debug)]
struct Use {
    at: Timestamp,
    removal: u64,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Digest, usize>,
    used: HashMap<Digest, Use>,
    /// Uses were not remembered while there were too many: until then nothing is removed.
    overflowed: Option<Use>,
    /// Counts removals that began.
    removal: u64,
    /// Those that did not end.
    active: BTreeSet<u64>,
}

/// Who uses which content.
#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<State>);

/// Content that stays while this lives.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    leases: &'a Leases,
    digests: Vec<Digest>,
    now: Timestamp,
}

/// A removal under way: what it saw may be removed unless it was used since it began.
#[derive(Debug)]
pub(crate) struct Removal<'a> {
    leases: &'a Leases,
    number: u64,
    now: Timestamp,
}

/// How old a use must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Respect {
    /// Someone said that it should go: only what is in use at the moment stays.
    InUse,
    /// Nobody said so: what a client was told of lately stays too.
    Recent,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps content while a push looks at it and promotes it.
    pub(crate) fn hold(&self, digests: Vec<Digest>, now: Timestamp) -> Held<'_> {
        let mut state = self.lock();
        for digest in &digests {
            *state.held.entry(digest.clone()).or_default() += 1;
        }
        Held { leases: self, digests, now }
    }

    /// Remembers that somebody was told that the content is here.
    pub(crate) fn touch(&self, digest: &Digest, now: Timestamp) {
        self.lock().touch(digest, now);
    }

    /// Begins a removal, before anything is looked at.
    pub(crate) fn begin(&self, now: Timestamp) -> Removal<'_> {
        let mut state = self.lock();
        state.removal += 1;
        let number = state.removal;
        state.active.insert(number);
        // A use that a removal under way must respect is remembered, whatever the clock says.
        let oldest = state.active.first().copied().unwrap_or(number);
        let counts = |used: &Use| used.removal >= oldest || now.duration_since(used.at) <= GRACE;
        state.used.retain(|_, used| counts(used));
        state.overflowed = state.overflowed.filter(counts);
        Removal { leases: self, number, now }
    }

    /// Removes content that a removal saw, unless it is used; `None` when it is.
    ///
    /// Nobody begins to use it while it is removed.
    pub(crate) fn remove<T>(
        &self,
        removal: &Removal<'_>,
        respect: Respect,
        digest: &Digest,
        remove: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let state = self.lock();
        let fresh = |used: &Use| {
            used.removal >= removal.number
                || respect == Respect::Recent && removal.now.duration_since(used.at) <= GRACE
        };
        let used = state.used.get(digest).is_some_and(fresh)
            || state.overflowed.as_ref().is_some_and(fresh);
        if used || state.held.contains_key(digest) {
            return Ok(None);
        }
        remove().map(Some)
    }
}

impl State {
    fn touch(&mut self, digest: &Digest, at: Timestamp) {
        let used = Use { at, removal: self.removal };
        if self.used.len() < MAX_REMEMBERED || self.used.contains_key(digest) {
            self.used.insert(digest.clone(), used);
        } else {
            self.overflowed = Some(used);
        }
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.leases.lock().active.remove(&self.number);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.leases.lock();
        for digest in &self.digests {
            state.touch(digest, self.now);
            if let Some(count) = state.held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(digest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn removed(leases: &Leases, removal: &Removal<'_>, respect: Respect, digest: &Digest) -> bool {
        leases.remove(removal, respect, digest, || Ok(())).unwrap().is_some()
    }

    #[test]
    fn what_is_used_stays() {
        let leases = Leases::default();
        let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        let held = leases.hold(vec![one.clone(), one.clone()], NOW);
        let removal = leases.begin(NOW);
        assert!(!removed(&leases, &removal, Respect::InUse, &one), "held");
        assert!(removed(&leases, &removal, Respect::Recent, &other));
        drop(held);
        assert!(!removed(&leases, &removal, Respect::InUse, &one), "used since the removal began");

        let removal = leases.begin(NOW + GRACE);
        assert!(!removed(&leases, &removal, Respect::Recent, &one), "used a short while ago");
        assert!(removed(&leases, &removal, Respect::InUse, &one), "and nobody minds any more");
        let later = leases.begin(NOW + GRACE + SignedDuration::from_secs(1));
        assert!(removed(&leases, &later, Respect::Recent, &one));
        // A clock that is set back does not make a use old.
        leases.touch(&one, NOW - GRACE - GRACE);
        assert!(!removed(&leases, &later, Respect::Recent, &one));
    }

    #[test]
    fn too_many_uses_to_remember_keep_everything() {
        let leases = Leases::default();
        for number in 0..=MAX_REMEMBERED {
            leases.touch(&Digest::sha256(&number.to_le_bytes()), NOW);
        }
        let forgotten = Digest::sha256(&MAX_REMEMBERED.to_le_bytes());
        assert!(!removed(&leases, &leases.begin(NOW), Respect::Recent, &forgotten));
        let later = leases.begin(NOW + GRACE + SignedDuration::from_secs(1));
        assert!(removed(&leases, &later, Respect::Recent, &forgotten));
    }
}
