//! The store of blobs.

use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fs_err as fs;
use sekisho_types::{Algorithm, Digest};

use crate::atomic::{create_dir_durable, found};
use crate::batch::Batch;
use crate::bucket::Bucket;
use crate::wal::{Change, MAX_LOGGED_BYTES, Wal};
use crate::writer::{BlobWriter, MODE};

/// A blob, open for reading.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes.
    pub content: Content,
    /// In bytes.
    pub size: u64,
}

/// Where the bytes of a blob are read from.
#[derive(Debug)]
pub enum Content {
    /// A file, at its start.
    File(std::fs::File),
    /// An object of this name.
    Object(Bucket, String),
}

impl Blob {
    /// Reads the blob from byte `first` on. Blocks.
    pub fn reader(self, first: u64) -> io::Result<Box<dyn Read + Send>> {
        match self.content {
            Content::File(mut file) => {
                if first > 0 {
                    file.seek(io::SeekFrom::Start(first))?;
                }
                Ok(Box::new(file.take(self.size.saturating_sub(first))))
            }
            Content::Object(bucket, name) => Ok(Box::new(bucket.reader(&name, first, self.size))),
        }
    }
}

/// Blobs under the digests of their bytes, in one folder or bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlobStore {
    /// The folder; for a bucket, where what is written waits until it is whole.
    root: Arc<Path>,
    bucket: Option<Bucket>,
    /// What makes small blobs and names durable; without it, each its own syncs.
    wal: Option<Arc<Wal>>,
}

impl BlobStore {
    /// Opens the store in `dir`, makes it where there is none, and removes what an earlier process
    /// left half written.
    pub fn open(dir: &Path) -> io::Result<Self> {
        create_dir_durable(&dir.join("blobs"))?;
        Self::with_spool(dir, None, None)
    }

    /// As [`BlobStore::open`], made durable by a log. The folder lies in one of the log's.
    pub fn logged(dir: &Path, wal: &Arc<Wal>) -> io::Result<Self> {
        create_dir_durable(&dir.join("blobs"))?;
        Self::with_spool(dir, None, Some(Arc::clone(wal)))
    }

    /// A store that somebody else may have open, for reading: nothing is made or removed.
    pub fn existing(dir: &Path) -> Self {
        Self { root: dir.into(), bucket: None, wal: None }
    }

    /// A store in a bucket. What is being written waits in the folder `spool`, which is this
    /// process's alone and emptied here.
    pub fn in_bucket(bucket: Bucket, spool: &Path) -> io::Result<Self> {
        Self::with_spool(spool, Some(bucket), None)
    }

    /// A folder of the same bucket, with the same spool.
    #[must_use]
    pub fn beside(&self, bucket: Bucket) -> Self {
        Self { root: Arc::clone(&self.root), bucket: Some(bucket), wal: None }
    }

    fn with_spool(dir: &Path, bucket: Option<Bucket>, wal: Option<Arc<Wal>>) -> io::Result<Self> {
        let store = Self { root: dir.into(), bucket, wal };
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

    /// The bucket, when the blobs are in one.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    pub(crate) fn wal(&self) -> Option<&Arc<Wal>> {
        self.wal.as_ref()
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(name(digest))
    }

