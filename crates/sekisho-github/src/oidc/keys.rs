//! An issuer's public keys: a JWKS document in, keys out.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;

/// Most keys of one issuer; GitHub has four or so.
const MAX_KEYS: usize = 32;

/// Largest modulus, in bytes.
const MAX_MODULUS_BYTES: usize = 8192 / 8;

/// Why a JWKS document is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// It is no JSON of that shape.
    #[error("the key set is no JWKS document")]
    Json(#[source] serde_json::Error),
    /// More than 32 keys.
    #[error("the key set has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
}

/// A public RSA key that signs with RS256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl Key {
    /// Whether the signature is one of this key, RSASSA-PKCS1-v1_5 with SHA-256.
    ///
    /// Keys of less than 2048 bits sign nothing.
    pub fn has_signed(&self, content: &[u8], signature: &[u8]) -> bool {
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, content, signature).is_ok()
    }
}

/// Keys by their `kid`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(BTreeMap<String, Key>);

#[derive(Deserialize)]
struct Document {
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

impl KeySet {
    /// Reads a JWKS document (RFC 7517). Keys of another kind or for another use are left out; of
    /// two with one name, neither can be meant.
    ///
    /// # Errors
    /// See [`KeySetError`].
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(document).map_err(KeySetError::Json)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(document.keys.len()));
        }
        let mut keys: BTreeMap<String, Option<Key>> = BTreeMap::new();
        for (kid, key) in document.keys.into_iter().filter_map(Jwk::into_key) {
            keys.entry(kid).and_modify(|twice| *twice = None).or_insert(Some(key));
        }
        Ok(Self(keys.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect()))
    }

    /// The key of that name.
    pub fn get(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        (fits && key.modulus.len() <= MAX_MODULUS_BYTES).then_some((self.kid?, key))
    }
}
