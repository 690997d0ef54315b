//! Clients that hold a connection and send next to nothing.

use std::time::Duration;

/// How long a client is watched before it is judged: a link that hangs for a moment is none.
const WINDOW: Duration = Duration::from_secs(30);

/// Fewest bytes in a window: 1 KiB/s, less than any link that a build could end over.
const MIN_BYTES: u64 = 30 * 1024;

/// How fast bytes come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    since: Duration,
    bytes: u64,
}

impl Pace {
    /// Bytes came, so long after the beginning; `false` when they come too slowly.
    pub(crate) fn came(&mut self, bytes: u64, at: Duration) -> bool {
        self.bytes += bytes;
        if at.saturating_sub(self.since) < WINDOW {
            return true;
        }
        let is_fast_enough = self.bytes >= MIN_BYTES;
        *self = Self { since: at, bytes: 0 };
        is_fast_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a client that sends so many bytes every so many seconds is cut off, within an hour.
    fn cut_off(bytes: u64, every: u64) -> Option<u64> {
        let mut pace = Pace::default();
        let times = (0..3600).step_by(usize::try_from(every).unwrap());
        times.map(|it| it as u64).find(|at| !pace.came(bytes, Duration::from_secs(*at)))
    }

    #[test]
    fn tricklers_are_cut_off_and_slow_links_are_not() {
        assert_eq!(cut_off(1, 1), Some(30));
        assert_eq!(cut_off(1, 59), Some(59));
        assert_eq!(cut_off(1023, 1), Some(60), "the first window has one sending more");
        assert_eq!(cut_off(1100, 1), None);
        assert_eq!(cut_off(128 * 1024, 50), None, "in bursts");
    }
}
