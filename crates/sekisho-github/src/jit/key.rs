//! The runner's key, as .NET writes one down.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};
use rsa::{BigUint, RsaPrivateKey};
use serde::{Deserialize, Serialize};

use super::JitError;
use crate::secret::WireSecret;

/// Accepted sizes of the runner's RSA key, in bits.
pub const KEY_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Content of `.credentials_rsaparams`: a private key, base64 of big-endian integers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RsaParameters {
    d: WireSecret,
    dp: WireSecret,
    dq: WireSecret,
    exponent: String,
    inverse_q: WireSecret,
    modulus: String,
    p: WireSecret,
    q: WireSecret,
}

impl RsaParameters {
    /// Writes a key down.
    ///
    /// # Errors
    /// [`JitError::Key`] when it has other than two primes.
    pub fn from_key(key: &RsaPrivateKey) -> Result<Self, JitError> {
        let [p, q] = key.primes() else {
            return Err(JitError::Key { reason: "it has not exactly two primes" });
        };
        let mut key = key.clone();
        key.precompute().map_err(|_| JitError::Key { reason: "its primes do not fit it" })?;
        let one = BigUint::from(1u8);
        let dp = key.d() % (p - &one);
        let dq = key.d() % (q - &one);
        let inverse = key.crt_coefficient();
        let inverse = inverse.ok_or(JitError::Key { reason: "its primes do not fit it" })?;
        let half = p.to_bytes_be().len().max(q.to_bytes_be().len());
        // Each integer at its full width: some readers take the length for the key size.
        let part = |n: &BigUint, width: usize| -> String {
            let bytes = n.to_bytes_be();
            let mut padded = vec![0; width.saturating_sub(bytes.len())];
            padded.extend_from_slice(&bytes);
            STANDARD.encode(padded)
        };
        Ok(Self {
            d: part(key.d(), key.size()).into(),
            dp: part(&dp, half).into(),
            dq: part(&dq, half).into(),
            exponent: part(key.e(), 1),
            inverse_q: part(&inverse, half).into(),
            modulus: part(key.n(), key.size()),
            p: part(p, half).into(),
            q: part(q, half).into(),
        })
    }

    /// Reads the key, and checks that its parts belong together.
    ///
    /// # Errors
    /// [`JitError::Key`].
    pub fn to_key(&self) -> Result<RsaPrivateKey, JitError> {
        let part = |text: &str| {
            let bytes = STANDARD.decode(text.trim());
            bytes
                .map(|b| BigUint::from_bytes_be(&b))
                .map_err(|_| JitError::Key { reason: "a part is not base64" })
        };
        let modulus = part(&self.modulus)?;
        if !KEY_BITS.contains(&modulus.bits()) {
            return Err(JitError::Key { reason: "its size is not between 2048 and 4096 bits" });
        }
        let primes = vec![part(self.p.expose())?, part(self.q.expose())?];
        if primes.iter().any(|p| p.bits() < modulus.bits() / 4) {
            return Err(JitError::Key { reason: "a prime is too small" });
        }
        // The three derived parts are not read: they are computed again from the primes.
        let key = RsaPrivateKey::from_components(
            modulus,
            part(&self.exponent)?,
            part(self.d.expose())?,
            primes,
        );
        key.map_err(|_| JitError::Key { reason: "its parts do not belong together" })
    }
}
