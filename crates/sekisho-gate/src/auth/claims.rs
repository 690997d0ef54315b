//! The claims of a GitHub Actions OIDC token: bytes in, an identity out.
//!
//! Source: GitHub's "OpenID Connect reference". `sub` is not read: its form changed in 2026 and can
//! be rewritten by an organisation; everything in it is in a claim of its own too.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use sekisho_policy::Identity;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::MAX_CREDENTIAL_BYTES;
use crate::config::Issuer;

/// How far clocks may be apart, in seconds.
const SKEW_SECONDS: i64 = 30;

/// Longest lifetime of a token that is accepted, in seconds: GitHub's live 300 s (`nbf` lies up to
/// ten minutes before `iat`).
const MAX_LIFETIME_SECONDS: i64 = 3600;

/// Longest claim, in bytes: refs and paths.
const MAX_CLAIM_BYTES: usize = 1024;

/// Why an OIDC token is refused. The token itself is never part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimsError {
    #[error("the token is no compact JWS of at most 8 KiB")]
    Malformed,
    #[error("the token is signed with `{0}`, not with RS256")]
    Algorithm(String),
    #[error("the token's header has `{0}`, which could name a key of the sender's choice")]
    ForeignKey(&'static str),
    #[error("the token names no key")]
    NoKey,
    #[error("the token's issuer is not trusted here")]
    Issuer,
    #[error("the token is not for this gate: its audience is another one")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet: compare the clocks of issuer and gate")]
    NotYet,
    #[error("the token lives longer than an hour")]
    LivesTooLong,
    #[error("the token's claim `{0}` is missing or malformed")]
    Claim(&'static str),
    #[error("the token's signature does not fit")]
    Signature,
    #[error("the token was exchanged already")]
    Replayed,
}

/// A token taken apart, with nothing verified.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    /// Which key the issuer says it used.
    pub(crate) key_id: String,
    /// What was signed.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
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

#[derive(Clone, Debug, Deserialize)]
struct RawClaims {
    iss: String,
    aud: Value,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    jti: Option<String>,
    repository: Option<String>,
    repository_id: Option<String>,
    repository_owner: Option<String>,
    repository_owner_id: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    ref_type: Option<String>,
    sha: Option<String>,
    event_name: Option<String>,
    environment: Option<String>,
    runner_environment: Option<String>,
    job_workflow_ref: Option<String>,
    workflow_ref: Option<String>,
    actor: Option<String>,
    run_id: Option<String>,
    run_attempt: Option<String>,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) identity: Identity,
    /// Unique to the token.
    pub(crate) jti: String,
    /// Seconds since 1970.
    pub(crate) expires: i64,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart; every limit is checked before any key is touched.
    pub(crate) fn parse(token: &'a str) -> Result<Self, ClaimsError> {
        if token.len() > MAX_CREDENTIAL_BYTES {
            return Err(ClaimsError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(ClaimsError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(ClaimsError::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != "RS256" {
            return Err(ClaimsError::Algorithm(header.alg.chars().take(16).collect()));
        }
        for (name, value) in [
            ("jku", header.jku),
            ("jwk", header.jwk),
            ("x5u", header.x5u),
            ("x5c", header.x5c),
            ("crit", header.crit),
        ] {
            if value.is_some() {
                return Err(ClaimsError::ForeignKey(name));
            }
        }
        let key_id = header.kid.filter(|kid| kid.len() <= 256).ok_or(ClaimsError::NoKey)?;
        let signature =
            BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| ClaimsError::Malformed)?;
        Ok(Self { key_id, signed: signed.as_bytes(), signature, claims: decode(claims)? })
    }

    /// Who claims to have issued it.
    pub(crate) fn issuer(&self) -> &str {
        &self.claims.iss
    }

    /// Judges the claims. The signature must have been verified with a key of `issuer`.
    pub(crate) fn judge(self, issuer: &Issuer, now: Timestamp) -> Result<Verified, ClaimsError> {
        let claims = self.claims;
        if claims.iss != issuer.url {
            return Err(ClaimsError::Issuer);
        }
        // One audience, and it is this gate. A token for two could be used by the other.
        let one = match &claims.aud {
            Value::String(one) => Some(one.as_str()),
            Value::Array(list) if list.len() == 1 => list[0].as_str(),
            _ => None,
        };
        if one != Some(issuer.audience.as_str()) {
            return Err(ClaimsError::Audience);
        }
        let now = now.as_second();
        let starts = claims.nbf.into_iter().chain(claims.iat).max();
        if now >= claims.exp.saturating_add(SKEW_SECONDS) {
            return Err(ClaimsError::Expired);
        }
        if starts.is_some_and(|starts| now < starts.saturating_sub(SKEW_SECONDS)) {
            return Err(ClaimsError::NotYet);
        }
        if claims.exp.saturating_sub(now) > MAX_LIFETIME_SECONDS {
            return Err(ClaimsError::LivesTooLong);
        }
        let expires = claims.exp;
        let jti = required("jti", claims.jti.clone())?;
        Ok(Verified { identity: identity(claims)?, jti, expires })
    }
}

fn identity(claims: RawClaims) -> Result<Identity, ClaimsError> {
    let repository = required("repository", claims.repository)?;
    let owner = required("repository_owner", claims.repository_owner)?;
    // Two claims about one thing: an issuer that contradicts itself is not to be trusted.
    let named = repository.split_once('/');
    if !named.is_some_and(|(o, name)| o == owner && !name.is_empty() && !name.contains('/')) {
        return Err(ClaimsError::Claim("repository"));
    }
    Ok(Identity {
        issuer: claims.iss,
        repository,
        repository_id: number("repository_id", claims.repository_id)?,
        repository_owner: owner,
        repository_owner_id: number("repository_owner_id", claims.repository_owner_id)?,
        git_ref: required("ref", claims.git_ref)?,
        event_name: required("event_name", claims.event_name)?,
        run_id: number("run_id", claims.run_id)?,
        run_attempt: number("run_attempt", claims.run_attempt)?,
        ref_type: optional("ref_type", claims.ref_type)?,
        sha: optional("sha", claims.sha)?,
        environment: optional("environment", claims.environment)?,
        runner_environment: optional("runner_environment", claims.runner_environment)?,
        job_workflow_ref: optional("job_workflow_ref", claims.job_workflow_ref)?,
        workflow_ref: optional("workflow_ref", claims.workflow_ref)?,
        actor: optional("actor", claims.actor)?,
    })
}

fn required(name: &'static str, claim: Option<String>) -> Result<String, ClaimsError> {
    let good = |claim: &String| {
        !claim.is_empty() && claim.len() <= MAX_CLAIM_BYTES && !claim.contains(char::is_control)
    };
    claim.filter(good).ok_or(ClaimsError::Claim(name))
}

/// Empty when the token lacks it.
fn optional(name: &'static str, claim: Option<String>) -> Result<String, ClaimsError> {
    match claim {
        None => Ok(String::new()),
        Some(empty) if empty.is_empty() => Ok(empty),
        claim => required(name, claim),
    }
}

/// GitHub's ids: digits, in a string.
fn number(name: &'static str, claim: Option<String>) -> Result<String, ClaimsError> {
    let claim = required(name, claim)?;
    let good = claim.len() <= 20 && claim.bytes().all(|byte| byte.is_ascii_digit());
    if good { Ok(claim) } else { Err(ClaimsError::Claim(name)) }
}

fn decode<T: DeserializeOwned>(part: &str) -> Result<T, ClaimsError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| ClaimsError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| ClaimsError::Malformed)
}

#[cfg(test)]
mod tests;
