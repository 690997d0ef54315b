//! What the inspector said about layers, kept by digest and inspector version.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::{Buf as _, Bytes};
use sekisho_store::Records;
use sekisho_types::{Digest, Document};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::inspector::{Busy, Inspector};

/// Most layers that are looked into while they arrive; what comes beyond that is looked into when a
/// manifest names it. Each may be a process, and a hundred uploads at once must not be a hundred more.
const MAX_TEES: usize = 4;

/// How many pieces of an upload may wait for the inspector. A slow one slows the upload down; it
/// never makes it grow in memory.
const QUEUED_PIECES: usize = 4;

/// The analyses of layers.
#[derive(Clone)]
pub(crate) struct Analyses {
    tees: Arc<AtomicUsize>,
    records: Records,
    inspector: Arc<dyn Inspector>,
    /// Names those whose signatures count: part of what a document says.
    attestors: String,
}

impl Analyses {
    pub(crate) fn new(records: &Records, inspector: Arc<dyn Inspector>) -> io::Result<Self> {
        // The version is foreign text; its hash is a safe name.
        let version = Digest::sha256(inspector.version().as_bytes());
        let records = records.below(&version.hex()[..16])?;
        let attestors = Digest::sha256(inspector.attestors().as_bytes()).hex()[..16].to_owned();
        Ok(Self { tees: Arc::default(), records, inspector, attestors })
    }

    pub(crate) fn inspector(&self) -> &dyn Inspector {
        &*self.inspector
    }

    /// Not durably: it is a function of the layer, and made again when it is lost.
    pub(crate) fn keep(&self, digest: &Digest, value: &Value) -> io::Result<()> {
        self.note(&name(digest), value)
    }

    fn note(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
        self.records.note(name, &bytes)
    }

    /// What is on record under a name, or else is read now and noted there.
    fn read<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        open: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
        look: impl FnOnce(&mut dyn Read) -> anyhow::Result<T>,
    ) -> io::Result<anyhow::Result<T>> {
        // A damaged record is made again.
        if let Some(known) = self.records.read_json(name).unwrap_or_default() {
            return Ok(Ok(known));
        }
        let mut reader = io::BufReader::with_capacity(64 * 1024, open()?);
        let read = judged(look(&mut reader))?;
        if let Ok(value) = &read {
            self.note(name, value)?;
        }
        Ok(read)
    }

    /// The layer's analysis; made now from its bytes if it was not made while they arrived.
    ///
    /// The inner error is the inspector's: the blob is no layer that it can read.
    pub(crate) fn of(
        &self,
        digest: &Digest,
        open: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
    ) -> io::Result<anyhow::Result<Value>> {
        self.read(&name(digest), open, |reader| self.inspector.layer(reader))
    }

    /// What a statement about an image says and holds; read now if it was not read before. The inner error is the
    /// inspector's.
    pub(crate) fn document(
        &self,
        digest: &Digest,
        open: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
    ) -> io::Result<anyhow::Result<Document>> {
        let name = format!("{}-by-{}", name(digest), self.attestors);
        self.read(&name, open, |reader| self.inspector.document(reader))
    }

    /// Starts an inspector that reads what is sent to the [`Tee`]; `None` while too many are at work.
    pub(crate) fn begin(&self) -> io::Result<Option<Tee>> {
        let counted = Counted(Arc::clone(&self.tees));
        if counted.0.fetch_add(1, Ordering::Relaxed) >= MAX_TEES {
            return Ok(None);
        }
        let (sender, pieces) = sync_channel(QUEUED_PIECES);
        let inspector = Arc::clone(&self.inspector);
        let work = move || inspector.layer(&mut Pieces { pieces, current: Bytes::new() });
        let thread = std::thread::Builder::new().name("layer-index".to_owned()).spawn(work)?;
        Ok(Some(Tee { sender: Some(sender), thread, _counted: counted }))
    }
}

/// An inspector that is busy says nothing about what it was to read.
fn judged<T>(said: anyhow::Result<T>) -> io::Result<anyhow::Result<T>> {
    match said {
        Err(error) if error.is::<Busy>() => Err(io::Error::new(io::ErrorKind::ResourceBusy, error)),
        said => Ok(said),
    }
}

fn name(digest: &Digest) -> String {
    format!("{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// An inspection under way.
pub(crate) struct Tee {
    /// `None` once the inspector has stopped reading.
    sender: Option<SyncSender<Bytes>>,
    thread: JoinHandle<anyhow::Result<Value>>,
    _counted: Counted,
}

/// One of those at work.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tee {
    /// Passes a piece on; waits while the inspector is busy.
    pub(crate) fn send(&mut self, piece: &Bytes) {
        let Some(sender) = &self.sender else { return };
        if sender.send(piece.clone()).is_err() {
            self.sender = None;
        }
    }

    /// Says that this was all, and waits for the answer. `None`: it is no layer, or the inspector
    /// gave up; should a manifest call it a layer, it is looked at again.
    pub(crate) fn finish(self) -> Option<Value> {
        drop(self.sender);
        match self.thread.join() {
            Ok(result) => result.ok(),
            Err(_) => {
                tracing::error!("the inspector of a layer panicked");
                None
            }
        }
    }
}

/// A reader over the pieces of an upload; ends when the sender is gone.
struct Pieces {
    pieces: Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.current = piece,
                Err(_) => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}
