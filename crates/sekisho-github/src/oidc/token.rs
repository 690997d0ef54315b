//! A token taken apart: every limit and every header is checked before any key is touched.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::claims::{Claims, RawClaims};
use super::keys::Key;
use super::verifier::Issuer;

/// Longest token that is looked at, in bytes. GitHub's have about 1.5 KiB.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Longest name of a key, in bytes.
const MAX_KEY_ID_BYTES: usize = 256;

/// How far clocks may be apart, in seconds.
const SKEW_SECONDS: i64 = 30;

/// Longest lifetime of a token that is accepted, in seconds: GitHub's live 300 s (`nbf` lies up to
/// ten minutes before `iat`).
const MAX_LIFETIME_SECONDS: i64 = 3600;

/// Why an OIDC token is refused. The token itself is never part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Three base64url parts with two JSON objects are wanted.
    #[error("the token is no compact JWS of at most 8 KiB")]
    Malformed,
    /// Only RS256 is known.
    #[error("the token is signed with `{0}`, not with RS256")]
    Algorithm(String),
    /// A header that could make a careless reader trust a key of the sender's choice.
    #[error("the token's header has `{0}`, which could name a key of the sender's choice")]
    ForeignKey(&'static str),
    /// `kid` is missing or too long.
    #[error("the token names no key")]
    NoKey,
    /// `iss` is none of those that are trusted, letter by letter.
    #[error("the token's issuer is not trusted here")]
    Issuer,
    /// `aud` is another one, or several.
    #[error("the token is not for this service: its audience is another one")]
    Audience,
    /// `exp` is over.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is to come.
    #[error("the token is not valid yet: compare the clocks of issuer and verifier")]
    NotYet,
    /// `exp` is too far away.
    #[error("the token lives longer than an hour")]
    LivesTooLong,
    /// A claim that is needed, or one that is there in a form that it never has.
    #[error("the token's claim `{0}` is missing or malformed")]
    Claim(&'static str),
    /// The issuer has no such key, or it did not make this signature.
    #[error("the token's signature does not fit")]
    Signature,
}

/// A token taken apart, with nothing verified.
#[derive(Debug)]
pub struct Unverified<'a> {
    key_id: String,
    signed: &'a [u8],
    signature: Vec<u8>,
    claims: RawClaims,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    jku: Option<Value>,
    jwk: Option<Value>,
    x5u: Option<Value>,
    x5c: Option<Value>,
    crit: Option<Value>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// `Malformed`, `Algorithm`, `ForeignKey` or `NoKey`.
    pub fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != "RS256" {
            return Err(TokenError::Algorithm(header.alg.chars().take(16).collect()));
        }
        for (name, value) in [
            ("jku", header.jku),
            ("jwk", header.jwk),
            ("x5u", header.x5u),
            ("x5c", header.x5c),
            ("crit", header.crit),
        ] {
            if value.is_some() {
                return Err(TokenError::ForeignKey(name));
            }
        }
        let fits = |kid: &String| (1..=MAX_KEY_ID_BYTES).contains(&kid.len());
        let key_id = header.kid.filter(fits).ok_or(TokenError::NoKey)?;
        let signature =
            BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        Ok(Self { key_id, signed: signed.as_bytes(), signature, claims: decode(claims)? })
    }

    /// Who claims to have issued it.
    pub fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// Which of the issuer's keys is said to have signed it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Checks the signature with a key of `issuer`, then every claim.
    ///
    /// # Errors
    /// Every [`TokenError`] but those of [`Self::parse`].
    pub fn verify(self, key: &Key, issuer: &Issuer, now: Timestamp) -> Result<Claims, TokenError> {
        if !key.has_signed(self.signed, &self.signature) {
            return Err(TokenError::Signature);
        }
        self.judge(issuer, now)
    }

    /// As [`Self::verify`], of an issuer that is not GitHub: its claims as they stand in the token.
    ///
    /// # Errors
    /// As [`Self::verify`]; of the claims, only issuer, audience and times are judged.
    pub fn verify_plain(
        self,
        key: &Key,
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<Map<String, Value>, TokenError> {
        if !key.has_signed(self.signed, &self.signature) {
            return Err(TokenError::Signature);
        }
        check(&self.claims, issuer, now)?;
        let text = std::str::from_utf8(self.signed).map_err(|_| TokenError::Malformed)?;
        decode(text.split_once('.').ok_or(TokenError::Malformed)?.1)
    }

    /// Judges the claims; the signature has been verified.
    pub(super) fn judge(self, issuer: &Issuer, now: Timestamp) -> Result<Claims, TokenError> {
        check(&self.claims, issuer, now)?;
        Claims::read(self.claims, &issuer.audience)
    }
}

/// Judges issuer, audience and times.
fn check(claims: &RawClaims, issuer: &Issuer, now: Timestamp) -> Result<(), TokenError> {
    if claims.iss != issuer.url {
        return Err(TokenError::Issuer);
    }
    // One audience, and it is ours. A token for two could be used by the other.
    let one = match &claims.aud {
        Value::String(one) => Some(one.as_str()),
        Value::Array(list) if list.len() == 1 => list[0].as_str(),
        _ => None,
    };
    if one != Some(issuer.audience.as_str()) {
        return Err(TokenError::Audience);
    }
    let now = now.as_second();
    let starts = claims.nbf.into_iter().chain(claims.iat).max();
    if now >= claims.exp.saturating_add(SKEW_SECONDS) {
        return Err(TokenError::Expired);
    }
    if starts.is_some_and(|starts| now < starts.saturating_sub(SKEW_SECONDS)) {
        return Err(TokenError::NotYet);
    }
    if claims.exp.saturating_sub(now) > MAX_LIFETIME_SECONDS {
        return Err(TokenError::LivesTooLong);
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}
