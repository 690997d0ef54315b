//! The digest of what is read.

use std::io::{self, Read, Write as _};

use sekisho_types::{Digest, Sha256Writer};

/// Hashes what comes through.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256Writer<io::Sink>,
}

impl<R> Hashing<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hash: Sha256Writer::new(io::sink()) }
    }

    /// The digest, and how many bytes came through.
    pub(super) fn finish(self) -> (Digest, u64) {
        let (_, digest, size_bytes) = self.hash.finish();
        (digest, size_bytes)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.write_all(&buffer[..read])?;
        Ok(read)
    }
}
