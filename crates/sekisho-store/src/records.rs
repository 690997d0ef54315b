//! Small named values: files in a folder, or objects in a bucket.
//!
//! A name is made of typed parts (digests, tags, repository names, numbers), joined by `/`; none of
//! them can step out of the folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use fs_err as fs;
use object_store::{PutMode, UpdateVersion};
use sekisho_types::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::{TEMPORARY_PREFIX, create_dir_durable, found, note_atomic, write_atomic};
use crate::bucket::Bucket;
use crate::json::MAX_RECORD_BYTES;

/// What a value was when it was read, for [`Records::replace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Stamp);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stamp {
    /// One process owns a folder, so the content is all there is to compare.
    Content(Digest),
    Object(UpdateVersion),
}

/// What a power cut may do to a value in a folder. A crash of the process never harms one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Durably,
    /// Lose it: it can be made again.
    Lightly,
}

impl Keep {
    fn write(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Durably => write_atomic(path, bytes, false),
            Self::Lightly => note_atomic(path, bytes),
        }
    }
}

#[derive(Clone, Debug)]
enum Place {
    /// The lock keeps a comparison and the write after it together.
    Folder(PathBuf, Arc<Mutex<()>>),
    Bucket(Bucket),
}

/// The values below one folder. Cheap to clone. Everything blocks.
#[derive(Clone, Debug)]
pub struct Records(Place);

