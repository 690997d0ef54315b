//! Watches: they fill the stores, and say what is to be worked on.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use sekisho_api::{
    GitHubConnection, LABEL_DEPLOYMENT, Runner, RunnerClass, RunnerDeployment, RunnerReplicaSet,
};
use serde::de::DeserializeOwned;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Context, Stores};
use crate::lean::{self, Metadata, Node, Pod};
use crate::operator::Settings;
use crate::queue::Key;
use crate::stored::Stored;

/// Several changes of the runners of a set come together.
pub(crate) const GATHER: Duration = Duration::from_millis(50);

/// What hears of changes; set when everything else is ready.
pub(crate) type Hearer = Arc<OnceCell<Arc<Context>>>;

/// Of a kind, in the namespaces that are worked on: all of them where none is named.
pub(crate) fn apis<K>(client: &Client, namespaces: &[String]) -> Vec<Api<K>>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    if namespaces.is_empty() {
        return vec![Api::all(client.clone())];
    }
    namespaces.iter().map(|it| Api::namespaced(client.clone(), it)).collect()
}

/// Begins all watches.
pub(crate) fn begin(
    client: &Client,
    settings: &Settings,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (Stores, Hearer) {
    let hearer = Hearer::default();
    let full = Arc::new(AtomicUsize::new(0));
    let watches = Cell::new(0);
    let start =
        Start { client, settings, tasks, stop, hearer: &hearer, watches: &watches, full: &full };
    let ours = watcher::Config::default().labels(LABEL_DEPLOYMENT);
    let any = watcher::Config::default;
    let mut stores = Stores {
        connections: start.each(any(), connection),
        classes: start.cluster(|context, _: &RunnerClass| {
            all_deployments(context);
        }),
        deployments: start.each(any(), |context, it: &RunnerDeployment| {
            deployment(context, &namespace(it), &it.name_any());
        }),
        sets: start.each(any(), |context, it: &RunnerReplicaSet| {
            context.enqueue(Key::ReplicaSet(namespace(it), it.name_any()));
            context
                .queue
                .add(Key::Deployment(namespace(it), it.spec.runner.deployment.clone()), GATHER);
        }),
        runners: start.each_listed::<lean::Runner, _>(any(), runner, |context| {
            // What is not in the list went while nobody looked, and is waited for no more.
            let mut memory = context.memory();
            memory.expected.clear();
            memory.leaving.clear();
        }),
        pods: start.each(ours.clone(), |context, it: &Pod| {
            let name = ObjectRef::new(&it.name_any()).within(&namespace(it));
            if let Some(runner) = context.stores.runners.get(&name) {
                context.owned.changed(&context.stores, &runner);
            }
            context.enqueue(Key::Runner(namespace(it), it.name_any()));
        }),
        secrets: start.each(ours, |context, it: &Metadata<Secret>| {
            context.enqueue(Key::Runner(namespace(it), it.name_any()));
        }),
        nodes: start.cluster(node),
        namespaces: start.cluster(|context, it: &Metadata<Namespace>| {
            let name = it.name_any();
            if it.metadata.deletion_timestamp.is_some() {
                runners_in(context, &name);
            }
            deployments_in(context, &name);
        }),
        watches: 0,
        full: Arc::clone(&full),
    };
    stores.watches = watches.get();
    (stores, hearer)
}

/// What is watched.
pub(crate) trait Followed:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static
{
}

impl<K> Followed for K where
    K: Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static
{
}

struct Start<'a> {
    client: &'a Client,
    settings: &'a Settings,
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
    hearer: &'a Hearer,
    watches: &'a Cell<usize>,
    full: &'a Arc<AtomicUsize>,
}

impl Start<'_> {
    /// Follows a kind in each namespace that is watched, or in all.
    fn each<K>(
        &self,
        config: watcher::Config,
        hear: impl Fn(&Context, &K) + Send + Copy + 'static,
    ) -> Stored<K>
    where
        K: Followed + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        self.each_listed::<K, K>(config, hear, |_| ())
    }

    /// The same of a kind that is read as `R`; `listed` is told when all that is there was listed anew.
    fn each_listed<R, K>(
        &self,
        config: watcher::Config,
        hear: impl Fn(&Context, &K) + Send + Copy + 'static,
        listed: fn(&Context),
    ) -> Stored<K>
    where
        R: Followed + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K: Followed + From<R>,
    {
        let apis = apis::<R>(self.client, &self.settings.namespaces).into_iter();
        let stores = apis.map(|api| self.follow(api, config.clone(), hear, listed));
        Stored::new(stores.collect())
    }

    /// Follows a kind that is of the whole cluster.
    fn cluster<K>(&self, hear: impl Fn(&Context, &K) + Send + 'static) -> Stored<K>
    where
        K: Followed + Resource<Scope = k8s_openapi::ClusterResourceScope>,
    {
        let api: Api<K> = Api::all(self.client.clone());
        Stored::new(vec![self.follow(api, watcher::Config::default(), hear, |_| ())])
    }

    fn follow<R, K>(
        &self,
        api: Api<R>,
        config: watcher::Config,
        hear: impl Fn(&Context, &K) + Send + 'static,
        listed: fn(&Context),
    ) -> reflector::Store<K>
    where
        R: Followed,
        K: Followed + From<R>,
    {
        self.watches.set(self.watches.get() + 1);
        let mut writer = reflector::store::Writer::<K>::default();
        let store = writer.as_reader();
        let (hearer, full) = (Arc::clone(self.hearer), Arc::clone(self.full));
        let stop = self.stop.clone();
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            // Of kinds that there are few of: the others are read without.
            let lean = |object: &mut R| object.meta_mut().managed_fields = None;
            let events = watcher(api, config).default_backoff().modify(lean);
            let mut events = std::pin::pin!(events);
            let mut first = true;
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => kept(event),
                    Err(error) => {
                        tracing::warn!("a watch was interrupted, and goes on: {error}");
                        continue;
                    }
                };
                writer.apply_watcher_event(&event);
                let context = hearer.get();
                match &event {
                    watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
                        context.into_iter().for_each(|context| hear(context, object));
                    }
                    watcher::Event::InitDone => {
                        if std::mem::take(&mut first) {
                            full.fetch_add(1, Ordering::AcqRel);
                        }
                        // What went while nobody looked is not told: all that is there is looked at.
                        if let Some(context) = context {
                            listed(context);
                            everything(context);
                        }
                    }
                    watcher::Event::Init | watcher::Event::InitApply(_) => {}
                }
            }
        }));
        store
    }
}

