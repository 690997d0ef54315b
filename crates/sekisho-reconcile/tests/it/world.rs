//! The API server: objects with uids, resourceVersions, finalizers and preconditions.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use sekisho_api::Lifecycle;
use sekisho_reconcile::At;
use sekisho_reconcile::deployment::{ScaleSet, Size};
use sekisho_reconcile::name::Mark;
use sekisho_reconcile::runner::{Container, Node, Record};

use crate::dice::Dice;
use crate::github::{GitHub, Wire};

pub(crate) const DEPLOYMENT: &str = "build";

/// What the API server stores; an operator's cache is an old one of these.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    pub(crate) deployment: Option<Deployment>,
    pub(crate) sets: Store<Set>,
    pub(crate) runners: Store<Runner>,
    pub(crate) pods: Store<Pod>,
    pub(crate) secrets: Store<Secret>,
    pub(crate) nodes: Store<Node>,
}

/// Objects by name; a copy costs nothing until one of the two changes.
#[derive(Clone, Debug)]
pub(crate) struct Store<T>(Rc<BTreeMap<String, T>>);

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}

impl<T> Deref for Store<T> {
    type Target = BTreeMap<String, T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Clone> DerefMut for Store<T> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        Rc::make_mut(&mut self.0)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Deployment {
    pub(crate) version: u64,
    pub(crate) deleting: Option<At>,
    pub(crate) finalizer: bool,
    pub(crate) stop_now: bool,
    pub(crate) size: Size,
    pub(crate) revision: String,
    pub(crate) desired: Option<u32>,
    pub(crate) scale_set: ScaleSet,
}

#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) uid: String,
    pub(crate) version: u64,
    pub(crate) revision: String,
    pub(crate) created: At,
    pub(crate) deleting: bool,
    pub(crate) stop_now: bool,
    pub(crate) replicas: u32,
    pub(crate) next_number: u64,
    pub(crate) last_success: Option<At>,
}

#[derive(Clone, Debug)]
pub(crate) struct Runner {
    pub(crate) uid: String,
    pub(crate) owner: String,
    pub(crate) version: u64,
    pub(crate) created: At,
    pub(crate) deleting: Option<At>,
    pub(crate) finalizer: bool,
    pub(crate) stop_now: bool,
    pub(crate) record: Record,
}

#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) version: u64,
    pub(crate) owner: String,
    pub(crate) created: At,
    pub(crate) gone_by: Option<At>,
    pub(crate) node: Option<String>,
    pub(crate) container: Container,
    pub(crate) jit: Option<i64>,
    pub(crate) pull_failed: Option<At>,
    pub(crate) disrupted: Option<String>,
    pub(crate) out_of_memory: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Secret {
    pub(crate) uid: String,
    pub(crate) owner: String,
    pub(crate) pod_uid: String,
    pub(crate) registration: i64,
    pub(crate) created: At,
}

/// Everything there is, and what is counted.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) now: At,
    /// What can go wrong does.
    pub(crate) hostile: bool,
    /// Nothing goes wrong, and everything takes its time.
    pub(crate) late: bool,
    pub(crate) objects: Objects,
    pub(crate) github: GitHub,
    pub(crate) mark: Mark,
    pub(crate) lifecycle: Lifecycle,
    /// Images cannot be pulled.
    pub(crate) bad_image: bool,
    /// There is no room in the quota beyond so many pods.
    pub(crate) quota: usize,
    /// The garbage collector of the cluster works.
    pub(crate) collects: bool,
    counter: u64,
    pub(crate) names: BTreeSet<String>,
    /// API writes by runner.
    pub(crate) writes: BTreeMap<String, u32>,
    pub(crate) all_writes: u64,
    /// Runners whose loss was written down.
    pub(crate) losses: BTreeSet<String>,
    /// Runners that were still there when the result of their job came, or that were deleted before:
    /// GitHub alone can say what became of such a job, when no operator was there to see it.
    pub(crate) results: BTreeSet<String>,
    /// Runners that were deleted before a result of their job was known.
    pub(crate) deleted: BTreeSet<String>,
    pub(crate) kills: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) traced: bool,
}

impl World {
    pub(crate) fn new(seed: u64, wire: Wire) -> Self {
        let now = At::from_secs(1_000_000);
        let size =
            Size::Scaled { min: 0, max: 6, idle: 1, scale_down_delay: Duration::from_secs(60) };
        let deployment = Deployment {
            version: 1,
            deleting: None,
            finalizer: false,
            stop_now: false,
            size,
            revision: "aaaaaaaa".to_owned(),
            desired: None,
            scale_set: ScaleSet::None,
        };
        let nodes = (0..3).map(|n| (format!("node-{n}"), Node::Ready)).collect();
        let nodes = Store(Rc::new(nodes));
        let objects = Objects { deployment: Some(deployment), nodes, ..Objects::default() };
        Self {
            dice: Dice::new(seed),
            now,
            hostile: true,
            late: false,
            objects,
            github: GitHub::new(wire),
            mark: Mark::of_namespace("0c1f"),
            lifecycle: Lifecycle::default(),
            bad_image: false,
            quota: 100,
            collects: seed.is_multiple_of(2),
            counter: 0,
            names: BTreeSet::new(),
            writes: BTreeMap::new(),
            all_writes: 0,
            losses: BTreeSet::new(),
            results: BTreeSet::new(),
            deleted: BTreeSet::new(),
            kills: 0,
            trace: Vec::new(),
            traced: false,
        }
    }

    pub(crate) fn uid(&mut self) -> String {
        self.counter += 1;
        format!("uid-{}", self.counter)
    }

    pub(crate) fn version(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn goes_wrong(&mut self, one_in: u64) -> bool {
        self.hostile && self.dice.one_in(one_in)
    }

    /// Whether a watch did not deliver yet.
    pub(crate) fn is_late(&mut self) -> bool {
        (self.hostile || self.late) && self.dice.one_in(3)
    }

    /// Every effect and every event, where somebody wants to see them.
    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.traced {
            self.trace.push(format!("{:>9} {}", self.now.as_millis() - 1_000_000_000, text()));
        }
    }

    /// A pod that changes, with a new resourceVersion.
    pub(crate) fn pod(&mut self, name: &str) -> Option<&mut Pod> {
        let version = self.version();
        let pod = self.objects.pods.get_mut(name)?;
        pod.version = version;
        Some(pod)
    }

    /// Counts a write of an operator.
    pub(crate) fn wrote(&mut self, runner: Option<&str>) {
        self.all_writes += 1;
        if let Some(runner) = runner {
            *self.writes.entry(runner.to_owned()).or_default() += 1;
        }
    }

    /// Objects whose owner is gone, where the cluster collects them.
    pub(crate) fn collect_garbage(&mut self) {
        if !self.collects {
            return;
        }
        let runners: BTreeSet<String> =
            self.objects.runners.values().map(|runner| runner.uid.clone()).collect();
        if self.objects.secrets.values().any(|secret| !runners.contains(&secret.owner)) {
            self.objects.secrets.retain(|_, secret| runners.contains(&secret.owner));
        }
        let now = self.now;
        let orphan = |pod: &Pod| !runners.contains(&pod.owner) && pod.gone_by.is_none();
        if self.objects.pods.values().any(orphan) {
            for pod in self.objects.pods.values_mut().filter(|pod| orphan(pod)) {
                pod.gone_by = Some(now + Duration::from_secs(30));
            }
        }
    }
}
