//! Signed checkpoints: the gate's word on which decisions it made.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fs_err as fs;
use jiff::Timestamp;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sekisho_store::write_atomic;
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::config::OpenError;
use crate::key_file;

/// Signed in front of a checkpoint, so that the key's signatures mean nothing elsewhere.
const DOMAIN: &[u8] = b"sekisho-gate-checkpoint-v1\0";

/// Which decisions there are: those from `first` to `last`, by the hashes of their records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// One per record, in order.
    pub(crate) records: Vec<Digest>,
    /// Of the checkpoint before this one, as written.
    pub(crate) previous: Option<Digest>,
    pub(crate) at: Timestamp,
    /// Names the key.
    pub(crate) key: String,
}

impl Statement {
    /// Whether it names as many records as it says.
    pub(crate) fn is_whole(&self) -> bool {
        let count = self.last.checked_sub(self.first).and_then(|it| it.checked_add(1));
        count == u64::try_from(self.records.len()).ok()
    }
}

/// A statement and the signature over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    #[serde(flatten)]
    pub(crate) statement: Statement,
    /// Ed25519, base64.
    pub(crate) signature: String,
}

/// The gate's key for its records: `decisions.pk8` in a folder that only its owner can read. Beside
/// it lie the public halves of this key and of those before it, `<name>.pub`: to change the key,
/// move the file away; what it signed is still verified.
pub(crate) struct RecordKey {
    pair: Ed25519KeyPair,
    name: String,
}

impl std::fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RecordKey({})", self.name)
    }
}

/// A key that is trusted to have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl PublicKey {
    fn of(bytes: &[u8]) -> Self {
        Self { name: Digest::sha256(bytes).hex()[..16].to_owned(), bytes: bytes.to_vec() }
    }

    /// A key in base64, as `.pub` files have it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
        (bytes.len() == 32).then(|| Self::of(&bytes))
    }
}

impl PublicKey {
    /// Whether it signed these bytes.
    pub(crate) fn signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.bytes).verify(bytes, signature).is_ok()
    }
}

impl RecordKey {
    /// Reads the key, or makes one.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        const WHAT: &str = "key of its records";
        let this = Self::of(key_file::open(&dir.join("decisions.pk8"), WHAT)?);
        let public = this.public();
        let published = dir.join(format!("{}.pub", public.name));
        if !published.exists() {
            let text = BASE64_STANDARD.encode(&public.bytes);
            write_atomic(&published, text.as_bytes(), false)
                .map_err(|source| OpenError::Io { what: WHAT, source })?;
        }
        Ok(this)
    }

    /// With a key.
    pub(crate) fn of(pair: Ed25519KeyPair) -> Self {
        let name = PublicKey::of(pair.public_key().as_ref()).name;
        Self { pair, name }
    }

    /// The half that others may have.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::of(self.pair.public_key().as_ref())
    }

    /// Names the key.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Signs bytes that begin with what they are for.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(bytes).as_ref().to_vec()
    }

    pub(crate) fn seal(&self, statement: Statement) -> io::Result<Checkpoint> {
        let bytes = serde_json::to_vec(&statement).map_err(io::Error::other)?;
        let signature = BASE64_STANDARD.encode(self.sign(&[DOMAIN, &bytes].concat()));
        Ok(Checkpoint { statement, signature })
    }
}

/// The public keys in a folder.
pub(crate) fn trusted(dir: &Path) -> io::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            keys.extend(PublicKey::parse(&fs::read_to_string(&path)?));
        }
    }
    Ok(keys)
}

impl Checkpoint {
    /// Whether one of these keys signed it.
    pub(crate) fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        let Ok(bytes) = serde_json::to_vec(&self.statement) else { return false };
        let Ok(signature) = BASE64_STANDARD.decode(&self.signature) else { return false };
        let signed = [DOMAIN, &bytes].concat();
        let named = keys.iter().filter(|key| key.name == self.statement.key);
        named.into_iter().any(|key| key.signed(&signed, &signature))
    }
}
