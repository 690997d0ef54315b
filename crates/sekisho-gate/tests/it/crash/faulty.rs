//! A store in memory that fails at a chosen write.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use tokio::sync::{Notify, OwnedRwLockWriteGuard, RwLock};

/// What happens at the chosen write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies before it.
    Before,
    /// The process dies after it: written, and nobody was told.
    After,
    /// No write works any more.
    Full,
}

#[derive(Debug)]
struct State {
    writes: u64,
    at: u64,
    fault: Option<Fault>,
    is_dead: bool,
}

/// One read whose answer is kept back.
#[derive(Debug)]
struct Held {
    key: String,
    reached: Notify,
    go_on: Notify,
    was: AtomicBool,
}

/// A store that fails once it is told to.
#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    state: Arc<Mutex<State>>,
    /// Whoever holds it for writing keeps all writes waiting.
    pace: Arc<RwLock<()>>,
    held: Option<Arc<Held>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

fn error(kind: std::io::ErrorKind) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: Box::new(std::io::Error::from(kind)) }
}

impl Faulty {
    pub(crate) fn new() -> Self {
        let state = State { writes: 0, at: 0, fault: None, is_dead: false };
        Self {
            inner: Arc::default(),
            state: Arc::new(Mutex::new(state)),
            pace: Arc::default(),
            held: None,
        }
    }

    /// Writes wait until what this returns is dropped.
    pub(crate) async fn stall(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.pace).write_owned().await
    }

    /// The same content, seen by the next process, which will have this fault.
    pub(super) fn next(&self, fault: Option<(Fault, u64)>) -> Self {
        let (fault, at) = fault.map_or((None, 0), |(fault, at)| (Some(fault), at));
        let state = State { writes: 0, at, fault, is_dead: false };
        let inner = Arc::clone(&self.inner);
        Self { inner, state: Arc::new(Mutex::new(state)), pace: Arc::default(), held: None }
    }

    /// The first read of this key is answered with what is there then, but only when it is told to.
    pub(super) fn held_at(self, key: &str) -> Self {
        let (reached, go_on, was) = (Notify::new(), Notify::new(), AtomicBool::new(false));
        Self { held: Some(Arc::new(Held { key: key.to_owned(), reached, go_on, was })), ..self }
    }

    /// Waits for that read.
    pub(super) async fn reached(&self) {
        self.held.as_ref().unwrap().reached.notified().await;
    }

    pub(super) fn go_on(&self) {
        self.held.as_ref().unwrap().go_on.notify_one();
    }

    fn alive(&self) -> StoreResult<()> {
        let is_dead = self.state.lock().unwrap().is_dead;
        if is_dead { Err(error(std::io::ErrorKind::BrokenPipe)) } else { Ok(()) }
    }

    /// Whether the write is made; and whether the process dies after it.
    fn write(&self) -> StoreResult<bool> {
        self.alive()?;
        let mut state = self.state.lock().unwrap();
        state.writes += 1;
        match state.fault {
            Some(Fault::Full) if state.writes >= state.at => {
                Err(error(std::io::ErrorKind::StorageFull))
            }
            Some(Fault::Before) if state.writes == state.at => {
                state.is_dead = true;
                Err(error(std::io::ErrorKind::BrokenPipe))
            }
            Some(Fault::After) if state.writes == state.at => {
                state.is_dead = true;
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

fn after<T>(dies: bool, result: StoreResult<T>) -> StoreResult<T> {
    if dies { Err(error(std::io::ErrorKind::BrokenPipe)) } else { result }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> StoreResult<PutResult> {
        let _going = self.pace.read().await;
        let dies = self.write()?;
        after(dies, self.inner.put_opts(location, payload, options).await)
    }

    async fn put_multipart_opts(
        &self,
        location: &Key,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.alive()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> StoreResult<GetResult> {
        self.alive()?;
        let answer = self.inner.get_opts(location, options).await;
        let held = self.held.as_ref().filter(|held| location.as_ref() == held.key);
        if let Some(held) = held.filter(|held| !held.was.swap(true, Ordering::SeqCst)) {
            held.reached.notify_one();
            held.go_on.notified().await;
        }
        answer
    }

    async fn get_ranges(&self, location: &Key, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.alive()?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Key>>,
    ) -> BoxStream<'static, StoreResult<Key>> {
        use futures_util::StreamExt as _;
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    use object_store::ObjectStoreExt as _;
                    let location = location?;
                    let dies = this.write()?;
                    after(dies, this.inner.delete(&location).await.map(|()| location))
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        use futures_util::StreamExt as _;
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> StoreResult<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> StoreResult<()> {
        let dies = self.write()?;
        after(dies, self.inner.copy_opts(from, to, options).await)
    }
}
