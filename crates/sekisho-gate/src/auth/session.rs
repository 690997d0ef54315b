//! The gate's own tokens: `skg1.<payload>.<signature>`, both base64url.
//!
//! One form, one algorithm (Ed25519), and no header that could name another: there is nothing in it
//! to be confused about. The payload says who, for what, and until when.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sekisho_policy::Identity;
use sekisho_types::RepositoryName;
use serde::{Deserialize, Serialize};

use super::MAX_CREDENTIAL_BYTES;
use super::memo::Memo;
use crate::config::OpenError;
use crate::key_file;

/// What every token begins with.
const PREFIX: &str = "skg1.";

/// Signed in front of the payload, so that the key's signatures mean nothing elsewhere.
const DOMAIN: &[u8] = b"sekisho-gate-token-v1\0";

/// How long a session lives: the longest build, without a token that outlives its day's work.
pub(crate) const SESSION_TTL: SignedDuration = SignedDuration::from_mins(60);

/// How long an access token lives.
pub(crate) const ACCESS_TTL: SignedDuration = SignedDuration::from_mins(5);

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Shown to `/token`, or to `/v2/` for whatever the policies let the identity do.
    Session,
    /// Shown to `/v2/`, for the repositories it names.
    Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Permission {
    Pull,
    Push,
    Delete,
}

/// Permissions in one repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) repository: RepositoryName,
    pub(crate) permissions: Vec<Permission>,
}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) kind: Kind,
    /// The gate that it is for.
    gate: String,
    /// `None`: anybody; such a token can only read what was promoted.
    pub(crate) identity: Option<Identity>,
    /// For an access token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    access: Vec<Access>,
    issued: i64,
    expires: i64,
}

impl Grant {
    pub(crate) fn allows(&self, repository: &RepositoryName, permission: Permission) -> bool {
        let named = |access: &Access| {
            access.repository == *repository && access.permissions.contains(&permission)
        };
        match self.kind {
            Kind::Session => self.identity.is_some(),
            Kind::Access => self.access.iter().any(named),
        }
    }

    /// When it ends, in seconds since 1970.
    pub(crate) fn expires(&self) -> i64 {
        self.expires
    }
}

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token is not one of this gate's")]
    Foreign,
    #[error("the token has expired")]
    Expired,
}

/// Signs and verifies.
pub(crate) struct Sessions {
    key: Ed25519KeyPair,
    gate: String,
    /// Tokens whose signature was right; not whether they have expired.
    known: Memo<Grant>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

impl Sessions {
    /// Reads the key, or makes one that only the owner can read.
    pub(crate) fn open(dir: &Path, gate: &str) -> Result<Self, OpenError> {
        Ok(Self::of(key_file::open(&dir.join("session.pk8"), "signing key")?, gate))
    }

    /// With a key.
    pub(crate) fn of(key: Ed25519KeyPair, gate: &str) -> Self {
        Self { key, gate: gate.to_owned(), known: Memo::default() }
    }

    pub(crate) fn session(&self, identity: &Identity, now: Timestamp) -> Option<(String, i64)> {
        let expires = now.as_second() + SESSION_TTL.as_secs();
        self.sign(Kind::Session, Some(identity.clone()), Vec::new(), now, expires)
    }

    /// An access token that does not outlive `until`, if anything is said about it.
    pub(crate) fn access(
        &self,
        identity: Option<Identity>,
        access: Vec<Access>,
        now: Timestamp,
        until: Option<i64>,
    ) -> Option<(String, i64)> {
        let expires = now.as_second() + ACCESS_TTL.as_secs();
        let expires = until.map_or(expires, |until| until.min(expires));
        self.sign(Kind::Access, identity, access, now, expires)
    }

