//! Who works on a deployment: the lease, and the session at GitHub that goes with it.

mod hold;
pub(crate) mod scale_set;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use sekisho_api::{AcquisitionMode, FINALIZER_SCALE_SET, RunnerDeployment};
use sekisho_reconcile::Failure;
use sekisho_reconcile::deployment::{SETTLE, Session as Told};
use sekisho_reconcile::failure::Trouble;
use sekisho_reconcile::replica_set::Counts;
use sekisho_reconcile::session::{self, Effect, Listener, Observed};

use crate::context::{Context, DeploymentMemory, Name};
use crate::demand::{self, Told as Numbers};
use crate::lease::{self, Watched};
use crate::listen::Listening;
use crate::queue::Key;
use crate::{failure, poll};

/// Starts the task of a deployment, if there is none yet.
pub(crate) fn ensure(context: &Arc<Context>, name: &Name) {
    let mut memory = context.memory();
    let entry = memory.deployments.entry(name.clone()).or_default();
    if std::mem::replace(&mut entry.started, true) {
        return;
    }
    drop(memory);
    let work = Work {
        context: Arc::clone(context),
        name: name.clone(),
        watched: Watched::default(),
        lease: None,
        unheld: None,
        listening: None,
        trouble: None,
        generation: None,
        ensured: None,
        queue: poll::Queue::default(),
    };
    context.settings.tasks.spawn(work.run());
}

struct Work {
    context: Arc<Context>,
    name: Name,
    watched: Watched,
    lease: Option<Lease>,
    /// While the API server refuses to have it read or written.
    unheld: Option<hold::Unheld>,
    listening: Option<Listening>,
    trouble: Option<Trouble>,
    /// The version of the spec that the trouble is of.
    generation: Option<i64>,
    /// Group and labels that the set was last made with; without a set, those that GitHub has.
    ensured: Option<(String, Vec<String>)>,
    queue: poll::Queue,
}

impl Work {
    async fn run(mut self) {
        let reference = ObjectRef::new(&self.name.1).within(&self.name.0);
        loop {
            let Some(object) = self.context.stores.deployments.get(&reference) else { break };
            self.renew(&object).await;
            let generation = object.metadata.generation;
            let changed = std::mem::replace(&mut self.generation, generation) != generation;
            if changed || self.waited_for_connection(&object) {
                // What somebody put right is tried at once.
                self.trouble = None;
            }
            let after = match object.spec.acquisition.mode {
                AcquisitionMode::ScaleSet => self.listen(&object).await,
                AcquisitionMode::Registration => self.poll(&object).await,
            };
            let wait = after.unwrap_or(lease::RENEW_EVERY).min(lease::RENEW_EVERY);
            let wake = self.wake();
            tokio::select! {
                // Nothing is lost by any of them.
                () = self.context.stop.cancelled() => break,
                () = wake.notified() => {}
                () = tokio::time::sleep(wait.max(Duration::from_millis(20))) => {}
            }
        }
        if let Some(listening) = self.listening.take() {
            listening.stop(&self.context).await;
        }
        if self.context.stores.deployments.get(&reference).is_none() {
            self.remove_lease().await;
        }
        self.release().await;
        self.context.memory().deployments.remove(&self.name);
        // One that was made anew meanwhile found this task; now it gets its own.
        self.context.enqueue(Key::Deployment(self.name.0.clone(), self.name.1.clone()));
    }

    /// Whether its trouble was that the connection is not ready, and it is now.
    fn waited_for_connection(&self, object: &RunnerDeployment) -> bool {
        let trouble = self.trouble.as_ref().map(|it| &it.failure);
        matches!(trouble, Some(Failure::ConnectionNotReady { .. }))
            && self.context.account(&self.name.0, &object.spec.connection_ref).is_some()
    }

    fn remembered(&self) -> DeploymentMemory {
        self.context.memory().deployments.get(&self.name).cloned().unwrap_or_default()
    }

    fn wake(&self) -> Arc<tokio::sync::Notify> {
        let mut memory = self.context.memory();
        Arc::clone(&memory.deployments.entry(self.name.clone()).or_default().wake)
    }

