//! The queue of runners that are registered one by one, read over REST.
//!
//! A repository's jobs are read at once. An organization has no list of its jobs: its repositories are
//! read one by one, those that were pushed to last and those of which a webhook told ([`crate::webhook`]).
//! An enterprise has no list of its repositories either: webhooks alone tell of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use sekisho_api::{ANNOTATION_JOBS, RunnerDeployment};
use sekisho_github::rest::{
    Repository, RestError, RunFilter, RunJobs, RunStatus, Scope, WorkflowJob,
};
use sekisho_reconcile::deployment::SETTLE_QUEUE;
use sekisho_reconcile::failure::Trouble;
use sekisho_reconcile::runner::{Job, Record};
use sekisho_reconcile::session::message::{self, Recording, Target, What};
use sekisho_reconcile::session::queue::{self, Look, QueuedJob};
use sekisho_reconcile::{At, Failure};

use crate::context::{Context, Name};
use crate::demand::{self, Told};
use crate::failure;
use crate::github::Account;
use crate::listen::record_on;
use crate::record::job_result;
use crate::webhook;

/// Runs of a repository that are looked into, at most.
const RUNS_MAX: usize = 100;
/// Repositories that are read at a time.
const AT_ONCE: usize = 8;

/// What is known of the queue of a deployment. All of it may be lost.
#[derive(Default)]
pub(crate) struct Queue {
    polled: Option<At>,
    /// How many requests it took to read all.
    requests: u32,
    /// What webhooks told, as it was last seen, and when the newest came.
    heard: Option<String>,
    webhook: Option<At>,
    /// Repositories that they told of, and since when these wait to be read.
    told: BTreeMap<Repository, At>,
    /// The open jobs of each repository that was read.
    jobs: BTreeMap<Repository, Vec<QueuedJob>>,
}

impl Queue {
    /// Reads what is due; how long until something is.
    pub(crate) async fn look(
        &mut self,
        context: &Context,
        account: &Account,
        name: &Name,
        object: &RunnerDeployment,
        trouble: Option<&Trouble>,
    ) -> Result<Duration, Failure> {
        let now = context.now();
        self.hear(context, name, object, now);
        let look = queue::decide(&queue::Observed {
            now,
            polled: self.polled,
            requests: self.requests,
            webhook: self.webhook,
            told: self.told.values().min().copied(),
            trouble: trouble.cloned(),
            jitter: context.jitter(),
        });
        let repositories: BTreeSet<Repository> = match look {
            Look::After(wait) => return Ok(wait),
            Look::Told => self.told.keys().cloned().collect(),
            Look::All => self.all(account).await?,
        };
        let Some(mark) = context.mark(&name.0) else { return Err(Failure::NamespaceTerminating) };
        let mut requests = 1;
        let mut events = Vec::new();
        let read: Vec<_> = repositories.iter().map(|it| read(account, it.clone())).collect();
        let mut read = futures_util::stream::iter(read).buffer_unordered(AT_ONCE);
        while let Some(answer) = read.next().await {
            let (repository, jobs, asked) = answer?;
            requests += asked;
            events.extend(jobs.iter().filter_map(|job| event(&repository, job)));
            self.told.remove(&repository);
            self.jobs.insert(repository, jobs.into_iter().filter_map(queued).collect());
        }
        if look == Look::All {
            (self.polled, self.requests) = (Some(now), requests);
            self.jobs.retain(|repository, _| repositories.contains(repository));
        }
        let news = message::read(&events, &mark).record;
        let jobs: Vec<QueuedJob> = self.jobs.values().flatten().cloned().collect();
        let demand = queue::demand(&jobs, &object.spec.labels, |runner| mark.is_on(runner), now);
        let queued: BTreeMap<String, At> =
            jobs.iter().map(|job| (job.id.to_string(), job.queued)).collect();
        let running = jobs.into_iter().filter_map(|job| job.runner).collect();
        let (settled, running) = (Some(now + SETTLE_QUEUE), Some((running, now)));
        demand::tell(context, name, Told { demand, settled, running, asked: None }, &news);
        record(context, &name.0, news, &queued, now).await?;
        Ok(Duration::ZERO)
    }

    /// What webhooks told since the last look.
    fn hear(&mut self, context: &Context, name: &Name, object: &RunnerDeployment, now: At) {
        let connection = ObjectRef::new(&object.spec.connection_ref).within(&name.0);
        let connection = context.stores.connections.get(&connection);
        let Some(text) = connection.and_then(|it| it.annotations().get(ANNOTATION_JOBS).cloned())
        else {
            return;
        };
        if self.heard.as_ref() == Some(&text) {
            return;
        }
        let before = self.heard.as_deref().map(webhook::told).unwrap_or_default();
        for (repository, at) in webhook::told(&text) {
            if before.get(&repository) != Some(&at) {
                self.told.entry(repository).or_insert(now);
            }
        }
        self.heard = Some(text);
        // By the own clock: that of the replica which got it may be another.
        self.webhook = Some(now);
    }