    /// Starts a blob whose digest is not known yet. It is in no store until it is committed.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        Ok(BlobWriter::new(self.tmp()))
    }

    /// Puts a whole blob, and gives its SHA-256 digest. One that is here is left as it is.
    pub fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let mut batch = Batch::default();
        let digest = self.put_in(&mut batch, bytes)?;
        batch.commit()?;
        Ok(digest)
    }

    /// As [`BlobStore::put`], with a batch.
    pub fn put_in(&self, batch: &mut Batch, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::sha256(bytes);
        if self.size(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        if let Some(wal) = self.wal.as_ref().filter(|_| bytes.len() <= MAX_LOGGED_BYTES) {
            let (path, bytes, spool) = (self.path(&digest), bytes.to_owned(), self.tmp());
            batch.push(wal, Change::File { path, bytes, mode: MODE, spool })?;
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.write_all(bytes)?;
        writer.commit_in(self, &digest, batch)?;
        Ok(digest)
    }

    /// Opens a blob; `None` when it is not here.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<Option<Blob>> {
        if let Some(bucket) = &self.bucket {
            let meta = bucket.head(&name(digest))?;
            let content = || Content::Object(bucket.clone(), name(digest));
            return Ok(meta.map(|meta| Blob { content: content(), size: meta.size }));
        }
        let Some(file) = found(fs::File::open(self.path(digest)))? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some(Blob { content: Content::File(file.into_file()), size }))
    }

    /// The size in bytes; `None` when the blob is not here.
    pub fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match &self.bucket {
            Some(bucket) => Ok(bucket.head(&name(digest))?.map(|meta| meta.size)),
            None => Ok(found(fs::metadata(self.path(digest)))?.map(|metadata| metadata.len())),
        }
    }

    /// When the blob was written; `None` when it is not here.
    pub fn written(&self, digest: &Digest) -> io::Result<Option<SystemTime>> {
        match &self.bucket {
            Some(bucket) => Ok(bucket.head(&name(digest))?.map(|meta| meta.modified)),
            None => found(fs::metadata(self.path(digest)))?.map(|it| it.modified()).transpose(),
        }
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
            Some(_) => match &self.bucket {
                Some(bucket) => Ok(bucket.get(&name(digest))?.map(|(bytes, _)| bytes.to_vec())),
                None => found(fs::read(self.path(digest))),
            },
        }
    }

    /// Removes a blob; `false` when it was not here.
    pub fn delete(&self, digest: &Digest) -> io::Result<bool> {
        match &self.bucket {
            Some(bucket) => bucket.delete(&name(digest)),
            None => {
                let path = self.path(digest);
                self.wal.as_ref().map_or(Ok(()), |wal| wal.clear(&path))?;
                Ok(found(fs::remove_file(path))?.is_some())
            }
        }
    }

    /// Takes over a blob of another store: by hard link on one file system, else by copy.
    ///
    /// `false` when the other store does not have it. A copy is hashed on its way.
    pub(crate) fn adopt_in(
        &self,
        batch: &mut Batch,
        other: &Self,
        digest: &Digest,
    ) -> io::Result<bool> {
        if self.contains(digest)? {
            return Ok(true);
        }
        match (&self.bucket, &other.bucket) {
            (None, None) => {
                if let Some(adopted) = self.link_file(batch, other, digest)? {
                    return Ok(adopted);
                }
            }
            (Some(to), Some(from)) if to.is_same_store(from) => {
                return to.copy_from(from, &name(digest), &name(digest));
            }
            _ => {}
        }
        let Some(blob) = other.open_blob(digest)? else { return Ok(false) };
        let mut writer = self.writer()?;
        io::copy(&mut blob.reader(0)?, &mut writer)?;
        writer.commit_in(self, digest, batch)?;
        Ok(true)
    }

    /// `None` when a link cannot be made here.
    fn link_file(
        &self,
        batch: &mut Batch,
        other: &Self,
        digest: &Digest,
    ) -> io::Result<Option<bool>> {
        let (from, to) = (other.path(digest), self.path(digest));
        if let Some(wal) = &self.wal {
            let Some(metadata) = found(fs::metadata(&from))? else { return Ok(Some(false)) };
            if metadata.dev() != fs::metadata(&self.root)?.dev() {
                return Ok(None);
            }
            batch.push(wal, Change::Link { from, to })?;
            return Ok(Some(true));
        }
        if let Some(folder) = to.parent() {
            create_dir_durable(folder)?;
            match fs::hard_link(&from, &to) {
                Ok(()) => {
                    fs::File::open(folder)?.sync_all()?;
                    return Ok(Some(true));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Ok(Some(true));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(false)),
                // Another file system, too many links, or links are not allowed here: copy.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Every digest that is here, in order.
    pub fn list(&self) -> io::Result<Vec<Digest>> {
        let mut all = Vec::new();
        if let Some(bucket) = &self.bucket {
            for (name, _) in bucket.list("blobs")? {
                let mut parts = name.split('/');
                let (algorithm, hex) = (parts.next(), parts.next_back());
                let text = format!("{}:{}", algorithm.unwrap_or(""), hex.unwrap_or(""));
                all.extend(text.parse::<Digest>().ok());
            }
            all.sort();
            return Ok(all);
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.root.join("blobs").join(algorithm.as_str());
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

/// `blobs/sha256/ab/abcd…`.
pub(crate) fn name(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{}/{hex}", digest.algorithm().as_str(), &hex[..2])
}