    async fn listen(&mut self, object: &RunnerDeployment) -> Option<Duration> {
        self.bury(object);
        let seen = self.observe(object);
        let plan = session::decide(&seen);
        self.withhold(session::withheld(&seen));
        if let Some(listening) = &self.listening {
            listening.can_have(plan.capacity);
        }
        let mut after = plan.requeue_after;
        for effect in &plan.effects {
            if let Err(failure) = self.act(effect, object, plan.capacity).await {
                self.fail(failure);
                break;
            }
        }
        if !plan.effects.is_empty() {
            after = Some(Duration::from_millis(50));
        }
        let told = match (&self.listening, &self.trouble) {
            (Some(listening), trouble) => {
                let own = listening.state().trouble.clone();
                let known = own.or_else(|| trouble.as_ref().map(|it| it.failure.clone()));
                known.map_or(Told::Polling, Told::Troubled)
            }
            (None, Some(trouble)) => Told::Troubled(trouble.failure.clone()),
            (None, None) => Told::None,
        };
        self.say(if seen.wanted {
            told
        } else if self.listening.is_some() {
            Told::Polling
        } else {
            Told::None
        });
        after
    }

    fn withhold(&self, withheld: Option<(session::Gate, u32)>) {
        let mut memory = self.context.memory();
        memory.deployments.entry(self.name.clone()).or_default().withheld = withheld;
    }

    fn say(&self, told: Told) {
        let mut memory = self.context.memory();
        let entry = memory.deployments.entry(self.name.clone()).or_default();
        if entry.session.as_ref() != Some(&told) {
            entry.session = Some(told);
            drop(memory);
            self.context.enqueue(Key::Deployment(self.name.0.clone(), self.name.1.clone()));
        }
    }

    fn fail(&mut self, failure: Failure) {
        tracing::info!(deployment = self.name.1, "the session: {failure}");
        self.context.metrics.failed(&failure);
        let (now, jitter) = (self.context.now(), self.context.jitter());
        self.trouble = Some(Trouble::after(self.trouble.as_ref(), failure, now, jitter));
    }

    /// Whether the set was made with another group or other labels, as far as this process knows.
    fn is_changed(&self, object: &RunnerDeployment) -> bool {
        let spec = &object.spec;
        self.ensured
            .as_ref()
            .is_some_and(|(group, labels)| (group, labels) != (&spec.group, &spec.labels))
    }

    /// A listener that ended by itself.
    fn bury(&mut self, object: &RunnerDeployment) {
        let ended = self.listening.as_ref().and_then(|it| it.state().ended.clone());
        if let Some(failure) = ended {
            self.listening = None;
            self.context.metrics.sessions.dec();
            self.fail(failure);
        } else if self.listening.as_ref().is_some_and(|it| it.state().session.is_some())
            && !self.is_changed(object)
        {
            self.trouble = None;
        }
    }

    fn observe(&self, object: &RunnerDeployment) -> Observed {
        let now = self.context.now();
        let listener = match &self.listening {
            None => Listener::None,
            Some(listening) => {
                let state = listening.state();
                Listener::Running {
                    set: listening.set,
                    alive: state.alive,
                    trouble: state.trouble.clone(),
                }
            }
        };
        let times = self.listening.as_ref().map(|it| {
            let state = it.state();
            (state.statistics, state.replayed)
        });
        let (statistics, replayed) = times.unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let counted = status.runners.unwrap_or_default();
        let number = |number: i32| u32::try_from(number).unwrap_or_default();
        let max = object.spec.scaling.as_ref().map(|it| it.max).or(object.spec.replicas);
        let remembered = self.remembered();
        let ours = object.finalizers().iter().any(|it| it == FINALIZER_SCALE_SET);
        Observed {
            now,
            wanted: ours && object.metadata.deletion_timestamp.is_none(),
            lease: match self.watched.held_until {
                Some(until) => session::Lease::Held { until },
                None => session::Lease::NotHeld,
            },
            blocked: remembered.blocked,
            scale_set: status.scale_set.map(|set| set.id),
            changed: self.is_changed(object),
            previous: self.lease.as_ref().and_then(lease::session),
            listener,
            statistics,
            reckoned: remembered.reckoned,
            replayed,
            trouble: self.trouble.clone(),
            max: number(max.unwrap_or_default()),
            runners: Counts {
                live: number(counted.live),
                pending: number(counted.pending),
                idle: number(counted.idle),
                busy: number(counted.busy),
                failed: number(counted.failed),
            },
            gate: remembered.gate,
        }
    }

