//! Messages of the old queue are encrypted with a key of the session's, which comes wrapped for the
//! runner's RSA key: OAEP with SHA-256, AES in CBC mode, PKCS#7.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::{Oaep, RsaPrivateKey};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

use super::error::ClientError;
use crate::wire::session::EncryptionKey;

const OPERATION: &str = "reading an encrypted message";

/// A session's key.
#[derive(Clone)]
pub(super) struct SessionKey(SecretSlice<u8>);

fn unreadable() -> ClientError {
    let reason = "something that the session's key does not open".to_owned();
    ClientError::Body { operation: OPERATION, reason }
}

impl SessionKey {
    /// Unwraps the key of a session; `None` when its messages are plain.
    pub(super) fn of_session(
        key: Option<&EncryptionKey>,
        private: &RsaPrivateKey,
    ) -> Result<Option<Self>, ClientError> {
        let Some(value) = key.and_then(|key| key.value.as_deref()).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        let mut bytes = STANDARD.decode(value).map_err(|_| unreadable())?;
        if key.is_some_and(|key| key.encrypted) {
            bytes = private.decrypt(Oaep::new::<Sha256>(), &bytes).map_err(|_| unreadable())?;
        }
        Ok(Some(Self(bytes.into())))
    }

    /// Opens a message's body.
    pub(super) fn open(&self, iv: &str, body: &str) -> Result<String, ClientError> {
        let iv = STANDARD.decode(iv).map_err(|_| unreadable())?;
        let body = STANDARD.decode(body).map_err(|_| unreadable())?;
        let key = self.0.expose_secret();
        let opened = match key.len() {
            16 => cbc::Decryptor::<aes::Aes128>::new_from_slices(key, &iv)
                .map_err(|_| unreadable())?
                .decrypt_padded_vec_mut::<Pkcs7>(&body),
            32 => cbc::Decryptor::<aes::Aes256>::new_from_slices(key, &iv)
                .map_err(|_| unreadable())?
                .decrypt_padded_vec_mut::<Pkcs7>(&body),
            _ => return Err(unreadable()),
        };
        String::from_utf8(opened.map_err(|_| unreadable())?).map_err(|_| unreadable())
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey")
    }
}

#[cfg(test)]
mod tests {
    use aes::cipher::BlockEncryptMut as _;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_encrypted_for_the_runner_is_read() {
        let private = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let (key, iv) = ([7; 32], [9; 16]);
        let wrapped = private
            .to_public_key()
            .encrypt(&mut rsa::rand_core::OsRng, Oaep::new::<Sha256>(), &key)
            .unwrap();
        let wire = EncryptionKey { encrypted: true, value: Some(STANDARD.encode(wrapped)) };
        let session = SessionKey::of_session(Some(&wire), &private).unwrap().unwrap();
        let encryptor = cbc::Encryptor::<aes::Aes256>::new_from_slices(&key, &iv).unwrap();
        let body = encryptor.encrypt_padded_vec_mut::<Pkcs7>("{\"a\":\"ü\"}".as_bytes());
        let opened = session.open(&STANDARD.encode(iv), &STANDARD.encode(&body)).unwrap();
        assert_eq!(opened, "{\"a\":\"ü\"}");
        assert!(session.open(&STANDARD.encode([8; 16]), &STANDARD.encode(&body[1..])).is_err());
        let plain = EncryptionKey { encrypted: false, value: None };
        assert!(SessionKey::of_session(Some(&plain), &private).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn any_body_is_opened_without_panic(key in 0..40_usize, iv in ".{0,24}", body in ".{0,64}") {
            let session = SessionKey(vec![1; key].into());
            let _ = session.open(&iv, &body);
            let _ = session.open(&STANDARD.encode([0; 16]), &STANDARD.encode(body));
        }
    }
}
