//! A Kubernetes API server in memory: the double of the real one.
//!
//! [`ApiServer::client`] speaks with it in process, [`ApiServer::serve`] over loopback.

mod apply;
mod delete;
mod error;
mod fault;
mod fields;
mod list;
mod patch;
mod pod;
mod request;
mod resource;
mod schema;
mod selector;
mod serve;
mod store;
mod watch;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use serde_json::Value;
use tokio::sync::watch as signal;

pub use fault::{Fault, FaultKind};
pub use request::Verb;
pub use serve::Served;

use error::ApiError;
use resource::Resources;
use store::Store;

/// How often an idle watch gets a bookmark.
const BOOKMARK_EVERY: Duration = Duration::from_millis(500);

/// A call that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who asked: the name given to [`ApiServer::client`].
    pub client: String,
    /// What was asked.
    pub verb: Verb,
    /// The plural name of the resource: `pods`.
    pub resource: String,
    /// `status`, `scale`, …; empty without.
    pub subresource: String,
    /// Empty for what has no namespace.
    pub namespace: String,
    /// Empty for a list, and for a creation with `generateName`.
    pub name: String,
    /// `fieldManager`; empty without.
    pub manager: String,
    /// What a deletion names of the object that it means: `uid`, `resourceVersion`.
    pub preconditions: Vec<String>,
    /// The status of the answer.
    pub status: u16,
}

impl Call {
    /// Whether it changes something, if it succeeds.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// The API server. A clone is the same server.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    /// Another when a definition is written.
    resources: Mutex<Arc<Resources>>,
    state: Mutex<State>,
    /// The newest version; its change wakes watches.
    version: signal::Sender<u64>,
    /// Counts up when all watches are to end.
    cuts: signal::Sender<u64>,
}

struct State {
    store: Store,
    faults: Vec<fault::Armed>,
    calls: Vec<Call>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// A server with our kinds installed, and the namespaces `default` and `kube-system`.
    pub fn new() -> Self {
        let resources = Resources::new();
        let mut store = Store::default();
        for namespace in ["default", "kube-system"] {
            write::namespace(&resources, &mut store, namespace);
        }
        let version = signal::Sender::new(store.version());
        let state = Mutex::new(State { store, faults: Vec::new(), calls: Vec::new() });
        let cuts = signal::Sender::new(0);
        let resources = Mutex::new(Arc::new(resources));
        Self { shared: Arc::new(Shared { resources, state, version, cuts }) }
    }

    /// A client in this process; `name` is how [`ApiServer::calls`] and faults know it.
    pub fn client(&self, name: &str) -> Client {
        Client::new(serve::router(Arc::clone(&self.shared), name), "default")
    }

    /// Serves on a free port of the loopback address until [`Served`] is dropped.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn serve(&self, name: &str) -> std::io::Result<Served> {
        serve::serve(serve::router(Arc::clone(&self.shared), name)).await
    }

    /// Lets something go wrong from now on. The first fault that fits a call strikes.
    pub fn arm(&self, fault: Fault) {
        self.lock().faults.push(fault::Armed::new(fault));
    }

    /// Lets nothing go wrong any more.
    pub fn disarm(&self) {
        self.lock().faults.clear();
    }

    /// All calls so far, in the order of their answers; a watch, when it began.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.lock().calls.clear();
    }

    /// Forgets all changes so far: a watch that goes on from before gets 410 Gone, and must list.
    pub fn compact(&self) {
        self.lock().store.compact();
    }

    /// Ends all watches, as a load balancer does.
    pub fn cut_watches(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Ends all watches and loses what they have not told yet.
    pub fn lose_watch_events(&self) {
        self.cut_watches();
        self.compact();
    }

    /// How many objects there are of a resource, by its plural name.
    pub fn count(&self, plural: &str) -> usize {
        self.lock().store.count(plural)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resources(&self) -> Arc<Resources> {
        Arc::clone(&self.resources.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on, a kind is as it is defined so.
    fn define(&self, crd: &Value) {
        if let Ok(crd) = serde_json::from_value(crd.clone()) {
            let mut resources = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
            *resources = Arc::new(resources.with(crd));
        }
    }

    /// Changes the store, and wakes the watches if something changed.
    fn change<T>(
        &self,
        change: impl FnOnce(&Resources, &mut Store) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let resources = self.resources();
        let mut state = self.lock();
        let result = change(&resources, &mut state.store);
        let version = state.store.version();
        drop(state);
        self.version.send_if_modified(|known| std::mem::replace(known, version) != version);
        result
    }
}

/// Now, as objects have it.
pub(crate) fn now() -> String {
    write::now()
}
