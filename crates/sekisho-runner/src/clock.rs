//! The one place where the runner reads the clock.

use jiff::Timestamp;

/// The time, UTC.
pub(crate) fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "act: lines and steps are stamped as they happen"
    )]
    Timestamp::now()
}

/// Length of a stamp: `2026-01-02T03:04:05.0000006Z`.
pub(crate) const STAMP_LEN: usize = 28;

/// Makes the stamps that every stored log line begins with, seven digits after the second. The date is
/// written once a second only: a log may have a million lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamps {
    second: Option<i64>,
    text: [u8; STAMP_LEN],
}

impl Stamps {
    /// The stamp of a time.
    pub(crate) fn stamp(&mut self, time: Timestamp) -> [u8; STAMP_LEN] {
        let second = time.as_nanosecond().div_euclid(1_000_000_000);
        let mut rest = time.as_nanosecond().rem_euclid(1_000_000_000) / 100;
        let second = i64::try_from(second).unwrap_or_default();
        if self.second != Some(second) {
            let whole = Timestamp::from_second(second).unwrap_or(time);
            let date = whole.strftime("%Y-%m-%dT%H:%M:%S.0000000Z").to_string();
            if let Ok(text) = date.as_bytes().try_into() {
                self.text = text;
            }
            self.second = Some(second);
        }
        for digit in self.text[20..27].iter_mut().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_seven_digits() {
        let mut stamps = Stamps::default();
        let mut check = |text: &str, want: &str| {
            let stamp = stamps.stamp(text.parse::<Timestamp>().unwrap());
            assert_eq!(std::str::from_utf8(&stamp).unwrap(), want);
        };
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.0000000Z");
        check("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.1234567Z");
        check("2026-01-02T03:04:05.000000099Z", "2026-01-02T03:04:05.0000000Z");
        check("2027-12-31T23:59:59.9999999Z", "2027-12-31T23:59:59.9999999Z");
        check("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5000000Z");
    }
}
