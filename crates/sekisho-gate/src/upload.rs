//! Uploads under way.
//!
//! ```text
//!  begin ─▶ idle ─receive─▶ busy ─▶ idle ─▶ … ─▶ finish: staged
//!             └──────────── cancel, an hour without a byte, restart: gone
//! ```
//!
//! In a bucket, an upload survives a restart and goes on at any replica ([`session`]): what a request
//! brought is an object before it is answered.
//!
//! The bytes go from the socket through a bounded queue to one thread that hashes and writes them,
//! and passes them on to the inspector: memory does not grow with an upload.

pub(crate) mod pace;
mod session;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sekisho_store::{BlobStore, BlobWriter, Bucket, CommitError, Repositories};
use sekisho_types::{Digest, RepositoryName};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::analysis::{Analyses, Tee};
use crate::error::{ApiError, ApiResult, Code, OrFail as _};
use crate::staging::Scope;

use self::session::{Sessions, Shared};

/// Most uploads at once. Each holds a temporary file, and while it is a layer a thread.
const MAX_UPLOADS: usize = 256;

/// An upload without a byte for this long is gone.
const MAX_IDLE: SignedDuration = SignedDuration::from_hours(1);

/// How many pieces that came may wait to be written. A piece has 64 KiB at most, and there may be as many
/// of these as there are uploads.
const WAITING_PIECES: usize = 1;

