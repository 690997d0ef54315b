//! Fetches the keys of trusted issuers and verifies tokens with them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use url::Url;

use super::claims::Claims;
use super::decide::{KeyDecision, KeyObserved, decide};
use super::keys::{Key, KeySet, KeySetError};
use super::token::{TokenError, Unverified};
use crate::http::{self, ClientOptions, HttpError, is_loopback};
use crate::wire::oidc::Discovery;

/// Of each of the two requests.
const DEADLINE: Duration = Duration::from_secs(5);

/// Largest document, in bytes; GitHub's JWKS has some 8 KiB.
const MAX_DOCUMENT_BYTES: usize = 256 * 1024;

/// An issuer that is trusted, and what its tokens must be made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `iss`, compared exactly; its keys are fetched below it. `https`, or `http` on loopback.
    pub url: String,
    /// `aud`, compared exactly.
    pub audience: String,
}

/// Why a verifier cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The address is neither `https` nor `http` on loopback.
    #[error("issuer `{0}` is neither https nor http on loopback")]
    Url(String),
    /// The HTTP client could not be made.
    #[error("no HTTP client for issuer `{issuer}`")]
    Client {
        /// Its address.
        issuer: String,
        /// Why.
        #[source]
        source: HttpError,
    },
}

/// Why a token was not verified.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is at fault: answer 401, or `invalid_grant`.
    #[error(transparent)]
    Token(TokenError),
    /// The issuer's keys are not to be had; the token may be good: answer 503.
    #[error("the issuer's keys cannot be fetched")]
    Unavailable,
}

/// Why the keys were not fetched. For the log.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(HttpError),
    #[error("answer {0}")]
    Status(u16),
    #[error("the discovery document cannot be read")]
    Discovery(#[source] serde_json::Error),
    #[error("the discovery document names another issuer")]
    OtherIssuer,
    #[error("the keys lie at another host")]
    OtherHost,
    #[error(transparent)]
    Keys(KeySetError),
}

/// Verifies the tokens of some issuers.
#[derive(Debug)]
pub struct Verifier(Vec<Known>);

#[derive(Debug)]
struct Known {
    issuer: Issuer,
    url: Url,
    client: reqwest::Client,
    state: Mutex<Cached>,
    /// One permit: whoever holds it fetches, the others wait for what it finds.
    fetching: Semaphore,
}

#[derive(Debug, Default)]
struct Cached {
    keys: KeySet,
    fetched_at: Option<Timestamp>,
    asked_at: Option<Timestamp>,
}

impl Verifier {
    /// Trusts these issuers. Nothing is fetched yet.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub fn new(issuers: Vec<Issuer>, options: &ClientOptions) -> Result<Self, IssuerError> {
        issuers
            .into_iter()
            .map(|issuer| Known::new(issuer, options))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Verifies header, signature and claims of a token.
    ///
    /// Cancel-safe: a fetch that is dropped is made anew by the next caller.
    ///
    /// # Errors
    /// [`VerifyError::Token`] when the token is at fault, [`VerifyError::Unavailable`] when nobody
    /// can say.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, VerifyError> {
        let (token, known, key) = self.key_of(token, now).await?;
        token.verify(&key, &known.issuer, now).map_err(VerifyError::Token)
    }

    /// As [`Self::verify`], of an issuer that is not GitHub: its claims as they stand in the token, of
    /// which only issuer, audience and times are judged.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub async fn verify_plain(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Map<String, Value>, VerifyError> {
        let (token, known, key) = self.key_of(token, now).await?;
        token.verify_plain(&key, &known.issuer, now).map_err(VerifyError::Token)
    }

    /// A token taken apart, its issuer, and the key that it names.
    async fn key_of<'a>(
        &self,
        token: &'a str,
        now: Timestamp,
    ) -> Result<(Unverified<'a>, &Known, Key), VerifyError> {
        let token = Unverified::parse(token).map_err(VerifyError::Token)?;
        let known = self.0.iter().find(|known| known.issuer.url == token.issuer());
        let known = known.ok_or(VerifyError::Token(TokenError::Issuer))?;
        let key = known.key(token.key_id(), now).await?;
        Ok((token, known, key))
    }
}

impl Known {
    fn new(issuer: Issuer, options: &ClientOptions) -> Result<Self, IssuerError> {
        let is_safe =
            |url: &Url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url));
        let url = issuer.url.parse::<Url>().ok().filter(is_safe);
        let url = url.ok_or_else(|| IssuerError::Url(issuer.url.clone()))?;
        let client = options
            .client(&[&url])
            .map_err(|source| IssuerError::Client { issuer: issuer.url.clone(), source })?;
        Ok(Self { issuer, url, client, state: Mutex::default(), fetching: Semaphore::new(1) })
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn key(&self, id: &str, now: Timestamp) -> Result<Key, VerifyError> {
        let (decision, key) = self.lock().decide(id, now);
        let (decision, key) = match decision {
            KeyDecision::Fetch => {
                self.refresh(id, now).await;
                self.lock().decide(id, now)
            }
            decision => (decision, key),
        };
        match (decision, key) {
            (KeyDecision::Use, Some(key)) => Ok(key),
            (KeyDecision::Refuse, _) => Err(VerifyError::Token(TokenError::Signature)),
            _ => Err(VerifyError::Unavailable),
        }
    }

    async fn refresh(&self, id: &str, now: Timestamp) {
        // An error means that the semaphore was closed, which nobody does.
        let Ok(_permit) = self.fetching.acquire().await else { return };
        // Somebody else may have fetched them while this waited.
        if self.lock().decide(id, now).0 != KeyDecision::Fetch {
            return;
        }
        let fetched = self.fetch().await;
        let mut state = self.lock();
        state.asked_at = Some(now);
        match fetched {
            Ok(keys) => {
                state.keys = keys;
                state.fetched_at = Some(now);
            }
            Err(error) => {
                tracing::warn!(
                    issuer = self.issuer.url,
                    "the issuer's keys are not to be had: {error}"
                );
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let base = self.issuer.url.trim_end_matches('/');
        let discovery = format!("{base}/.well-known/openid-configuration");
        let document = self.get(&discovery).await?;
        let found: Discovery = serde_json::from_slice(&document).map_err(FetchError::Discovery)?;
        if found.issuer != self.issuer.url {
            return Err(FetchError::OtherIssuer);
        }
        // The keys come from the configured address or from nowhere.
        let keys = found.jwks_uri.parse::<Url>().ok();
        if !keys.is_some_and(|keys| keys.origin() == self.url.origin()) {
            return Err(FetchError::OtherHost);
        }
        let document = self.get(&found.jwks_uri).await?;
        KeySet::parse(&document).map_err(FetchError::Keys)
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let request = self.client.get(url);
        let answer = http::send(request, DEADLINE, MAX_DOCUMENT_BYTES);
        let answer = answer.await.map_err(FetchError::Http)?;
        if answer.status == 200 { Ok(answer.body) } else { Err(FetchError::Status(answer.status)) }
    }
}

impl Cached {
    fn decide(&self, id: &str, now: Timestamp) -> (KeyDecision, Option<Key>) {
        let key = self.keys.get(id);
        let observed = KeyObserved {
            now,
            known: key.is_some(),
            fetched_at: self.fetched_at,
            asked_at: self.asked_at,
        };
        (decide(&observed), key.cloned())
    }
}