    /// All repositories that may have jobs.
    async fn all(&self, account: &Account) -> Result<BTreeSet<Repository>, Failure> {
        let mut all: BTreeSet<Repository> = self.told.keys().cloned().collect();
        let open = self.jobs.iter().filter(|(_, jobs)| !jobs.is_empty());
        all.extend(open.map(|(repository, _)| repository.clone()));
        match account.rest.address().scope() {
            Scope::Repository(repository) => all = BTreeSet::from([repository.clone()]),
            Scope::Organization(name) => {
                let found = account.rest.pushed_repositories(name).await;
                let found = found.map_err(|error| failure::rest(&error))?;
                all.extend(found.iter().filter_map(|it| Repository::new(name, &it.name)));
            }
            Scope::Enterprise(_) => {}
        }
        Ok(all)
    }
}

/// The jobs of the open runs of a repository, and how many requests it took to read them.
async fn read(
    account: &Account,
    repository: Repository,
) -> Result<(Repository, Vec<WorkflowJob>, u32), Failure> {
    let (mut jobs, mut requests) = (Vec::new(), 0);
    for status in ["queued", "in_progress"] {
        let filter = RunFilter { status: Some(status.to_owned()), ..Default::default() };
        requests += 1;
        let runs = match account.rest.runs(&repository, &filter).await {
            Ok(runs) => runs,
            // It was removed, or moved: it has no jobs.
            Err(error) if is_gone(account, &error) => break,
            Err(error) => return Err(failure::rest(&error)),
        };
        for run in runs.into_iter().take(RUNS_MAX) {
            requests += 1;
            let found = account.rest.jobs(&repository, run.id, RunJobs::Latest).await;
            jobs.extend(found.map_err(|error| failure::rest(&error))?);
        }
    }
    Ok((repository, jobs, requests))
}

/// One that waits or runs.
fn queued(job: WorkflowJob) -> Option<QueuedJob> {
    matches!(job.status, RunStatus::Queued | RunStatus::InProgress).then(|| QueuedJob {
        id: job.id.try_into().unwrap_or_default(),
        labels: job.labels,
        queued: At::of(job.created_at),
        runner: job.runner_name.filter(|name| !name.is_empty()),
    })
}

/// What the list says of a job that a runner has, or had.
fn event(repository: &Repository, job: &WorkflowJob) -> Option<message::Event> {
    let runner = job.runner_name.clone().filter(|name| !name.is_empty())?;
    let told = Job {
        id: job.id.to_string(),
        run_id: job.run_id.try_into().ok()?,
        repository: format!("{}/{}", repository.owner, repository.name),
        display_name: job.name.clone(),
        workflow_ref: None,
        started: Some(At::of(job.started_at)),
        completed: job.completed_at.map(At::of),
        result: (job.status == RunStatus::Completed).then(|| job_result(job.conclusion)),
    };
    Some(match job.status {
        RunStatus::InProgress => message::Event::Started {
            runner,
            registration: job.runner_id?.try_into().ok()?,
            job: told,
        },
        RunStatus::Completed => message::Event::Completed { runner: Some(runner), job: told },
        _ => return None,
    })
}

/// Writes down what the Runners do not have yet. A list says the same again and again: what the watch shows
/// is looked at first.
async fn record(
    context: &Context,
    namespace: &str,
    news: Vec<Recording>,
    queued: &BTreeMap<String, At>,
    now: At,
) -> Result<(), Failure> {
    for Recording { runner, what } in news {
        let Some(known) = context.stores.runners.get(&ObjectRef::new(&runner).within(namespace))
        else {
            continue;
        };
        let record = Record::of(known.status.as_ref());
        let deleting = known.metadata.deletion_timestamp.is_some();
        let target = Target { record: &record, deleting, pod: None };
        if message::record(&what, Some(target), now) != message::Write::Nothing {
            record_on(context, namespace, &runner, &what, now).await?;
            if let What::Started { job, .. } = &what
                && let Some((queued, started)) = queued.get(&job.id).copied().zip(job.started)
            {
                context.metrics.job_started(queued, started);
            }
        }
    }
    Ok(())
}

/// One repository of many is not there; where it is the only one, that is worth to be said.
fn is_gone(account: &Account, error: &RestError) -> bool {
    let of_many = !matches!(account.rest.address().scope(), Scope::Repository(_));
    of_many && error.status() == Some(404)
}
