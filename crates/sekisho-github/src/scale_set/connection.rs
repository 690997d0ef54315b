//! How long a connection to the tenant is good: its admin token's life, whatever our clock says.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// A token is renewed this long before it ends; one that lives shorter, in the middle of its life.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token is taken to live that does not say.
const UNKNOWN: Duration = Duration::from_secs(5 * 60);
/// The longest life that is believed.
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest token that is looked into, in bytes.
const MAX_TOKEN: usize = 64 * 1024;

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
}

/// How long a token that just came may be used, before it is renewed.
///
/// A token that says when it was made says how long it lives: that holds when the service's clock
/// and ours (`now`, in seconds since 1970) differ. Its signature is none of our business.
pub(super) fn usable(token: &str, now: f64) -> Duration {
    let Some(claims) = claims(token) else { return UNKNOWN - MARGIN };
    let made = match (claims.iat, claims.nbf) {
        (Some(iat), Some(nbf)) => iat.max(nbf),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => now,
    };
    let life = (claims.exp - made).clamp(0.0, MAX_LIFE.as_secs_f64());
    // NaN is no length of time.
    let life = Duration::try_from_secs_f64(life).unwrap_or_default();
    life.saturating_sub(MARGIN).max(life / 2)
}

fn claims(token: &str) -> Option<Claims> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(claims: &str, seconds: u64) {
        let token = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(usable(&token, 1_000.0), Duration::from_secs(seconds), "{claims}");
    }

    #[test]
    fn a_token_is_renewed_before_its_end_by_its_own_clock() {
        check(r#"{"exp":4600,"iat":1000}"#, 3540);
        // The service's clock is two hours ahead.
        check(r#"{"exp":11800,"iat":8200,"nbf":8200}"#, 3540);
        check(r#"{"exp":4600}"#, 3540);
        check(r#"{"exp":1080,"iat":1000}"#, 40);
        check(r#"{"exp":900,"iat":1000}"#, 0);
        check(r#"{"exp":1e300,"iat":1000}"#, 86_340);
        check("{}", 240);
        check("nonsense", 240);
        assert_eq!(usable("opaque", 0.0), Duration::from_secs(240));
    }

    proptest::proptest! {
        #[test]
        fn any_token_lives_at_most_a_day(text in ".{0,60}", exp in proptest::num::f64::ANY,
                                         iat in proptest::num::f64::ANY) {
            for token in [text, format!("e30.{}.x", URL_SAFE_NO_PAD.encode(
                format!(r#"{{"exp":{exp:?},"iat":{iat:?}}}"#),
            ))] {
                proptest::prop_assert!(usable(&token, 0.0) <= MAX_LIFE);
            }
        }
    }
}
