//! Secrets in wire types: read and written in clear, never printed.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A secret that goes over the wire in clear text, inside TLS or a loopback connection.
///
/// `Debug` prints `[redacted]`; the memory is wiped when it is dropped.
#[derive(Clone, Default)]
pub struct WireSecret(SecretString);

impl WireSecret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The secret in the type that does not serialize.
    pub fn to_secret(&self) -> SecretString {
        self.0.clone()
    }
}

impl From<String> for WireSecret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for WireSecret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<SecretString> for WireSecret {
    fn from(secret: SecretString) -> Self {
        Self(secret)
    }
}

impl fmt::Debug for WireSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for WireSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for WireSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
