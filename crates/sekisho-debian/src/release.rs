//! The signed list of an archive's indexes.

use std::path::Path;

use jiff::Timestamp;
use pgp::composed::{
    CleartextSignedMessage, Deserializable as _, SignedPublicKey, SignedPublicSubKey,
};
use pgp::packet::{Signature, SignatureType};
use pgp::types::KeyDetails as _;

use crate::control::Paragraph;
use crate::{Archive, DebianError};

/// Largest release that is read, in bytes.
pub const MAX_RELEASE_BYTES: u64 = 4 << 20;

/// Keys that are tried, at most.
pub(crate) const MAX_KEYS: usize = 256;

/// A release whose signature held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Seconds since 1970 when it was made.
    pub date: i64,
    /// Whether files can be had by their digest, which a mirror in mid-update still has.
    pub by_hash: bool,
    /// Path, SHA-256 in hex, size in bytes.
    pub(crate) files: Vec<(String, String, u64)>,
}

/// A file of the archive, as the release knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Below the suite's folder.
    pub path: String,
    /// In hex.
    pub sha256: String,
    /// In bytes.
    pub size: u64,
}

impl Release {
    /// A listed file.
    pub fn file(&self, path: &str) -> Option<Listed> {
        self.files.iter().find(|(name, ..)| name == path).map(|(path, sha256, size)| Listed {
            path: path.clone(),
            sha256: sha256.clone(),
            size: *size,
        })
    }
}

/// The keys of a keyring, which may be armored.
///
/// # Errors
/// When the file cannot be read, or has no key.
pub fn keyring(path: &Path) -> Result<Vec<SignedPublicKey>, DebianError> {
    let bytes =
        fs_err::read(path).map_err(|source| DebianError::File { path: path.to_owned(), source })?;
    let keys = keys_in(&bytes).filter(|keys| !keys.is_empty());
    keys.ok_or_else(|| DebianError::Keyring { path: path.to_owned() })
}

/// The keys of a keyring's bytes; `None` for what is no keyring.
pub(crate) fn keys_in(bytes: &[u8]) -> Option<Vec<SignedPublicKey>> {
    // Keys of kinds that are too new are passed over: another may have signed.
    Some(if bytes.starts_with(b"-----") {
        let (keys, _) = SignedPublicKey::from_armor_many(bytes).ok()?;
        keys.take(MAX_KEYS).filter_map(Result::ok).collect()
    } else {
        let keys = SignedPublicKey::from_bytes_many(bytes).ok()?;
        keys.take(MAX_KEYS).filter_map(Result::ok).collect()
    })
}

/// Whether a subkey is its key's, and not taken back. That the key itself is to be trusted, the keyring
/// says: who else certified it does not matter.
fn is_bound(key: &SignedPublicKey, subkey: &SignedPublicSubKey) -> bool {
    let revoked = |signature: &Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    !subkey.signatures.iter().any(revoked) && subkey.verify_bindings(&key.primary_key).is_ok()
}

/// When a key's time ends, seconds since 1970, by the newest of what it says of itself; `None` is never.
///
/// Source: RFC 9580, section 5.2.3.13 (key expiration time, from the key's making).
fn end<'a>(created: u32, said: impl Iterator<Item = &'a Signature>) -> Option<i64> {
    let newest = said.max_by_key(|signature| signature.created().map(|at| at.as_secs()))?;
    let length = newest.key_expiration_time().map(|length| length.as_secs());
    length.filter(|length| *length > 0).map(|length| i64::from(created) + i64::from(length))
}

/// What a key says of itself; others may certify it too.
fn own_words(key: &SignedPublicKey) -> impl Iterator<Item = &Signature> {
    let (fingerprint, id) = (key.fingerprint(), key.legacy_key_id());
    let of_users = key.details.users.iter().flat_map(|user| &user.signatures);
    key.details.direct_signatures.iter().chain(of_users).filter(move |signature| {
        signature.issuer_fingerprint().contains(&&fingerprint)
            || signature.issuer_key_id().contains(&&id)
    })
}

/// Who made a signature that holds.
enum Signer {
    Nobody,
    /// A key whose time has passed, seconds since 1970.
    Expired(i64),
    Key,
}

