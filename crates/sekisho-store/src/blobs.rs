//! The store of blobs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fs_err as fs;
use sekisho_types::{Algorithm, Digest};

use crate::atomic::{create_dir_durable, found, temporary};
use crate::writer::BlobWriter;

/// A blob, open for reading.
#[derive(Debug)]
pub struct Blob {
    /// At its start.
    pub file: std::fs::File,
    /// In bytes.
    pub size: u64,
}

/// Blobs under the digests of their bytes, in one folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobStore {
    root: Arc<Path>,
}

impl BlobStore {
    /// Opens the store in `dir`, makes it where there is none, and removes what an earlier process
    /// left half written.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let store = Self { root: dir.into() };
        create_dir_durable(&store.blobs())?;
        create_dir_durable(&store.tmp())?;
        for entry in fs::read_dir(store.tmp())? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(store)
    }

    /// The folder that the store lives in.
    pub fn dir(&self) -> &Path {
        &self.root
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs().join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    /// Starts a blob whose digest is not known yet. It is in no store until it is committed.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        // Read-only from the start: nothing may change a blob, not even by mistake.
        Ok(BlobWriter::new(temporary(&self.tmp(), 0o444)?))
    }

    /// Opens a blob; `None` when it is not here.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<Option<Blob>> {
        let Some(file) = found(fs::File::open(self.path(digest)))? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some(Blob { file: file.into_file(), size }))
    }

    /// The size in bytes; `None` when the blob is not here.
    pub fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        Ok(found(fs::metadata(self.path(digest)))?.map(|metadata| metadata.len()))
    }

    /// When the blob was written; `None` when it is not here.
    pub fn written(&self, digest: &Digest) -> io::Result<Option<SystemTime>> {
        found(fs::metadata(self.path(digest)))?.map(|metadata| metadata.modified()).transpose()
    }

    /// Whether the blob is here.
    pub fn contains(&self, digest: &Digest) -> io::Result<bool> {
        Ok(self.size(digest)?.is_some())
    }

    /// Reads a whole blob of at most `limit` bytes; `None` when it is not here.
    ///
    /// # Errors
    /// `InvalidData` when the blob is larger.
    pub fn read(&self, digest: &Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match self.size(digest)? {
            None => Ok(None),
            Some(size) if size > limit => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("blob {digest} of {size} bytes is larger than {limit} bytes"),
            )),
            Some(_) => found(fs::read(self.path(digest))),
        }
    }

    /// Removes a blob; `false` when it was not here.
    pub fn delete(&self, digest: &Digest) -> io::Result<bool> {
        Ok(found(fs::remove_file(self.path(digest)))?.is_some())
    }

    /// Takes over a blob of another store: by hard link on one file system, else by copy.
    ///
    /// `false` when the other store does not have it. A copy is hashed on its way.
    pub fn adopt(&self, other: &Self, digest: &Digest) -> io::Result<bool> {
        let target = self.path(digest);
        if self.contains(digest)? {
            return Ok(true);
        }
        let source = other.path(digest);
        if let Some(folder) = target.parent() {
            create_dir_durable(folder)?;
            match fs::hard_link(&source, &target) {
                Ok(()) => {
                    fs::File::open(folder)?.sync_all()?;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                // Another file system, too many links, or links are not allowed here: copy.
                Err(_) => {}
            }
        }
        let Some(mut blob) = other.open_blob(digest)? else { return Ok(false) };
        let mut writer = self.writer()?;
        io::copy(&mut blob.file, &mut writer)?;
        writer.commit(self, Some(digest)).map_err(io::Error::other)?;
        Ok(true)
    }

    /// Every digest that is here, in order.
    pub fn list(&self) -> io::Result<Vec<Digest>> {
        let mut all = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.blobs().join(algorithm.as_str());
            let Some(shards) = found(fs::read_dir(folder))? else { continue };
            for shard in shards {
                for entry in fs::read_dir(shard?.path())? {
                    let name = entry?.file_name();
                    let text = format!("{}:{}", algorithm.as_str(), name.to_string_lossy());
                    // What is not named as a blob is not ours.
                    all.extend(text.parse::<Digest>().ok());
                }
            }
        }
        all.sort();
        Ok(all)
    }
}
