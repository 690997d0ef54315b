//! What runners did, and what the API server told: the evidence.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use sekisho_github::runner::ClientError;
use testkit::{Containers, Ending, PodRun};
use tokio::sync::Semaphore;

use crate::played;
use crate::world::NAMESPACE;

/// Containers that take their job; and what is remembered of them.
pub(crate) struct Seen {
    state: Mutex<State>,
    /// A job ends when it gets a permit.
    pub(crate) ends: Semaphore,
    /// Whether runners only go online, and wait without asking for a job.
    pub(crate) idle: AtomicBool,
}

#[derive(Default)]
pub(crate) struct State {
    /// How often each job began.
    pub(crate) begun: HashMap<String, u32>,
    /// When a runner's job was concluded, by its name.
    pub(crate) finished: HashMap<String, Instant>,
    pub(crate) failed: Vec<String>,
    /// Runners that were one too many, and were removed before they had a job.
    pub(crate) surplus: usize,
    /// Runners, and pods.
    there: [HashSet<String>; 2],
    gone: [HashMap<String, Instant>; 2],
    /// How many pods were made.
    pub(crate) made: usize,
    /// How many runners went online.
    pub(crate) online: usize,
}

impl Default for Seen {
    fn default() -> Self {
        let (state, idle) = (Mutex::default(), AtomicBool::new(false));
        Self { state, ends: Semaphore::new(0), idle }
    }
}

impl Seen {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, run: &PodRun) -> Result<bool, played::Failure> {
        let name = run.pod.name_any();
        let online = async {
            self.lock().online += 1;
            if self.idle.load(Ordering::SeqCst) {
                run.stop.cancelled().await;
            }
        };
        let steps = |job: String| async move {
            *self.lock().begun.entry(job).or_default() += 1;
            self.ends.acquire().await?.forget();
            Ok(())
        };
        let worked = played::work(run, online, steps).await?;
        if worked {
            self.lock().finished.insert(name, Instant::now());
        }
        Ok(worked)
    }

    /// Follows a kind for ever: the Runners are number 0, the pods 1.
    pub(crate) async fn follow<K>(self: Arc<Self>, client: Client, number: usize)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(client, NAMESPACE);
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        while let Some(event) = events.next().await {
            let mut state = self.lock();
            match event {
                Ok(watcher::Event::Apply(it) | watcher::Event::InitApply(it)) => {
                    let new = state.there[number].insert(it.name_any());
                    state.made += usize::from(new && number == 1);
                }
                Ok(watcher::Event::Delete(it)) => {
                    state.there[number].remove(&it.name_any());
                    state.gone[number].insert(it.name_any(), Instant::now());
                }
                Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                Err(error) => eprintln!("a watch of the benchmark: {error}"),
            }
        }
    }
}

impl State {
    /// From the end of each job until its Runner and its pod were gone, in microseconds; those that are.
    pub(crate) fn removals(&self) -> Vec<u64> {
        let late = |(name, at): (&String, &Instant)| {
            let gone = self.gone[0].get(name)?.max(self.gone[1].get(name)?);
            u64::try_from(gone.saturating_duration_since(*at).as_micros()).ok()
        };
        self.finished.iter().filter_map(late).collect()
    }

    /// Forgets what was, for the next measurement.
    pub(crate) fn forget(&mut self) {
        *self = Self { there: std::mem::take(&mut self.there), ..Self::default() };
    }
}

/// The containers of the cluster.
pub(crate) struct Played(pub(crate) Arc<Seen>);

impl Containers for Played {
    fn run(&self, run: PodRun) -> Pin<Box<dyn Future<Output = Ending> + Send>> {
        let seen = Arc::clone(&self.0);
        Box::pin(async move {
            match seen.run(&run).await {
                Ok(_) => Ending::Exit(0),
                Err(error) => {
                    let mut state = seen.lock();
                    match error.downcast_ref::<ClientError>() {
                        // With a job, its run would not have succeeded.
                        Some(error) if error.is_unregistered() => state.surplus += 1,
                        _ => state.failed.push(error.to_string()),
                    }
                    Ending::Exit(1)
                }
            }
        })
    }
}
