//! Whether the worker still turns, for who would restart an operator that hangs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// When the worker last turned. By a clock that nobody sets: a pod is not restarted for a leap of the other.
pub(crate) struct Pulse {
    begin: Instant,
    /// Milliseconds after `begin`.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { begin: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// It turned.
    pub(crate) fn beat(&self) {
        let since = self.begin.elapsed().as_millis();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// How long ago it did.
    pub(crate) fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Acquire));
        self.begin.elapsed().saturating_sub(last)
    }
}
