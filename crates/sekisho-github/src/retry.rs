//! The one retry helper: capped exponential backoff with jitter.

use std::time::Duration;

use rsa::rand_core::{OsRng, RngCore as _};

/// The longest pause that a service may ask for: who has a job cannot wait for an hour.
const MAX_TOLD: Duration = Duration::from_secs(120);

/// How often and how patiently to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tries in all, the first included; at least one is made.
    pub attempts: u32,
    /// Delay before the second try.
    pub base: Duration,
    /// No delay is longer.
    pub cap: Duration,
}

impl Policy {
    /// For calls of a few milliseconds: three tries within a second.
    pub const QUICK: Self =
        Self { attempts: 3, base: Duration::from_millis(100), cap: Duration::from_millis(400) };

    /// For what must arrive, though the service may be restarting: about a minute and a half.
    pub const PATIENT: Self =
        Self { attempts: 12, base: Duration::from_millis(250), cap: Duration::from_secs(15) };

    /// The delay before try `attempt` (the second is 1), where `jitter` is in `0.0..=1.0`.
    ///
    /// Half of it is certain and half is jitter: a crowd spreads, yet nobody tries at once.
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let full = self.base.saturating_mul(1 << doublings).min(self.cap);
        full.mul_f64(jitter.clamp(0.0, 1.0).mul_add(0.5, 0.5))
    }

    /// As [`Policy::delay`], but no shorter than a service asked for; see [`heed`].
    pub fn pause(&self, attempt: u32, jitter: f64, told: Option<Duration>) -> Duration {
        heed(self.delay(attempt, jitter), told)
    }
}

/// A pause that is no shorter than a service asked for (`told`), up to two minutes.
pub fn heed(pause: Duration, told: Option<Duration>) -> Duration {
    pause.max(told.unwrap_or_default().min(MAX_TOLD))
}

/// Runs `operation` until it succeeds, fails for good, or `policy.attempts` are used up.
///
/// Cancel-safe as far as `operation` is: dropping this drops the try that is under way.
///
/// # Errors
/// That of the last try.
pub async fn retry<T, E, F, Fut>(
    policy: Policy,
    is_retryable: impl Fn(&E) -> bool,
    operation: F,
) -> Result<T, E>
where
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    retry_when_told(policy, is_retryable, |_| None, operation).await
}

/// As [`retry`], but never sooner than a service asked for (`told`, from its `Retry-After`); see [`heed`].
///
/// # Errors
/// That of the last try.
pub async fn retry_when_told<T, E, F, Fut>(
    policy: Policy,
    is_retryable: impl Fn(&E) -> bool,
    told: impl Fn(&E) -> Option<Duration>,
    mut operation: F,
) -> Result<T, E>
where
    F: FnMut(u32) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut attempt = 0;
    loop {
        let error = match operation(attempt).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        attempt += 1;
        if attempt >= policy.attempts || !is_retryable(&error) {
            return Err(error);
        }
        tokio::time::sleep(policy.pause(attempt, jitter(), told(&error))).await;
    }
}

/// A random number in `0.0..=1.0`.
pub fn jitter() -> f64 {
    f64::from(OsRng.next_u32()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let policy = Policy {
            attempts: 9,
            base: Duration::from_millis(100),
            cap: Duration::from_millis(700),
        };
        let ms = |attempt, jitter| policy.delay(attempt, jitter).as_millis();
        assert_eq!(
            [ms(1, 1.0), ms(2, 1.0), ms(3, 1.0), ms(4, 1.0), ms(99, 1.0)],
            [100, 200, 400, 700, 700]
        );
        assert_eq!(ms(3, 0.0), 200);
    }

    #[test]
    fn a_pause_is_no_shorter_than_it_was_asked_for() {
        let pause = |told| Policy::QUICK.pause(1, 1.0, told);
        assert_eq!(pause(None), Duration::from_millis(100));
        assert_eq!(pause(Some(Duration::from_millis(20))), Duration::from_millis(100));
        assert_eq!(pause(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause(Some(Duration::from_secs(3600))), MAX_TOLD);
    }
}
