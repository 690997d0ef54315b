//! Content digests, `algorithm:hex`.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A hash function that the OCI image specification registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// `sha256`, 64 hex digits.
    Sha256,
    /// `sha512`, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// All of them, the usual one first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits follow the colon.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of a blob, manifest or layer: `sha256:<64 hex>` or `sha512:<128 hex>`, lower case.
///
/// Source: OCI image-spec 1.1, descriptor.md, "Digests". A value of this type is safe as a file
/// name: it holds nothing but letters, digits and one colon.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// Why a text is no digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DigestError {
    /// There is no `:`.
    #[error("digest `{0}` has no `algorithm:` in front")]
    NoAlgorithm(String),
    /// Neither `sha256` nor `sha512`.
    #[error("digest algorithm `{0}` is not supported")]
    Algorithm(String),
    /// Wrong length, or a character other than `0-9a-f`.
    #[error("`{0}` is no lower-case hex of the right length")]
    Hex(String),
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::from_sha256(Sha256::digest(bytes).into())
    }

    /// Wraps a finished SHA-256.
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        Self { algorithm: Algorithm::Sha256, hex: hex::encode(hash) }
    }

    /// Wraps a finished SHA-512.
    pub fn from_sha512(hash: [u8; 64]) -> Self {
        Self { algorithm: Algorithm::Sha512, hex: hex::encode(hash) }
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits, lower case, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve hex digits, for people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) =
            text.split_once(':').ok_or_else(|| DigestError::NoAlgorithm(text.to_owned()))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm(name.to_owned())),
        };
        let good = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(good) {
            return Err(DigestError::Hex(hex.to_owned()));
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Passes bytes on to a writer, and knows their SHA-256 and count.
#[derive(Debug)]
pub struct Sha256Writer<W> {
    inner: W,
    hash: Sha256,
    written: u64,
}

impl<W: Write> Sha256Writer<W> {
    /// Starts with nothing hashed.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), written: 0 }
    }

    /// How many bytes went through.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The writer back, the digest of what went through, and its size in bytes.
    pub fn finish(self) -> (W, Digest, u64) {
        let (inner, sum, written) = self.finish_bytes();
        (inner, Digest::from_sha256(sum), written)
    }

    /// As [`Self::finish`], with the bytes of the digest: for who keeps millions of them.
    pub fn finish_bytes(self) -> (W, [u8; 32], u64) {
        (self.inner, self.hash.finalize().into(), self.written)
    }
}

impl<W: Write> Write for Sha256Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.hash.update(&bytes[..taken]);
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn hashes_a_known_value_and_counts() {
        assert_eq!(Digest::sha256(b"abc").to_string(), ABC);
        let mut writer = Sha256Writer::new(Vec::new());
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        let (bytes, digest, size) = writer.finish();
        assert_eq!((bytes.as_slice(), digest.to_string().as_str(), size), (&b"abc"[..], ABC, 3));
        assert_eq!(digest.short(), "ba7816bf8f01");
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let upper = ABC.to_ascii_uppercase().replace("SHA256", "sha256");
        for (text, want) in [
            ("abc", DigestError::NoAlgorithm("abc".into())),
            ("md5:00", DigestError::Algorithm("md5".into())),
            ("sha256:00", DigestError::Hex("00".into())),
            (upper.as_str(), DigestError::Hex(upper[7..].into())),
            ("sha256:../../etc/passwd", DigestError::Hex("../../etc/passwd".into())),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(want), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes in any::<[u8; 64]>()) {
            let long = Digest::from_sha512(bytes);
            prop_assert_eq!(long.to_string().parse(), Ok(long.clone()));
            let json = serde_json::to_string(&long).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), long);
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            let _ = text.parse::<Digest>();
        }
    }
}
