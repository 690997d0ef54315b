//! Digests of a context's files, remembered from one build to the next.
//!
//! A build reads every file that a COPY takes, to know whether it is what it was. Most are, and the
//! kernel says so for the price of a `stat`: a file whose inode, size, modification time and change time
//! are the same has the same content. The change time cannot be set by a program, so this holds for a
//! file that was written and dated back, and for one that another took the place of.
//!
//! It does not hold for a file that is written again within one tick of the clock that dates it. So only
//! what lay still for [`SETTLED`] when it was read is remembered, as git does ("racy git":
//! <https://git-scm.com/docs/racy-git>).

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::context::MAX_CONTEXT_FILES;

/// How long a file lay still before its digest is taken for good: longer than the coarsest ticks of a
/// filesystem's clock, FAT's two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// What the kernel says of a file, which changes when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl Stamp {
    #[expect(clippy::useless_conversion, reason = "the fields have other widths elsewhere")]
    pub(crate) fn of(stat: &Stat) -> Self {
        let ns = |seconds: i64, ns: u64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(i64::try_from(ns).unwrap_or(0))
        };
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified_ns: ns(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            changed_ns: ns(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
        }
    }

    /// Whether it lay still for long enough at that time. A time in the future says nothing.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let until = i64::try_from(now.saturating_sub(SETTLED).as_nanos()).unwrap_or(0);
        self.modified_ns.max(self.changed_ns) < until
    }

    /// Appends bytes that are the same when and only when it is.
    pub(crate) fn write_to(&self, bytes: &mut Vec<u8>) {
        let Self { device, inode, size, modified_ns, changed_ns } = *self;
        for number in [device, inode, size] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for time in [modified_ns, changed_ns] {
            bytes.extend_from_slice(&time.to_be_bytes());
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// As it is written down.
pub(crate) type Record = Vec<(Stamp, Digest)>;

/// What is known of files from earlier builds, and what this one learns.
#[derive(Debug, Default)]
pub(crate) struct Hashed {
    /// `known` was read; without it nothing is written down.
    read: bool,
    known: HashMap<Stamp, Digest>,
    /// Files of this build; what is in `known` and not here is no file of the context any more.
    used: HashMap<Stamp, Digest>,
}

impl Hashed {
    #[cfg(test)]
    fn new(record: Record) -> Self {
        let mut hashed = Self::default();
        hashed.read(|| Some(record));
        hashed
    }

    /// Takes what is known from earlier builds, once.
    pub(crate) fn read(&mut self, record: impl FnOnce() -> Option<Record>) {
        if !std::mem::replace(&mut self.read, true) {
            self.known = record().unwrap_or_default().into_iter().collect();
        }
    }

    /// Whether the digest of such a file was taken in this build, and for good.
    pub(crate) fn is_sure(&self, stamp: &Stamp) -> bool {
        self.used.contains_key(stamp)
    }

    /// The digest of a file that is as it was, in this build or an earlier one.
    pub(crate) fn get(&mut self, stamp: &Stamp) -> Option<Digest> {
        if let Some(digest) = self.used.get(stamp) {
            return Some(digest.clone());
        }
        let digest = self.known.get(stamp)?.clone();
        self.used.insert(*stamp, digest.clone());
        Some(digest)
    }

    /// A file was read: how it was before and after, and when it was opened.
    pub(crate) fn learn(
        &mut self,
        before: Stamp,
        after: &Stamp,
        opened: SystemTime,
        digest: &Digest,
    ) {
        if before == *after && before.is_settled(opened) {
            self.used.insert(before, digest.clone());
        }
    }

    /// What to write down, if it is not what is written down already; it is no more known here then.
    pub(crate) fn take_record(&mut self) -> Option<Record> {
        if !self.read || self.used.keys().all(|stamp| self.known.contains_key(stamp)) {
            return None;
        }
        // Files that a COPY did not come to this time are kept, until they are most of it.
        let stale = self.known.len().saturating_sub(self.used.len()) > 2 * self.used.len();
        let mut all = std::mem::take(&mut self.used);
        for (stamp, digest) in std::mem::take(&mut self.known).into_iter().filter(|_| !stale) {
            all.entry(stamp).or_insert(digest);
        }
        (all.len() as u64 <= MAX_CONTEXT_FILES).then(|| all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn stamp(modified: i64, changed: i64) -> Stamp {
        Stamp { device: 1, inode: 2, size: 3, modified_ns: modified, changed_ns: changed }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn only_what_lay_still_is_remembered() {
        let digest = Digest::sha256(b"a");
        for (before, after, remembered) in [
            (stamp(10 * SECOND, 10 * SECOND), stamp(10 * SECOND, 10 * SECOND), true),
            // Written to while it was read.
            (stamp(10 * SECOND, 10 * SECOND), stamp(10 * SECOND, 11 * SECOND), false),
            // Just written, dated back or not.
            (stamp(99 * SECOND, 99 * SECOND), stamp(99 * SECOND, 99 * SECOND), false),
            (stamp(SECOND, 98 * SECOND), stamp(SECOND, 98 * SECOND), false),
            // From the future, by another machine's clock.
            (stamp(200 * SECOND, 10 * SECOND), stamp(200 * SECOND, 10 * SECOND), false),
        ] {
            let mut hashed = Hashed::new(Record::new());
            hashed.learn(before, &after, at(100), &digest);
            assert_eq!(hashed.is_sure(&before), remembered);
            assert_eq!(hashed.take_record().is_some(), remembered, "{before:?} {after:?}");
        }
    }

    #[test]
    fn what_was_not_read_is_not_overwritten() {
        let (mut hashed, one) = (Hashed::default(), stamp(SECOND, SECOND));
        hashed.learn(one, &one, at(100), &Digest::sha256(b"a"));
        assert_eq!(hashed.take_record(), None);
        assert!(hashed.is_sure(&one));
        hashed.read(|| None);
        assert_eq!(hashed.take_record().map(|all| all.len()), Some(1));
        let bytes = |stamp: Stamp| {
            let mut bytes = Vec::new();
            stamp.write_to(&mut bytes);
            bytes
        };
        assert_eq!(bytes(one), bytes(stamp(SECOND, SECOND)));
        assert_ne!(bytes(one), bytes(stamp(SECOND, SECOND + 1)));
    }

    #[test]
    fn a_file_that_changed_is_not_known() {
        let digest = Digest::sha256(b"a");
        let old = stamp(SECOND, SECOND);
        let mut hashed = Hashed::new(vec![(old, digest.clone())]);
        assert_eq!(hashed.get(&old), Some(digest));
        assert_eq!(hashed.take_record(), None, "nothing was learned");
        for changed in [
            stamp(SECOND, SECOND + 1),
            stamp(SECOND + 1, SECOND),
            Stamp { size: 4, ..old },
            Stamp { inode: 3, ..old },
            Stamp { device: 2, ..old },
        ] {
            assert_eq!(hashed.get(&changed), None, "{changed:?}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten_in_time() {
        let digest = Digest::sha256(b"a");
        let many = |from: u64| (from..from + 10).map(|inode| Stamp { inode, ..stamp(1, 1) });
        let new = Stamp { inode: 99, ..stamp(1, 1) };
        let learned = || {
            let mut hashed = Hashed::new(many(0).map(|one| (one, digest.clone())).collect());
            hashed.learn(new, &new, at(100), &digest);
            hashed
        };
        assert_eq!(learned().take_record(), Some(vec![(new, digest.clone())]));
        let mut hashed = learned();
        for one in many(0) {
            hashed.get(&one);
        }
        assert_eq!(hashed.take_record().map(|all| all.len()), Some(11));
    }
}
