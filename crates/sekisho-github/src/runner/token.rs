//! The runner's access token: a signed assertion exchanged, cached until it is nearly over.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header};
use reqwest::RequestBuilder;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use serde::Serialize;
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
    /// Of ring: it takes the same time whatever the key is, which `rsa` does not promise.
    key: RsaKeyPair,
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
        let unusable = |reason| ClientError::Config { source: JitError::Key { reason } };
        let der = key.to_pkcs1_der().map_err(|_| unusable("it cannot be written as PKCS#1"))?;
        let key = RsaKeyPair::from_der(der.as_bytes()).map_err(|_| {
            unusable("it is of no kind that signs: RSA of two primes, e from 65537")
        })?;
        let fips = data.require_fips_cryptography;
        Ok(Self {
            http,
            endpoint,
            audience: data.authorization_url.clone(),
            client_id: data.client_id.clone(),
            algorithm: if fips { Algorithm::PS256 } else { Algorithm::RS256 },
            key,
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
        self.signed(&claims)
    }

    /// A JWT in its compact form, <https://www.rfc-editor.org/rfc/rfc7515#section-7.1>.
    fn signed(&self, claims: &AssertionClaims) -> Result<WireSecret, ClientError> {
        let mut token = format!("{}.{}", part(&Header::new(self.algorithm))?, part(claims)?);
        let padding: &dyn RsaEncoding = match self.algorithm {
            Algorithm::PS256 => &RSA_PSS_SHA256,
            _ => &RSA_PKCS1_SHA256,
        };
        let mut signature = vec![0; self.key.public().modulus_len()];
        let signed = self.key.sign(padding, &SystemRandom::new(), token.as_bytes(), &mut signature);
        signed.map_err(|_| ClientError::Sign)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token.into())
    }
}

fn part(of: &impl Serialize) -> Result<String, ClientError> {
    let json = serde_json::to_vec(of).map_err(|_| ClientError::Sign)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use rsa::pkcs1::EncodeRsaPublicKey as _;

    use super::*;

    #[test]
    fn assertions_are_what_their_header_says() {
        let private = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let public = private.to_public_key().to_pkcs1_der().unwrap();
        let endpoint = "https://token.example/oauth2/token";
        for algorithm in [Algorithm::RS256, Algorithm::PS256] {
            let source = TokenSource {
                http: crate::http::ClientOptions::default().client(&[]).unwrap(),
                endpoint: endpoint.parse().unwrap(),
                audience: endpoint.to_owned(),
                client_id: "a-client".to_owned(),
                algorithm,
                key: RsaKeyPair::from_der(private.to_pkcs1_der().unwrap().as_bytes()).unwrap(),
                cached: Mutex::new(None),
            };
            let token = source.assertion().unwrap();
            let mut wanted = Validation::new(algorithm);
            wanted.set_audience(&[endpoint]);
            let read = jsonwebtoken::decode::<AssertionClaims>(
                token.expose(),
                &DecodingKey::from_rsa_der(public.as_bytes()),
                &wanted,
            )
            .unwrap();
            assert_eq!(read.claims.iss, "a-client");
            assert_eq!(read.claims.exp - read.claims.nbf, 330);
            let mut broken = token.expose().to_owned();
            broken.replace_range(60..61, if &broken[60..61] == "A" { "B" } else { "A" });
            let key = DecodingKey::from_rsa_der(public.as_bytes());
            assert!(jsonwebtoken::decode::<AssertionClaims>(&broken, &key, &wanted).is_err());
        }
    }
}
