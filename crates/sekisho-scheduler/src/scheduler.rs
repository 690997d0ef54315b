//! The loop: observe, decide, act, until told to stop and nothing runs any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use secrecy::SecretString;
use sekisho_github::hub_api::Queue;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::decide::{self, Action, Job, Observed, Process, Registration};
use crate::hub::Hub;
use crate::process::{self, Child};

/// How often deadlines are looked at when nothing else happens.
const TICK: Duration = Duration::from_secs(1);

/// What the scheduler needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the hub listens.
    pub hub_url: Url,
    /// The hub's admin token.
    pub admin_token: SecretString,
    /// The program that is started with `runner run`: Sekisho itself.
    pub program: PathBuf,
    /// Where runners get their folders. Emptied at start.
    pub runners_dir: PathBuf,
    /// Where job logs go, one file a runner, `<runner name>.log.gz`.
    pub archive_dir: PathBuf,
    /// The builder's cache, told to runners.
    pub cache_dir: PathBuf,
    /// Settings of the builder besides, as variables of every runner.
    pub build_settings: Vec<(&'static str, String)>,
    /// Most runners at once.
    pub capacity: usize,
}

/// Starts runners for the jobs of one hub.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    hub: Hub,
    queue: Queue,
    first_seen: BTreeMap<u64, Timestamp>,
    processes: Vec<(Process, Option<Child>)>,
    attempts: BTreeMap<u64, u32>,
}

/// A child ended, and how.
type Exit = (String, String);

