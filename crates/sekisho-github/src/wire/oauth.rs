//! The runner's OAuth exchange: a signed assertion for an access token.

use serde::{Deserialize, Serialize};

use crate::secret::WireSecret;

/// The only grant a runner uses.
pub const GRANT_TYPE: &str = "client_credentials";
/// The only kind of assertion a runner uses.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The form that is posted to the token endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRequest {
    /// [`GRANT_TYPE`].
    pub grant_type: String,
    /// [`ASSERTION_TYPE`].
    pub client_assertion_type: String,
    /// A JWT of [`AssertionClaims`], signed PS256 (or RS256) with the runner's key.
    pub client_assertion: WireSecret,
}

/// Claims of the client assertion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssertionClaims {
    /// The client id.
    pub iss: String,
    /// The client id again.
    pub sub: String,
    /// The token endpoint's URL.
    pub aud: String,
    /// A fresh id; one assertion is used once.
    pub jti: String,
    /// Not before, in seconds since 1970.
    pub nbf: i64,
    /// Expiry, in seconds since 1970.
    pub exp: i64,
    /// When it was made, in seconds since 1970; some runners leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
}

/// The token endpoint's success, HTTP 200.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenResponse {
    /// The bearer for broker and `acquirejob`.
    pub access_token: WireSecret,
    /// Lifetime in seconds.
    #[serde(deserialize_with = "crate::lenient::scalar::int_or_text")]
    pub expires_in: i64,
    /// `access_token`; not looked at.
    #[serde(default)]
    pub token_type: String,
    /// Not looked at.
    #[serde(default)]
    pub scope: String,
}

/// The token endpoint's error: always HTTP 400, JSON, with a content length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenError {
    /// `invalid_client` means that the registration is gone.
    pub error: String,
    /// For people; `Current server time is` in it means clock skew.
    #[serde(default)]
    pub error_description: String,
}

/// The error code of a registration that is gone.
pub const INVALID_CLIENT: &str = "invalid_client";
