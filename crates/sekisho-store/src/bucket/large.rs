//! Objects that are too large to be held: written and read in parts.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{ObjectStoreExt as _, WriteMultipart};

use super::{Bucket, PART_BYTES, failed, wait};

/// How many parts are under way at once; each is held in memory.
const PARTS_AT_ONCE: usize = 2;

impl Bucket {
    /// Starts to read an object of this size from byte `first` on, piece by piece.
    pub fn reader(&self, name: &str, first: u64, size: u64) -> BucketReader {
        let (bucket, name) = (self.clone(), name.to_owned());
        BucketReader { bucket, name, size, at: first.min(size), piece: Bytes::new() }
    }

    /// Starts to write a large object, part by part.
    pub fn writer(&self, name: &str) -> io::Result<BucketWriter> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        let upload = wait(async move { store.put_multipart(&key).await })?.map_err(failed)?;
        let parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        Ok(BucketWriter { parts: Some(parts) })
    }
}

/// An object on its way in: not there before [`BucketWriter::finish`].
pub struct BucketWriter {
    parts: Option<WriteMultipart>,
}

impl fmt::Debug for BucketWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BucketWriter")
    }
}

impl BucketWriter {
    fn take(&mut self) -> io::Result<WriteMultipart> {
        self.parts.take().ok_or_else(|| io::Error::other("an earlier part failed"))
    }

    /// Appends; waits while too many parts are under way.
    pub fn write(&mut self, piece: Bytes) -> io::Result<()> {
        let mut parts = self.take()?;
        let parts = wait(async move {
            parts.wait_for_capacity(PARTS_AT_ONCE).await?;
            parts.put(piece);
            Ok(parts)
        })?;
        self.parts = Some(parts.map_err(failed)?);
        Ok(())
    }

    /// Makes the object.
    pub fn finish(mut self) -> io::Result<()> {
        let parts = self.take()?;
        wait(async move { parts.finish().await.map(drop) })?.map_err(failed)
    }

    /// Gives the object up, with what was written of it.
    pub fn abort(mut self) -> io::Result<()> {
        let parts = self.take()?;
        wait(async move { parts.abort().await })?.map_err(failed)
    }
}

/// Reads an object in pieces of [`PART_BYTES`].
#[derive(Debug)]
pub struct BucketReader {
    bucket: Bucket,
    name: String,
    size: u64,
    at: u64,
    piece: Bytes,
}

impl BucketReader {
    /// The next piece, of at most [`PART_BYTES`]; empty at the end.
    pub fn next_piece(&mut self) -> io::Result<Bytes> {
        let length = (self.size - self.at).min(PART_BYTES as u64);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let (store, key) = (Arc::clone(&self.bucket.store), self.bucket.key(&self.name));
        let range = self.at..self.at + length;
        let piece = wait(async move { store.get_range(&key, range).await })?.map_err(failed)?;
        if piece.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length;
        Ok(piece)
    }
}

impl io::Read for BucketReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece = self.next_piece()?;
        }
        let taken = buffer.len().min(self.piece.len());
        buffer[..taken].copy_from_slice(&self.piece.split_to(taken));
        Ok(taken)
    }
}
