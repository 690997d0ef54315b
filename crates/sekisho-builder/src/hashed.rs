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

pub(crate) mod record;

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use crate::context::MAX_CONTEXT_FILES;
use crate::files::{Known, Sum};

/// How long a file lay still before its digest is taken for good: longer than the coarsest ticks of a
/// filesystem's clock, FAT's two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// What the kernel says of a file, which changes when its content does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// How a file lay, and the digest of its data once that was taken for good, in this build or in an earlier one that
/// this one asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lay<'a> {
    pub(crate) stamp: &'a Stamp,
    pub(crate) digest: &'a Known,
}

/// What is known of files from earlier builds, and whether this one learned something. What it learns is kept
/// with the files.
#[derive(Debug, Default)]
pub(crate) struct Hashed {
    /// `known` was read; without it nothing is written down.
    read: bool,
    /// In the order of the stamps; whether this build asked for it.
    known: Vec<(Stamp, Sum, bool)>,
    learned: bool,
}

impl Hashed {
    /// Takes what is known from earlier builds, once.
    pub(crate) fn read(&mut self, record: impl FnOnce() -> Option<Vec<(Stamp, Sum)>>) {
        if !std::mem::replace(&mut self.read, true) {
            let record = record().unwrap_or_default().into_iter();
            self.known = record.map(|(stamp, sum)| (stamp, sum, false)).collect();
            self.known.sort_unstable();
            self.known.dedup_by_key(|(stamp, ..)| *stamp);
        }
    }

    fn find(&mut self, stamp: &Stamp) -> Option<&mut (Stamp, Sum, bool)> {
        let at = self.known.binary_search_by_key(stamp, |(stamp, ..)| *stamp).ok()?;
        self.known.get_mut(at)
    }

    /// The digest of a file that is as it was, in this build or an earlier one.
    pub(crate) fn get(&mut self, lay: Lay<'_>) -> Option<Sum> {
        if let Some(sum) = lay.digest.get() {
            return Some(sum);
        }
        let (_, sum, used) = self.find(lay.stamp)?;
        *used = true;
        Some(lay.digest.get_or(*sum))
    }

    /// Forgets what this build asked for: it is with the files now.
    pub(crate) fn forget_used(&mut self) {
        self.known.retain(|(.., used)| !used);
        self.known.shrink_to_fit();
    }

    /// A file was read: how it was listed, how it was before and after, and when it was opened.
    pub(crate) fn learn(
        &mut self,
        lay: Lay<'_>,
        before: Stamp,
        after: &Stamp,
        opened: SystemTime,
        sum: Sum,
    ) {
        if *lay.stamp == before && before == *after && before.is_settled(opened) {
            lay.digest.get_or(sum);
            match self.find(&before) {
                Some((.., used)) => *used = true,
                None => self.learned = true,
            }
        }
    }

    /// Writes down what is known, if there is something new in it.
    pub(crate) fn write<'a>(
        &mut self,
        files: impl Iterator<Item = Lay<'a>> + Clone,
        write: impl FnOnce(&mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.read || !std::mem::take(&mut self.learned) {
            return Ok(());
        }
        let files = files.filter_map(|lay| Some((*lay.stamp, lay.digest.get()?)));
        let used = files.clone().count();
        let unused = self.known.iter().filter(|(.., used)| !used);
        // Files that a COPY did not come to this time are kept, until they are most of it.
        let count = unused.clone().count();
        let kept = if count > 2 * used { 0 } else { count };
        if (used + kept) as u64 > MAX_CONTEXT_FILES {
            return Ok(());
        }
        let unused = unused.take(kept).map(|(stamp, sum, _)| (*stamp, *sum));
        let mut all = files.chain(unused);
        write(&mut |to| record::write(&mut all, to))
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

    fn sum(byte: u8) -> Sum {
        Sum::from_bytes([byte; 32])
    }

    fn knowing(known: Vec<(Stamp, Sum)>) -> Hashed {
        let mut hashed = Hashed::default();
        hashed.read(|| Some(known));
        hashed
    }

    /// A file of its own.
    struct Lying(Stamp, Known);

    impl Lying {
        fn new(stamp: Stamp) -> Self {
            Self(stamp, Known::default())
        }

        fn lay(&self) -> Lay<'_> {
            Lay { stamp: &self.0, digest: &self.1 }
        }
    }

