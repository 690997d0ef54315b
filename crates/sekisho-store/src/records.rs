//! Small named values: files in a folder, or objects in a bucket.
//!
//! A name is made of typed parts (digests, tags, repository names, numbers), joined by `/`; none of
//! them can step out of the folder.

mod folder;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fs_err as fs;
use object_store::{PutMode, UpdateVersion};
use sekisho_types::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::folder::Folder;
use crate::atomic::{TEMPORARY_PREFIX, create_dir_durable, found};
use crate::batch::Batch;
use crate::bucket::Bucket;
use crate::json::MAX_RECORD_BYTES;
use crate::wal::{Change, Wal};

/// How many values of a bucket are read at once; each is held in memory, and one of a manifest may have 4 MB.
const READ_AT_ONCE: usize = 16;

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

#[derive(Clone, Debug)]
enum Place {
    Folder(Folder),
    Bucket(Bucket),
}

/// The values below one folder. Cheap to clone. Everything blocks.
#[derive(Clone, Debug)]
pub struct Records(Place);

impl Records {
    /// Values in a folder, made where there is none. One process owns it.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        create_dir_durable(folder)?;
        Ok(Self(Place::Folder(Folder::new(folder, None))))
    }

    /// As [`Records::in_folder`], made durable by a log. The folder lies in one of the log's.
    pub fn logged(folder: &Path, wal: &Arc<Wal>) -> io::Result<Self> {
        create_dir_durable(folder)?;
        Ok(Self(Place::Folder(Folder::new(folder, Some(Arc::clone(wal))))))
    }

    /// Values in a folder that somebody else may own, for reading. Not made when it is not there.
    pub fn existing(folder: &Path) -> Self {
        Self(Place::Folder(Folder::new(folder, None)))
    }

    /// Values in a bucket, which several processes may share.
    pub fn in_bucket(bucket: Bucket) -> Self {
        Self(Place::Bucket(bucket))
    }

    /// The values of a folder below.
    pub fn below(&self, folder: &str) -> io::Result<Self> {
        Ok(Self(match &self.0 {
            Place::Folder(known) => {
                let root = known.root.join(folder);
                create_dir_durable(&root)?;
                Place::Folder(Folder { root, ..known.clone() })
            }
            Place::Bucket(bucket) => Place::Bucket(bucket.below(folder)),
        }))
    }

    /// The file of a value; `None` in a bucket.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        match &self.0 {
            Place::Folder(folder) => Some(folder.root.join(name)),
            Place::Bucket(_) => None,
        }
    }

    /// The bytes of a value; `None` when it is not there.
    ///
    /// # Errors
    /// `InvalidData` when there are more than [`MAX_RECORD_BYTES`].
    pub fn read(&self, name: &str) -> io::Result<Option<Bytes>> {
        match &self.0 {
            Place::Folder(folder) => Ok(folder.read(name)?.map(Bytes::from)),
            Place::Bucket(_) => Ok(self.read_versioned(name)?.map(|(bytes, _)| bytes)),
        }
    }

    /// The bytes of a value, with what [`Records::replace`] asks for.
    ///
    /// # Errors
    /// As [`Records::read`].
    pub fn read_versioned(&self, name: &str) -> io::Result<Option<(Bytes, Version)>> {
        match &self.0 {
            Place::Folder(folder) => {
                let Some(bytes) = folder.read(name)? else { return Ok(None) };
                let version = Version(Stamp::Content(Digest::sha256(&bytes)));
                Ok(Some((bytes.into(), version)))
            }
            Place::Bucket(bucket) => {
                let Some((bytes, version)) = bucket.get(name)? else { return Ok(None) };
                of_record(&bytes, name)?;
                Ok(Some((bytes, Version(Stamp::Object(version)))))
            }
        }
    }

    /// A value that was written as JSON.
    ///
    /// # Errors
    /// As [`Records::read`], and `InvalidData` when it does not parse.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        self.read(name)?.map(|bytes| parsed(&bytes, name)).transpose()
    }

    /// The values of these names that are there, in that order, each read when it is asked for: in a bucket
    /// with those that come next, since what takes time there is to wait.
    ///
    /// # Errors
    /// As [`Records::read_json`].
    pub fn read_each<T: DeserializeOwned>(
        &self,
        names: Vec<String>,
    ) -> impl Iterator<Item = io::Result<T>> + use<T> {
        let (records, mut names) = (self.clone(), names.into_iter());
        let at_once = match &self.0 {
            Place::Folder(_) => 1,
            Place::Bucket(_) => READ_AT_ONCE,
        };
        let some = move || {
            let some: Vec<String> = names.by_ref().take(at_once).collect();
            (!some.is_empty()).then_some(some)
        };
        let read =
            move |names: Vec<String>| records.read_all(&names).unwrap_or_else(|it| vec![Err(it)]);
        std::iter::from_fn(some).flat_map(read)
    }

    fn read_all<T: DeserializeOwned>(&self, names: &[String]) -> io::Result<Vec<io::Result<T>>> {
        let Place::Bucket(bucket) = &self.0 else {
            return Ok(names.iter().filter_map(|name| self.read_json(name).transpose()).collect());
        };
        let all = bucket.get_all(names)?.into_iter().zip(names);
        let read = |(bytes, name): (Option<Bytes>, &String)| {
            Some(of_record(&bytes?, name).and_then(|bytes| parsed(bytes, name)))
        };
        Ok(all.filter_map(read).collect())
    }

    /// Writes a value, durably, whatever is there.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match &self.0 {
            Place::Folder(folder) => folder.write(name, bytes, Keep::Durably),
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
            Place::Folder(folder) => folder.write(name, bytes, Keep::Lightly),
            Place::Bucket(bucket) => bucket.put(name, Bytes::copy_from_slice(bytes)),
        }
    }

    /// As [`Records::write`], with a batch.
    pub fn write_in(&self, batch: &mut Batch, name: &str, bytes: &[u8]) -> io::Result<()> {
        match &self.0 {
            Place::Folder(Folder { root, wal: Some(wal), .. }) => {
                batch.push(wal, Change::record(root.join(name), bytes))
            }
            _ => self.write(name, bytes),
        }
    }

    /// As [`Records::create`], durably and with a batch. Until that is committed nobody else may want the
    /// name.
    pub fn create_in(&self, batch: &mut Batch, name: &str, bytes: &[u8]) -> io::Result<bool> {
        match &self.0 {
            Place::Folder(folder @ Folder { wal: Some(_), .. }) => match folder.read(name)? {
                Some(there) => Ok(there == bytes),
                None => self.write_in(batch, name, bytes).map(|()| true),
            },
            _ => self.create(name, bytes, Keep::Durably),
        }
    }

    /// Writes a value if there is none; `false` when another one is there. The same bytes written
    /// twice are one value.
    pub fn create(&self, name: &str, bytes: &[u8], keep: Keep) -> io::Result<bool> {
        match &self.0 {
            Place::Folder(folder) => {
                let _held = folder.lock(name);
                match folder.read(name)? {
                    Some(there) => Ok(there == bytes),
                    None => folder.write(name, bytes, keep).map(|()| true),
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
            (Place::Folder(folder), _) => {
                let _held = folder.lock(name);
                match self.read_versioned(name)? {
                    Some((_, now)) if now == *version => {
                        folder.write(name, bytes, keep).map(|()| true)
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

    /// Commits a batch and then, durably, a value, if `is_expected` says so of what is there. `false`
    /// when it does not: then, where there is a log, nothing of the batch is written either.
    pub fn swap_after(
        &self,
        mut batch: Batch,
        name: &str,
        bytes: &[u8],
        is_expected: &dyn Fn(Option<&[u8]>) -> bool,
    ) -> io::Result<bool> {
        if let Place::Folder(folder) = &self.0 {
            let _held = folder.lock(name);
            if !is_expected(folder.read(name)?.as_deref()) {
                return Ok(false);
            }
            self.write_in(&mut batch, name, bytes)?;
            return batch.commit().map(|()| true);
        }
        batch.commit()?;
        match self.read_versioned(name)? {
            now if !is_expected(now.as_ref().map(|(bytes, _)| &bytes[..])) => Ok(false),
            None => self.create(name, bytes, Keep::Durably),
            Some((_, version)) => self.replace(name, bytes, &version, Keep::Durably),
        }
    }

    /// Removes a value so that it stays removed; `false` when there was none.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match &self.0 {
            Place::Folder(folder) => {
                let _held = folder.lock(name);
                let path = folder.root.join(name);
                folder.wal.as_ref().map_or(Ok(()), |wal| wal.clear(&path))?;
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
            Place::Folder(known) => {
                // Some of it may be about to get another name elsewhere.
                known.wal.as_ref().map_or(Ok(()), |wal| wal.settle())?;
                found(fs::remove_dir_all(known.root.join(folder))).map(drop)
            }
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
            Place::Folder(Folder { root, .. }) => {
                found(fs::metadata(root.join(name)))?.map(|it| it.modified()).transpose()
            }
            Place::Bucket(bucket) => Ok(bucket.head(name)?.map(|meta| meta.modified)),
        }
    }

    /// Whether there is such a value.
    pub fn exists(&self, name: &str) -> io::Result<bool> {
        match &self.0 {
            Place::Folder(Folder { root, .. }) => {
                Ok(found(fs::metadata(root.join(name)))?.is_some())
            }
            Place::Bucket(bucket) => Ok(bucket.head(name)?.is_some()),
        }
    }

    /// The names directly in a folder, of values and folders, in byte order.
    pub fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        match &self.0 {
            Place::Folder(Folder { root, .. }) => {
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

fn of_record<'a>(bytes: &'a Bytes, name: &str) -> io::Result<&'a [u8]> {
    if bytes.len() as u64 > MAX_RECORD_BYTES {
        return Err(bad(name, "it is larger than 16 MiB"));
    }
    Ok(bytes)
}

fn parsed<T: DeserializeOwned>(bytes: &[u8], name: &str) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(|error| bad(name, &error.to_string()))
}

fn bad(name: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("record `{name}`: {what}"))
}
