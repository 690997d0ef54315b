//! Whose signature on a statement counts, and for whom it speaks.
//!
//! ```toml
//! [[attestor]]
//! name = "release"                 # as rules know it
//! public_key = """
//! -----BEGIN PUBLIC KEY-----
//! …
//! -----END PUBLIC KEY-----
//! """
//! ```

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use sekisho_types::UNSIGNED;
use serde::{Deserialize, Serialize};

/// Most of them: each is tried on each signature.
const MAX_ATTESTORS: usize = 64;

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// `SubjectPublicKeyInfo` of an uncompressed point on P-256, before the point. RFC 5480.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The same of an Ed25519 key. RFC 8410.
const ED: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Those whose signatures count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestors(Vec<Attestor>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attestor {
    name: String,
    kind: Kind,
    key: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    P256,
    Ed25519,
}

/// Why they were not loaded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestorsError {
    /// No TOML of the known names, with its place.
    #[error("{0}")]
    Toml(String),
    /// More than can be tried.
    #[error("there are more than {MAX_ATTESTORS} attestors")]
    TooMany,
    /// A name that a rule could not tell from another one.
    #[error(
        "`{0}` is no name of an attestor: 1 to {MAX_NAME_BYTES} printable characters, not `unsigned`"
    )]
    Name(String),
    /// Neither P-256 nor Ed25519 in PEM.
    #[error("the key of `{0}` is no public key of P-256 or Ed25519 in PEM")]
    Key(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    attestor: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    public_key: String,
}

impl Attestors {
    /// Reads them. One name may have several keys, for a change of keys.
    ///
    /// # Errors
    /// See [`AttestorsError`].
    pub fn load(text: &str) -> Result<Self, AttestorsError> {
        let file: RawFile =
            toml::from_str(text).map_err(|error| AttestorsError::Toml(error.to_string()))?;
        if file.attestor.len() > MAX_ATTESTORS {
            return Err(AttestorsError::TooMany);
        }
        let all = file.attestor.into_iter().map(|Raw { name, public_key }| {
            let fits = (1..=MAX_NAME_BYTES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic())
                && name != UNSIGNED;
            if !fits {
                return Err(AttestorsError::Name(name));
            }
            let Some((kind, key)) = spki(&public_key) else {
                return Err(AttestorsError::Key(name));
            };
            Ok(Attestor { name, kind, key })
        });
        all.collect::<Result<_, _>>().map(Self)
    }

    /// Whose signatures are among these.
    pub(super) fn who_signed(&self, signed: &[u8], signatures: &[Vec<u8>]) -> BTreeSet<String> {
        let has_signed = |attestor: &&Attestor| {
            let key = UnparsedPublicKey::new(attestor.kind.algorithm(), &attestor.key);
            signatures.iter().any(|signature| key.verify(signed, signature).is_ok())
        };
        self.0.iter().filter(has_signed).map(|attestor| attestor.name.clone()).collect()
    }
}

impl Kind {
    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::Ed25519 => &ED25519,
        }
    }
}

fn spki(pem: &str) -> Option<(Kind, Vec<u8>)> {
    let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
    let body = body.strip_suffix("-----END PUBLIC KEY-----")?;
    let text: String = body.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(text).ok()?;
    if let Some(point) = der.strip_prefix(&P256).filter(|point| point.len() == 65) {
        return Some((Kind::P256, point.to_vec()));
    }
    let key = der.strip_prefix(&ED).filter(|key| key.len() == 32)?;
    Some((Kind::Ed25519, key.to_vec()))
}