impl Records {
    /// Values in a folder, made where there is none. One process owns it.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        create_dir_durable(folder)?;
        Ok(Self(Place::Folder(folder.to_owned(), Arc::default())))
    }

    /// Values in a folder that somebody else may own, for reading. Not made when it is not there.
    pub fn existing(folder: &Path) -> Self {
        Self(Place::Folder(folder.to_owned(), Arc::default()))
    }

    /// Values in a bucket, which several processes may share.
    pub fn in_bucket(bucket: Bucket) -> Self {
        Self(Place::Bucket(bucket))
    }

    /// The values of a folder below.
    pub fn below(&self, folder: &str) -> io::Result<Self> {
        Ok(Self(match &self.0 {
            Place::Folder(root, lock) => {
                let below = root.join(folder);
                create_dir_durable(&below)?;
                Place::Folder(below, Arc::clone(lock))
            }
            Place::Bucket(bucket) => Place::Bucket(bucket.below(folder)),
        }))
    }

    /// The bytes of a value; `None` when it is not there.
    ///
    /// # Errors
    /// `InvalidData` when there are more than [`MAX_RECORD_BYTES`].
    pub fn read(&self, name: &str) -> io::Result<Option<Bytes>> {
        Ok(self.read_versioned(name)?.map(|(bytes, _)| bytes))
    }

    /// The bytes of a value, with what [`Records::replace`] asks for.
    ///
    /// # Errors
    /// As [`Records::read`].
    pub fn read_versioned(&self, name: &str) -> io::Result<Option<(Bytes, Version)>> {
        match &self.0 {
            Place::Folder(root, _) => {
                let path = root.join(name);
                let Some(metadata) = found(fs::metadata(&path))? else { return Ok(None) };
                if !metadata.is_file() {
                    return Ok(None);
                }
                if metadata.len() > MAX_RECORD_BYTES {
                    return Err(bad(name, "it is larger than 16 MiB"));
                }
                let Some(bytes) = found(fs::read(&path))? else { return Ok(None) };
                let version = Version(Stamp::Content(Digest::sha256(&bytes)));
                Ok(Some((bytes.into(), version)))
            }
            Place::Bucket(bucket) => {
                let Some((bytes, version)) = bucket.get(name)? else { return Ok(None) };
                if bytes.len() as u64 > MAX_RECORD_BYTES {
                    return Err(bad(name, "it is larger than 16 MiB"));
                }
                Ok(Some((bytes, Version(Stamp::Object(version)))))
            }
        }
    }

    /// A value that was written as JSON.
    ///
    /// # Errors
    /// As [`Records::read`], and `InvalidData` when it does not parse.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(name, &error.to_string()))
    }

    /// Writes a value, durably, whatever is there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match &self.0 {
            Place::Folder(root, _) => write_atomic(&root.join(name), bytes, false),
            Place::Bucket(bucket) => bucket.put(name, Bytes::copy_from_slice(bytes)),
        }
    }

    /// As [`Records::write`], as JSON.
    pub fn write_json<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> io::Result<()> {
        self.write(name, &serde_json::to_vec(value).map_err(io::Error::other)?)
    }

    /// Writes what may be made again: all or nothing, but a power cut may lose it.
    pub fn note(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match &self.0 {
            Place::Folder(root, _) => note_atomic(&root.join(name), bytes),
            Place::Bucket(bucket) => bucket.put(name, Bytes::copy_from_slice(bytes)),
        }
    }

    /// Writes a value if there is none; `false` when another one is there. The same bytes written
    /// twice are one value.
    pub fn create(&self, name: &str, bytes: &[u8], keep: Keep) -> io::Result<bool> {
        match &self.0 {
            Place::Folder(root, lock) => {
                let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
                match found(fs::read(root.join(name)))? {
                    Some(there) => Ok(there == bytes),
                    None => keep.write(&root.join(name), bytes).map(|()| true),
                }
            }
            Place::Bucket(bucket) => {
                bucket.put_if(name, Bytes::copy_from_slice(bytes), PutMode::Create)
            }
        }
    }

    /// Writes a value if it is still what was read; `false` when it is not.
    pub fn replace(
        &self,
        name: &str,
        bytes: &[u8],
        version: &Version,
        keep: Keep,
    ) -> io::Result<bool> {
        match (&self.0, &version.0) {
            (Place::Folder(root, lock), _) => {
                let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
                match self.read_versioned(name)? {
                    Some((_, now)) if now == *version => {
                        keep.write(&root.join(name), bytes).map(|()| true)
                    }
                    _ => Ok(false),
                }
            }
            (Place::Bucket(bucket), Stamp::Object(version)) => {
                let mode = PutMode::Update(version.clone());
                bucket.put_if(name, Bytes::copy_from_slice(bytes), mode)
            }
            // A version of another place.
            (Place::Bucket(_), Stamp::Content(_)) => Ok(false),
        }
    }

    /// Removes a value so that it stays removed; `false` when there was none.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match &self.0 {
            Place::Folder(root, _) => {
                let path = root.join(name);
                if found(fs::remove_file(&path))?.is_none() {
                    return Ok(false);
                }
                if let Some(folder) = path.parent() {
                    fs::File::open(folder)?.sync_all()?;
                }
                Ok(true)
            }
            Place::Bucket(bucket) => bucket.delete(name),
        }
    }

    /// Removes everything below a folder.
    pub fn remove_all(&self, folder: &str) -> io::Result<()> {
        match &self.0 {
            Place::Folder(root, _) => found(fs::remove_dir_all(root.join(folder))).map(drop),
            Place::Bucket(bucket) => {
                for (name, _) in bucket.list(folder)? {
                    bucket.delete(&format!("{folder}/{name}"))?;
                }
                Ok(())
            }
        }
    }

    /// When a value was written; `None` when it is not there.
    pub fn modified(&self, name: &str) -> io::Result<Option<SystemTime>> {
        match &self.0 {
            Place::Folder(root, _) => {
                found(fs::metadata(root.join(name)))?.map(|it| it.modified()).transpose()
            }
            Place::Bucket(bucket) => Ok(bucket.head(name)?.map(|meta| meta.modified)),
        }
    }

    /// Whether there is such a value.
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        match &self.0 {
            Place::Folder(root, _) => Ok(found(fs::metadata(root.join(name)))?.is_some()),
            Place::Bucket(bucket) => Ok(bucket.head(name)?.is_some()),
        }
    }

    /// The names directly in a folder, of values and folders, in byte order.
    pub fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        match &self.0 {
            Place::Folder(root, _) => {
                let Some(entries) = found(fs::read_dir(root.join(folder)))? else {
                    return Ok(Vec::new());
                };
                let mut names = Vec::new();
                for entry in entries {
                    // A name that is not UTF-8 is not ours.
                    let name = entry?.file_name().into_string().ok();
                    names.extend(name.filter(|name| !name.starts_with(TEMPORARY_PREFIX)));
                }
                names.sort();
                Ok(names)
            }
            Place::Bucket(bucket) => bucket.names(folder),
        }
    }

    /// The values directly in a folder, with the time when each was written. In order.
    pub fn times(&self, folder: &str) -> io::Result<Vec<(String, SystemTime)>> {
        match &self.0 {
            Place::Folder(..) => {
                let mut all = Vec::new();
                for name in self.names(folder)? {
                    // One that goes away meanwhile was deleted.
                    if let Some(modified) = self.modified(&format!("{folder}/{name}"))? {
                        all.push((name, modified));
                    }
                }
                Ok(all)
            }
            Place::Bucket(bucket) => {
                let direct = |(name, _): &(String, _)| !name.contains('/');
                let listed = bucket.list(folder)?.into_iter().filter(direct);
                Ok(listed.map(|(name, meta)| (name, meta.modified)).collect())
            }
        }
    }
}

fn bad(name: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("record `{name}`: {what}"))
}
