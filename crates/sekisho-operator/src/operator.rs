//! The operator as a whole: watches, workers, sessions, the admin port, and their end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use kube::{Client, ResourceExt as _};
use sekisho_github::rest::Clock;
use sekisho_pods::Cluster;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::context::Context;
use crate::queue::Key;
use crate::{admin, connection, deployment, replica_set, runner, sweep, watch, webhook};

/// How many keys are worked on at a time.
const CONCURRENCY: usize = 64;
/// How long one look may take: every call in it has a shorter deadline of its own.
const DEADLINE: Duration = Duration::from_secs(120);
/// Without a turn for so long the worker hangs: with all permits taken, one is free after [`DEADLINE`].
const LATE: Duration = Duration::from_secs(180);
/// With nothing to do the worker turns so often in that time.
const TURNS: u32 = 36;
/// How often it is looked whether the stores are full.
const LOOK: Duration = Duration::from_millis(20);
/// How long sessions and leases have to be given back.
const DRAIN: Duration = Duration::from_secs(10);

/// What an operator is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespaces whose deployments it works on; all, where there is none.
    pub namespaces: Vec<String>,
    /// Who it is, for leases: the pod's name. Another for each replica.
    pub identity: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served; nowhere, where there is none.
    pub admin: Option<SocketAddr>,
    /// Where GitHub's webhooks are taken (`/webhooks/NAMESPACE/CONNECTION`); nowhere, where there is none.
    pub webhooks: Option<SocketAddr>,
    /// What time it is, for all decisions. Leases and deadlines go by it.
    pub clock: Clock,
    pub(crate) tasks: TaskTracker,
    /// Without a turn for so long the worker hangs.
    pub(crate) late: Duration,
}

impl Settings {
    /// Settings with the defaults.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            namespaces: vec![],
            identity: identity.into(),
            admin: None,
            webhooks: None,
            clock: Clock::default(),
            tasks: TaskTracker::new(),
            late: LATE,
        }
    }
}

/// An operator that runs. One that is dropped stops as [`Operator::shutdown`] does, and nobody waits for it.
pub struct Operator {
    context: Arc<Context>,
    stop: DropGuard,
    watches: TaskTracker,
    stop_watches: DropGuard,
    admin: Option<SocketAddr>,
    webhooks: Option<SocketAddr>,
    worker: tokio::task::JoinHandle<()>,
}

impl Operator {
    /// Starts an operator. Its stores are full when this returns.
    ///
    /// # Errors
    /// When the API server does not answer, or the admin port cannot be had.
    pub async fn start(client: Client, settings: Settings) -> anyhow::Result<Self> {
        let version =
            client.apiserver_version().await.context("asking the API server's version")?;
        let cluster = Cluster::of_version(&version.major, &version.minor);
        let (watches, stop_watches) = (TaskTracker::new(), CancellationToken::new());
        // From here on: who gives up starting has the watches end too.
        let watches_end = stop_watches.clone().drop_guard();
        let (stores, hearer) = watch::begin(&client, &settings, &watches, &stop_watches);
        let stop = CancellationToken::new();
        let (admin, webhooks) = (settings.admin, settings.webhooks);
        let context = Context::new(client, settings, stores, cluster, stop.clone());
        let context = Arc::new(context);
        drop(hearer.set(Arc::clone(&context)));
        let end = (&watches, &stop_watches);
        let admin = serve(admin, admin::router(Arc::clone(&context)), end)
            .await
            .context("opening the admin port")?;
        let webhooks = serve(webhooks, webhook::router(Arc::clone(&context)), end)
            .await
            .context("opening the port for webhooks")?;
        while !context.stores.are_full() {
            // Whoever waits for the API server is not ready, and is alive.
            context.pulse.beat();
            tokio::time::sleep(LOOK).await;
        }
        tracing::info!(
            identity = context.settings.identity,
            admin = admin.map(tracing::field::display),
            webhooks = webhooks.map(tracing::field::display),
            "the operator is ready"
        );
        watch::everything(&context);
        let worker = tokio::spawn(work(Arc::clone(&context)));
        let stop = stop.drop_guard();
        Ok(Self { context, stop, watches, stop_watches: watches_end, admin, webhooks, worker })
    }

    /// Where the admin port is.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where webhooks are taken.
    pub fn webhooks(&self) -> Option<SocketAddr> {
        self.webhooks
    }

    /// The metrics, as Prometheus reads them.
    pub fn metrics(&self) -> String {
        self.context.metrics()
    }

    /// Has everything looked at now, and every namespace swept, whenever that was due.
    pub fn look(&self) {
        watch::everything(&self.context);
        for namespace in self.context.stores.namespaces.state() {
            self.context.enqueue(Key::Sweep(namespace.name_any()));
        }
    }

    /// Stops gracefully: no new work, sessions are deleted, leases given back.
    pub async fn shutdown(self) {
        drop(self.stop);
        drop(self.worker.await);
        let tasks = &self.context.settings.tasks;
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!("a session or a lease was not given back in {} s", DRAIN.as_secs());
        }
        drop(self.stop_watches);
        self.watches.close();
        self.watches.wait().await;
    }
}

/// Serves on a port, if one is wanted, until all is stopped; which one it is.
async fn serve(
    address: Option<SocketAddr>,
    router: Router,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = address else { return Ok(None) };
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let stopped = stop.clone().cancelled_owned();
    tasks.spawn(async move {
        drop(axum::serve(listener, router).with_graceful_shutdown(stopped).await);
    });
    Ok(Some(address))
}

async fn work(context: Arc<Context>) {
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let turn = context.settings.late / TURNS;
    let tasks = TaskTracker::new();
    loop {
        context.pulse.beat();
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
        let key = tokio::select! {
            // Cancel safe: a key is taken only when it is returned.
            () = context.stop.cancelled() => break,
            key = context.queue.next() => key,
            () = tokio::time::sleep(turn) => continue,
        };
        let one = One { context: Arc::clone(&context), key: Some(key) };
        tasks.spawn(async move {
            one.run().await;
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// A key that is worked on; given back whatever happens.
struct One {
    context: Arc<Context>,
    key: Option<Key>,
}

impl One {
    async fn run(mut self) {
        let Some(key) = self.key.clone() else { return };
        let (started, kind) = (Instant::now(), key.kind());
        let after = tokio::time::timeout(DEADLINE, reconcile(&self.context, key.clone())).await;
        let outcome = if after.is_ok() { "done" } else { "deadline" };
        let seconds = started.elapsed().as_secs_f64();
        self.context.metrics.reconciled(kind, outcome, seconds);
        let after = after.unwrap_or(Some(Duration::from_secs(1)));
        if let Some(key) = self.key.take() {
            if let Some(after) = after {
                self.context.queue.add(key.clone(), after);
            }
            self.context.queue.done(key);
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        // After a panic: it is tried again, later.
        if let Some(key) = self.key.take() {
            self.context.queue.add(key.clone(), Duration::from_secs(30));
            self.context.queue.done(key);
        }
    }
}

async fn reconcile(context: &Arc<Context>, key: Key) -> Option<Duration> {
    match key {
        Key::Connection(namespace, name) => connection::reconcile(context, (namespace, name)).await,
        Key::Deployment(namespace, name) => deployment::reconcile(context, (namespace, name)).await,
        Key::ReplicaSet(namespace, name) => {
            replica_set::reconcile(context, (namespace, name)).await
        }
        Key::Runner(namespace, name) => runner::reconcile(context, (namespace, name)).await,
        Key::Sweep(namespace) => sweep::reconcile(context, namespace).await,
    }
}

#[cfg(test)]
mod tests;
