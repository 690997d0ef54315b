//! How a GitHub App says who it is: a JWT that lives for minutes, signed with the App's key.
//!
//! Source: protocol reference 1.3. The key may be in a file, or where it can be used but not read:
//! whatever can sign is a [`Signer`].

use std::fmt;
use std::pin::Pin;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _};
use rsa::pkcs8::DecodePrivateKey as _;
use serde_json::json;

/// The assertion begins this long ago, in seconds: clocks differ.
const BACKDATE_SECS: i64 = 60;

/// It lives so long from its beginning, in seconds. GitHub takes ten minutes from now at most.
const LIFETIME_SECS: i64 = 9 * 60;

/// Largest key file, in bytes.
const MAX_PEM_BYTES: usize = 64 * 1024;

/// What a signature will be.
pub type SignFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, SignError>> + Send + 'a>>;

/// Signs with a GitHub App's key.
pub trait Signer: Send + Sync {
    /// The RSASSA-PKCS1-v1_5 signature with SHA-256 of `message`.
    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a>;
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key file holds no RSA key in PEM (PKCS#1 or PKCS#8) of 2048 to 8192 bits.
    #[error("the App's key is no RSA private key in PEM of 2048 bits or more: {0}")]
    Key(String),
    /// Whoever has the key did not sign.
    #[error("the App's key did not sign: {0}")]
    Refused(String),
}

/// A key that this process holds.
pub struct KeySigner(RsaKeyPair);

impl KeySigner {
    /// From the PEM text that GitHub gives when a key is made.
    ///
    /// # Errors
    /// [`SignError::Key`].
    pub fn from_pem(pem: &str) -> Result<Self, SignError> {
        let bad = |why: String| SignError::Key(why);
        if pem.len() > MAX_PEM_BYTES {
            return Err(bad("it is too long".to_owned()));
        }
        let key = RsaPrivateKey::from_pkcs1_pem(pem)
            .or_else(|_| RsaPrivateKey::from_pkcs8_pem(pem))
            .map_err(|error| bad(error.to_string()))?;
        let der = key.to_pkcs1_der().map_err(|error| bad(error.to_string()))?;
        RsaKeyPair::from_der(der.as_bytes()).map(Self).map_err(|error| bad(error.to_string()))
    }
}

impl Signer for KeySigner {
    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        let mut signature = vec![0; self.0.public().modulus_len()];
        let signed = self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
        let signed = signed.map_err(|error| SignError::Refused(error.to_string()));
        Box::pin(std::future::ready(signed.map(|()| signature)))
    }
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySigner")
    }
}

/// The JWT by which an App says who it is: `issuer` is its client id, or its numeric id.
///
/// # Errors
/// The signer's.
pub async fn assertion(
    signer: &dyn Signer,
    issuer: &str,
    now: Timestamp,
) -> Result<String, SignError> {
    let issued = now.as_second() - BACKDATE_SECS;
    let claims = json!({"iat": issued, "exp": issued + LIFETIME_SECS, "iss": issuer});
    let part = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
    let signature = signer.sign(signed.as_bytes()).await?;
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use rsa::pkcs1::{EncodeRsaPublicKey as _, LineEnding};
    use rsa::pkcs8::EncodePrivateKey as _;

    use super::*;

    #[tokio::test]
    async fn another_library_accepts_it_by_either_form_of_the_key() {
        let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let public = key.to_public_key().to_pkcs1_der().unwrap();
        let public = DecodingKey::from_rsa_der(public.as_bytes());
        let now = Timestamp::from_second(4_000_000_000).unwrap();
        for pem in [
            key.to_pkcs1_pem(LineEnding::LF).unwrap().to_string(),
            key.to_pkcs8_pem(LineEnding::CRLF).unwrap().to_string(),
        ] {
            let signer = KeySigner::from_pem(&pem).unwrap();
            let token = assertion(&signer, "Iv1.x", now).await.unwrap();
            let validation = Validation::new(Algorithm::RS256);
            let read =
                jsonwebtoken::decode::<serde_json::Value>(&token, &public, &validation).unwrap();
            let want = json!({"iat": 3_999_999_940_u64, "exp": 4_000_000_480_u64, "iss": "Iv1.x"});
            assert_eq!(read.claims, want);
        }
        for bad in ["", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"] {
            assert!(matches!(KeySigner::from_pem(bad), Err(SignError::Key(_))));
        }
    }
}