/// Largest blob, in bytes: above the largest layers in use (models of tens of GB).
const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// The same in a bucket: S3 copies no more in one go, and what was let pass is copied to its place.
/// Source: AWS, CopyObject.
const MAX_BUCKET_BLOB_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// An upload, known by its id to the run that began it.
pub(crate) struct Upload {
    pub(crate) id: Uuid,
    owner: Scope,
    repository: RepositoryName,
    offset: AtomicU64,
    state: Mutex<State>,
    sessions: Option<Arc<Sessions>>,
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
    /// What other replicas know, when there are any.
    shared: Option<Shared>,
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
        let (sender, mut pieces) = mpsc::channel::<Bytes>(WAITING_PIECES);
        let (this, analyses) = (Arc::clone(self), analyses.clone());
        let work = move || {
            let mut take_in = || -> io::Result<()> {
                content.catch_up(this.sessions.as_deref(), &analyses)?;
                while let Some(piece) = pieces.blocking_recv() {
                    content.append(&piece, &analyses)?;
                    this.offset.store(content.writer.written(), Ordering::Release);
                }
                content.share(this.sessions.as_deref(), now)
            };
            let result = take_in();
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
    /// Takes in what came at other replicas.
    fn catch_up(&mut self, sessions: Option<&Sessions>, analyses: &Analyses) -> io::Result<()> {
        let (Some(sessions), Some(shared)) = (sessions, self.shared.take()) else { return Ok(()) };
        for piece in sessions.missing(&shared, self.writer.written()) {
            self.append(&piece?, analyses)?;
        }
        self.shared = Some(shared);
        Ok(())
    }

    /// Gives what came here to other replicas.
    fn share(&mut self, sessions: Option<&Sessions>, now: Timestamp) -> io::Result<()> {
        match (sessions, &mut self.shared) {
            (Some(sessions), Some(shared)) => sessions.add(shared, &mut self.writer, now),
            _ => Ok(()),
        }
    }

    fn append(&mut self, piece: &Bytes, analyses: &Analyses) -> io::Result<()> {
        if let (Inspection::Waiting, Some(first)) = (&self.tee, piece.first()) {
            // JSON is no layer; should a tar begin with a brace, it is analysed at the manifest.
            self.tee = match first {
                b'{' => Inspection::None,
                _ => analyses.begin()?.map_or(Inspection::None, Inspection::Running),
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
    sessions: Option<Arc<Sessions>>,
    open: Mutex<HashMap<Uuid, Arc<Upload>>>,
}

impl Uploads {
    /// Uploads in a folder do not survive a restart: what they left is removed here.
    pub(crate) fn open(dir: &Path, bucket: Option<Bucket>) -> io::Result<Self> {
        let sessions = bucket.map(|bucket| Arc::new(Sessions::new(bucket)));
        Ok(Self { store: BlobStore::open(dir)?, sessions, open: Mutex::default() })
    }

    /// Largest blob that is taken in, in bytes.
    pub(crate) fn max_blob_bytes(&self) -> u64 {
        if self.is_shared() { MAX_BUCKET_BLOB_BYTES } else { MAX_BLOB_BYTES }
    }

    /// Whether requests of one upload may come to different gates: then looking for it blocks.
    pub(crate) fn is_shared(&self) -> bool {
        self.sessions.is_some()
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
        let id = Uuid::new_v4();
        let begin = |sessions: &Arc<Sessions>| sessions.begin(id, &owner, &repository, now);
        let shared = self.sessions.as_ref().map(begin).transpose();
        let shared = shared.or_fail("starting an upload")?;
        self.enter(id, owner, repository, shared, now)
    }

    /// Remembers an upload; blocks.
    fn enter(
        &self,
        id: Uuid,
        owner: Scope,
        repository: RepositoryName,
        shared: Option<Shared>,
        now: Timestamp,
    ) -> ApiResult<Arc<Upload>> {
        let writer = self.store.writer().or_fail("starting an upload")?;
        let offset = shared.as_ref().map_or(0, Shared::end);
        let content = Some(Content { writer, tee: Inspection::Waiting, shared });
        let upload = Arc::new(Upload {
            id,
            owner,
            repository,
            offset: AtomicU64::new(offset),
            state: Mutex::new(State { content, failed: false, touched: now }),
            sessions: self.sessions.clone(),
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

    /// The upload of this id, if this run began it for this repository. Blocks when it is shared.
    pub(crate) fn get(
        &self,
        id: Option<Uuid>,
        owner: &Scope,
        repository: &RepositoryName,
        now: Timestamp,
    ) -> ApiResult<Arc<Upload>> {
        let unknown = || ApiError::new(Code::BlobUploadUnknown, "there is no such upload");
        let id = id.ok_or_else(unknown)?;
        let here = self.lock().get(&id).cloned();
        let here = here.filter(|it| it.owner == *owner && it.repository == *repository);
        let Some(sessions) = &self.sessions else { return here.ok_or_else(unknown) };
        let shared = sessions.get(id, owner, repository).or_fail("looking for an upload")?;
        let shared = shared.ok_or_else(unknown)?;
        match here {
            // A request that is under way has the newest bytes, and the last word.
            Some(here) if here.offset() >= shared.end() => Ok(here),
            _ => self.enter(id, owner.clone(), repository.clone(), Some(shared), now),
        }
    }

    /// Forgets an upload here. What it shared stays until it expires.
    pub(crate) fn forget(&self, upload: &Upload) {
        self.lock().remove(&upload.id);
    }

    /// Ends an upload without its blob, for all. Blocks when it is shared.
    pub(crate) fn cancel(&self, upload: &Upload) {
        self.forget(upload);
        if let Some(sessions) = &self.sessions
            && let Err(error) = sessions.end(upload.id)
        {
            tracing::warn!("upload not removed: {error}");
        }
    }

    /// Ends an upload: verifies the digest, stages the blob, keeps the analysis. Blocks.
    pub(crate) fn finish(
        &self,
        upload: &Upload,
        digest: &Digest,
        staging: &Repositories,
        analyses: &Analyses,
    ) -> ApiResult<()> {
        let mut content = upload.take()?;
        self.forget(upload);
        let caught_up = content.catch_up(self.sessions.as_deref(), analyses);
        caught_up.or_fail("storing a blob")?;
        let committed = staging.commit(&upload.repository, content.writer, digest);
        // What was shared is of use only to one who comes again because it could not be stored.
        if !matches!(committed, Err(CommitError::Io(_))) {
            self.cancel(upload);
        }
        committed.map_err(|error| match error {
            CommitError::Mismatch { .. } => ApiError::new(Code::DigestInvalid, error.to_string()),
            CommitError::Io(error) => ApiError::io("storing a blob", &error),
        })?;
        if let Inspection::Running(tee) = content.tee
            && let Some(value) = tee.finish()
        {
            analyses.keep(digest, &value).or_fail("keeping an analysis")?;
        }
        Ok(())
    }

    /// Removes what was shared of uploads that nobody continues. Blocks.
    pub(crate) fn expire_shared(&self, now: Timestamp) -> io::Result<()> {
        self.sessions.as_ref().map_or(Ok(()), |sessions| sessions.expire(now, MAX_IDLE))
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
