//! When to try again, and after how long: capped exponential, full jitter.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use crate::error::RegistryError;

/// The first pause at most.
const BASE: Duration = Duration::from_millis(300);

/// The longest pause that is ours.
const CAP: Duration = Duration::from_secs(10);

/// The longest pause that a server may ask for; it is better to fail than to seem to hang.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// The pause before the next attempt; `None` when there is none. `attempt` counts from 1, `random`
/// is any number.
pub(crate) fn decide(
    error: &RegistryError,
    attempt: u32,
    attempts_max: u32,
    random: u64,
) -> Option<Duration> {
    if attempt >= attempts_max || !error.is_retryable() {
        return None;
    }
    if let RegistryError::TooManyRequests { retry_after: Some(after), .. } = error {
        return (*after <= RETRY_AFTER_MAX).then_some(*after);
    }
    let ceiling = BASE.saturating_mul(1 << (attempt - 1).min(16)).min(CAP);
    let ceiling_ms = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
    // Never at once: half is fixed, half is chance.
    Some(Duration::from_millis(ceiling_ms / 2 + random % (ceiling_ms / 2 + 1)))
}

/// Chance enough to spread clients; not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> RegistryError {
        RegistryError::Unavailable { registry: "r".into(), status: 503, message: String::new() }
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<_> =
            (1..=8).map(|attempt| decide(&unavailable(), attempt, 8, u64::MAX)).collect();
        let ms: Vec<_> = pauses.iter().map(|pause| pause.map(|p| p.as_millis())).collect();
        assert!(
            ms.iter()
                .flatten()
                .zip([300, 600, 1200, 2400, 4800, 9600, 10_000])
                .all(|(a, b)| *a <= b)
        );
        assert!(ms[6] >= Some(5000));
        assert_eq!(ms[7], None);
        assert_eq!(decide(&unavailable(), 1, 8, 0), Some(Duration::from_millis(150)));
    }

    #[test]
    fn a_refusal_is_final() {
        let denied =
            RegistryError::Denied { message: "no".into(), detail: serde_json::Value::Null };
        assert_eq!(decide(&denied, 1, 8, 0), None);
        let later = |seconds| RegistryError::TooManyRequests {
            registry: "r".into(),
            message: String::new(),
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(decide(&later(7), 1, 8, 0), Some(Duration::from_secs(7)));
        assert_eq!(decide(&later(3600), 1, 8, 0), None);
    }
}
