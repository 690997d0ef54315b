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
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sekisho_github::wire::oauth::{
    ASSERTION_TYPE, AssertionClaims, GRANT_TYPE, INVALID_CLIENT, TokenError, TokenResponse,
};

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
    let invalid = |why: &str| Refused("invalid_request", why.to_owned());
    let unknown = || Refused(INVALID_CLIENT, "the registration is gone".to_owned());
    let header = jsonwebtoken::decode_header(assertion).map_err(|_| invalid("it is no JWT"))?;
    if !matches!(header.alg, Algorithm::PS256 | Algorithm::RS256) {
        return Err(invalid("it must be signed with PS256 or RS256"));
    }
    // Only to find the key: nothing is believed before the signature is checked with it.
    let claimed = jsonwebtoken::dangerous::insecure_decode::<AssertionClaims>(assertion)
        .map_err(|_| invalid("its claims are incomplete"))?
        .claims;
    let found = shared.look(|state| {
        let mut runners = state.runners.values();
        let runner = runners.find(|runner| runner.client_id.to_string() == claimed.iss)?;
        Some((runner.id, runner.public_key.clone()))
    });
    let (runner, (n, e)) = found.ok_or_else(unknown)?;
    let endpoint = format!("{}/_oauth/token", shared.config.base_url);
    let mut validation = Validation::new(header.alg);
    // By the hub's clock, not by the system's.
    validation.validate_exp = false;
    validation.set_audience(&[endpoint]);
    validation.set_issuer(&[&claimed.iss]);
    validation.sub = Some(claimed.iss);
    validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
    let key = DecodingKey::from_rsa_raw_components(&n, &e);
    let claims = jsonwebtoken::decode::<AssertionClaims>(assertion, &key, &validation);
    let claims = claims.map_err(|error| refused(&error))?.claims;
    let now = shared.clock.told(shared.clock.now());
    let second = now.as_second();
    if claims.nbf > second + LEEWAY || claims.exp + LEEWAY <= second {
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
    if !shared.change(|state, _| state.use_assertion(runner, &claims.jti)) {
        return Err(invalid("it was used before"));
    }
    Ok(runner)
}

fn refused(error: &jsonwebtoken::errors::Error) -> Refused {
    use jsonwebtoken::errors::ErrorKind;
    let text = match error.kind() {
        ErrorKind::InvalidSignature => "the signature is not the runner's".to_owned(),
        other => format!("the assertion is not valid: {other:?}"),
    };
    Refused("invalid_request", text)
}
