//! RSA keys: one that signs ID tokens, and fresh ones for runners.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};

use crate::store::write_atomically;

/// Size of every key, in bits: the least that runners take, and the fastest to make.
const KEY_BITS: usize = 2048;
/// Runner keys that are kept ready. Making one takes 100 ms and more, which a job would wait for.
const POOL_SIZE: usize = 2;

/// The hub's signing key and its supply of runner keys, made on a thread of their own.
#[derive(Debug)]
pub(crate) struct Keys {
    pool: Arc<Pool>,
    oidc: watch::Receiver<Option<Arc<OidcKey>>>,
}

#[derive(Debug)]
struct Pool {
    keys: Mutex<Supply>,
    /// Wakes the thread.
    taken: Condvar,
    /// One permit for each key.
    ready: Semaphore,
}

#[derive(Debug, Default)]
struct Supply {
    keys: VecDeque<RsaPrivateKey>,
    closed: bool,
}

/// Signs ID tokens.
pub(crate) struct OidcKey {
    pub(crate) signer: EncodingKey,
    /// RFC 7638 thumbprint.
    pub(crate) kid: String,
    /// Modulus, base64url.
    pub(crate) n: String,
    /// Exponent, base64url.
    pub(crate) e: String,
}

impl std::fmt::Debug for OidcKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Keys {
    /// Starts the thread. The signing key is read from `dir`, or made and written there. With
    /// `one`, all runners get the same key.
    pub(crate) fn start(dir: &Path, one: bool) -> io::Result<Self> {
        let pool = Pool { keys: Mutex::default(), taken: Condvar::new(), ready: Semaphore::new(0) };
        let pool = Arc::new(pool);
        let folder = dir.join("keys");
        fs_err::create_dir_all(&folder)?;
        let path = folder.join("oidc.pem");
        // A key that is there is read now: a damaged one is an error at start.
        let known = match fs_err::read_to_string(&path) {
            Ok(pem) => Some(OidcKey::from_pem(&pem).map_err(|error| {
                io::Error::other(format!("the key `{}` is damaged: {error}", path.display()))
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (made, oidc) = watch::channel(known.map(Arc::new));
        let work = Arc::clone(&pool);
        std::thread::Builder::new().name("hub-keys".to_owned()).spawn(move || {
            if made.borrow().is_none() {
                match OidcKey::make(&path) {
                    Ok(key) => drop(made.send(Some(Arc::new(key)))),
                    Err(error) => tracing::error!("no key for ID tokens: {error}"),
                }
            }
            work.fill(one);
        })?;
        Ok(Self { pool, oidc })
    }

    /// The signing key, as soon as there is one. `None` if it could not be made.
    pub(crate) async fn oidc(&self) -> Option<Arc<OidcKey>> {
        let mut oidc = self.oidc.clone();
        let key = oidc.wait_for(Option::is_some).await.ok()?;
        key.clone()
    }

    /// A key for a runner: never given twice. `None` when the hub stops.
    pub(crate) async fn take(&self) -> Option<RsaPrivateKey> {
        self.pool.ready.acquire().await.ok()?.forget();
        let mut supply = self.pool.lock();
        let key = supply.keys.pop_front();
        self.pool.taken.notify_one();
        key
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.pool.lock().closed = true;
        self.pool.ready.close();
        self.pool.taken.notify_one();
    }
}

impl Pool {
    fn lock(&self) -> std::sync::MutexGuard<'_, Supply> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, one: bool) {
        let mut only = None;
        loop {
            let full = |supply: &mut Supply| supply.keys.len() >= POOL_SIZE && !supply.closed;
            let woken = self.taken.wait_while(self.lock(), full);
            if woken.unwrap_or_else(PoisonError::into_inner).closed {
                return;
            }
            let made = only.clone().map_or_else(|| RsaPrivateKey::new(&mut OsRng, KEY_BITS), Ok);
            match made {
                Ok(key) => {
                    only = one.then(|| key.clone());
                    self.lock().keys.push_back(key);
                }
                Err(error) => {
                    tracing::error!("no more keys for runners: {error}");
                    self.ready.close();
                    return;
                }
            }
            self.ready.add_permits(1);
        }
    }
}

impl OidcKey {
    fn make(path: &Path) -> io::Result<Self> {
        let key = RsaPrivateKey::new(&mut OsRng, KEY_BITS).map_err(io::Error::other)?;
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
        write_atomically(path, pem.as_bytes())?;
        Self::new(&key).map_err(io::Error::other)
    }

    fn from_pem(pem: &str) -> Result<Self, String> {
        let key = RsaPrivateKey::from_pkcs8_pem(pem).map_err(|error| error.to_string())?;
        Self::new(&key)
    }

    fn new(key: &RsaPrivateKey) -> Result<Self, String> {
        let der = key.to_pkcs1_der().map_err(|error| error.to_string())?;
        let n = URL_SAFE_NO_PAD.encode(key.n().to_bytes_be());
        let e = URL_SAFE_NO_PAD.encode(key.e().to_bytes_be());
        let thumbprint = Sha256::digest(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#));
        let kid = URL_SAFE_NO_PAD.encode(thumbprint);
        Ok(Self { signer: EncodingKey::from_rsa_der(der.as_bytes()), kid, n, e })
    }
}
