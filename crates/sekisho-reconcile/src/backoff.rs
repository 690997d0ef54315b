//! Longer and longer pauses.

use std::time::Duration;

/// Where between half of a pause and all of it the next attempt lies, in thousandths. It is drawn by
/// who acts, so that many who failed together do not try again together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    /// The longest pause; what tests use.
    pub const FULL: Self = Self(1000);

    /// Of any number: what is above 1000 begins again.
    pub const fn of(random: u64) -> Self {
        Self((random % 1001) as u16)
    }
}

/// The pause before the attempt after `failures` in a row: `base` doubled each time, at most `cap`,
/// of which at least half.
pub fn pause(base: Duration, cap: Duration, failures: u32, jitter: Jitter) -> Duration {
    let doubled =
        base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let full = doubled.min(cap);
    let half = full / 2;
    half + half * u32::from(jitter.0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_are_never_shorter_than_half() {
        let (base, cap) = (Duration::from_secs(10), Duration::from_secs(300));
        let full = [0, 1, 2, 3, 5, 6, 7, 99].map(|n| pause(base, cap, n, Jitter::FULL).as_secs());
        assert_eq!(full, [10, 10, 20, 40, 160, 300, 300, 300]);
        assert_eq!(pause(base, cap, 1, Jitter::of(0)), Duration::from_secs(5));
        assert_eq!(pause(base, cap, 1, Jitter::of(500)), Duration::from_millis(7_500));
        assert_eq!(Jitter::of(u64::MAX), Jitter::of(u64::MAX % 1001));
    }
}
