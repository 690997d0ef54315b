//! Runners that are registered one by one: how many jobs wait, and when the queue is read again.
//!
//! There is no message queue here. Jobs are read over REST, and a webhook makes that happen at once.
//! A list is a level: a webhook that is lost is made good by the next poll.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::At;
use crate::backoff::{Jitter, pause};
use crate::deployment::Demand;
use crate::failure::Trouble;

/// How often the queue is read without a webhook.
pub const POLL_EVERY: Duration = Duration::from_secs(30);
/// How often it is read while webhooks arrive: they tell, and the poll only makes sure.
pub const POLL_WITH_WEBHOOKS: Duration = Duration::from_secs(120);
/// How long a webhook proves that webhooks arrive.
pub const WEBHOOK_PROOF: Duration = Duration::from_secs(3600);
/// How long after a webhook the list is read: several come together.
pub const GATHER: Duration = Duration::from_secs(1);
/// How long GitHub keeps a job in its queue.
pub const QUEUE_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// The label that every runner of this mode has.
pub const SELF_HOSTED: &str = "self-hosted";

/// A job that waits or runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedJob {
    /// GitHub's number.
    pub id: i64,
    /// What it asks for with `runs-on`.
    pub labels: Vec<String>,
    /// When it was queued.
    pub queued: At,
    /// The runner that has it.
    pub runner: Option<String>,
}

/// How many jobs there are for runners with these labels. A job that a runner of somebody else has is
/// not ours; one that asks for nothing is nobody's.
pub fn demand(
    jobs: &[QueuedJob],
    labels: &[String],
    is_ours: impl Fn(&str) -> bool,
    now: At,
) -> Demand {
    let (mut counted, mut demand) = (BTreeSet::new(), Demand::default());
    for job in jobs {
        let fits = match &job.runner {
            Some(runner) => is_ours(runner),
            None => is_for(&job.labels, labels) && !now.is_past(job.queued, QUEUE_LIMIT),
        };
        if fits && counted.insert(job.id) {
            demand.assigned += 1;
            demand.running += u32::from(job.runner.is_some());
        }
    }
    demand
}

/// How long a runner whose job is over may run on, and a little more.
pub const EXIT_LAG: Duration = Duration::from_secs(5);

/// Whether the job of a runner that ended is still among those that were counted when the list was read.
/// It is when it ran then; and when it began and ended since, and not just before.
pub fn is_counted(ran: bool, read: At, ended: At) -> bool {
    ran || ended >= read + EXIT_LAG
}

/// Whether a runner with `has` may take a job that asks for `wants`.
pub fn is_for(wants: &[String], has: &[String]) -> bool {
    let known = |want: &String| {
        want.eq_ignore_ascii_case(SELF_HOSTED)
            || has.iter().any(|has| has.eq_ignore_ascii_case(want))
    };
    !wants.is_empty() && wants.iter().all(known)
}

/// How long one request takes, where a look at the queue takes many: an organization's repositories are
/// read one by one, and GitHub's limit is 5,000 requests an hour.
pub const REQUEST_PACE: Duration = Duration::from_secs(1);

/// Everything [`decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made.
    pub now: At,
    /// When all of it was last read.
    pub polled: Option<At>,
    /// How many requests that took.
    pub requests: u32,
    /// When the newest webhook came.
    pub webhook: Option<At>,
    /// Since when there is a repository that a webhook told of, and that was not read since.
    pub told: Option<At>,
    /// Reading failed.
    pub trouble: Option<Trouble>,
    /// Draws the time of the next poll.
    pub jitter: Jitter,
}

/// What is read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing, for so long.
    After(Duration),
    /// The repositories that webhooks told of.
    Told,
    /// All that may have jobs.
    All,
}

/// Decides.
pub fn decide(seen: &Observed) -> Look {
    if let Some(trouble) = seen.trouble.as_ref().filter(|it| it.holds(seen.now)) {
        return Look::After(seen.now.until(trouble.next));
    }
    let Some(polled) = seen.polled else { return Look::All };
    let proven = seen.webhook.is_some_and(|webhook| !seen.now.is_past(webhook, WEBHOOK_PROOF));
    let every = if proven { POLL_WITH_WEBHOOKS } else { POLL_EVERY };
    let every = every.max(REQUEST_PACE * seen.requests);
    let wait = seen.now.until(polled + pause(every, every, 1, seen.jitter));
    if wait.is_zero() {
        return Look::All;
    }
    match seen.told.map(|told| seen.now.until(told + GATHER)) {
        Some(Duration::ZERO) => Look::Told,
        told => Look::After(told.map_or(wait, |told| told.min(wait))),
    }
}
