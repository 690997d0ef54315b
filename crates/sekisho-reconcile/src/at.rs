//! A point in time, as it is given.

use std::ops::Add;
use std::time::Duration;

use jiff::Timestamp;

/// Milliseconds since 1970, UTC. A clock that jumps back makes spans of nothing, never a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(u64);

impl At {
    /// A moment as the API server or GitHub tells it; 1970 where it is before.
    pub fn of(time: Timestamp) -> Self {
        Self(time.as_millisecond().try_into().unwrap_or_default())
    }

    /// So many milliseconds since 1970.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// So many seconds since 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// How long it is since `earlier`; nothing where that lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// How long it is until `later`; nothing where that has passed.
    pub const fn until(self, later: Self) -> Duration {
        later.since(self)
    }

    /// Whether it is `after` since `start`, or longer.
    pub fn is_past(self, start: Self, after: Duration) -> bool {
        self >= start + after
    }
}

impl Add<Duration> for At {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_makes_spans_of_nothing() {
        let (early, late) = (At::from_secs(10), At::from_millis(12_500));
        assert_eq!(late.since(early), Duration::from_millis(2_500));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(early.until(late), Duration::from_millis(2_500));
        assert!(late.is_past(early, Duration::from_millis(2_500)));
        assert!(!early.is_past(late, Duration::ZERO));
        assert_eq!((early + Duration::MAX).as_millis(), u64::MAX);
        assert_eq!(late.as_secs(), 12);
    }
}
