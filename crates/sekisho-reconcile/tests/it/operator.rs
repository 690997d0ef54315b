//! One replica of the operator: caches, memory, what it reads, what it plans. It may be stopped at any
//! point, and there are two of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sekisho_reconcile::backoff::Jitter;
use sekisho_reconcile::deployment::{self, Demand, Rollout, rollout::Percent};
use sekisho_reconcile::failure::{Failure, Trouble};
use sekisho_reconcile::replica_set::{self, Counts, Phase};
use sekisho_reconcile::runner::{self, AtGitHub, Fate, Node, Registration, Waiting, registration};
use sekisho_reconcile::session::message::{self, Recording};
use sekisho_reconcile::{At, session, sweep};

use crate::github::Wire;
use crate::world::{DEPLOYMENT, Objects, Pod, Runner, World};

/// What is decided together, and never twice at the same time by one replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Runner(String),
    Set(String),
    Deployment,
    Session,
    Message,
    Sweep,
}

/// A plan that is being acted upon.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) version: u64,
    pub(crate) pod_version: u64,
    pub(crate) ops: VecDeque<Op>,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Runner(runner::Effect),
    Registering { pod_uid: String, progress: registration::Progress, seen: registration::Seen },
    Set(replica_set::Effect),
    Deployment(deployment::Effect),
    DeploymentStatus { desired: u32 },
    Session(session::Effect),
    Sweep(sweep::Effect),
    Acquire(Vec<i64>),
    Record(Recording),
    Acknowledge(i64),
}

pub(crate) struct Operator {
    pub(crate) index: usize,
    pub(crate) cache: Objects,
    /// How far its clock is off.
    pub(crate) skew: i64,
    pub(crate) views: BTreeMap<String, AtGitHub>,
    pub(crate) fates: BTreeMap<String, Fate>,
    pub(crate) troubles: BTreeMap<Key, Trouble>,
    pub(crate) expected: BTreeMap<String, BTreeSet<u64>>,
    pub(crate) lower_since: Option<At>,
    pub(crate) released_since: Option<At>,
    pub(crate) swept: sweep::Memory,
    pub(crate) swept_at: Option<At>,
    pub(crate) flights: Vec<Flight>,
    pub(crate) listening: Option<Listening>,
    pub(crate) demand: Option<Demand>,
    pub(crate) statistics: Option<At>,
    pub(crate) capacity: u32,
}

pub(crate) struct Listening {
    pub(crate) set: i64,
    pub(crate) session: i64,
    pub(crate) cursor: i64,
    pub(crate) alive: At,
    pub(crate) replayed: At,
}

