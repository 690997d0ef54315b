//! All that a cluster has beside the API server, as far as tests need it: nodes, a scheduler,
//! kubelets, the garbage collector, the controllers of namespaces and quotas.
//!
//! It only uses the API, so it plays the same on the double and on a real API server, which has
//! none of these either when it runs alone.

mod garbage;
mod kubelet;
mod namespaces;
mod nodes;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How pods go.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The nodes: name and labels.
    pub nodes: Vec<(String, BTreeMap<String, String>)>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let nodes = ["node-a", "node-b"].map(|name| (name.to_owned(), BTreeMap::new()));
        Self { nodes: nodes.to_vec() }
    }
}

/// A pod that starts, as its main container sees it.
#[derive(Debug)]
pub struct PodRun {
    /// The pod.
    pub pod: Pod,
    /// The environment of the container `runner` (or of the first), secrets resolved.
    pub env: BTreeMap<String, String>,
    /// The files of secrets that are mounted there, by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The container was asked to stop (SIGTERM).
    pub stop: CancellationToken,
}

/// How a container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this code.
    Exit(i32),
    /// Killed by the kernel for memory.
    OutOfMemory,
}

/// A future of [`Containers::run`].
pub(crate) type Running = Pin<Box<dyn Future<Output = Ending> + Send>>;

/// What containers do. A future that is dropped is a container that is killed.
pub trait Containers: Send + Sync + 'static {
    /// Whether the images of a pod can be pulled: `Err` says why not. Asked again and again.
    fn pull(&self, _pod: &Pod) -> Result<(), String> {
        Ok(())
    }

    /// Runs the main container to its end.
    fn run(&self, run: PodRun) -> Running;
}

/// The cluster; dropping it stops it all, as a power cut does.
pub struct Cluster {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

pub(crate) struct Shared {
    client: Client,
    containers: Arc<dyn Containers>,
    secrets: secrets::Secrets,
    state: Mutex<State>,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    /// Round robin of the scheduler.
    next: usize,
    /// Pods that run: by uid.
    pods: BTreeMap<String, kubelet::Handle>,
    /// Those that ran to their end, until they are gone.
    ended: BTreeSet<String>,
    frozen: BTreeSet<String>,
}

struct Node {
    labels: BTreeMap<String, String>,
}

impl Cluster {
    /// Starts a cluster on an API server. Its nodes are there when this returns.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn start(
        client: Client,
        options: ClusterOptions,
        containers: Arc<dyn Containers>,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let secrets = secrets::Secrets::default();
        let state = Mutex::new(State::default());
        let shared = Arc::new(Shared { client, containers, secrets, state, stop: stop.clone() });
        for (name, labels) in options.nodes {
            nodes::add(&shared, &name, labels).await?;
        }
        shared.spawn(secrets::follow(Arc::clone(&shared)));
        shared.spawn(nodes::schedule(Arc::clone(&shared)));
        shared.spawn(kubelet::follow(Arc::clone(&shared)));
        shared.spawn(garbage::collect(Arc::clone(&shared)));
        shared.spawn(namespaces::finalize(Arc::clone(&shared)));
        shared.spawn(namespaces::count(Arc::clone(&shared)));
        Ok(Self { shared, _stop: stop.drop_guard() })
    }

    /// Adds a node.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn add_node(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        nodes::add(&self.shared, name, labels).await
    }

    /// A node is not heard any more, and has not been for so long that Kubernetes says so. Its containers
    /// may run on, and its pods are not told to go yet.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn silence_node(&self, name: &str) -> anyhow::Result<()> {
        nodes::silence(&self.shared, name).await
    }

    /// A node loses its power: its containers are gone without a word, and it becomes unreachable.
    /// Its pods are told to go, and nobody is there to do it.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn lose_node(&self, name: &str) -> anyhow::Result<()> {
        nodes::lose(&self.shared, name).await
    }

    /// The object of a lost node is removed, as by the cloud's controller, and its pods with it.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn remove_node(&self, name: &str) -> anyhow::Result<()> {
        nodes::remove(&self.shared, name).await
    }

    /// Uids of the pods whose containers run.
    pub fn running(&self) -> Vec<String> {
        self.shared.lock().pods.keys().cloned().collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                // A power cut: wherever it is, it ends.
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}