fn kept<R, K: From<R>>(event: watcher::Event<R>) -> watcher::Event<K> {
    match event {
        watcher::Event::Apply(it) => watcher::Event::Apply(it.into()),
        watcher::Event::Delete(it) => watcher::Event::Delete(it.into()),
        watcher::Event::InitApply(it) => watcher::Event::InitApply(it.into()),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}

fn namespace<K: ResourceExt>(object: &K) -> String {
    object.namespace().unwrap_or_default()
}

/// Has everything looked at.
pub(crate) fn everything(context: &Context) {
    context.owned.refill(&context.stores);
    for it in context.stores.connections.state() {
        context.enqueue(Key::Connection(namespace(&*it), it.name_any()));
    }
    all_deployments(context);
    for it in context.stores.sets.state() {
        context.enqueue(Key::ReplicaSet(namespace(&*it), it.name_any()));
    }
    for it in context.stores.runners.state() {
        context.enqueue(Key::Runner(namespace(&*it), it.name_any()));
    }
}

fn all_deployments(context: &Context) {
    for it in context.stores.deployments.state() {
        deployment(context, &namespace(&*it), &it.name_any());
    }
}

fn deployment(context: &Context, namespace: &str, name: &str) {
    context.enqueue(Key::Deployment(namespace.to_owned(), name.to_owned()));
    context.queue.add(Key::Sweep(namespace.to_owned()), sekisho_reconcile::sweep::SWEEP_EVERY);
    wake(context, namespace, name);
}

/// What a webhook told is written on it: the sessions of its deployments look whether it concerns them.
fn connection(context: &Context, connection: &GitHubConnection) {
    context.enqueue(Key::Connection(namespace(connection), connection.name_any()));
    let (namespace, connection) = (connection.namespace(), connection.name_any());
    let mut theirs = context.stores.deployments.state();
    theirs.retain(|it| it.namespace() == namespace && it.spec.connection_ref == connection);
    theirs.iter().for_each(|it| wake(context, &it.namespace().unwrap_or_default(), &it.name_any()));
}

/// Has a session look at its deployment.
fn wake(context: &Context, namespace: &str, name: &str) {
    let key = (namespace.to_owned(), name.to_owned());
    let wake = context.memory().deployments.get(&key).map(|it| Arc::clone(&it.wake));
    wake.into_iter().for_each(|wake| wake.notify_one());
}

fn runner(context: &Context, runner: &Runner) {
    // Before it is not expected any more: a set must see one or the other.
    context.owned.changed(&context.stores, runner);
    let now = context.stores.runners.get(&ObjectRef::from_obj(runner));
    // Not sooner: a decision that was made before it went may still come to be carried out.
    if now.is_none_or(|now| now.uid() != runner.uid()) {
        context.memory().leaving.remove(&runner.uid().unwrap_or_default());
    }
    context.enqueue(Key::Runner(namespace(runner), runner.name_any()));
    for owner in runner.owner_references() {
        if let Some(number) = sekisho_reconcile::name::number(&runner.name_any())
            && let Some(expected) = context.memory().expected.get_mut(&owner.uid)
        {
            expected.remove(&number);
        }
        context.queue.add(Key::ReplicaSet(namespace(runner), owner.name.clone()), GATHER);
    }
    context.queue.add(Key::Deployment(namespace(runner), runner.spec.deployment.clone()), GATHER);
}

fn node(context: &Context, node: &Node) {
    let name = node.name_any();
    for pod in context.stores.pods.state() {
        if pod.spec.node_name.as_ref() == Some(&name) {
            context.enqueue(Key::Runner(namespace(&*pod), pod.name_any()));
        }
    }
}

/// Where a namespace goes, its runners do.
fn runners_in(context: &Context, name: &str) {
    for it in context.stores.runners.state() {
        if namespace(&*it) == name {
            context.enqueue(Key::Runner(namespace(&*it), it.name_any()));
        }
    }
}

/// A namespace has another zone, perhaps.
fn deployments_in(context: &Context, name: &str) {
    for it in context.stores.deployments.state() {
        if namespace(&*it) == name {
            deployment(context, name, &it.name_any());
        }
    }
}
