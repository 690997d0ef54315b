//! Writing one blob.

use std::io::{self, Read as _, Seek as _, Write};
use std::path::PathBuf;
use std::sync::Arc;

use sekisho_types::{Algorithm, Digest};
use sha2::{Digest as _, Sha256, Sha512};
use tempfile::NamedTempFile;

use crate::atomic::{Hook, create_dir_durable, go_on, publish, temporary};
use crate::batch::Batch;
use crate::blobs::{BlobStore, name};
use crate::bucket::{Bucket, PART_BYTES};
use crate::wal::{Change, Wal};

/// A blob of at most so many bytes is kept in memory until it is committed: manifests and configs.
const SMALL_BYTES: usize = 32 * 1024;

/// Read-only from the start: nothing may change a blob, not even by mistake.
pub(crate) const MODE: u32 = 0o444;

/// How much is read at once when a file is hashed again, in bytes.
const REREAD_BYTES: usize = 256 * 1024;

/// A blob on its way into a store. Dropped before its commit, it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    /// The folder of temporary files.
    spool: PathBuf,
    /// All of it, while it is small.
    small: Vec<u8>,
    /// All of it, once it is not.
    file: Option<NamedTempFile>,
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

impl From<CommitError> for io::Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Io(error) => error,
            CommitError::Mismatch { .. } => Self::other(error),
        }
    }
}

impl BlobWriter {
    pub(crate) fn new(spool: PathBuf) -> Self {
        Self { spool, small: Vec::new(), file: None, hash: Sha256::new(), written: 0 }
    }

    /// The file with what was written, made now if it was not.
    fn spilled(&mut self) -> io::Result<&mut NamedTempFile> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                let mut file = temporary(&self.spool, MODE)?;
                file.write_all(&self.small)?;
                self.small = Vec::new();
                Ok(none.insert(file))
            }
        }
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
        let mut batch = Batch::default();
        let committed = self.commit_with(store, expected, &mut batch, &mut go_on)?;
        batch.commit()?;
        Ok(committed)
    }

    /// As [`BlobWriter::commit`], with a batch.
    pub(crate) fn commit_in(
        self,
        store: &BlobStore,
        expected: &Digest,
        batch: &mut Batch,
    ) -> Result<Committed, CommitError> {
        self.commit_with(store, Some(expected), batch, &mut go_on)
    }

    pub(crate) fn commit_with(
        mut self,
        store: &BlobStore,
        expected: Option<&Digest>,
        batch: &mut Batch,
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
        if let Some(wal) = store.wal() {
            self.log(wal, store, &digest, batch)?;
            return Ok(Committed { digest, size });
        }
        let target = store.path(&digest);
        if let Some(folder) = target.parent() {
            create_dir_durable(folder)?;
        }
        self.spilled()?;
        if let Some(file) = self.file {
            publish(file, &target, hook)?;
        }
        Ok(Committed { digest, size })
    }

    /// Puts a small blob into the log; a large one under another name, and its own into the log.
    fn log(
        self,
        wal: &Arc<Wal>,
        store: &BlobStore,
        digest: &Digest,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let path = store.path(digest);
        let Some(file) = self.file else {
            let (bytes, spool) = (self.small, store.tmp());
            return batch.push(wal, Change::File { path, bytes, mode: MODE, spool });
        };
        file.as_file().sync_all()?;
        let (_, from) = file.keep().map_err(|error| error.error)?;
        batch.push(wal, Change::Rename { from, to: path })
    }

    /// Sends what was written from byte `first` on to a bucket, as one object; more may be written
    /// after that.
    pub fn send(&mut self, bucket: &Bucket, name: &str, first: u64) -> io::Result<()> {
        let Some(file) = self.file.as_mut().map(NamedTempFile::as_file_mut) else {
            let first = usize::try_from(first).unwrap_or(usize::MAX);
            let bytes = self.small.get(first..).unwrap_or_default();
            return bucket.put(name, bytes.to_vec().into());
        };
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
        let mut hash = Sha512::new();
        let Some(file) = self.file.as_mut().map(NamedTempFile::as_file_mut) else {
            hash.update(&self.small);
            return Ok(Digest::from_sha512(hash.finalize().into()));
        };
        file.rewind()?;
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
        let taken = if self.file.is_none() && self.small.len() + bytes.len() <= SMALL_BYTES {
            self.small.extend_from_slice(bytes);
            bytes.len()
        } else {
            self.spilled()?.as_file_mut().write(bytes)?
        };
        self.hash.update(&bytes[..taken]);
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests;
