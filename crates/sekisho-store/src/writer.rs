//! Writing one blob.

use std::io::{self, Read as _, Seek as _, Write};

use sekisho_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha512};
use tempfile::NamedTempFile;

use crate::atomic::{Hook, create_dir_durable, go_on, publish};
use crate::blobs::{BlobStore, name};
use crate::bucket::{Bucket, PART_BYTES};

/// How much is read at once when a file is hashed again, in bytes.
const REREAD_BYTES: usize = 256 * 1024;

/// A blob on its way into a store. Dropped before its commit, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    file: NamedTempFile,
    hash: Sha256,
    written: u64,
}

/// A blob that a store now holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Of the bytes, in the algorithm that was asked for, else SHA-256.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// Why a blob was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The bytes are others than promised. Nothing was stored.
    #[error("content has digest {found}, not {expected}")]
    Mismatch {
        /// What was asked for.
        expected: Digest,
        /// What the bytes are.
        found: Digest,
    },
    /// The disk did not take it.
    #[error("blob could not be stored")]
    Io(#[from] io::Error),
}

impl BlobWriter {
    pub(crate) fn new(file: NamedTempFile) -> Self {
        Self { file, hash: Sha256::new(), written: 0 }
    }

    /// How many bytes were written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Puts the blob into `store`, durably, once its digest is known to be right.
    ///
    /// The writer may come from another store on the same file system. Without `expected` the name
    /// is the SHA-256 digest. A blob that is already there is left as it is.
    pub fn commit(
        self,
        store: &BlobStore,
        expected: Option<&Digest>,
    ) -> Result<Committed, CommitError> {
        self.commit_with(store, expected, &mut go_on)
    }

    pub(crate) fn commit_with(
        mut self,
        store: &BlobStore,
        expected: Option<&Digest>,
        hook: Hook<'_>,
    ) -> Result<Committed, CommitError> {
        let digest = match expected.map(Digest::algorithm) {
            None | Some(Algorithm::Sha256) => {
                Digest::from_sha256(self.hash.clone().finalize().into())
            }
            // The hash function is known only now, so the file is read once more.
            Some(Algorithm::Sha512) => self.sha512()?,
        };
        if let Some(expected) = expected.filter(|expected| **expected != digest) {
            return Err(CommitError::Mismatch { expected: expected.clone(), found: digest });
        }
        let size = self.written;
        if store.size(&digest)? == Some(size) {
            return Ok(Committed { digest, size });
        }
        if let Some(bucket) = store.bucket() {
            self.send(bucket, &name(&digest), 0)?;
            return Ok(Committed { digest, size });
        }
        let target = store.path(&digest);
        if let Some(folder) = target.parent() {
            create_dir_durable(folder)?;
        }
        publish(self.file, &target, hook)?;
        Ok(Committed { digest, size })
    }

    /// Sends what was written from byte `first` on to a bucket, as one object; more may be written
    /// after that.
    pub fn send(&mut self, bucket: &Bucket, name: &str, first: u64) -> io::Result<()> {
        let file = self.file.as_file_mut();
        file.seek(io::SeekFrom::Start(first))?;
        let mut left = self.written.saturating_sub(first);
        if left <= PART_BYTES as u64 {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            return bucket.put(name, bytes.into());
        }
        let mut object = bucket.writer(name)?;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PART_BYTES).min(PART_BYTES);
            let mut piece = vec![0; length];
            file.read_exact(&mut piece)?;
            left -= length as u64;
            object.write(piece.into())?;
        }
        object.finish()
    }

    fn sha512(&mut self) -> io::Result<Digest> {
        let file = self.file.as_file_mut();
        file.rewind()?;
        let mut hash = Sha512::new();
        let mut buffer = vec![0; REREAD_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Digest::from_sha512(hash.finalize().into())),
                read => hash.update(&buffer[..read]),
            }
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.as_file_mut().write(bytes)?;
        self.hash.update(&bytes[..taken]);
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

#[cfg(test)]
mod tests;
