//! What all parts share: the client, the stores, the queue, and what is remembered between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource, ResourceExt as _};
use secrecy::SecretString;
use sekisho_api::condition::{self, Claim, Condition};
use sekisho_api::{
    GitHubConnection, Reason, Runner, RunnerClass, RunnerDeployment, RunnerReplicaSet,
};
use sekisho_pods::Cluster;
use sekisho_reconcile::backoff::Jitter;
use sekisho_reconcile::deployment::{self, Demand, Session};
use sekisho_reconcile::failure::Trouble;
use sekisho_reconcile::name::Mark;
use sekisho_reconcile::runner::{self, AtGitHub, Fate};
use sekisho_reconcile::{At, Failure, sweep};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::github::Account;
use crate::lean::{Metadata, Node, Pod};
use crate::metrics::{Levels, Metrics};
use crate::operator::Settings;
use crate::owned::Owned;
use crate::pulse::Pulse;
use crate::queue::{Key, Queue};
use crate::stored::Stored;

/// Namespace and name.
pub(crate) type Name = (String, String);

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) stores: Stores,
    pub(crate) owned: Owned,
    pub(crate) queue: Queue,
    pub(crate) pulse: Pulse,
    pub(crate) metrics: Metrics,
    pub(crate) cluster: Cluster,
    pub(crate) stop: CancellationToken,
    memory: Mutex<Memory>,
}

/// The objects as the watches show them. Of secrets, the metadata alone is asked for.
pub(crate) struct Stores {
    pub(crate) connections: Stored<GitHubConnection>,
    pub(crate) classes: Stored<RunnerClass>,
    pub(crate) deployments: Stored<RunnerDeployment>,
    pub(crate) sets: Stored<RunnerReplicaSet>,
    pub(crate) runners: Stored<Runner>,
    pub(crate) pods: Stored<Pod>,
    pub(crate) secrets: Stored<Metadata<Secret>>,
    pub(crate) nodes: Stored<Node>,
    pub(crate) namespaces: Stored<Metadata<Namespace>>,
    /// How many watches there are.
    pub(crate) watches: usize,
    /// How many of them have told all that is there.
    pub(crate) full: Arc<std::sync::atomic::AtomicUsize>,
}

impl Stores {
    pub(crate) fn are_full(&self) -> bool {
        self.full.load(std::sync::atomic::Ordering::Acquire) >= self.watches
    }
}

/// What is remembered. All of it may be lost.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) trouble: BTreeMap<Key, Trouble>,
    pub(crate) github: BTreeMap<Name, AtGitHub>,
    pub(crate) fates: BTreeMap<Name, Fate>,
    /// Since when the image of a pod cannot be pulled, by uid.
    pub(crate) pulls: BTreeMap<String, At>,
    pub(crate) deployments: BTreeMap<Name, DeploymentMemory>,
    /// Numbers of runners that were made, by the set's uid.
    pub(crate) expected: BTreeMap<String, BTreeSet<u64>>,
    /// Secrets that were made, and that the watch may not show yet.
    pub(crate) secrets: BTreeMap<Name, runner::Secret>,
    /// Runners that were told to go, by uid, until they are gone.
    pub(crate) leaving: BTreeSet<String>,
    pub(crate) connections: BTreeMap<Name, ConnectionMemory>,
    pub(crate) sweeps: BTreeMap<String, sweep::Memory>,
    /// Last moment at which a status was written for nothing but to be read.
    pub(crate) written: BTreeMap<Key, At>,
    /// Sets that back off.
    pub(crate) backing_off: BTreeSet<Name>,
}

/// How many runners are worth making, and of which revision.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) revision: String,
    pub(crate) runners: u32,
}

/// What is remembered of a deployment.
#[derive(Clone, Default)]
pub(crate) struct DeploymentMemory {
    pub(crate) held_until: Option<At>,
    /// Why nobody can hold its lease, as far as this replica sees.
    pub(crate) unheld: Option<Failure>,
    /// Something was not worked on because the lease was not held then.
    pub(crate) missed: bool,
    pub(crate) demand: Option<Demand>,
    /// Since when `demand` is reckoned, and not as GitHub told it.
    pub(crate) reckoned: Option<At>,
    /// From when on all is heard that GitHub had to tell with it.
    pub(crate) settled: Option<At>,
    /// Where a queue is read: the runners of the jobs that ran, and when it was read.
    pub(crate) running: Option<(BTreeSet<String>, At)>,
    /// Counts what changes `demand`, or which jobs are over; and by which of it `growth` was decided.
    pub(crate) told: u64,
    pub(crate) decided: u64,
    pub(crate) lower_since: Option<At>,
    pub(crate) released_since: Option<At>,
    pub(crate) growth: Option<Growth>,
    pub(crate) session: Option<Session>,
    pub(crate) blocked: Option<Failure>,
    pub(crate) gate: Option<sekisho_reconcile::session::Gate>,
    /// How many of its maximum there may not be now, and why.
    pub(crate) withheld: Option<(sekisho_reconcile::session::Gate, u32)>,
    pub(crate) shield: Option<Shield>,
    /// A pod for which the quota had no room, and when it is tried again.
    pub(crate) refused: Option<Trouble>,
    /// Wakes its session.
    pub(crate) wake: Arc<Notify>,
    pub(crate) started: bool,
}

