//! Content on disk: uploaded in blocks, kept in them.
//!
//! ```text
//! <dir>/<blob>/0, 1, 2 …     what requests brought, each written once
//! <dir>/<blob>/content.json  which of them, in which order, are the content
//! ```
//!
//! A list of blocks thereby costs nothing, whatever the size. A blob without `content.json` is an
//! upload that is not over: it does not survive the process, and its folder is removed at start.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sekisho_github::wire::azure::{self, From};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::store::{read_json, write_atomically};

/// The list of a blob's segments.
const CONTENT: &str = "content.json";

/// All blobs.
#[derive(Debug)]
pub(crate) struct Blobs {
    dir: PathBuf,
    /// Uploads that are not over.
    uploads: Mutex<BTreeMap<Uuid, Upload>>,
}

#[derive(Debug)]
struct Upload {
    max_bytes: u64,
    /// Of all segments that are kept, and of those that are being written.
    bytes: u64,
    next_file: u64,
    /// In no list yet, by block id.
    staged: BTreeMap<String, Segment>,
    /// The content so far: block id, unless it has none, and segment.
    content: Option<Vec<(String, Segment)>>,
}

/// A file of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Segment {
    file: u64,
    bytes: u64,
}

/// A finished blob. This is also the form on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    segments: Vec<Segment>,
    pub(crate) size_bytes: u64,
    pub(crate) finished_at: Timestamp,
}

