//! The token endpoint: a runner's signed assertion for its access token.
//!
//! Errors are always 400 and JSON: a runner loops on anything else.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sekisho_github::wire::oauth::{
    ASSERTION_TYPE, AssertionClaims, GRANT_TYPE, INVALID_CLIENT, TokenError, TokenResponse,
};
use uuid::Uuid;

use crate::shared::Shared;
use crate::tokens::RUNNER_TOKEN;

/// How far an assertion's end may be in the future, in seconds: five minutes, and a minute of skew.
const MAX_ASSERTION_LIFE: i64 = 360;
/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 60;
/// Longest assertion, in bytes.
const MAX_ASSERTION: usize = 8 * 1024;

/// A refusal.
pub(super) struct Refused(&'static str, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = TokenError { error: self.0.to_owned(), error_description: self.1 };
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    }
}

/// `POST /_oauth/token`
pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    body: Bytes,
) -> Result<Response, Refused> {
    let (mut grant, mut kind, mut assertion) = (None, None, None);
    for (name, value) in url::form_urlencoded::parse(&body) {
        match &*name {
            "grant_type" => grant = Some(value.into_owned()),
            "client_assertion_type" => kind = Some(value.into_owned()),
            "client_assertion" => assertion = Some(value.into_owned()),
            _ => {}
        }
    }
    if grant.as_deref() != Some(GRANT_TYPE) {
        let wanted = format!("grant_type must be {GRANT_TYPE}");
        return Err(Refused("unsupported_grant_type", wanted));
    }
    let assertion = assertion.filter(|assertion| assertion.len() <= MAX_ASSERTION);
    let (Some(ASSERTION_TYPE), Some(assertion)) = (kind.as_deref(), assertion) else {
        return Err(Refused("invalid_request", "a JWT bearer assertion is wanted".to_owned()));
    };
    let runner = check(&shared, &assertion)?;
    let token = shared.tokens.runner(runner, shared.clock.now());
    let token = token.ok_or_else(|| Refused("server_error", "no token".to_owned()))?;
    let body = TokenResponse {
        access_token: token.into(),
        expires_in: RUNNER_TOKEN.as_secs(),
        token_type: "access_token".to_owned(),
        scope: String::new(),
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

/// Whose assertion it is, if it is anybody's.
fn check(shared: &Shared, assertion: &str) -> Result<u64, Refused> {
    let known = |issuer: &str| {
        let issuer: Uuid = issuer.parse().ok()?;
        shared.look(|state| {
            let mut runners = state.runners.values();
            let runner = runners.find(|runner| runner.client_id == issuer)?;
            Some((runner.id, runner.public_key.clone()))
        })
    };
    let endpoint = format!("{}/_oauth/token", shared.config.base_url);
    // By the hub's clock, not by the system's.
    let now = shared.clock.told(shared.clock.now());
    let (runner, claims) = verify(assertion, &endpoint, known, now)?;
    if !shared.change(|state, _| state.use_assertion(runner, &claims.jti)) {
        return Err(invalid("it was used before"));
    }
    Ok(runner)
}

fn invalid(why: &str) -> Refused {
    Refused("invalid_request", why.to_owned())
}

/// Modulus and exponent of a key, big-endian.
type Key = (Vec<u8>, Vec<u8>);

/// Who signed an assertion, and what it says, if it is for this endpoint and valid now. `known`: a runner
/// and its key, by the issuer's name.
fn verify(
    assertion: &str,
    endpoint: &str,
    known: impl Fn(&str) -> Option<(u64, Key)>,
    now: Timestamp,
) -> Result<(u64, AssertionClaims), Refused> {
    let unknown = || Refused(INVALID_CLIENT, "the registration is gone".to_owned());
    let header = jsonwebtoken::decode_header(assertion).map_err(|_| invalid("it is no JWT"))?;
    if !matches!(header.alg, Algorithm::PS256 | Algorithm::RS256) {
        return Err(invalid("it must be signed with PS256 or RS256"));
    }
    // Only to find the key: nothing is believed before the signature is checked with it.
    let claimed = jsonwebtoken::dangerous::insecure_decode::<AssertionClaims>(assertion)
        .map_err(|_| invalid("its claims are incomplete"))?
        .claims;
    let (runner, (n, e)) = known(&claimed.iss).ok_or_else(unknown)?;
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.set_audience(&[endpoint]);
    validation.set_issuer(&[&claimed.iss]);
    validation.sub = Some(claimed.iss);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    let key = DecodingKey::from_rsa_raw_components(&n, &e);
    let claims = jsonwebtoken::decode::<AssertionClaims>(assertion, &key, &validation);
    let claims = claims.map_err(|error| refused(&error))?.claims;
    let second = now.as_second();
    // Of any number that a runner may have signed.
    if claims.nbf > second + LEEWAY || claims.exp.saturating_add(LEEWAY) <= second {
        // The words are those that runners look for to report a wrong clock.
        let why = format!("The assertion is not valid now. Current server time is {now}.");
        return Err(invalid(&why));
    }
    if claims.exp > second + MAX_ASSERTION_LIFE {
        return Err(invalid("it lives longer than five minutes"));
    }
    if claims.jti.is_empty() || claims.jti.len() > 64 {
        return Err(invalid("its `jti` is not an id"));
    }
    Ok((runner, claims))
}

fn refused(error: &jsonwebtoken::errors::Error) -> Refused {
    use jsonwebtoken::errors::ErrorKind;
    let text = match error.kind() {
        ErrorKind::InvalidSignature => "the signature is not the runner's".to_owned(),
        other => format!("the assertion is not valid: {other:?}"),
    };
    Refused("invalid_request", text)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use jsonwebtoken::{EncodingKey, Header};
    use proptest::prelude::*;
    use rsa::RsaPrivateKey;
    use rsa::pkcs1::EncodeRsaPrivateKey as _;
    use rsa::traits::PublicKeyParts as _;
    use serde_json::{Value, json};

    use super::*;

    const ENDPOINT: &str = "http://127.0.0.1:1/_oauth/token";
    const NOW: i64 = 1_900_000_000;

    static KEY: LazyLock<RsaPrivateKey> =
        LazyLock::new(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap());

    fn sign(change: &Value) -> String {
        let mut claims = json!({
            "iss": "me", "sub": "me", "aud": ENDPOINT, "jti": "1", "nbf": NOW, "exp": NOW + 300,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let key = EncodingKey::from_rsa_der(KEY.to_pkcs1_der().unwrap().as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::PS256), &claims, &key).unwrap()
    }

    /// The error's name, or the runner.
    fn ask(assertion: &str) -> Result<u64, &'static str> {
        let key = (KEY.n().to_bytes_be(), KEY.e().to_bytes_be());
        let known = |issuer: &str| (issuer == "me").then(|| (7, key.clone()));
        let now = Timestamp::from_second(NOW).unwrap();
        verify(assertion, ENDPOINT, known, now).map(|(id, _)| id).map_err(|refused| refused.0)
    }

    #[test]
    fn claims_of_any_size_are_taken_or_refused() {
        let bad = Err("invalid_request");
        for (change, want) in [
            (json!({}), Ok(7)),
            (json!({"nbf": NOW + 60, "exp": NOW + 360}), Ok(7)),
            (json!({"nbf": NOW + 61}), bad),
            (json!({"exp": NOW - 60}), bad),
            (json!({"exp": NOW + 361}), bad),
            (json!({"exp": i64::MAX}), bad),
            (json!({"exp": i64::MIN}), bad),
            (json!({"nbf": i64::MAX}), bad),
            (json!({"exp": 1e300}), bad),
            (json!({"exp": "soon"}), bad),
            (json!({"jti": ""}), bad),
            (json!({"jti": "x".repeat(65)}), bad),
            (json!({"aud": "elsewhere"}), bad),
            (json!({"sub": "you"}), bad),
            (json!({"iss": "you", "sub": "you"}), Err(INVALID_CLIENT)),
        ] {
            assert_eq!(ask(&sign(&change)), want, "{change}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused(text in "\\PC{0,80}|[A-Za-z0-9_-]{0,40}([.][A-Za-z0-9_-]{0,40}){1,3}") {
            prop_assert!(ask(&text).is_err());
        }

        #[test]
        fn a_changed_letter_is_noticed(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.=-]") {
            static GOOD: LazyLock<String> = LazyLock::new(|| sign(&json!({})));
            let at = at.index(GOOD.len());
            let changed = format!("{}{to}{}", &GOOD[..at], &GOOD[at + 1..]);
            // The last letters of base64 may say the same in two ways.
            let same = changed == *GOOD || ends(&changed) == ends(&GOOD);
            prop_assert_eq!(ask(&changed).is_ok(), same);
        }
    }

    /// The bytes that an assertion's parts stand for, if they are base64.
    fn ends(assertion: &str) -> Option<Vec<Vec<u8>>> {
        use base64::Engine as _;
        let decode = |part| base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(part).ok();
        assertion.split('.').map(decode).collect()
    }
}
