//! What runs in the pods: GitHub's runner, played.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use testkit::{Containers, Ending, PodRun};
use tokio::sync::Semaphore;

use crate::played::{self, Failure};

/// GitHub's runner, as far as its requests go.
pub(crate) struct Runners {
    /// A job ends when it gets a permit.
    pub(crate) ends: Semaphore,
    /// How many jobs were begun.
    pub(crate) begun: AtomicUsize,
    pub(crate) unpullable: AtomicBool,
    /// They run, and say nothing to GitHub.
    pub(crate) mute: AtomicBool,
    /// One is killed for its memory with each permit.
    pub(crate) grows: Semaphore,
    /// They are online, and ask for nothing more.
    pub(crate) deaf: AtomicBool,
    /// The registrations that they were given.
    jits: Mutex<Vec<String>>,
}

impl Default for Runners {
    fn default() -> Self {
        Self {
            ends: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            unpullable: false.into(),
            mute: false.into(),
            grows: Semaphore::new(0),
            deaf: false.into(),
            jits: Mutex::default(),
        }
    }
}

impl Containers for Played {
    fn pull(&self, _: &Pod) -> Result<(), String> {
        match self.0.unpullable.load(Ordering::SeqCst) {
            true => Err("no such image".to_owned()),
            false => Ok(()),
        }
    }

    fn run(&self, run: PodRun) -> std::pin::Pin<Box<dyn Future<Output = Ending> + Send>> {
        let runners = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::select! {
                worked = runners.work(run) => Ending::Exit(i32::from(worked.is_err())),
                Ok(permit) = runners.grows.acquire() => {
                    permit.forget();
                    Ending::OutOfMemory
                }
            }
        })
    }
}

pub(crate) struct Played(pub(crate) Arc<Runners>);

impl Runners {
    /// The registrations that they were given.
    pub(crate) fn jits(&self) -> Vec<String> {
        self.jits.lock().unwrap().clone()
    }

    async fn work(&self, run: PodRun) -> Result<(), Failure> {
        if self.mute.load(Ordering::SeqCst) {
            run.stop.cancelled().await;
            return Ok(());
        }
        let jit = run.files.get("/run/sekisho/jit/jitconfig").cloned().unwrap_or_default();
        self.jits.lock().unwrap().push(String::from_utf8(jit)?);
        let steps = |_: String| async {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.ends.acquire().await?.forget();
            Ok(())
        };
        let online = async {
            if self.deaf.load(Ordering::SeqCst) {
                run.stop.cancelled().await;
            }
        };
        played::work(&run, online, steps).await.map(drop)
    }
}