/// Network policies that were applied, or that were refused.
#[derive(Clone)]
pub(crate) struct Shield {
    pub(crate) content: String,
    /// When they are applied again.
    pub(crate) next: At,
    pub(crate) trouble: Option<Trouble>,
    /// They were applied once.
    pub(crate) stands: bool,
}

impl Shield {
    /// Why nothing may run behind it. Where it was applied once, an API server that is away is no reason.
    pub(crate) fn gap(&self) -> Option<Failure> {
        let failure = &self.trouble.as_ref()?.failure;
        (!self.stands || failure.reason().is_some()).then(|| failure.clone())
    }
}

impl DeploymentMemory {
    fn is_held(&self, now: At) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// What keeps it waiting, as far as this replica knows.
    fn trouble(&self) -> impl Iterator<Item = &Failure> {
        let session = match &self.session {
            Some(Session::Troubled(failure)) => Some(failure),
            _ => None,
        };
        self.blocked.iter().chain(session)
    }
}

/// What is remembered of a connection.
#[derive(Clone, Default)]
pub(crate) struct ConnectionMemory {
    pub(crate) account: Option<Arc<Account>>,
    /// GitHub took these credentials.
    pub(crate) signed_in: bool,
    /// What this replica said last of it; and what another says instead, and since when.
    pub(crate) claimed: Option<Reason>,
    pub(crate) contrary: Option<(Reason, At)>,
    /// Names spec and secrets that the account was made of.
    pub(crate) content: Option<String>,
    pub(crate) checked: Option<At>,
    pub(crate) trouble: Option<Trouble>,
    /// What webhooks are signed with.
    pub(crate) webhook: Option<SecretString>,
}

impl ConnectionMemory {
    pub(crate) fn says(&mut self, claimed: Option<Reason>, contrary: Option<(Reason, At)>) {
        (self.claimed, self.contrary) = (claimed, contrary);
    }
}

impl Context {
    pub(crate) fn new(
        client: Client,
        settings: Settings,
        stores: Stores,
        cluster: Cluster,
        stop: CancellationToken,
    ) -> Self {
        Self {
            client,
            settings,
            stores,
            owned: Owned::default(),
            queue: Queue::default(),
            pulse: Pulse::default(),
            metrics: Metrics::default(),
            cluster,
            stop,
            memory: Mutex::default(),
        }
    }

    /// The one place where the operator reads the clock.
    pub(crate) fn now(&self) -> At {
        At::of(self.settings.clock.now())
    }

    pub(crate) fn jitter(&self) -> Jitter {
        Jitter::of(uuid::Uuid::new_v4().as_u64_pair().0)
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn enqueue(&self, key: Key) {
        self.queue.add(key, Duration::ZERO);
    }

    /// Whether this replica works on a deployment now. In a namespace that is being deleted every replica
    /// does: the lease went with the rest, none can be made, and two that see it off do no harm.
    pub(crate) fn holds(&self, name: &Name) -> bool {
        let going = self.stores.namespaces.get(&ObjectRef::new(&name.0));
        if going.is_some_and(|it| it.metadata.deletion_timestamp.is_some()) {
            return true;
        }
        let now = self.now();
        let mut memory = self.memory();
        let Some(entry) = memory.deployments.get_mut(name) else { return false };
        let held = entry.is_held(now);
        // It is made good when the lease is held again; see `crate::lease::looks_again`.
        entry.missed |= !held;
        held
    }

    /// Whether the watches show a Runner.
    pub(crate) fn has_runner(&self, name: &Name) -> bool {
        self.stores.runners.get(&ObjectRef::new(&name.1).within(&name.0)).is_some()
    }

    pub(crate) fn mark(&self, namespace: &str) -> Option<Mark> {
        let namespace = self.stores.namespaces.get(&ObjectRef::new(namespace))?;
        Some(Mark::of_namespace(&namespace.uid()?))
    }

    pub(crate) fn terminating(&self, namespace: &str) -> bool {
        let namespace = self.stores.namespaces.get(&ObjectRef::new(namespace));
        namespace.is_none_or(|it| it.metadata.deletion_timestamp.is_some())
    }

    /// The account of a connection, once it was checked.
    pub(crate) fn account(&self, namespace: &str, name: &str) -> Option<Arc<Account>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.memory().connections.get(&key).and_then(|it| it.account.clone())
    }

