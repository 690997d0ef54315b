//! What one replica of the operator reads: its caches, its memory, and live where that is needed.

use std::time::Duration;

use sekisho_reconcile::deployment::{self, Rollout, rollout::Percent};
use sekisho_reconcile::failure::Failure;
use sekisho_reconcile::replica_set::{self, Counts, Phase};
use sekisho_reconcile::runner::{self, Node, Waiting};
use sekisho_reconcile::session;

use crate::operator::{Key, Operator};
use crate::world::{Pod, Runner, Secret, World};

impl Operator {
    /// What is missing is looked for again before anything that making it would not notice.
    pub(crate) fn pod_and_secret<'a>(
        &'a self,
        name: &str,
        world: &'a World,
    ) -> (Option<&'a Pod>, Option<&'a Secret>) {
        let record = self.cache.runners.get(name).map(|runner| &runner.record);
        let goes = self
            .cache
            .runners
            .get(name)
            .is_some_and(|runner| runner.deleting.is_some() || runner.record.ended.is_some());
        let mut pod = self.cache.pods.get(name);
        let placed = pod.is_some_and(|pod| pod.node.is_some());
        let mut secret = self.cache.secrets.get(name).or_else(|| self.made.get(name));
        let online = record.is_some_and(|record| record.online.is_some());
        if secret.is_none() && !online && (pod.is_none() || placed || goes) {
            secret = world.objects.secrets.get(name);
        }
        let bound = secret.is_some() || record.is_some_and(|record| record.pod.is_some());
        if pod.is_none() && (goes || bound) {
            pod = world.objects.pods.get(name);
        }
        (pod, secret)
    }

    pub(crate) fn observe_runner(
        &self,
        name: &str,
        runner: &Runner,
        world: &World,
    ) -> runner::Observed {
        let (pod, secret) = self.pod_and_secret(name, world);
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
                    over: self.fates.get(name).is_some_and(|fate| fate.result.is_some()),
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
            growth: match self.observe_deployment(world) {
                Some(seen) if seen.revision == set.revision => deployment::decide(&seen).growth,
                _ => 0,
            },
            next_number: set.next_number,
            last_success: set.last_success,
            failed_ttl: Duration::from_secs(u64::from(world.lifecycle.failed_ttl_seconds)),
            runners: self.set_runners(&set.uid),
            expected: self.expected.get(&set.uid).cloned().unwrap_or_default(),
            blocked: None,
            refused: self.refused(world),
            trouble: None,
        })
    }

    /// A pod for which the quota had no room, and that is tried again.
    pub(crate) fn refused(&self, world: &World) -> Option<Failure> {
        let now = self.now(world);
        let mut tried = self.troubles.iter().filter(|(key, trouble)| {
            matches!(key, Key::Runner(_))
                && matches!(trouble.failure, Failure::Quota { .. })
                && trouble.holds(now)
        });
        tried.next().map(|(_, trouble)| trouble.failure.clone())
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
            settled: self.settled,
            desired_before: deployment.desired,
            lower_since: self.lower_since,
            session: match &self.listening {
                Some(_) => deployment::Session::Polling,
                None => deployment::Session::None,
            },
            scale_set: deployment.scale_set,
            dropped_labels: vec![],
            released_since: self.released_since,
            blocked: None,
            trouble: self.troubles.get(&Key::Deployment).cloned(),
        })
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
            scale_set: deployment.and_then(|known| known.scale_set.id()),
            changed: false,
            previous: None,
            listener: match &self.listening {
                None => session::Listener::None,
                Some(known) => {
                    session::Listener::Running { set: known.set, alive: known.alive, trouble: None }
                }
            },
            statistics: self.statistics,
            reckoned: self.reckoned,
            replayed: self.listening.as_ref().map(|known| known.replayed),
            trouble: self.troubles.get(&Key::Session).cloned(),
            max: match deployment.map(|known| known.size) {
                Some(deployment::Size::Scaled { max, .. } | deployment::Size::Fixed(max)) => max,
                None => 0,
            },
            runners,
            gate: if backs_off {
                Some(session::Gate::Backoff)
            } else {
                self.refused(world).map(|_| session::Gate::Quota)
            },
        }
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
