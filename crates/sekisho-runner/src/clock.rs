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

/// `2026-01-02T03:04:05.0000006Z`: seven digits, as every stored log line begins.
pub(crate) fn stamp(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_seven_digits() {
        let check = |text: &str, want: &str| {
            assert_eq!(stamp(text.parse::<Timestamp>().unwrap()), want);
        };
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.0000000Z");
        check("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.1234567Z");
    }
}