/// Looks for the key of a signature. A signature of a key that has ended is none: whoever finds an old key
/// could have made it yesterday.
fn signer(message: &CleartextSignedMessage, keys: &[SignedPublicKey], now: Timestamp) -> Signer {
    let mut found = Signer::Nobody;
    for key in keys.iter().filter(|key| key.details.revocation_signatures.is_empty()) {
        let of_key = end(key.created_at().as_secs(), own_words(key));
        let ends = if message.verify(key).is_ok() {
            of_key
        } else {
            let made = |subkey: &&SignedPublicSubKey| {
                is_bound(key, subkey) && message.verify(*subkey).is_ok()
            };
            let Some(subkey) = key.public_subkeys.iter().find(made) else { continue };
            let of_subkey = end(subkey.key.created_at().as_secs(), subkey.signatures.iter());
            [of_key, of_subkey].into_iter().flatten().min()
        };
        match ends.filter(|ends| *ends < now.as_second()) {
            None => return Signer::Key,
            Some(ended) => found = Signer::Expired(ended),
        }
    }
    found
}

/// Checks the signature, then that it is what was asked for and still valid at `now`.
///
/// # Errors
/// By variant: the signature, the end of the key's time, the suite, the end of its validity.
pub fn verify(
    text: &str,
    url: &str,
    archive: &Archive,
    keys: &[SignedPublicKey],
    now: Timestamp,
) -> Result<Release, DebianError> {
    let (url_owned, keyring) = (url.to_owned(), archive.keyring.clone());
    let message = CleartextSignedMessage::from_string(text).ok();
    let by = message.as_ref().map_or(Signer::Nobody, |(message, _)| signer(message, keys, now));
    match (by, message) {
        // What stands around the signed text is not looked at.
        (Signer::Key, Some((message, _))) => {
            parse(&message.signed_text().replace("\r\n", "\n"), url, archive, now)
        }
        (Signer::Expired(ended), _) => {
            let ended = Timestamp::from_second(ended).map(|at| at.to_string()).unwrap_or_default();
            Err(DebianError::KeyExpired { url: url_owned, keyring, ended })
        }
        _ => Err(DebianError::Signature { url: url_owned, keyring }),
    }
}

pub(crate) fn parse(
    text: &str,
    url: &str,
    archive: &Archive,
    now: Timestamp,
) -> Result<Release, DebianError> {
    let fields = Paragraph::parse(text);
    let bad = |reason: String| DebianError::Release {
        url: url.to_owned(),
        suite: archive.suite.clone(),
        reason,
    };
    let names: Vec<_> =
        ["Codename", "Suite"].into_iter().filter_map(|name| fields.get(name)).collect();
    if !names.contains(&archive.suite.as_str()) {
        return Err(bad(format!("it says `{}`", names.join("`, `"))));
    }
    let time = |name: &str| -> Result<Option<Timestamp>, DebianError> {
        let Some(text) = fields.get(name) else { return Ok(None) };
        let rfc = text.replace("UTC", "+0000").replace("GMT", "+0000");
        let zoned = jiff::fmt::rfc2822::parse(&rfc);
        zoned
            .map(|zoned| Some(zoned.timestamp()))
            .map_err(|_| bad(format!("`{name}: {text}` is no time")))
    };
    if let Some(until) = time("Valid-Until")?.filter(|until| *until < now)
        && !archive.allow_expired
    {
        return Err(DebianError::Expired { url: url.to_owned(), until: until.to_string() });
    }
    let date = time("Date")?.ok_or_else(|| bad("it has no `Date`".to_owned()))?.as_second();
    let listed = fields.get("SHA256").ok_or_else(|| bad("it has no `SHA256`".to_owned()))?;
    let mut files = Vec::new();
    for line in listed.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (digest, size, path) = (words.next(), words.next(), words.next());
        let size = size.and_then(|size| size.parse().ok());
        match (digest, size, path) {
            (Some(digest), Some(size), Some(path)) if is_sha256(digest) => {
                files.push((path.to_owned(), digest.to_owned(), size));
            }
            _ => return Err(bad(format!("`{line}` is no file"))),
        }
    }
    let by_hash = fields.get("Acquire-By-Hash").is_some_and(|value| value == "yes");
    Ok(Release { date, by_hash, files })
}

pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests;
