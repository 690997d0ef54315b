//! The lock that a runner holds on its job: when to renew it, and when it is lost. Pure.
//!
//! ```text
//!            every 60 s                   no answer: 1, 2, 4 … 15 s apart
//!  held ── Renew ──▶ renewed     held ── Renew ──▶ failed ──▶ … ──▶ lost, GRACE after the lock's end
//!                                              └──▶ refused ──▶ lost at once
//! ```
//!
//! A service that is away for a while (restarted, unreachable) costs a job nothing: the lock is asked
//! for again until it has been over for [`GRACE`], as GitHub's own runner does. What the service
//! *refuses* is lost at once: the job is gone, or somebody else's.
//!
//! Times are since the job was acquired, on a clock that only goes forward. The service's clock is not
//! trusted: see [`length`].

use std::time::Duration;

/// Between two renewals that succeed.
pub(crate) const RENEW_EVERY: Duration = Duration::from_secs(60);
/// How long after the lock's end it is still asked for: nobody may have taken the job meanwhile.
pub(crate) const GRACE: Duration = Duration::from_secs(5 * 60);
/// The lock of a job that was just acquired, and of one whose end makes no sense.
pub(crate) const DEFAULT_LENGTH: Duration = Duration::from_secs(10 * 60);
/// No lock is taken to be longer: a service that is away for an hour has given the job up.
pub(crate) const MAX_LENGTH: Duration = Duration::from_secs(60 * 60);
/// Pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No pause is longer.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// A token may be refused for a moment (keys that are just loaded); so often in a row it is refused.
pub(crate) const MAX_UNAUTHORIZED: u32 = 3;

/// Where a lock stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// When the service may take the job away.
    held_until: Duration,
    /// When to ask next.
    next: Duration,
    /// Failures in a row.
    failures: u32,
    /// Of these: answers that the token is not good.
    unauthorized: u32,
    refused: bool,
}

/// What the service said to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The lock holds for this long from the asking.
    Renewed(Duration),
    /// Nothing, or an error that may go away.
    Failed,
    /// The token is not good.
    Unauthorized,
    /// The job is gone.
    Refused,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask once.
    Renew,
    /// Nothing until then.
    Wait(Duration),
    /// Stop the job.
    Lost(Loss),
}

/// Why a lock is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The service said so.
    Refused,
    /// It was not renewed for too long.
    Expired,
}

impl Lease {
    /// The lock of a job that was acquired at time zero. It is renewed at once.
    pub(crate) fn new() -> Self {
        Self {
            held_until: DEFAULT_LENGTH,
            next: Duration::ZERO,
            failures: 0,
            unauthorized: 0,
            refused: false,
        }
    }

    /// What to do at `now`.
    pub(crate) fn decide(&self, now: Duration) -> Action {
        let end = self.held_until + GRACE;
        if self.refused {
            Action::Lost(Loss::Refused)
        } else if now >= end {
            Action::Lost(Loss::Expired)
        } else if now >= self.next {
            Action::Renew
        } else {
            Action::Wait(self.next.min(end))
        }
    }

    /// Takes an answer to a renewal that was sent at `asked` and answered at `now`; `jitter` is in
    /// `0.0..=1.0`.
    pub(crate) fn answered(&mut self, asked: Duration, now: Duration, answer: Answer, jitter: f64) {
        match answer {
            Answer::Renewed(length) => {
                let every = RENEW_EVERY.min(length / 2);
                let held_until = asked + length;
                *self = Self { held_until, next: asked + every, ..Self::new() };
            }
            Answer::Refused => self.refused = true,
            Answer::Failed | Answer::Unauthorized => {
                let is_unauthorized = answer == Answer::Unauthorized;
                self.unauthorized = if is_unauthorized { self.unauthorized + 1 } else { 0 };
                self.refused = self.unauthorized >= MAX_UNAUTHORIZED;
                let full = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(MAX_PAUSE);
                self.failures += 1;
                // Half is certain and half is jitter, as with every other retry.
                self.next = now + full.mul_f64(jitter.clamp(0.0, 1.0).mul_add(0.5, 0.5));
            }
        }
    }
}

/// How long a lock holds, given its end by the service's clock and the time by ours, both in seconds
/// since 1970. Where the clocks cannot be compared (the end is past, or hours away), a lock has
/// [`DEFAULT_LENGTH`].
pub(crate) fn length(locked_until: i64, now: i64) -> Duration {
    let seconds = u64::try_from(locked_until.saturating_sub(now)).unwrap_or(0);
    let length = Duration::from_secs(seconds);
    if length < FIRST_PAUSE || length > MAX_LENGTH { DEFAULT_LENGTH } else { length }
}

#[cfg(test)]
mod tests;
