//! Tokens: `GET realm?service&scope` with Basic or nothing, `POST realm` with a refresh token.
//!
//! Source: distribution's token authentication specification, and its OAuth2 form.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::auth::{Auth, secret};
use crate::endpoint::may_follow;
use crate::error::RegistryError;
use crate::http::{Client, Scope};

/// Largest answer of a token service, in bytes.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// How long a token lives when its service does not say, and at least: the specification's number.
pub(crate) const LIFETIME_MIN: Duration = Duration::from_secs(60);

/// How long a token is taken to live at most.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// A token is renewed so long before its end, for the way and for clocks.
const MARGIN: Duration = Duration::from_secs(10);

/// A value of `Authorization`.
#[derive(Clone)]
pub(crate) struct Credential(HeaderValue);

impl Credential {
    /// A secret that makes no header value is no secret of any registry: it is left out, and the
    /// registry then says 401.
    fn new(text: &str) -> Option<Self> {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// An access token, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Token {
    credential: Credential,
    until: Instant,
}

impl Token {
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }

    pub(crate) fn credential(&self) -> Credential {
        self.credential.clone()
    }
}

/// What is sent without being asked.
pub(crate) fn fixed(auth: &Auth) -> Option<Credential> {
    match auth {
        Auth::Bearer(token) => Credential::new(&format!("Bearer {}", token.expose_secret())),
        Auth::Anonymous | Auth::Basic { .. } | Auth::Identity(_) => None,
    }
}

/// What is sent when Basic is asked for.
pub(crate) fn basic(auth: &Auth) -> Option<Credential> {
    match auth {
        Auth::Basic { username, password } => {
            let pair = format!("{username}:{}", password.expose_secret());
            Credential::new(&format!("Basic {}", STANDARD.encode(pair)))
        }
        Auth::Anonymous | Auth::Identity(_) | Auth::Bearer(_) => None,
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

impl Client {
    /// Asks the token service of a challenge. Redirects are not followed: a form may hold a secret.
    pub(crate) async fn fetch_token(
        &self,
        registry: &str,
        realm: &str,
        service: Option<&str>,
        scope: &Scope,
        auth: &Auth,
    ) -> Result<Token, RegistryError> {
        let mut url = service_url(&self.home(registry, "")?, realm)
            .ok_or_else(|| self.protocol(registry, "the realm of its challenge is not usable"))?;
        let builder = if let Auth::Identity(token) = auth {
            let mut form = vec![
                ("grant_type", "refresh_token".to_owned()),
                ("client_id", "sekisho".to_owned()),
                ("scope", scope.0.join(" ")),
                ("refresh_token", token.expose_secret().to_owned()),
            ];
            form.extend(service.map(|service| ("service", service.to_owned())));
            self.http(&url)?.post(url).form(&form)
        } else {
            {
                let mut query = url.query_pairs_mut();
                query.extend_pairs(service.map(|service| ("service", service)));
                query.extend_pairs(scope.0.iter().map(|scope| ("scope", scope)));
            }
            let builder = self.http(&url)?.get(url);
            match basic(auth) {
                Some(credential) => builder.header(AUTHORIZATION, credential.header()),
                None => builder,
            }
        };
        let asked = Instant::now();
        let response = self.answer(registry, self.options.answer_deadline, builder).await?;
        let status = response.status();
        let body = self.body(registry, response, TOKEN_BYTES_MAX).await;
        if !status.is_success() {
            return Err(refused(registry, status));
        }
        let (credential, lifetime) = given(&body?)
            .ok_or_else(|| self.protocol(registry, "its token service gives no token"))?;
        Ok(Token { credential, until: asked + lifetime - MARGIN })
    }
}

/// Where the token service of a challenge is. `None` where it may not be asked.
pub(crate) fn service_url(home: &Url, realm: &str) -> Option<Url> {
    let url = home.join(realm).ok()?;
    let bare = url.username().is_empty() && url.password().is_none();
    (bare && may_follow(home, &url)).then_some(url)
}

/// The token that a service's answer holds, and how long it lives.
pub(crate) fn given(body: &[u8]) -> Option<(Credential, Duration)> {
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token);
    let token = token.filter(|token| !token.expose_secret().is_empty())?;
    let credential = Credential::new(&format!("Bearer {}", token.expose_secret()))?;
    let lifetime = answer.expires_in.map_or(LIFETIME_MIN, Duration::from_secs);
    // An absurd lifetime must not overflow the clock.
    Some((credential, lifetime.clamp(LIFETIME_MIN, LIFETIME_MAX)))
}

fn refused(registry: &str, status: StatusCode) -> RegistryError {
    let registry = registry.to_owned();
    let message = "its token service refuses".to_owned();
    match status.as_u16() {
        429 => RegistryError::TooManyRequests { registry, message, retry_after: None },
        status @ 500..=599 => RegistryError::Unavailable { registry, status, message },
        _ => RegistryError::Unauthorized { registry, message },
    }
}