    /// The token and its lifetime in seconds; `None` when it cannot be serialised.
    fn sign(
        &self,
        kind: Kind,
        identity: Option<Identity>,
        access: Vec<Access>,
        now: Timestamp,
        expires: i64,
    ) -> Option<(String, i64)> {
        let issued = now.as_second();
        let grant = Grant { kind, gate: self.gate.clone(), identity, access, issued, expires };
        let payload = serde_json::to_vec(&grant).ok()?;
        let payload = BASE64_URL_SAFE_NO_PAD.encode(payload);
        let signature = self.key.sign(&[DOMAIN, payload.as_bytes()].concat());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        Some((format!("{PREFIX}{payload}.{signature}"), expires - issued))
    }

    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Grant, TokenError> {
        if token.len() > MAX_CREDENTIAL_BYTES {
            return Err(TokenError::Foreign);
        }
        // A client shows the same token with each request.
        let grant = self.known.of(token.as_bytes(), || self.read(token))?;
        if now.as_second() >= grant.expires {
            return Err(TokenError::Expired);
        }
        Ok(grant)
    }

    /// What a token says that this gate signed, perhaps long ago.
    fn read(&self, token: &str) -> Result<Grant, TokenError> {
        let parts = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.'));
        let (payload, signature) = parts.ok_or(TokenError::Foreign)?;
        let decode =
            |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Foreign);
        let signed = [DOMAIN, payload.as_bytes()].concat();
        UnparsedPublicKey::new(&ED25519, self.key.public_key())
            .verify(&signed, &decode(signature)?)
            .map_err(|_| TokenError::Foreign)?;
        let grant: Grant =
            serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Foreign)?;
        if grant.gate == self.gate { Ok(grant) } else { Err(TokenError::Foreign) }
    }

    /// Whether a credential looks like one of ours, so that it is not taken for an OIDC token.
    pub(crate) fn is_ours(token: &str) -> bool {
        token.starts_with(PREFIX)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use fs_err as fs;

    use super::*;

    fn identity() -> Identity {
        Identity { repository: "a/b".into(), run_id: "1".into(), ..Identity::default() }
    }

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn tokens_survive_a_restart_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(dir.path(), "gate").unwrap();
        let (token, lifetime) = sessions.session(&identity(), NOW).unwrap();
        assert_eq!(lifetime, 3600);
        let again = Sessions::open(dir.path(), "gate").unwrap();
        assert_eq!(again.verify(&token, NOW).unwrap().identity, Some(identity()));

        let at = |seconds| NOW + SignedDuration::from_secs(seconds);
        assert!(again.verify(&token, at(3599)).is_ok());
        assert_eq!(again.verify(&token, at(3600)), Err(TokenError::Expired), "known, and expired");
        // Another gate with the same key, and the same gate with another key.
        let other = Sessions::open(dir.path(), "other").unwrap();
        assert_eq!(other.verify(&token, NOW), Err(TokenError::Foreign));
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Sessions::open(elsewhere.path(), "gate").unwrap();
        assert_eq!(other.verify(&token, NOW), Err(TokenError::Foreign));

        let mode = fs::metadata(dir.path().join("session.pk8")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join("session.pk8"), b"x").unwrap();
        assert!(matches!(Sessions::open(dir.path(), "gate"), Err(OpenError::Key(_))));
    }

    #[test]
    fn every_changed_byte_breaks_a_token() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(dir.path(), "gate").unwrap();
        let (token, _) = sessions.session(&identity(), NOW).unwrap();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(sessions.verify(&changed, NOW), Err(TokenError::Foreign), "byte {at}");
        }
        for text in ["", "skg1.", "skg1..", "skg1.e30.", "a.b.c"] {
            assert_eq!(sessions.verify(text, NOW), Err(TokenError::Foreign), "{text}");
        }
    }

    #[test]
    fn an_access_token_is_for_what_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(dir.path(), "gate").unwrap();
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let access = Access { repository: name("a/b"), permissions: vec![Permission::Push] };
        let (token, lifetime) =
            sessions.access(Some(identity()), vec![access], NOW, Some(90)).unwrap();
        assert_eq!(lifetime, 90);
        let grant = sessions.verify(&token, NOW).unwrap();
        assert!(grant.allows(&name("a/b"), Permission::Push));
        assert!(!grant.allows(&name("a/b"), Permission::Pull));
        assert!(!grant.allows(&name("a/b/c"), Permission::Push));
    }
}
