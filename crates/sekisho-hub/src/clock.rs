//! The only place that reads the clock.

use jiff::Timestamp;

/// Now, UTC.
#[expect(clippy::disallowed_methods, reason = "the shell's clock: everything else is given `now`")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
