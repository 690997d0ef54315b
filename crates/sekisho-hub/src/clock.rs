//! The only place that reads the clock; and what a fault switch makes of it.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// The hub's time. Without fault switches it is the system's.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// How much more time has passed for the hub, in milliseconds.
    advance_ms: AtomicI64,
    /// How wrong the time is that others are told, in milliseconds.
    skew_ms: AtomicI64,
}

impl Clock {
    /// Now, UTC.
    pub(crate) fn now(&self) -> Timestamp {
        shifted(now(), self.advance_ms.load(Ordering::Relaxed))
    }

    /// What `time` is for others: in tokens, and where theirs are checked.
    pub(crate) fn told(&self, time: Timestamp) -> Timestamp {
        shifted(time, self.skew_ms.load(Ordering::Relaxed))
    }

    /// Lets time pass at once: leases, sessions and tokens age by it.
    pub(crate) fn advance(&self, by: SignedDuration) {
        self.advance_ms.fetch_add(milliseconds(by).max(0), Ordering::Relaxed);
    }

    /// How wrong the time is that others are told.
    pub(crate) fn skew(&self, by: SignedDuration) {
        self.skew_ms.store(milliseconds(by), Ordering::Relaxed);
    }
}

fn milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn shifted(time: Timestamp, by_ms: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_millis(by_ms)).unwrap_or(time)
}

/// Now, UTC, by the system's clock.
#[expect(clippy::disallowed_methods, reason = "the shell's clock: everything else is given `now`")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
