//! Signing keys of the gate, a file each.

use std::io;
use std::path::Path;

use fs_err as fs;
use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use sekisho_store::write_atomic;

use crate::config::OpenError;

/// Reads the key (PKCS #8), or makes one that only the owner of the file can read.
///
/// # Errors
/// [`OpenError::Key`] for a file that holds no such key; [`OpenError::Io`], with `what` the key is,
/// for all else.
pub(crate) fn open(path: &Path, what: &'static str) -> Result<Ed25519KeyPair, OpenError> {
    let io = |source| OpenError::Io { what, source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_| io(io::Error::other("no randomness")))?;
            write_atomic(path, made.as_ref(), true).map_err(io)?;
            made.as_ref().to_vec()
        }
        Err(error) => return Err(io(error)),
    };
    Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| OpenError::Key(path.to_owned()))
}