    /// Whether GitHub took the credentials of a connection.
    pub(crate) fn is_signed_in(&self, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.memory().connections.get(&key).is_some_and(|it| it.signed_in)
    }

    /// Remembers that an effect failed, for the next observation.
    pub(crate) fn failed(&self, key: &Key, failure: Failure) -> Trouble {
        self.metrics.failed(&failure);
        let (now, jitter) = (self.now(), self.jitter());
        let mut memory = self.memory();
        let trouble = Trouble::after(memory.trouble.get(key), failure, now, jitter);
        memory.trouble.insert(key.clone(), trouble.clone());
        trouble
    }

    /// The metrics, as Prometheus reads them. What is a level is looked at now.
    pub(crate) fn metrics(&self) -> String {
        let now = self.now();
        let (mut levels, mut ours) = (Levels::default(), BTreeSet::new());
        {
            let memory = self.memory();
            let tries = memory.trouble.values().filter(|it| it.holds(now)).map(|it| &it.failure);
            let connections = memory.connections.values().filter_map(|it| it.trouble.as_ref());
            let connections = connections.map(|it| &it.failure);
            let held = memory.deployments.values().filter(|it| it.is_held(now));
            let deployments = held.flat_map(DeploymentMemory::trouble);
            let dropped: Vec<Failure> = self
                .stores
                .deployments
                .state()
                .iter()
                .filter_map(|it| dropped(&memory, it, now))
                .collect();
            for (name, it) in memory.deployments.iter().filter(|(_, it)| it.is_held(now)) {
                ours.insert(name.clone());
                let demand = it.demand.unwrap_or_default();
                levels.jobs_waiting += i64::from(demand.waiting());
                levels.jobs_running += i64::from(demand.running);
                if let Some((gate, count)) = it.withheld {
                    levels.withheld(gate, count);
                }
            }
            let unheld = memory.deployments.values().filter_map(|it| it.unheld.as_ref());
            self.metrics
                .waits(tries.chain(connections).chain(deployments).chain(unheld).chain(&dropped));
        }
        // Nobody waits while runners are counted.
        for runner in self.stores.runners.state() {
            let name = (runner.namespace().unwrap_or_default(), runner.spec.deployment.clone());
            if ours.contains(&name) {
                levels.runner(&runner::Record::of(runner.status.as_ref()));
            }
        }
        self.metrics.levels(&levels);
        let depth = i64::try_from(self.queue.depth()).unwrap_or(i64::MAX);
        self.metrics.queue_depth.set(depth);
        self.metrics.text()
    }

    /// The event of a condition that changed: where somebody has to put something right, and where it is.
    pub(crate) async fn tell(
        &self,
        reference: &k8s_openapi::api::core::v1::ObjectReference,
        before: &[Condition],
        claim: &Claim,
    ) {
        let before = condition::find(before, claim.kind);
        let known = before.and_then(|it| it.reason.parse::<Reason>().ok());
        let presses = |reason: Reason| !reason.next_step().is_empty();
        let was_pressing = known.is_some_and(presses);
        if known != Some(claim.reason) && (was_pressing || presses(claim.reason)) {
            self.event(reference, claim.reason, claim.message.clone()).await;
        }
    }

    /// An event that people see. That it cannot be written stops nothing.
    pub(crate) async fn event(
        &self,
        reference: &k8s_openapi::api::core::v1::ObjectReference,
        reason: Reason,
        message: String,
    ) {
        let event = Event {
            type_: if reason.next_step().is_empty() {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: reason.name().to_owned(),
            note: Some(message.chars().take(1024).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // One that remembers takes a second event of the same reason for the first, and drops its text.
        let recorder = Recorder::new(self.client.clone(), "sekisho-operator".into());
        if let Err(error) = recorder.publish(&event, reference).await {
            tracing::debug!("an event could not be written: {error}");
        }
    }
}

/// What a deployment that this replica works on misses for labels that GitHub did not take.
fn dropped(memory: &Memory, object: &RunnerDeployment, now: At) -> Option<Failure> {
    let held = memory.deployments.get(&(object.namespace()?, object.name_any()))?.is_held(now);
    let set = object.status.as_ref()?.scale_set.as_ref().filter(|_| held)?;
    deployment::dropped(&set.dropped_labels)
}
