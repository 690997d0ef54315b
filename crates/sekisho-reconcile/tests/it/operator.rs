//! One replica of the operator: caches, memory, what it plans. It may be stopped at any point, and there
//! are two of it. What it reads is in `operator_observe`, what it does in `operator_act`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sekisho_reconcile::backoff::Jitter;
use sekisho_reconcile::deployment::{self, Demand};
use sekisho_reconcile::failure::{Failure, Trouble};
use sekisho_reconcile::replica_set;
use sekisho_reconcile::runner::{self, AtGitHub, Fate, Registration, registration};
use sekisho_reconcile::session::message::{self, Recording, What};
use sekisho_reconcile::{At, session, sweep};

use crate::github::Wire;
use crate::world::{DEPLOYMENT, Objects, Runner, Secret, World};

/// How long GitHub holds a poll that it has nothing for.
const POLL: Duration = Duration::from_secs(50);

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
    /// Secrets that it made, which the watch may not show yet.
    pub(crate) made: BTreeMap<String, Secret>,
    pub(crate) lower_since: Option<At>,
    pub(crate) released_since: Option<At>,
    pub(crate) swept: sweep::Memory,
    pub(crate) swept_at: Option<At>,
    pub(crate) flights: Vec<Flight>,
    pub(crate) listening: Option<Listening>,
    pub(crate) demand: Option<Demand>,
    pub(crate) settled: Option<At>,
    pub(crate) polled: Option<At>,
    pub(crate) statistics: Option<At>,
    /// Since when `demand` is reckoned, and not as it was told.
    pub(crate) reckoned: Option<At>,
    pub(crate) capacity: u32,
}

pub(crate) struct Listening {
    pub(crate) set: i64,
    pub(crate) session: i64,
    pub(crate) cursor: i64,
    pub(crate) alive: At,
    pub(crate) replayed: At,
    /// The poll that is under way: the capacity that was told with it, and since when.
    pub(crate) poll: Option<(u32, At)>,
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
            made: BTreeMap::new(),
            lower_since: None,
            released_since: None,
            swept: sweep::Memory::default(),
            swept_at: None,
            flights: Vec::new(),
            listening: None,
            demand: None,
            settled: None,
            polled: None,
            statistics: None,
            reckoned: None,
            capacity: 0,
        }
    }

    pub(crate) fn now(&self, world: &World) -> At {
        At::from_millis(world.now.as_millis().saturating_add_signed(self.skew))
    }

    /// Its watches deliver, or some of them do not yet.
    pub(crate) fn refresh(&mut self, world: &mut World) {
        let fresh = |world: &mut World| !world.is_late();
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
            Key::Runner(name) => self.pod_and_secret(name, world).0.map_or(0, |pod| pod.version),
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

    fn plan_session(&mut self, world: &World) -> Option<(String, u64, Vec<Op>)> {
        if world.github.wire == Wire::Registered {
            return None;
        }
        let plan = session::decide(&self.observe_session(world));
        self.capacity = plan.capacity;
        Some((String::new(), 0, plan.effects.into_iter().map(Op::Session).collect()))
    }

    /// Without messages: the list of jobs, every now and then.
    fn plan_list(&mut self, world: &World, now: At) -> Option<(String, u64, Vec<Op>)> {
        let every = session::queue::POLL_EVERY;
        if world.late && self.polled.is_some_and(|polled| !now.is_past(polled, every)) {
            return None;
        }
        self.polled = Some(now);
        let demand = Some(world.github.demand());
        if std::mem::replace(&mut self.demand, demand) != demand || self.settled.is_none() {
            self.settled = Some(now + deployment::SETTLE_QUEUE);
        }
        let reading = message::read(&world.github.list(), &world.mark);
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
        Some((String::new(), 0, news.map(Op::Record).collect()))
    }

    /// Polls: the next message, or nothing.
    fn plan_message(&mut self, world: &mut World) -> Option<(String, u64, Vec<Op>)> {
        let now = self.now(world);
        if world.github.wire == Wire::Registered {
            return self.plan_list(world, now);
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
        let (told, since) = *listening.poll.get_or_insert((self.capacity, now));
        world.github.capacity = told;
        world.github.assign();
        let next = world.github.messages.range(listening.cursor + 1..).next();
        let Some((&id, events)) = next else {
            self.settled.get_or_insert(now + deployment::SETTLE);
            if now.is_past(since, POLL) {
                listening.alive = now;
                listening.poll = None;
            } else if session::poll_again(
                told,
                self.capacity,
                now.since(since),
                since.since(listening.alive),
            ) == Some(Duration::ZERO)
            {
                listening.poll = None;
            }
            return None;
        };
        listening.poll = None;
        (self.demand, self.reckoned) = (Some(world.github.demand()), None);
        (self.statistics, listening.alive) = (Some(now), now);
        self.settled = None;
        let events = events.clone();
        listening.cursor = id;
        let reading = message::read(&events, &world.mark);
        for recording in &reading.record {
            // In one moment with the numbers, which do not have these jobs any more.
            if let What::Completed { job } = &recording.what
                && self.cache.runners.contains_key(&recording.runner)
            {
                let fate = Fate { at: now, result: job.result };
                self.fates.insert(recording.runner.clone(), fate);
            }
        }
        let mut ops = Vec::new();
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
