//! Uploads under way.
//!
//! ```text
//!  begin ─▶ idle ─receive─▶ busy ─▶ idle ─▶ … ─▶ finish: staged
//!             └──────────── cancel, an hour without a byte, restart: gone
//! ```
//!
//! The bytes go from the socket through a bounded queue to one thread that hashes and writes them,
//! and passes them on to the inspector: memory does not grow with an upload.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sekisho_store::{BlobStore, BlobWriter, CommitError, Repositories};
use sekisho_types::{Digest, RepositoryName};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::analysis::{Analyses, Tee};
use crate::error::{ApiError, ApiResult, Code, OrFail as _};
use crate::staging::Scope;

/// Most uploads at once. Each holds a temporary file, and while it is a layer a thread.
const MAX_UPLOADS: usize = 256;

/// An upload without a byte for this long is gone.
const MAX_IDLE: SignedDuration = SignedDuration::from_hours(1);

/// Largest blob, in bytes: above the largest layers in use (models of tens of GB).
pub(crate) const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// An upload, known by its id to the run that began it.
pub(crate) struct Upload {
    pub(crate) id: Uuid,
    owner: Scope,
    repository: RepositoryName,
    offset: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// `None` while a request works on it, and when it is over.
    content: Option<Content>,
    /// The disk did not take its bytes: it cannot go on.
    failed: bool,
    touched: Timestamp,
}

/// What was received so far.
struct Content {
    writer: BlobWriter,
    tee: Inspection,
}

enum Inspection {
    /// No byte has come yet.
    Waiting,
    Running(Tee),
    /// What came is no layer.
    None,
}

impl Upload {
    /// How many bytes have come.
    pub(crate) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> ApiResult<Content> {
        let mut state = self.lock();
        state.content.take().ok_or_else(|| match state.failed {
            true => ApiError::new(Code::BlobUploadUnknown, "the upload failed: begin a new one"),
            false => ApiError::new(Code::BlobUploadInvalid, "another request uses this upload"),
        })
    }

    /// Starts to receive bytes: what is sent to the channel is appended.
    ///
    /// The task ends when the sender is dropped, also when its client was cut off: what came until
    /// then stays, and the client may ask for the offset and go on.
    pub(crate) fn receive(
        self: &Arc<Self>,
        analyses: &Analyses,
        now: Timestamp,
    ) -> ApiResult<(mpsc::Sender<Bytes>, tokio::task::JoinHandle<io::Result<()>>)> {
        let mut content = self.take()?;
        let (sender, mut pieces) = mpsc::channel::<Bytes>(4);
        let (this, analyses) = (Arc::clone(self), analyses.clone());
        let work = move || {
            let result = loop {
                let Some(piece) = pieces.blocking_recv() else { break Ok(()) };
                if let Err(error) = content.append(&piece, &analyses) {
                    break Err(error);
                }
                this.offset.store(content.writer.written(), Ordering::Release);
            };
            let mut state = this.lock();
            state.touched = now;
            state.failed = result.is_err();
            // What failed is dropped, and with it its temporary file.
            state.content = result.is_ok().then_some(content);
            result
        };
        Ok((sender, tokio::task::spawn_blocking(work)))
    }
}

impl Content {
    fn append(&mut self, piece: &Bytes, analyses: &Analyses) -> io::Result<()> {
        if let (Inspection::Waiting, Some(first)) = (&self.tee, piece.first()) {
            // JSON is no layer; should a tar begin with a brace, it is analysed at the manifest.
            self.tee = match first {
                b'{' => Inspection::None,
                _ => Inspection::Running(analyses.begin()?),
            };
        }
        if let Inspection::Running(tee) = &mut self.tee {
            tee.send(piece);
        }
        self.writer.write_all(piece)
    }
}

/// All uploads under way.
pub(crate) struct Uploads {
    store: BlobStore,
    open: Mutex<HashMap<Uuid, Arc<Upload>>>,
}

impl Uploads {
    /// Uploads do not survive a restart: what they left is removed here.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { store: BlobStore::open(dir)?, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Upload>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(
        &self,
        owner: Scope,
        repository: RepositoryName,
        now: Timestamp,
    ) -> ApiResult<Arc<Upload>> {
        let writer = self.store.writer().or_fail("starting an upload")?;
        let content = Some(Content { writer, tee: Inspection::Waiting });
        let upload = Arc::new(Upload {
            id: Uuid::new_v4(),
            owner,
            repository,
            offset: AtomicU64::new(0),
            state: Mutex::new(State { content, failed: false, touched: now }),
        });
        if self.lock().len() >= MAX_UPLOADS {
            self.expire(now);
        }
        let mut open = self.lock();
        if open.len() >= MAX_UPLOADS {
            return Err(ApiError::new(Code::TooManyRequests, "too many uploads are under way"));
        }
        open.insert(upload.id, Arc::clone(&upload));
        Ok(upload)
    }

    /// The upload of this id, if this run began it for this repository.
    pub(crate) fn get(
        &self,
        id: Option<Uuid>,
        owner: &Scope,
        repository: &RepositoryName,
    ) -> ApiResult<Arc<Upload>> {
        id.and_then(|id| self.lock().get(&id).cloned())
            .filter(|upload| upload.owner == *owner && upload.repository == *repository)
            .ok_or_else(|| ApiError::new(Code::BlobUploadUnknown, "there is no such upload"))
    }

    /// Ends an upload without its blob.
    pub(crate) fn cancel(&self, upload: &Upload) {
        self.lock().remove(&upload.id);
    }

    /// Ends an upload: verifies the digest, stages the blob, keeps the analysis. Blocks.
    pub(crate) fn finish(
        &self,
        upload: &Upload,
        digest: &Digest,
        staging: &Repositories,
        analyses: &Analyses,
    ) -> ApiResult<()> {
        let content = upload.take()?;
        self.cancel(upload);
        content.writer.commit(staging.blobs(), Some(digest)).map_err(|error| match error {
            CommitError::Mismatch { .. } => ApiError::new(Code::DigestInvalid, error.to_string()),
            CommitError::Io(error) => ApiError::io("storing a blob", &error),
        })?;
        staging.link(&upload.repository, digest).or_fail("staging a blob")?;
        if let Inspection::Running(tee) = content.tee
            && let Some(value) = tee.finish()
        {
            analyses.keep(digest, &value).or_fail("keeping an analysis")?;
        }
        Ok(())
    }

    /// Forgets uploads that nobody continues.
    pub(crate) fn expire(&self, now: Timestamp) {
        self.lock().retain(|_, upload| {
            let state = upload.lock();
            // Busy ones have a client.
            !state.failed
                && (state.content.is_none() || now.duration_since(state.touched) <= MAX_IDLE)
        });
    }
}
