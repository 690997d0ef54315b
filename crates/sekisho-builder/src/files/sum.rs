//! Digests of files' data.

use std::sync::OnceLock;

use sekisho_types::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The SHA-256 of a file's data: a third of what a [`Digest`] takes, for there may be millions. Written down as
/// that is where people may read it, else as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    /// Of these bytes.
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut hash = sekisho_types::Sha256Writer::new(std::io::sink());
        std::io::Write::write_all(&mut hash, bytes).unwrap();
        Self(hash.finish_bytes().1)
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::from_sha256(self.0)
    }
}

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { self.digest().serialize(to) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for Sum {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return <[u8; 32]>::deserialize(from).map(Self);
        }
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let mut bytes = [0; 32];
        text.strip_prefix("sha256:")
            .and_then(|hex| hex::decode_to_slice(hex, &mut bytes).ok())
            .ok_or_else(|| D::Error::custom("no SHA-256 digest"))?;
        Ok(Self(bytes))
    }
}

/// A digest that may be taken later: of a file of the context, when somebody asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known(OnceLock<Sum>);

impl Known {
    pub(crate) fn of(sum: Sum) -> Self {
        Self(sum.into())
    }

    pub(crate) fn get(&self) -> Option<Sum> {
        self.0.get().copied()
    }

    /// The one that is known already, or else this.
    pub(crate) fn get_or(&self, sum: Sum) -> Sum {
        *self.0.get_or_init(|| sum)
    }
}

impl From<Option<Sum>> for Known {
    fn from(sum: Option<Sum>) -> Self {
        sum.map_or_else(Self::default, Self::of)
    }
}

impl Serialize for Known {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::<Sum>::deserialize(from).map(Self::from)
    }
}