    /// What is written down, if anything is.
    fn written(hashed: &mut Hashed, files: &[&Lying]) -> Option<Vec<(Stamp, Sum)>> {
        let mut bytes = Vec::new();
        let write = |all: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>| Ok(all(&mut bytes)?);
        hashed.write(files.iter().map(|file| file.lay()), write).unwrap();
        (!bytes.is_empty()).then(|| record::read(&bytes).unwrap())
    }

    #[test]
    fn only_what_lay_still_is_remembered() {
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
            let (mut hashed, lay) = (knowing(Vec::new()), Lying::new(before));
            hashed.learn(lay.lay(), before, &after, at(100), sum(1));
            assert_eq!(lay.1.get(), remembered.then(|| sum(1)));
            let want = remembered.then(|| vec![(before, sum(1))]);
            assert_eq!(written(&mut hashed, &[&lay]), want, "{before:?} {after:?}");
        }
        // Changed between the listing and the reading.
        let (mut hashed, lay) = (knowing(Vec::new()), Lying::new(stamp(SECOND, SECOND)));
        let other = stamp(2 * SECOND, 2 * SECOND);
        hashed.learn(lay.lay(), other, &other, at(100), sum(1));
        assert_eq!(lay.1.get(), None);
    }

    #[test]
    fn what_was_not_read_is_not_overwritten() {
        let (mut hashed, one) = (Hashed::default(), stamp(SECOND, SECOND));
        let lay = Lying::new(one);
        hashed.learn(lay.lay(), one, &one, at(100), sum(1));
        assert_eq!(written(&mut hashed, &[&lay]), None);
        hashed.read(|| None);
        assert_eq!(written(&mut hashed, &[&lay]), Some(vec![(one, sum(1))]));
        assert_eq!(written(&mut hashed, &[&lay]), None, "nothing is new any more");
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
        let old = stamp(SECOND, SECOND);
        let mut hashed = knowing(vec![(old, sum(1))]);
        let lay = Lying::new(old);
        assert_eq!((hashed.get(lay.lay()), lay.1.get()), (Some(sum(1)), Some(sum(1))));
        assert_eq!(written(&mut hashed, &[&lay]), None, "nothing was learned");
        for changed in [
            stamp(SECOND, SECOND + 1),
            stamp(SECOND + 1, SECOND),
            Stamp { size: 4, ..old },
            Stamp { inode: 3, ..old },
            Stamp { device: 2, ..old },
        ] {
            assert_eq!(hashed.get(Lying::new(changed).lay()), None, "{changed:?}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten_in_time() {
        let many = |from: u64| (from..from + 10).map(|inode| Stamp { inode, ..stamp(1, 1) });
        let new = Stamp { inode: 99, ..stamp(1, 1) };
        let learned = || {
            let mut hashed = knowing(many(0).map(|one| (one, sum(1))).collect());
            let new = Lying::new(new);
            hashed.learn(new.lay(), new.0, &new.0, at(100), sum(2));
            (hashed, new)
        };
        let (mut hashed, lay) = learned();
        assert_eq!(written(&mut hashed, &[&lay]), Some(vec![(new, sum(2))]));
        let (mut hashed, lay) = learned();
        let old: Vec<Lying> = many(0).map(Lying::new).collect();
        for one in &old {
            assert_eq!(hashed.get(one.lay()), Some(sum(1)));
        }
        hashed.forget_used();
        let files: Vec<&Lying> = old.iter().chain([&lay]).collect();
        assert_eq!(written(&mut hashed, &files).map(|all| all.len()), Some(11));
    }
}
