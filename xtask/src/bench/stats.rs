//! A few measurements of one thing.

use std::time::Duration;

use anyhow::Context as _;

/// Measurements, in microseconds or in bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<u64>);

impl Series {
    pub(super) fn push(&mut self, took: Duration) {
        self.0.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn push_bytes(&mut self, bytes: u64) {
        self.0.push(bytes);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Minimum, median, maximum.
    fn spread(&self) -> [u64; 3] {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0);
        [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
    }

    /// In the unit that was pushed.
    pub(super) fn median(&self) -> u64 {
        self.spread()[1]
    }

    pub(super) fn milliseconds(&self) -> String {
        let [least, median, most] = self.spread().map(|micros| micros.div_ceil(1000));
        format!("{least} / **{median}** / {most} ms")
    }

    /// Half of them, 99 of a hundred, and all of them are at most so long.
    pub(super) fn percentiles(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(index).copied().unwrap_or(0) as f64 / 1000.0
        };
        format!("{:.1} / **{:.1}** / {:.1} ms", at(50), at(99), at(100))
    }

    /// Without a unit.
    pub(super) fn plain(&self) -> String {
        let [least, median, most] = self.spread();
        format!("{least} / **{median}** / {most}")
    }

    pub(super) fn mebibytes(&self) -> String {
        let [least, median, most] = self.spread().map(|bytes| bytes.div_ceil(1024 * 1024));
        format!("{least} / **{median}** / {most} MiB")
    }
}

/// From one RFC 3339 time to another of the same day or the next; what GitHub's logs have.
pub(super) fn between(from: &str, to: &str) -> anyhow::Result<Duration> {
    let (from, to) = (time_of_day(from)?, time_of_day(to)?);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    Ok(to.checked_sub(from).unwrap_or_else(|| to + DAY - from))
}

fn time_of_day(text: &str) -> anyhow::Result<Duration> {
    let parse = || {
        let (hours, rest) = text.split_once('T')?.1.strip_suffix('Z')?.split_once(':')?;
        let (minutes, seconds) = rest.split_once(':')?;
        let whole = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
        Some(Duration::from_secs(whole) + Duration::from_secs_f64(seconds.parse().ok()?))
    };
    parse().with_context(|| format!("`{text}` is no time in UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_subtracted_over_midnight_too() {
        let took = between("2026-01-02T03:04:05.25Z", "2026-01-02T03:04:06.5000000Z").unwrap();
        assert_eq!(took, Duration::from_millis(1250));
        let took = between("2026-01-02T23:59:59.5Z", "2026-01-03T00:00:00Z").unwrap();
        assert_eq!(took, Duration::from_millis(500));
        assert!(between("yesterday", "today").is_err());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let mut series = Series::default();
        for milliseconds in [9, 1, 5] {
            series.push(Duration::from_millis(milliseconds));
        }
        assert_eq!(series.milliseconds(), "1 / **5** / 9 ms");
        assert_eq!(series.percentiles(), "5.0 / **9.0** / 9.0 ms");
    }
}
