//! The runner's access token: a signed assertion exchanged, cached until it is nearly over.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::RequestBuilder;
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use tokio::time::Instant;
use url::Url;

use super::error::ClientError;
use super::http::{self, CALL_DEADLINE, MAX_ANSWER, retry};
use crate::http::Answer;
use crate::jit::{JitConfig, JitError};
use crate::retry::Policy;
use crate::secret::WireSecret;
use crate::wire::oauth::{
    ASSERTION_TYPE, AssertionClaims, GRANT_TYPE, TokenRequest, TokenResponse,
};

/// A token is renewed this long before it ends.
const MARGIN: Duration = Duration::from_secs(60);
/// No token is believed to last longer.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long an assertion is good for, in seconds.
const ASSERTION_LIFETIME_SECS: i64 = 300;
/// An assertion begins this long ago, in seconds: clocks differ.
const BACKDATE_SECS: i64 = 30;

pub(super) struct TokenSource {
    http: reqwest::Client,
    endpoint: Url,
    audience: String,
    client_id: String,
    algorithm: Algorithm,
    key: EncodingKey,
    cached: Mutex<Option<Cached>>,
}

#[derive(Clone)]
struct Cached {
    token: WireSecret,
    until: Instant,
}

impl TokenSource {
    pub(super) fn new(
        config: &JitConfig,
        key: &RsaPrivateKey,
        http: reqwest::Client,
    ) -> Result<Self, ClientError> {
        let data = &config.credentials.data;
        let endpoint = Url::parse(&data.authorization_url)
            .map_err(|_| ClientError::Url { what: "AuthorizationUrl" })?;
        let der = key.to_pkcs1_der().map_err(|_| ClientError::Config {
            source: JitError::Key { reason: "it cannot be written as PKCS#1" },
        })?;
        let fips = data.require_fips_cryptography;
        Ok(Self {
            http,
            endpoint,
            audience: data.authorization_url.clone(),
            client_id: data.client_id.clone(),
            algorithm: if fips { Algorithm::PS256 } else { Algorithm::RS256 },
            key: EncodingKey::from_rsa_der(der.as_bytes()),
            cached: Mutex::new(None),
        })
    }

    /// A token that is good for a while yet.
    async fn get(&self) -> Result<WireSecret, ClientError> {
        let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(cached) = cached
            && Instant::now() < cached.until
        {
            return Ok(cached.token);
        }
        let answer = retry(Policy::QUICK, ClientError::is_transient, |_| self.exchange()).await?;
        let lifetime = Duration::from_secs(u64::try_from(answer.expires_in).unwrap_or(0));
        let lifetime = lifetime.min(MAX_LIFETIME);
        let until = Instant::now() + lifetime.saturating_sub(MARGIN);
        let token = answer.access_token;
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Cached { token: token.clone(), until });
        Ok(token)
    }

    /// Sends with the runner's token. A 401 gets one more try with a new token.
    pub(super) async fn authorized(
        &self,
        operation: &'static str,
        build: impl Fn() -> RequestBuilder,
        deadline: Duration,
        max_body: usize,
    ) -> Result<Answer, ClientError> {
        let token = self.get().await?;
        let request = build().bearer_auth(token.expose());
        let answer = http::send(operation, request, deadline, max_body).await?;
        if answer.status != 401 {
            return answer.success(operation);
        }
        self.forget(&token);
        let token = self.get().await?;
        let request = build().bearer_auth(token.expose());
        http::send(operation, request, deadline, max_body).await?.success(operation)
    }

    /// Forgets `token`, unless another has taken its place already.
    fn forget(&self, token: &WireSecret) {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.as_ref().is_some_and(|c| c.token.expose() == token.expose()) {
            *cached = None;
        }
    }

    /// Forgets whatever is cached.
    pub(super) fn forget_all(&self) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn exchange(&self) -> Result<TokenResponse, ClientError> {
        const OPERATION: &str = "exchanging the runner's key for a token";
        let form = TokenRequest {
            grant_type: GRANT_TYPE.to_owned(),
            client_assertion_type: ASSERTION_TYPE.to_owned(),
            client_assertion: self.assertion()?,
        };
        let request = self
            .http
            .post(self.endpoint.clone())
            .header(reqwest::header::ACCEPT, "application/json")
            .form(&form);
        let answer = http::send(OPERATION, request, CALL_DEADLINE, MAX_ANSWER).await?;
        answer.success(OPERATION)?.json(OPERATION)
    }

    fn assertion(&self) -> Result<WireSecret, ClientError> {
        #[expect(clippy::disallowed_methods, reason = "act: an assertion is good from now on")]
        let now = jiff::Timestamp::now().as_second();
        let claims = AssertionClaims {
            iss: self.client_id.clone(),
            sub: self.client_id.clone(),
            aud: self.audience.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: now - BACKDATE_SECS,
            iat: Some(now - BACKDATE_SECS),
            exp: now + ASSERTION_LIFETIME_SECS,
        };
        let token = jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key);
        token.map(WireSecret::from).map_err(|source| ClientError::Sign { source })
    }
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
