//! The credential of every request: a personal token, or an App's installation token that is
//! renewed before it ends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use super::app::Signer;

/// A token that ends sooner than this is renewed.
pub const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// A token that ends sooner than this is not sent any more: it could end on its way.
pub const USABLE_BEFORE: SignedDuration = SignedDuration::from_secs(30);

/// After a renewal that failed, the old token is used so long before the next is tried.
pub const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// Who is asking.
#[derive(Clone)]
pub enum Credential {
    /// A personal token, or `GITHUB_TOKEN`.
    Token(SecretString),
    /// A GitHub App.
    App {
        /// Its client id, or its numeric id.
        issuer: String,
        /// Which installation; `None`: the one that the address belongs to.
        installation: Option<u64>,
        /// Its key.
        signer: Arc<dyn Signer>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::App { issuer, installation, .. } => f
                .debug_struct("App")
                .field("issuer", issuer)
                .field("installation", installation)
                .finish_non_exhaustive(),
        }
    }
}

/// What is known of the installation token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenObserved {
    /// When it ends; `None` if there is none.
    pub expires_at: Option<Timestamp>,
    /// When a renewal failed last.
    pub failed_at: Option<Timestamp>,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenDecision {
    /// It is good.
    Use,
    /// Make a new one; if that fails, the old one may still be used.
    Renew,
    /// Make a new one; without it nothing can be asked.
    Need,
}

/// Decides about the installation token.
pub fn decide(observed: TokenObserved, now: Timestamp) -> TokenDecision {
    let left = observed.expires_at.map(|end| end.duration_since(now));
    match left {
        Some(left) if left > RENEW_BEFORE => TokenDecision::Use,
        Some(left) if left > USABLE_BEFORE => {
            let since = observed.failed_at.map(|failed| now.duration_since(failed));
            let lately =
                since.is_some_and(|since| (SignedDuration::ZERO..RETRY_AFTER).contains(&since));
            if lately { TokenDecision::Use } else { TokenDecision::Renew }
        }
        _ => TokenDecision::Need,
    }
}

/// The installation token, shared by all requests.
#[derive(Debug, Default)]
pub(super) struct Cached(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    token: Option<(SecretString, Timestamp)>,
    failed_at: Option<Timestamp>,
}

impl Cached {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The decision, and the token if there is one.
    pub(super) fn look(&self, now: Timestamp) -> (TokenDecision, Option<SecretString>) {
        let inner = self.lock();
        let expires_at = inner.token.as_ref().map(|(_, end)| *end);
        let observed = TokenObserved { expires_at, failed_at: inner.failed_at };
        (decide(observed, now), inner.token.as_ref().map(|(token, _)| token.clone()))
    }

    pub(super) fn put(&self, token: SecretString, expires_at: Timestamp) {
        *self.lock() = Inner { token: Some((token, expires_at)), failed_at: None };
    }

    pub(super) fn failed(&self, now: Timestamp) {
        self.lock().failed_at = Some(now);
    }

    /// The service did not take it: whatever its end, it is over. A newer one stays.
    pub(super) fn forget(&self, refused: &SecretString) {
        use secrecy::ExposeSecret as _;
        let mut inner = self.lock();
        let same = |(token, _): &(SecretString, Timestamp)| {
            token.expose_secret() == refused.expose_secret()
        };
        if inner.token.as_ref().is_some_and(same) {
            inner.token = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_early_and_used_until_they_end() {
        use TokenDecision::{Need, Renew, Use};
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let later = |seconds: i64| now + SignedDuration::from_secs(seconds);
        // Seconds until the end; seconds since a failure.
        for (left, failed, want) in [
            (None, None, Need),
            (None, Some(1), Need),
            (Some(3600), None, Use),
            (Some(301), Some(1), Use),
            (Some(300), None, Renew),
            (Some(300), Some(29), Use),
            (Some(300), Some(30), Renew),
            (Some(31), Some(-5), Renew),
            (Some(30), None, Need),
            (Some(30), Some(1), Need),
            (Some(-9), None, Need),
        ] {
            let observed = TokenObserved {
                expires_at: left.map(later),
                failed_at: failed.map(|ago: i64| later(-ago)),
            };
            assert_eq!(decide(observed, now), want, "{left:?} {failed:?}");
        }
    }
}