    async fn act(
        &mut self,
        effect: &Effect,
        object: &RunnerDeployment,
        capacity: u32,
    ) -> Result<(), Failure> {
        let connection = &object.spec.connection_ref;
        let account = self.context.account(&self.name.0, connection);
        let account = account.ok_or_else(|| Failure::ConnectionNotReady {
            name: connection.clone(),
            detail: "it was not checked yet".to_owned(),
        });
        match effect {
            Effect::EnsureScaleSet => {
                scale_set::ensure(&self.context, &*account?, object).await?;
                self.ensured = Some((object.spec.group.clone(), object.spec.labels.clone()));
                Ok(())
            }
            Effect::Listen { set, previous } => {
                let named = (*set, scale_set::name_of(object));
                let start = (previous.clone(), capacity);
                let context = &self.context;
                self.listening =
                    Some(Listening::start(context, &self.name, &*account?, named, start));
                Ok(())
            }
            Effect::StopListening => {
                if let Some(listening) = self.listening.take() {
                    listening.stop(&self.context).await;
                }
                Ok(())
            }
            Effect::ReadStatistics { set } => {
                let asked = Some(self.remembered().told);
                // Whatever comes of it: who could not read them asks again when they are due again.
                if let Some(listening) = &self.listening {
                    listening.state().statistics = Some(self.context.now());
                }
                let read = account?.tenant.set(*set).await;
                let read = read.map_err(|error| failure::scale_set(&error))?;
                if let Some(statistics) = read.and_then(|set| set.statistics) {
                    // Newer than any message: what explains them may still be told.
                    let settled = Some(self.context.now() + SETTLE);
                    let told = Numbers { settled, asked, ..Numbers::by_session(statistics) };
                    demand::tell(&self.context, &self.name, told, &[]);
                }
                Ok(())
            }
            Effect::Replay => {
                if let Some(listening) = &self.listening {
                    listening.replay.notify_one();
                    listening.state().replayed = Some(self.context.now());
                }
                Ok(())
            }
        }
    }

    /// Runners that are registered one by one: the queue is read from time to time.
    async fn poll(&mut self, object: &RunnerDeployment) -> Option<Duration> {
        let wanted = object.metadata.deletion_timestamp.is_none();
        self.withhold(session::withheld(&self.observe(object)));
        if !wanted || !self.watched.holds(self.context.now()) {
            self.queue = poll::Queue::default();
            self.say(Told::None);
            return None;
        }
        let account = self.context.account(&self.name.0, &object.spec.connection_ref)?;
        let trouble = self.trouble.clone();
        if self.ensured.is_none() || self.is_changed(object) {
            let now = self.context.now();
            if let Some(trouble) = trouble.as_ref().filter(|trouble| trouble.holds(now)) {
                return Some(now.until(trouble.next));
            }
            // Without its group no runner can be registered: that is said once, and not of each.
            if let Err(failure) = account.group(&object.spec.group).await {
                self.fail(failure.clone());
                self.say(Told::Troubled(failure));
                return None;
            }
            self.ensured = Some((object.spec.group.clone(), object.spec.labels.clone()));
            self.trouble = None;
        }
        if object.spec.scaling.is_none() {
            // So many as are wanted, whatever there is to do: nothing is read.
            self.say(Told::None);
            return None;
        }
        let looked = self.queue.look(&self.context, &account, &self.name, object, trouble.as_ref());
        let told = match looked.await {
            Ok(wait) if !wait.is_zero() => return Some(wait),
            Ok(_) => {
                self.trouble = None;
                Told::Polling
            }
            Err(failure) => {
                self.fail(failure.clone());
                Told::Troubled(failure)
            }
        };
        self.say(told);
        None
    }
}