impl Operator {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            cache: Objects::default(),
            skew: 0,
            views: BTreeMap::new(),
            fates: BTreeMap::new(),
            troubles: BTreeMap::new(),
            expected: BTreeMap::new(),
            lower_since: None,
            released_since: None,
            swept: sweep::Memory::default(),
            swept_at: None,
            flights: Vec::new(),
            listening: None,
            demand: None,
            statistics: None,
            capacity: 0,
        }
    }

    pub(crate) fn now(&self, world: &World) -> At {
        At::from_millis(world.now.as_millis().saturating_add_signed(self.skew))
    }

    /// Its watches deliver, or some of them do not yet.
    pub(crate) fn refresh(&mut self, world: &mut World) {
        let fresh = |world: &mut World| !world.goes_wrong(3);
        if fresh(world) {
            self.cache.deployment = world.objects.deployment.clone();
        }
        if fresh(world) {
            self.cache.sets = world.objects.sets.clone();
        }
        if fresh(world) {
            self.cache.runners = world.objects.runners.clone();
            for (name, runner) in self.cache.runners.iter() {
                let number = sekisho_reconcile::name::number(name).unwrap();
                if let Some(expected) = self.expected.get_mut(&runner.owner) {
                    expected.remove(&number);
                }
            }
        }
        if fresh(world) {
            self.cache.pods = world.objects.pods.clone();
        }
        if fresh(world) {
            self.cache.secrets = world.objects.secrets.clone();
        }
        if fresh(world) {
            self.cache.nodes = world.objects.nodes.clone();
        }
    }

    /// Everything that could be decided upon.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let mut keys = vec![Key::Deployment, Key::Session, Key::Message, Key::Sweep];
        keys.extend(self.cache.sets.keys().cloned().map(Key::Set));
        keys.extend(self.cache.runners.keys().cloned().map(Key::Runner));
        keys.retain(|key| self.flights.iter().all(|flight| flight.key != *key));
        keys
    }

    /// Decides upon one thing; whether there is anything to do.
    pub(crate) fn plan(&mut self, key: &Key, world: &mut World) -> bool {
        let flight = match key {
            Key::Runner(name) => self.plan_runner(name, world),
            Key::Set(name) => self.plan_set(name, world),
            Key::Deployment => self.plan_deployment(world),
            Key::Session => self.plan_session(world),
            Key::Message => self.plan_message(world),
            Key::Sweep => self.plan_sweep(world),
        };
        let Some((uid, version, ops)) = flight else { return false };
        if ops.is_empty() {
            return false;
        }
        let index = self.index;
        world.say(|| format!("operator {index} plans {key:?}: {ops:?}"));
        let pod_version = match key {
            Key::Runner(name) => self.pod(name, world).map_or(0, |pod| pod.version),
            _ => 0,
        };
        let key = key.clone();
        self.flights.push(Flight { key, uid, version, pod_version, ops: ops.into() });
        true
    }

    fn plan_runner(&mut self, name: &str, world: &World) -> Option<(String, u64, Vec<Op>)> {
        let runner = self.cache.runners.get(name)?.clone();
        let seen = self.observe_runner(name, &runner, world);
        let plan = runner::decide(&seen);
        let ops = plan.effects.into_iter().map(|effect| match effect {
            runner::Effect::Register { pod_uid } => Op::Registering {
                pod_uid,
                progress: registration::Progress::default(),
                seen: registration::Seen::Start,
            },
            effect => Op::Runner(effect),
        });
        Some((runner.uid, runner.version, ops.collect()))
    }

    /// What is missing is looked for again before anything irreversible.
    fn pod<'a>(&'a self, name: &str, world: &'a World) -> Option<&'a Pod> {
        let known = self.cache.secrets.contains_key(name);
        self.cache.pods.get(name).filter(|_| known).or_else(|| world.objects.pods.get(name))
    }

    pub(crate) fn observe_runner(
        &self,
        name: &str,
        runner: &Runner,
        world: &World,
    ) -> runner::Observed {
        let pod = self.pod(name, world);
        let secret = self.cache.secrets.get(name).or_else(|| world.objects.secrets.get(name));
        let node = pod.and_then(|pod| pod.node.as_ref());
        let bound = runner.record.pod.as_ref().and_then(|pod| pod.node.as_ref());
        let node = node.or(bound).map_or(Node::Unknown, |node| {
            match self.cache.nodes.get(node).copied().unwrap_or(Node::Gone) {
                Node::Gone => world.objects.nodes.get(node).copied().unwrap_or(Node::Gone),
                state => state,
            }
        });
        runner::Observed {
            now: self.now(world),
            name: name.to_owned(),
            created: runner.created,
            deleting: runner.deleting,
            finalizer: runner.finalizer,
            stop_now: runner.stop_now,
            namespace_terminating: false,
            lifecycle: world.lifecycle.clone(),
            record: runner.record.clone(),
            pod: pod.map(|pod| seen_pod(pod, &runner.uid)),
            node,
            secret: secret.filter(|secret| secret.owner == runner.uid).map(|secret| {
                runner::Secret {
                    uid: secret.uid.clone(),
                    pod_uid: secret.pod_uid.clone(),
                    registration: secret.registration,
                }
            }),
            github: self.views.get(name).copied(),
            fate: self.fates.get(name).copied(),
            trouble: self.troubles.get(&Key::Runner(name.to_owned())).cloned(),
        }
    }

    pub(crate) fn set_runners(&self, set_uid: &str) -> Vec<replica_set::Runner> {
        let owned = self.cache.runners.iter().filter(|(_, runner)| runner.owner == set_uid);
        owned
            .map(|(name, runner)| {
                let placed = self.cache.pods.get(name).is_some_and(|pod| pod.node.is_some());
                replica_set::Runner {
                    name: name.clone(),
                    uid: runner.uid.clone(),
                    created: runner.created,
                    deleting: runner.deleting.is_some(),
                    finalizer: runner.finalizer,
                    stop_now: runner.stop_now,
                    phase: Phase::of(&runner.record, placed),
                    online: runner.record.online,
                }
            })
            .collect()
    }

    pub(crate) fn observe_set(&self, name: &str, world: &World) -> Option<replica_set::Observed> {
        let set = self.cache.sets.get(name)?;
        let owner = self.cache.deployment.as_ref();
        Some(replica_set::Observed {
            now: self.now(world),
            deleting: set.deleting || owner.is_none_or(|owner| owner.deleting.is_some()),
            namespace_terminating: false,
            stop_now: set.stop_now,
            desired: set.replicas,
            growth: self.observe_deployment(world).map(|seen| deployment::decide(&seen).growth),
            next_number: set.next_number,
            last_success: set.last_success,
            failed_ttl: Duration::from_secs(u64::from(world.lifecycle.failed_ttl_seconds)),
            runners: self.set_runners(&set.uid),
            expected: self.expected.get(&set.uid).cloned().unwrap_or_default(),
            blocked: None,
            refused: self.refused(world),
        })
    }

    /// A pod for which the quota had no room, and that is tried again.
    fn refused(&self, world: &World) -> Option<Failure> {
        let now = self.now(world);
        let mut tried = self.troubles.iter().filter(|(key, trouble)| {
            matches!(key, Key::Runner(_))
                && matches!(trouble.failure, Failure::Quota { .. })
                && trouble.holds(now)
        });
        tried.next().map(|(_, trouble)| trouble.failure.clone())
    }

    fn plan_set(&mut self, name: &str, world: &World) -> Option<(String, u64, Vec<Op>)> {
        let set = self.cache.sets.get(name)?.clone();
        let seen = self.observe_set(name, world)?;
        let plan = replica_set::decide(&seen);
        let mut ops: Vec<Op> = plan.effects.into_iter().map(Op::Set).collect();
        let written =
            ops.iter().any(|op| matches!(op, Op::Set(replica_set::Effect::WriteStatus(_))));
        if !written && plan.status.last_success != set.last_success {
            ops.push(Op::Set(replica_set::Effect::WriteStatus(Box::new(plan.status))));
        }
        Some((set.uid, set.version, ops))
    }

    pub(crate) fn observe_deployment(&self, world: &World) -> Option<deployment::Observed> {
        let deployment = self.cache.deployment.as_ref()?;
        let sets = self.cache.sets.iter().map(|(name, set)| {
            let runners = self.set_runners(&set.uid);
            deployment::Set {
                name: name.clone(),
                uid: set.uid.clone(),
                revision: set.revision.clone(),
                created: set.created,
                deleting: set.deleting,
                stop_now: set.stop_now,
                replicas: set.replicas,
                runners: replica_set::count(&runners),
                all_runners: runners.len() as u32,
                problem: None,
            }
        });
        Some(deployment::Observed {
            now: self.now(world),
            deleting: deployment.deleting,
            finalizer: deployment.finalizer,
            stop_now: deployment.stop_now,
            namespace_terminating: false,
            size: deployment.size,
            revision: deployment.revision.clone(),
            rollout: Rollout {
                max_surge: Percent(25),
                max_unavailable: Percent(0),
                history_limit: 2,
            },
            sets: sets.collect(),
            demand: self.demand,
            desired_before: deployment.desired,
            lower_since: self.lower_since,
            session: match &self.listening {
                Some(_) => deployment::Session::Polling,
                None => deployment::Session::None,
            },
            scale_set: deployment.scale_set,
            released_since: self.released_since,
            blocked: None,
            trouble: self.troubles.get(&Key::Deployment).cloned(),
        })
    }

    fn plan_deployment(&mut self, world: &World) -> Option<(String, u64, Vec<Op>)> {
        let seen = self.observe_deployment(world)?;
        let plan = deployment::decide(&seen);
        (self.lower_since, self.released_since) = (plan.lower_since, plan.released_since);
        let mut ops = Vec::new();
        if seen.deleting.is_none() && seen.desired_before != Some(plan.status.desired) {
            ops.push(Op::DeploymentStatus { desired: plan.status.desired });
        }
        ops.extend(plan.effects.into_iter().map(Op::Deployment));
        let version = self.cache.deployment.as_ref()?.version;
        Some((DEPLOYMENT.to_owned(), version, ops))
    }

    pub(crate) fn observe_session(&self, world: &World) -> session::Observed {
        let deployment = self.cache.deployment.as_ref();
        let runners =
            self.cache.sets.values().map(|set| replica_set::count(&self.set_runners(&set.uid)));
        let runners = runners.fold(Counts::default(), |sum, counts| Counts {
            live: sum.live + counts.live,
            pending: sum.pending + counts.pending,
            idle: sum.idle + counts.idle,
            busy: sum.busy + counts.busy,
            failed: sum.failed + counts.failed,
        });
        let now = self.now(world);
        let backs_off = self.cache.sets.keys().any(|name| {
            self.observe_set(name, world)
                .is_some_and(|seen| replica_set::decide(&seen).backoff.is_some())
        });
        session::Observed {
            now,
            wanted: deployment.is_some_and(|known| known.deleting.is_none() && known.finalizer),
            lease: session::Lease::Held { until: now + Duration::from_secs(15) },
            blocked: None,
            scale_set: deployment.and_then(|known| known.scale_set),
            previous: None,
            listener: match &self.listening {
                None => session::Listener::None,
                Some(known) => {
                    session::Listener::Running { set: known.set, alive: known.alive, trouble: None }
                }
            },
            statistics: self.statistics,
            replayed: self.listening.as_ref().map(|known| known.replayed),
            trouble: self.troubles.get(&Key::Session).cloned(),
            max: 6,
            runners,
            gate: if backs_off {
                Some(session::Gate::Backoff)
            } else {
                self.refused(world).map(|_| session::Gate::Quota)
            },
        }
    }

    fn plan_session(&mut self, world: &World) -> Option<(String, u64, Vec<Op>)> {
        if world.github.wire == Wire::Registered {
            return None;
        }
        let plan = session::decide(&self.observe_session(world));
        self.capacity = plan.capacity;
        Some((String::new(), 0, plan.effects.into_iter().map(Op::Session).collect()))
    }

    /// Polls: the next message, or nothing.
    fn plan_message(&mut self, world: &mut World) -> Option<(String, u64, Vec<Op>)> {
        let now = self.now(world);
        if world.github.wire == Wire::Registered {
            self.demand = Some(world.github.demand());
            let reading = message::read(&world.github.list(), &world.mark, 0);
            let news = reading.record.into_iter().filter(|news| {
                self.cache.runners.get(&news.runner).is_some_and(|runner| {
                    let target = message::Target {
                        record: &runner.record,
                        deleting: runner.deleting.is_some(),
                        pod: None,
                    };
                    message::record(&news.what, Some(target), now) != message::Write::Nothing
                })
            });
            return Some((String::new(), 0, news.map(Op::Record).collect()));
        }
        let listening = self.listening.as_mut()?;
        let known = world.github.session.as_ref().is_some_and(|s| s.id == listening.session);
        if !known || world.goes_wrong(30) {
            self.listening = None;
            return None;
        }
        if world.goes_wrong(10) {
            return None;
        }
        let at = world.now;
        if let Some(session) = &mut world.github.session {
            session.polled = at;
        }
        world.github.capacity = self.capacity;
        world.github.assign();
        self.demand = Some(world.github.demand());
        (self.statistics, listening.alive) = (Some(now), now);
        let (&id, events) = world.github.messages.range(listening.cursor + 1..).next()?;
        let events = events.clone();
        listening.cursor = id;
        let room = self.capacity.saturating_sub(world.github.demand().assigned);
        let reading = message::read(&events, &world.mark, room);
        let mut ops = Vec::new();
        let unacquired =
            events.iter().any(|event| matches!(event, message::Event::Available { .. }))
                && reading.acquire.is_empty();
        if unacquired {
            // There is no room: it stays in the queue, and is asked for again.
            listening.cursor = 0;
            return None;
        }
        if !reading.acquire.is_empty() {
            ops.push(Op::Acquire(reading.acquire));
        }
        ops.extend(reading.record.into_iter().map(Op::Record));
        ops.push(Op::Acknowledge(id));
        Some((String::new(), 0, ops))
    }

    fn plan_sweep(&mut self, world: &World) -> Option<(String, u64, Vec<Op>)> {
        let now = self.now(world);
        let due = self.swept_at.is_none_or(|at| now.is_past(at, sweep::SWEEP_EVERY));
        if !due && !world.hostile {
            return None;
        }
        self.swept_at = Some(now);
        let objects = &world.objects;
        let registrations = world.github.registrations.iter().map(|(id, known)| {
            sweep::Registered { id: *id, name: known.name.clone(), busy: known.job.is_some() }
        });
        let seen = sweep::Observed {
            now,
            mark: world.mark.clone(),
            registrations: registrations.collect(),
            runners: objects.runners.iter().map(|(name, runner)| swept(name, runner)).collect(),
            sets: objects.sets.values().map(|set| set.uid.clone()).collect(),
            pods: objects
                .pods
                .iter()
                .map(|(name, pod)| sweep::Object {
                    name: name.clone(),
                    uid: pod.uid.clone(),
                    owner: Some(pod.owner.clone()),
                    created: pod.created,
                    deleting: pod.gone_by.is_some(),
                })
                .collect(),
            secrets: objects
                .secrets
                .iter()
                .map(|(name, secret)| sweep::Object {
                    name: name.clone(),
                    uid: secret.uid.clone(),
                    owner: Some(secret.owner.clone()),
                    created: secret.created,
                    deleting: false,
                })
                .collect(),
            memory: self.swept.clone(),
        };
        let plan = sweep::decide(&seen);
        for (id, known) in &world.github.registrations {
            let (online, busy) = (known.online, known.job.is_some());
            let seen = Registration::Present { id: *id, online, busy };
            self.views.insert(known.name.clone(), AtGitHub { at: now, seen });
        }
        for (name, sweeps) in &plan.memory.absent {
            let seen = Registration::Absent { sweeps: *sweeps };
            self.views.insert(name.clone(), AtGitHub { at: now, seen });
        }
        self.swept = plan.memory;
        Some((String::new(), 0, plan.effects.into_iter().map(Op::Sweep).collect()))
    }

    /// An effect failed: the rest of the plan is dropped, and it is tried again later.
    pub(crate) fn fails(&mut self, key: &Key, failure: Failure, world: &World) {
        let now = self.now(world);
        let trouble = Trouble::after(self.troubles.get(key), failure, now, Jitter::of(500));
        self.troubles.insert(key.clone(), trouble);
    }
}

fn swept(name: &str, runner: &Runner) -> sweep::Runner {
    sweep::Runner {
        name: name.to_owned(),
        uid: runner.uid.clone(),
        registered: runner.record.ended.is_none() && runner.record.registration.is_some(),
        finalizer: runner.finalizer,
        owner: Some(runner.owner.clone()),
        created: runner.created,
        deleting: runner.deleting.is_some(),
    }
}

pub(crate) fn seen_pod(pod: &Pod, runner_uid: &str) -> runner::Pod {
    runner::Pod {
        uid: pod.uid.clone(),
        ours: pod.owner == runner_uid,
        created: pod.created,
        gone_by: pod.gone_by,
        node: pod.node.clone(),
        waiting: pod
            .pull_failed
            .map(|since| Waiting::ImagePull { since, detail: "ImagePullBackOff".to_owned() }),
        runner: pod.container,
        disrupted: pod.disrupted.clone(),
        out_of_memory: pod.out_of_memory,
    }
}