impl Scheduler {
    /// Cleans up after a plane that was killed, and is then ready to run.
    ///
    /// # Errors
    ///
    /// When the folders cannot be made or emptied. Blocks while it does so.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        for folder in [&config.runners_dir, &config.archive_dir, &config.cache_dir] {
            fs_err::create_dir_all(folder).context("making the scheduler's folders")?;
        }
        process::clean_up_after_crash(&config.runners_dir)?;
        let hub = Hub::new(config.hub_url.clone(), config.admin_token.clone())?;
        Ok(Self {
            config,
            hub,
            queue: Queue::default(),
            first_seen: BTreeMap::new(),
            processes: Vec::new(),
            attempts: BTreeMap::new(),
        })
    }

    /// Runs until `stop`, then tells every runner to end and returns when the last one has; from
    /// `kill` on, which means something only after `stop`, they are killed.
    ///
    /// Not cancel safe: dropped in the middle it kills its children but leaves their registrations.
    pub async fn run(mut self, stop: CancellationToken, kill: CancellationToken) {
        let (exits, mut exited) = mpsc::channel::<Exit>(64);
        let (queues, mut queue) = mpsc::channel::<Queue>(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(self.hub.clone(), queues));
        let mut tick = tokio::time::interval(TICK);
        let (mut told, mut hurried) = (false, false);
        loop {
            // Each arm is cancel safe: two channels, an interval, tokens.
            tokio::select! {
                Some(seen) = queue.recv() => self.queue = seen,
                Some((name, reason)) = exited.recv() => self.note_exit(&name, reason),
                _ = tick.tick() => {}
                () = stop.cancelled(), if !told => told = true,
                () = kill.cancelled(), if !hurried => hurried = true,
            }
            let draining = stop.is_cancelled();
            if let Err(error) = self.reconcile(draining, kill.is_cancelled(), &exits).await {
                tracing::error!("the scheduler failed: {error:#}");
            }
            if stop.is_cancelled() && self.processes.is_empty() {
                break;
            }
        }
        tasks.shutdown().await;
    }

    /// One round. A runner that has just ended may have had a job that our copy of the queue still
    /// holds, so before a runner is started the queue is read anew.
    async fn reconcile(
        &mut self,
        draining: bool,
        hurried: bool,
        exits: &mpsc::Sender<Exit>,
    ) -> anyhow::Result<()> {
        let mut plan = decide::decide(&self.observe(draining, hurried));
        if plan.iter().any(|action| matches!(action, Action::Start { .. })) {
            self.queue = self.hub.queue_now().await?;
            plan = decide::decide(&self.observe(draining, hurried));
        }
        for action in plan {
            self.act(&action, exits).await.with_context(|| format!("trying {action:?}"))?;
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now() -> Timestamp {
        Timestamp::now()
    }

    fn note_exit(&mut self, name: &str, reason: String) {
        if let Some((process, _)) = self.processes.iter_mut().find(|(known, _)| known.name == name)
        {
            process.ended.get_or_insert(reason);
        }
    }

    fn observe(&mut self, draining: bool, hurried: bool) -> Observed {
        let now = Self::now();
        let queue = &self.queue;
        self.first_seen.retain(|id, _| queue.runners.iter().any(|runner| runner.id == *id));
        self.attempts.retain(|id, _| queue.jobs.iter().any(|job| job.job_id == *id));
        let registrations = queue.runners.iter().map(|runner| Registration {
            id: runner.id,
            name: runner.name.clone(),
            busy: runner.busy,
            job: runner.job_id,
            seen: *self.first_seen.entry(runner.id).or_insert(now),
        });
        Observed {
            now,
            capacity: self.config.capacity,
            draining,
            hurried,
            registrations: registrations.collect(),
            queue: queue
                .jobs
                .iter()
                .map(|job| Job {
                    id: job.job_id,
                    repository: job.repository.clone(),
                    labels: job.labels.clone(),
                })
                .collect(),
            processes: self.processes.iter().map(|(process, _)| process.clone()).collect(),
            attempts: self.attempts.clone(),
        }
    }

    async fn act(&mut self, action: &Action, exits: &mpsc::Sender<Exit>) -> anyhow::Result<()> {
        match action {
            Action::Start { job, repository, name, labels } => {
                // Counted before it is tried, so that whatever fails is not tried for ever.
                *self.attempts.entry(*job).or_default() += 1;
                self.start(repository, name, labels, exits).await
            }
            Action::Stop { name } => {
                let now = Self::now();
                if let Some((process, child)) = self.find(name) {
                    process.stopping = Some(now);
                    child.iter().for_each(|child| child.stop());
                }
                Ok(())
            }
            Action::Kill { name } => {
                if let Some((_, Some(child))) = self.find(name) {
                    child.kill();
                }
                Ok(())
            }
            Action::Forget { name, registration, reason } => {
                self.forget(name, *registration, reason).await
            }
            Action::Sweep { registration, name } => {
                tracing::warn!(runner = name, "removing a registration without a process");
                self.hub.gone(*registration, "its process was never started").await
            }
            Action::GiveUp { job } => {
                let queued = self.queue.jobs.iter().find(|queued| queued.job_id == *job);
                let Some(run) = queued.map(|queued| queued.run_id) else { return Ok(()) };
                tracing::error!(job, run, "no runner took the job; its run is cancelled");
                self.hub.cancel(run).await
            }
        }
    }

    fn find(&mut self, name: &str) -> Option<&mut (Process, Option<Child>)> {
        self.processes.iter_mut().find(|(known, _)| known.name == name)
    }

    async fn start(
        &mut self,
        repository: &str,
        name: &str,
        labels: &[String],
        exits: &mpsc::Sender<Exit>,
    ) -> anyhow::Result<()> {
        let (registration, jit) = self.hub.register(repository, name, labels).await?;
        let started = Self::now();
        let mut process = Process {
            name: name.to_owned(),
            registration: Some(registration),
            labels: labels.to_vec(),
            started,
            stopping: None,
            ended: None,
        };
        self.first_seen.insert(registration, started);
        match process::start(&self.config, name, &jit) {
            Ok((child, mut handle)) => {
                let (name, exits) = (name.to_owned(), exits.clone());
                tokio::spawn(async move {
                    let reason = match handle.wait().await {
                        Ok(status) => status.to_string(),
                        Err(error) => format!("it cannot be waited for: {error}"),
                    };
                    // The loop outlives its children; a closed channel means it panicked.
                    let _ = exits.send((name, reason)).await;
                });
                self.processes.push((process, Some(child)));
                Ok(())
            }
            Err(error) => {
                // Kept as a process that has ended, so that the registration goes the usual way.
                process.ended = Some(format!("{error:#}"));
                self.processes.push((process, None));
                Err(error)
            }
        }
    }

    async fn forget(
        &mut self,
        name: &str,
        registration: Option<u64>,
        reason: &str,
    ) -> anyhow::Result<()> {
        let position = self.processes.iter().position(|(known, _)| known.name == name);
        let Some(position) = position else { return Ok(()) };
        // The log first: who asks for it when the hub says "completed" finds all of it.
        if let Some(child) = self.processes[position].1.take() {
            tokio::task::spawn_blocking(move || child.clean_up())
                .await
                .context("cleaning up after a runner")??;
        }
        if let Some(registration) = registration {
            self.hub.gone(registration, reason).await?;
        }
        self.processes.remove(position);
        Ok(())
    }
}

/// Keeps asking for the queue; backs off while the hub does not answer.
async fn watch(hub: Hub, queues: mpsc::Sender<Queue>) {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut after = 0;
    loop {
        match hub.queue_after(after).await {
            Ok(queue) => {
                after = queue.seq;
                if queues.send(queue).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("cannot read the hub's queue: {error:#}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
