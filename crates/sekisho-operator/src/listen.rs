//! The listener of a set: messages are recorded on Runners, then acknowledged.

mod read;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use sekisho_api::Runner;
use sekisho_github::scale_set::life::Ended;
use sekisho_github::scale_set::{Acquired, Delivery, Event, Listener, ListenerOptions};
use sekisho_github::wire::scale_set::Statistics;
use sekisho_reconcile::deployment::SETTLE;
use sekisho_reconcile::runner::{Fate, Record};
use sekisho_reconcile::session::message::{self, Reading, Recording, Target, What, Write};
use sekisho_reconcile::session::poll_again;
use sekisho_reconcile::{At, Failure};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::{Context, Name};
use crate::demand::{self, Told};
use crate::failure;
use crate::github::Account;
use crate::queue::Key;
use crate::record;
use crate::runner::{self, write_record};

/// How many Runners are written at a time.
const AT_ONCE: usize = 16;
/// How often one is read again that somebody else changed meanwhile.
const CONFLICTS: usize = 10;
/// How long after a record that failed everything is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// A listener that runs.
pub(crate) struct Listening {
    pub(crate) set: i64,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) replay: Arc<Notify>,
    capacity: watch::Sender<u32>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What a listener tells of itself.
pub(crate) struct State {
    pub(crate) alive: At,
    pub(crate) trouble: Option<Failure>,
    pub(crate) statistics: Option<At>,
    pub(crate) replayed: Option<At>,
    pub(crate) session: Option<Uuid>,
    pub(crate) ended: Option<Failure>,
}

impl Listening {
    pub(crate) fn start(
        context: &Arc<Context>,
        name: &Name,
        account: &Account,
        (set, set_name): (i64, String),
        (previous, capacity): (Option<String>, u32),
    ) -> Self {
        let now = context.now();
        let state = Arc::new(Mutex::new(State {
            alive: now,
            trouble: None,
            statistics: None,
            // A session begins with the first message.
            replayed: Some(now),
            session: None,
            ended: None,
        }));
        let options = ListenerOptions {
            owner: context.settings.identity.clone(),
            previous: previous.and_then(|it| it.parse().ok()),
        };
        let (capacity, told) = watch::channel(capacity);
        let work = Work {
            context: Arc::clone(context),
            name: name.clone(),
            set_name,
            state: Arc::clone(&state),
            capacity: told,
            listener: Listener::new(Arc::clone(&account.tenant), set, options),
        };
        let (stop, replay) = (CancellationToken::new(), Arc::new(Notify::new()));
        let task = tokio::spawn(work.run(stop.clone(), Arc::clone(&replay)));
        context.metrics.sessions.inc();
        Self { set, state, replay, capacity, stop, task }
    }