/// A part of a file: where, from which byte, how many.
pub(crate) type Piece = (PathBuf, u64, u64);

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    /// There is no such upload, or it is over.
    #[error("the upload is over")]
    Over,
    /// Over its limit.
    #[error("it would be larger than {0} bytes")]
    TooLarge(u64),
    /// Too many blocks.
    #[error("it has more than {} blocks", azure::MAX_BLOCKS)]
    TooMany,
    /// The list names a block that was not uploaded.
    #[error("the list names a block that there is not")]
    UnknownBlock,
    /// Nothing was uploaded.
    #[error("nothing was uploaded")]
    Empty,
    /// The content is not what its size or digest says.
    #[error("{found} was uploaded, not {wanted}")]
    Mismatch {
        /// What was said.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// It was written to while it was looked at.
    #[error("the upload goes on")]
    Changed,
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Blobs {
    /// Makes the folder, and removes all that is in it but `known`.
    pub(crate) fn open(dir: PathBuf, known: &BTreeSet<Uuid>) -> io::Result<Self> {
        fs_err::create_dir_all(&dir)?;
        for entry in fs_err::read_dir(&dir)? {
            let entry = entry?;
            let blob = entry.file_name().to_str().and_then(|name| name.parse::<Uuid>().ok());
            if blob.is_some_and(|blob| !known.contains(&blob)) {
                fs_err::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { dir, uploads: Mutex::default() })
    }

    fn folder(&self, blob: Uuid) -> PathBuf {
        self.dir.join(blob.simple().to_string())
    }

    fn uploads(&self) -> MutexGuard<'_, BTreeMap<Uuid, Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an upload that is not over.
    fn with<R>(
        &self,
        blob: Uuid,
        change: impl FnOnce(&mut Upload) -> Result<R, BlobError>,
    ) -> Result<R, BlobError> {
        change(self.uploads().get_mut(&blob).ok_or(BlobError::Over)?)
    }

    /// Begins an upload of at most `max_bytes`.
    pub(crate) fn begin(&self, max_bytes: u64) -> io::Result<Uuid> {
        let blob = Uuid::new_v4();
        fs_err::create_dir(self.folder(blob))?;
        let (staged, content) = (BTreeMap::new(), None);
        let upload = Upload { max_bytes, bytes: 0, next_file: 0, staged, content };
        self.uploads().insert(blob, upload);
        Ok(blob)
    }

    /// A file to write a request's body to.
    pub(crate) fn new_file(&self, blob: Uuid) -> Result<(u64, PathBuf), BlobError> {
        let file = self.with(blob, |upload| {
            if upload.staged.len() >= azure::MAX_BLOCKS {
                return Err(BlobError::TooMany);
            }
            upload.next_file += 1;
            Ok(upload.next_file)
        })?;
        Ok((file, self.folder(blob).join(file.to_string())))
    }

    /// Asks for room before it is written to.
    pub(crate) fn grow(&self, blob: Uuid, bytes: u64) -> Result<(), BlobError> {
        self.with(blob, |upload| {
            let grown = upload.bytes.saturating_add(bytes);
            if grown > upload.max_bytes {
                return Err(BlobError::TooLarge(upload.max_bytes));
            }
            upload.bytes = grown;
            Ok(())
        })
    }

    /// Removes a file whose body did not arrive, and gives its room back.
    pub(crate) fn discard(&self, blob: Uuid, file: u64, bytes: u64) {
        let _ = self.with(blob, |upload| {
            upload.bytes = upload.bytes.saturating_sub(bytes);
            Ok(())
        });
        // The upload may be gone with its folder.
        let _ = fs_err::remove_file(self.folder(blob).join(file.to_string()));
    }

    /// The body is the whole blob.
    pub(crate) fn put(&self, blob: Uuid, file: u64, bytes: u64) -> Result<(), BlobError> {
        let content = vec![(String::new(), Segment { file, bytes })];
        let put = self.replace(blob, |_| Ok(content));
        put.inspect_err(|_| self.discard(blob, file, bytes))
    }

    /// The body is a block. Blocking, as all that follow.
    pub(crate) fn stage(
        &self,
        blob: Uuid,
        id: &str,
        file: u64,
        bytes: u64,
    ) -> Result<(), BlobError> {
        let segment = Segment { file, bytes };
        let staged = self.with(blob, |upload| Ok(upload.staged.insert(id.to_owned(), segment)));
        if let Some(old) = staged.inspect_err(|_| self.discard(blob, file, bytes))? {
            self.discard(blob, old.file, old.bytes);
        }
        Ok(())
    }

    /// The body goes to the end.
    pub(crate) fn append(&self, blob: Uuid, file: u64, bytes: u64) -> Result<(), BlobError> {
        let appended = self.with(blob, |upload| {
            let content = upload.content.get_or_insert_default();
            if content.len() >= azure::MAX_BLOCKS {
                return Err(BlobError::TooMany);
            }
            content.push((String::new(), Segment { file, bytes }));
            Ok(())
        });
        appended.inspect_err(|_| self.discard(blob, file, bytes))
    }

    /// The blob is these blocks, in this order.
    pub(crate) fn commit(&self, blob: Uuid, list: &[(From, &str)]) -> Result<(), BlobError> {
        self.replace(blob, |upload| {
            let committed: BTreeMap<&str, Segment> =
                upload.content.iter().flatten().map(|(id, segment)| (&**id, *segment)).collect();
            let find = |(from, id): &(From, &str)| {
                let staged = upload.staged.get(*id).copied();
                let committed = committed.get(id).copied();
                let segment = match from {
                    From::Latest => staged.or(committed),
                    From::Committed => committed,
                    From::Uncommitted => staged,
                };
                segment.map(|segment| ((*id).to_owned(), segment)).ok_or(BlobError::UnknownBlock)
            };
            list.iter().map(find).collect()
        })
    }

    /// Replaces the content and removes the files that are no longer needed.
    fn replace(
        &self,
        blob: Uuid,
        content: impl FnOnce(&Upload) -> Result<Vec<(String, Segment)>, BlobError>,
    ) -> Result<(), BlobError> {
        let unused = self.with(blob, |upload| {
            let new = content(upload)?;
            let mut unused: BTreeSet<Segment> =
                std::mem::take(&mut upload.staged).into_values().collect();
            unused.extend(upload.content.iter().flatten().map(|(_, segment)| *segment));
            for (_, segment) in &new {
                unused.remove(segment);
            }
            upload.content = Some(new);
            Ok(unused)
        })?;
        for segment in unused {
            self.discard(blob, segment.file, segment.bytes);
        }
        Ok(())
    }

    /// The upload is over. What was uploaded must have this size, and this digest if one is given;
    /// else the upload goes on.
    pub(crate) fn finish(
        &self,
        blob: Uuid,
        size: u64,
        sha256: Option<&str>,
        now: Timestamp,
    ) -> Result<Content, BlobError> {
        let segments: Vec<Segment> = self.with(blob, |upload| {
            let content = upload.content.as_ref().ok_or(BlobError::Empty)?;
            Ok(content.iter().map(|(_, segment)| *segment).collect())
        })?;
        let found: u64 = segments.iter().map(|segment| segment.bytes).sum();
        if found != size {
            let (wanted, found) = (format!("{size} bytes"), format!("{found} bytes"));
            return Err(BlobError::Mismatch { wanted, found });
        }
        let content = Content { segments, size_bytes: size, finished_at: now };
        if let Some(wanted) = sha256 {
            let found = self.hash(blob, &content)?;
            if !found.eq_ignore_ascii_case(wanted) {
                let (wanted, found) = (format!("sha256:{wanted}"), format!("sha256:{found}"));
                return Err(BlobError::Mismatch { wanted, found });
            }
        }
        for segment in self.take(blob, &content)?.staged.into_values() {
            let _ = fs_err::remove_file(self.folder(blob).join(segment.file.to_string()));
        }
        let folder = self.folder(blob);
        for segment in &content.segments {
            fs_err::File::open(folder.join(segment.file.to_string()))?.sync_all()?;
        }
        let json = serde_json::to_vec(&content).map_err(io::Error::other)?;
        write_atomically(&folder.join(CONTENT), &json)?;
        Ok(content)
    }

    /// Ends the upload, unless somebody wrote since we looked.
    fn take(&self, blob: Uuid, seen: &Content) -> Result<Upload, BlobError> {
        let mut uploads = self.uploads();
        let now = uploads.get(&blob).ok_or(BlobError::Over)?.content.iter().flatten();
        if !now.map(|(_, segment)| segment).eq(seen.segments.iter()) {
            return Err(BlobError::Changed);
        }
        uploads.remove(&blob).ok_or(BlobError::Over)
    }

    fn hash(&self, blob: Uuid, content: &Content) -> io::Result<String> {
        let mut hasher = Sha256::new();
        for segment in &content.segments {
            let path = self.folder(blob).join(segment.file.to_string());
            io::copy(&mut fs_err::File::open(path)?, &mut hasher)?;
        }
        Ok(hex::encode(hasher.finalize()))
    }

    /// A finished blob. `None` if there is none.
    pub(crate) fn content(&self, blob: Uuid) -> io::Result<Option<Content>> {
        read_json(&self.folder(blob).join(CONTENT))
    }

    /// Where these bytes of a finished blob are.
    pub(crate) fn pieces(&self, blob: Uuid, content: &Content, first: u64, end: u64) -> Vec<Piece> {
        pieces(&self.folder(blob), &content.segments, first, end)
    }

    /// Removes a blob, finished or not.
    pub(crate) fn remove(&self, blob: Uuid) {
        self.uploads().remove(&blob);
        let folder = self.folder(blob);
        // First what makes it a blob: if the rest stays, the next start removes it.
        let _ = fs_err::remove_file(folder.join(CONTENT));
        if let Err(error) = fs_err::remove_dir_all(folder) {
            tracing::warn!("the blob {blob} cannot be removed: {error}");
        }
    }
}

fn pieces(folder: &Path, segments: &[Segment], first: u64, end: u64) -> Vec<Piece> {
    let mut at = 0;
    let mut pieces = Vec::new();
    for segment in segments {
        let (from, to) = (first.max(at), end.min(at + segment.bytes));
        if from < to {
            pieces.push((folder.join(segment.file.to_string()), from - at, to - from));
        }
        at += segment.bytes;
    }
    pieces
}

#[cfg(test)]
mod tests;
