//! What goes when more is kept than may be.

use std::io;

use jiff::{SignedDuration, Timestamp};
use sekisho_types::Digest;

use super::store::Store;

/// What was used within this time stays: somebody is about to read it.
const IN_USE: SignedDuration = SignedDuration::from_mins(10);

/// When something goes, so much does that this part of the bound is left.
const LEFT: (u64, u64) = (9, 10);

/// Content that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// When it was used last, to the hour.
    pub(crate) used: Timestamp,
}

/// What goes, so that at most `keep_bytes` are left: what was not used for longest first.
pub(crate) fn decide(mut kept: Vec<Kept>, keep_bytes: u64, now: Timestamp) -> Vec<Digest> {
    let mut total = kept.iter().fold(0_u64, |sum, it| sum.saturating_add(it.size));
    if total <= keep_bytes {
        return Vec::new();
    }
    let bound = keep_bytes / LEFT.1 * LEFT.0;
    kept.sort_by(|a, b| (a.used, &a.digest).cmp(&(b.used, &b.digest)));
    let mut gone = Vec::new();
    for it in kept {
        if total <= bound {
            break;
        }
        // A use of the future: the clock was set back, and nobody knows.
        if now.duration_since(it.used).abs() > IN_USE {
            total = total.saturating_sub(it.size);
            gone.push(it.digest);
        }
    }
    gone
}

/// Looks, decides and removes; how many bytes are left. Blocks.
pub(crate) fn make_room(store: &Store, keep_bytes: u64, now: Timestamp) -> io::Result<u64> {
    let kept = store.kept()?;
    let gone = decide(kept.clone(), keep_bytes, now);
    for digest in &gone {
        store.remove(digest)?;
    }
    Ok(kept.iter().filter(|it| !gone.contains(&it.digest)).map(|it| it.size).sum())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn kept(number: u8, size: u64, minutes_ago: i64) -> Kept {
        let used = Timestamp::from_second(NOW - 60 * minutes_ago).unwrap();
        Kept { digest: Digest::sha256(&[number]), size, used }
    }

    fn gone(all: &[Kept], keep_bytes: u64) -> Vec<usize> {
        let now = Timestamp::from_second(NOW).unwrap();
        let gone = decide(all.to_vec(), keep_bytes, now);
        let place = |digest: &Digest| all.iter().position(|it| it.digest == *digest).unwrap();
        gone.iter().map(place).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let all = [kept(0, 50, 100), kept(1, 30, 300), kept(2, 20, 200), kept(3, 10, 1)];
        assert_eq!(gone(&all, 110), [] as [usize; 0], "it all fits");
        assert_eq!(gone(&all, 100), [1], "and then some room is left");
        assert_eq!(gone(&all, 70), [1, 2]);
        assert_eq!(gone(&all, 10), [1, 2, 0], "not what is in use");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_bound_holds_but_for_what_is_in_use(
            sizes in prop::collection::vec((0_u64..100, 0_i64..2000), 0..12), keep_bytes in 0_u64..800,
        ) {
            let all: Vec<Kept> = sizes
                .iter()
                .enumerate()
                .map(|(number, (size, ago))| kept(u8::try_from(number).unwrap(), *size, *ago))
                .collect();
            let gone = gone(&all, keep_bytes);
            let left: Vec<&Kept> =
                (0..all.len()).filter(|it| !gone.contains(it)).map(|it| &all[it]).collect();
            let total: u64 = left.iter().map(|it| it.size).sum();
            let in_use = left.iter().all(|it| NOW - it.used.as_second() <= 600);
            prop_assert!(total <= keep_bytes || in_use);
        }
    }
}