    /// How many jobs may come; GitHub is told with the next poll, and that is soon.
    pub(crate) fn can_have(&self, capacity: u32) {
        self.capacity.send_if_modified(|known| std::mem::replace(known, capacity) != capacity);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes the session, and ends.
    pub(crate) async fn stop(self, context: &Context) {
        self.stop.cancel();
        let mut task = self.task;
        // A session that cannot be deleted in time is forgotten by GitHub after a while.
        if tokio::time::timeout(Duration::from_secs(5), &mut task).await.is_err() {
            task.abort();
        }
        context.metrics.sessions.dec();
    }
}

struct Work {
    context: Arc<Context>,
    name: Name,
    set_name: String,
    state: Arc<Mutex<State>>,
    capacity: watch::Receiver<u32>,
    listener: Listener,
}

impl Work {
    async fn run(mut self, stop: CancellationToken, replay: Arc<Notify>) {
        let mut hears = true;
        loop {
            let capacity = *self.capacity.borrow();
            let silent = self.context.now().since(self.lock().alive);
            let settled = hears.then(|| self.context.now() + SETTLE);
            demand::settles(&self.context, &self.name, settled);
            let event = tokio::select! {
                // All are cancel safe: what was not recorded and deleted comes again.
                () = stop.cancelled() => break,
                () = replay.notified() => {
                    self.listener.replay();
                    let now = self.context.now();
                    self.lock().replayed = Some(now);
                    continue;
                }
                () = has_other(&mut self.capacity, capacity, silent) => continue,
                event = self.listener.next(capacity) => event,
            };
            let now = self.context.now();
            self.lock().alive = now;
            hears = !matches!(event, Ok(Event::Trouble { .. }));
            let wake = match event {
                Ok(event) => self.take(event).await,
                Err(ended) => {
                    self.lock().ended = Some(self.ended(&ended));
                    self.wake();
                    break;
                }
            };
            if wake {
                self.wake();
            }
        }
        if let Err(error) = self.listener.close().await {
            tracing::info!("a session could not be deleted: {error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let wake = self.context.memory().deployments.get(&self.name).map(|it| Arc::clone(&it.wake));
        wake.into_iter().for_each(|wake| wake.notify_one());
    }

    fn ended(&self, ended: &Ended) -> Failure {
        match ended {
            Ended::Conflict { .. } => Failure::SessionHeld {
                set: self.set_name.clone(),
                owner: "somebody else".to_owned(),
            },
            Ended::SetGone => Failure::ScaleSetGone,
            Ended::Unauthorized { .. } => Failure::CredentialsRefused { detail: ended.to_string() },
            Ended::Refused { .. } => Failure::Unreachable { detail: ended.to_string() },
        }
    }

    /// Whether the session's own state is another now.
    async fn take(&mut self, event: Event) -> bool {
        let now = self.context.now();
        match event {
            Event::Opened { session, statistics } => {
                {
                    let mut state = self.lock();
                    (state.session, state.trouble) = (Some(session), None);
                    (state.replayed, state.statistics) = (Some(now), Some(now));
                }
                self.counts(statistics, &[]);
                true
            }
            Event::Idle => self.lock().trouble.take().is_some(),
            Event::Trouble { failures, error } => {
                // One that passes is nobody's business; a conflict has no failure of its own count.
                let failure = error.as_ref().map(failure::scale_set);
                if let Some(failure) = failure.filter(|_| failures > 1) {
                    self.context.metrics.failed(&failure);
                    return self.lock().trouble.replace(failure).is_none();
                }
                false
            }
            Event::Message(delivery) => {
                if let Err(failure) = self.deliver(delivery).await {
                    tracing::warn!("a message could not be recorded, and comes again: {failure}");
                    self.context.metrics.failed(&failure);
                    tokio::time::sleep(AGAIN).await;
                    self.listener.replay();
                }
                self.lock().trouble.take().is_some()
            }
        }
    }

    /// Takes GitHub's numbers, and in the same moment what a message tells of jobs that are over.
    fn counts(&self, statistics: Statistics, news: &[Recording]) {
        demand::tell(&self.context, &self.name, Told::by_session(statistics), news);
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Failure> {
        let now = self.context.now();
        let mut started = Vec::new();
        let events = match delivery.jobs() {
            Ok(jobs) => {
                started.extend(jobs.messages.iter().filter_map(read::waited));
                let unreadable = (0..jobs.unreadable).map(|_| message::Event::Unreadable);
                jobs.messages.iter().map(read::read).chain(unreadable).collect()
            }
            Err(_) => vec![message::Event::Unreadable],
        };
        let statistics = delivery.statistics();
        let Some(mark) = self.context.mark(&self.name.0) else {
            return Err(Failure::NamespaceTerminating);
        };
        let reading = message::read(&events, &mark);
        let Reading { acquire, record, without_runner, foreign, unreadable } = reading;
        self.counts(statistics, &record);
        if !acquire.is_empty() {
            let acquired = self.listener.acquire(&acquire).await;
            match acquired.map_err(|error| failure::scale_set(&error))? {
                Acquired::Jobs(jobs) => tracing::debug!(jobs = jobs.len(), "acquired"),
                Acquired::Automatic => {}
            }
        }
        self.lock().statistics = Some(now);
        let mut by_runner: BTreeMap<String, Vec<What>> = BTreeMap::new();
        for recording in record {
            by_runner.entry(recording.runner).or_default().push(recording.what);
        }
        let (context, namespace) = (&self.context, &self.name.0);
        let mut all = Vec::new();
        for (runner, told) in by_runner {
            all.push(async move {
                for what in told {
                    record_on(context, namespace, &runner, &what, now).await?;
                }
                Ok::<(), Failure>(())
            });
        }
        let all = futures_util::stream::iter(all).buffer_unordered(AT_ONCE).collect::<Vec<_>>();
        let recording = async { all.await.into_iter().collect::<Result<(), Failure>>() };
        let recorded = delivery.record(recording).await?;
        self.context.metrics.messages.inc();
        for (queued, started) in started {
            self.context.metrics.job_started(queued, started);
        }
        self.context.metrics.left_out(&without_runner, foreign, unreadable);
        if foreign > 0 || unreadable > 0 {
            let deployment = &self.name.1;
            tracing::warn!(deployment, foreign, unreadable, "parts of a message are left out");
        }
        // It comes again if this fails, and is then recorded already.
        if let Err(error) = self.listener.delete(recorded).await {
            tracing::info!("a message was recorded and comes again: {error}");
        }
        Ok(())
    }
}

/// Until a poll that begins now is to be given up, for GitHub was told another capacity with it.
async fn has_other(capacity: &mut watch::Receiver<u32>, told: u32, silent: Duration) {
    let begun = Instant::now();
    loop {
        let wanted = *capacity.borrow_and_update();
        match poll_again(told, wanted, begun.elapsed(), silent) {
            Some(Duration::ZERO) => return,
            Some(wait) => tokio::time::sleep(wait).await,
            None if capacity.changed().await.is_ok() => {}
            // Nobody is left who could want another; the listener is told to stop.
            None => std::future::pending().await,
        }
    }
}

/// Records something on a Runner. As the watch shows it, first; what that says does not need to be done,
/// and what fails because it is old, is decided by the Runner itself.
pub(crate) async fn record_on(
    context: &Context,
    namespace: &str,
    name: &str,
    what: &What,
    now: At,
) -> Result<(), Failure> {
    let api = context.api::<Runner>(namespace);
    let reference = ObjectRef::new(name).within(namespace);
    let mut shown = context.stores.runners.get(&reference).map(|it| (*it).clone());
    let mut conflict = String::new();
    for _ in 0..CONFLICTS {
        let cached = shown.take();
        let is_old = cached.is_some();
        let live = match cached {
            Some(shown) => Some(shown),
            None => api.get_opt(name).await.map_err(failure::kube)?,
        };
        if let (What::Completed { job }, Some(_)) = (what, &live) {
            let fate = Fate { at: now, result: job.result };
            context.memory().fates.insert((namespace.to_owned(), name.to_owned()), fate);
            context.enqueue(Key::Runner(namespace.to_owned(), name.to_owned()));
        }
        let record = live.as_ref().map(|live| Record::of(live.status.as_ref()));
        let pod = live.as_ref().and_then(|live| {
            let pod = context.stores.pods.get(&ObjectRef::new(name).within(namespace))?;
            let uid = live.uid().unwrap_or_default();
            Some(record::pod(&pod, &uid, &mut context.memory().pulls, now))
        });
        let target = live.as_ref().zip(record.as_ref()).map(|(live, record)| Target {
            record,
            deleting: live.metadata.deletion_timestamp.is_some(),
            pod: pod.as_ref(),
        });
        let written = match (message::record(what, target, now), &live) {
            (Write::Nothing, _) if is_old => continue,
            (Write::Nothing, _) | (_, None) => return Ok(()),
            (Write::Status(record), Some(live)) => write_record(context, live, &record, now).await,
            (Write::Delete, Some(live)) => {
                let uid = live.uid().unwrap_or_default();
                runner::delete(context, namespace, name, &uid, live.resource_version()).await
            }
        };
        match written {
            Err(Failure::Conflict { detail }) => conflict = detail,
            other => return other,
        }
    }
    Err(Failure::Conflict { detail: conflict })
}
