//! The queue of runners that are registered one by one, read over REST.
//!
//! Only a connection to a repository can be read so: an organization has no list of its queued jobs.
//! A deployment of an organization has its `scaling.min`, or a fixed number.

use sekisho_github::rest::{RunFilter, RunJobs, RunStatus, Scope};
use sekisho_reconcile::session::queue::{self, QueuedJob};
use sekisho_reconcile::{At, Failure};

use crate::context::{Context, Name};
use crate::failure;
use crate::github::Account;
use crate::listen::remember_demand;
use crate::record::stamp;

/// Runs that are looked into in one poll, at most.
const RUNS_MAX: usize = 100;

/// Reads how many jobs there are for runners with these labels.
pub(crate) async fn demand(
    context: &Context,
    account: &Account,
    name: &Name,
    labels: &[String],
    now: At,
) -> Result<(), Failure> {
    let Scope::Repository(repository) = account.rest.address().scope() else { return Ok(()) };
    let Some(mark) = context.mark(&name.0) else { return Ok(()) };
    let mut jobs = Vec::new();
    for status in ["queued", "in_progress"] {
        let filter = RunFilter { status: Some(status.to_owned()), ..Default::default() };
        let runs = account.rest.runs(repository, &filter).await;
        let runs = runs.map_err(|error| failure::rest(&error))?;
        for run in runs.into_iter().take(RUNS_MAX) {
            let found = account.rest.jobs(repository, run.id, RunJobs::Latest).await;
            let found = found.map_err(|error| failure::rest(&error))?;
            let open = found
                .into_iter()
                .filter(|job| matches!(job.status, RunStatus::Queued | RunStatus::InProgress));
            jobs.extend(open.map(|job| QueuedJob {
                id: job.id.try_into().unwrap_or_default(),
                labels: job.labels,
                queued: stamp(job.created_at),
                runner: job.runner_name.filter(|name| !name.is_empty()),
            }));
        }
    }
    let demand = queue::demand(&jobs, labels, |runner| mark.is_on(runner), now);
    remember_demand(context, name, demand);
    Ok(())
}
