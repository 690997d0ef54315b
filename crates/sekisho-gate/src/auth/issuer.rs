//! The keys of trusted issuers: OIDC discovery, then JWKS, kept for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::claims::{ClaimsError, Unverified, Verified};
use crate::config::{Issuer, OpenError};

/// Keys are fetched anew when they are older.
const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// Keys are used this long when the issuer cannot be reached.
const USABLE: SignedDuration = SignedDuration::from_hours(24);

/// An issuer is asked at most this often, however many tokens name unknown keys.
const ASKED_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Of each of the two requests.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Largest document, in bytes; GitHub's JWKS has some 8 KiB.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// Most keys of one issuer.
const MAX_KEYS: usize = 32;

/// Why a token was not verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// The token is at fault.
    #[error(transparent)]
    Token(ClaimsError),
    /// The issuer cannot be asked; the token may be good.
    #[error("the issuer's keys cannot be fetched")]
    Unavailable,
}

/// Every issuer that is trusted.
pub(crate) struct Issuers(Vec<Known>);

struct Known {
    issuer: Issuer,
    client: reqwest::Client,
    keys: Mutex<Keys>,
    /// One permit: whoever holds it fetches, the others wait for what it finds.
    fetching: Semaphore,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, Key>,
    fetched: Option<Timestamp>,
    asked: Option<Timestamp>,
}

#[derive(Clone)]
struct Key {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Issuers {
    pub(crate) fn new(issuers: Vec<Issuer>) -> Result<Self, OpenError> {
        issuers.into_iter().map(Known::new).collect::<Result<_, _>>().map(Self)
    }

    /// Verifies signature and claims of an OIDC token.
    pub(crate) async fn verify(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Verified, VerifyError> {
        let token = Unverified::parse(token).map_err(VerifyError::Token)?;
        let known = self.0.iter().find(|known| known.issuer.url == token.issuer());
        let known = known.ok_or(VerifyError::Token(ClaimsError::Issuer))?;
        let key = known.key(&token.key_id, now).await?;
        RsaPublicKeyComponents { n: &key.modulus, e: &key.exponent }
            .verify(&RSA_PKCS1_2048_8192_SHA256, token.signed, &token.signature)
            .map_err(|_| VerifyError::Token(ClaimsError::Signature))?;
        token.judge(&known.issuer, now).map_err(VerifyError::Token)
    }
}

/// `https`, or `http` to this machine.
fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

impl Known {
    fn new(issuer: Issuer) -> Result<Self, OpenError> {
        let url = issuer.url.parse::<Url>().ok().filter(is_safe);
        let url = url.ok_or_else(|| OpenError::Issuer(issuer.url.clone()))?;
        // The whole tree has one provider; the binary may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // The keys come from the configured address or from nowhere.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(OpenError::Client)?;
        Ok(Self { issuer, client, keys: Mutex::default(), fetching: Semaphore::new(1) })
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn key(&self, id: &str, now: Timestamp) -> Result<Key, VerifyError> {
        if let Some(key) = self.lock().get(id, now, FRESH) {
            return Ok(key);
        }
        self.refresh(id, now).await;
        let keys = self.lock();
        keys.get(id, now, USABLE).ok_or(match keys.fetched {
            Some(fetched) if now.duration_since(fetched) <= USABLE => {
                VerifyError::Token(ClaimsError::Signature)
            }
            _ => VerifyError::Unavailable,
        })
    }

    async fn refresh(&self, id: &str, now: Timestamp) {
        let Ok(_permit) = self.fetching.acquire().await else { return };
        {
            let mut keys = self.lock();
            let asked_lately =
                keys.asked.is_some_and(|asked| now.duration_since(asked) < ASKED_EVERY);
            if keys.get(id, now, FRESH).is_some() || asked_lately {
                return;
            }
            keys.asked = Some(now);
        }
        match self.fetch().await {
            Ok(by_id) => {
                let mut keys = self.lock();
                keys.by_id = by_id;
                keys.fetched = Some(now);
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer.url, "issuer's keys not fetched: {error:#}");
            }
        }
    }

    async fn fetch(&self) -> anyhow::Result<HashMap<String, Key>> {
        let base = self.issuer.url.trim_end_matches('/');
        let url: Url = format!("{base}/.well-known/openid-configuration").parse()?;
        let found: Discovery = self.get(url.clone()).await?;
        anyhow::ensure!(found.issuer == self.issuer.url, "discovery names another issuer");
        let jwks: Url = found.jwks_uri.parse()?;
        anyhow::ensure!(jwks.origin() == url.origin(), "the keys lie at another host");
        let set: KeySet = self.get(jwks).await?;
        anyhow::ensure!(set.keys.len() <= MAX_KEYS, "more than {MAX_KEYS} keys");
        Ok(set.keys.into_iter().filter_map(Jwk::into_key).collect())
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> anyhow::Result<T> {
        let mut response = self.client.get(url).send().await?.error_for_status()?;
        anyhow::ensure!(response.status() == http::StatusCode::OK, "answer {}", response.status());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            anyhow::ensure!(body.len() + piece.len() <= MAX_DOCUMENT_BYTES, "document too large");
            body.extend_from_slice(&piece);
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Keys {
    fn get(&self, id: &str, now: Timestamp, age: SignedDuration) -> Option<Key> {
        let young = self.fetched.is_some_and(|fetched| now.duration_since(fetched) <= age);
        self.by_id.get(id).filter(|_| young).cloned()
    }
}

impl Jwk {
    /// `None` for a key of another kind or use.
    fn into_key(self) -> Option<(String, Key)> {
        let fits = self.kty == "RSA"
            && self.usage.is_none_or(|usage| usage == "sig")
            && self.alg.is_none_or(|alg| alg == "RS256");
        let decode = |text: Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text?).ok();
        let key = Key { modulus: decode(self.n)?, exponent: decode(self.e)? };
        fits.then_some((self.kid?, key))
    }
}
