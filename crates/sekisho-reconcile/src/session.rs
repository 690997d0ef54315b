//! Session: who listens to GitHub for the jobs of a RunnerDeployment, and with which capacity.
//!
//! One replica of the operator holds the lease of a set, and listens; another takes over when the
//! lease is free. How a single message session lives (conflicts, tokens, waiting) is decided in
//! `sekisho-github`; here it is decided whether there is one at all, how many jobs may come, and what
//! a message makes to be written down ([`message`]). Runners that are registered one by one have no
//! session: [`queue`].
//!
//! **Capacity.** What GitHub is told with each poll is how many jobs the set may have in total, the
//! running ones included. When there is no room for another runner (a quota, a back-off), it is what
//! there is already: jobs then wait at GitHub, where their waiting is seen and bounded, and not here.

pub mod message;
pub mod queue;
pub mod scale_set;

use std::time::Duration;

use sekisho_api::Reason;
use sekisho_api::condition::{Claim, READY, Truth};

use crate::At;
use crate::failure::{Failure, Trouble};
use crate::replica_set::Counts;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How long a listener may be without any sign of life. A poll is answered within 65 s, and trouble
/// makes pauses of 30 s: beyond that it hangs.
pub const SILENCE_MAX: Duration = secs(150);
/// How often the numbers of a set are read in any case: messages may be lost on GitHub's side.
pub const STATISTICS_EVERY: Duration = secs(60);
/// How long numbers count that were reckoned, and not told: a job that was seen to be over may have been
/// over by GitHub's numbers already, and is then taken off twice. Its message says so, mostly sooner.
pub const RECKONED_MAX: Duration = secs(5);
/// How long a poll lasts at least, however often the capacity changes.
pub const POLL_MIN: Duration = secs(2);
/// How long ago the last sign of life may be for a poll to be given up: far less than [`SILENCE_MAX`], so
/// that one whose capacity changes all the time is not taken for one that hangs.
const GIVEN_UP_MAX: Duration = secs(60);
/// How often everything that was not acknowledged is asked for again.
pub const REPLAY_EVERY: Duration = secs(30 * 60);

/// Everything [`decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made.
    pub now: At,
    /// Jobs are wanted: the deployment is not being deleted, and its finalizer is on it.
    pub wanted: bool,
    /// This replica holds the lease of the set, as far as it knows.
    pub lease: Lease,
    /// What keeps the deployment from working: no connection, no class.
    pub blocked: Option<Failure>,
    /// `status.scaleSet.id`.
    pub scale_set: Option<i64>,
    /// Group or labels are not those that this process last made the set with.
    pub changed: bool,
    /// The id of the session that the holder before us left behind.
    pub previous: Option<String>,
    /// The listener of this process.
    pub listener: Listener,
    /// When the set's numbers were last read, with a message or without.
    pub statistics: Option<At>,
    /// Since when the numbers are reckoned, and not as they were told.
    pub reckoned: Option<At>,
    /// When everything was last asked for again, or the session was opened.
    pub replayed: Option<At>,
    /// Creating the set, or listening, failed.
    pub trouble: Option<Trouble>,
    /// `spec.scaling.max`, or `spec.replicas`.
    pub max: u32,
    /// The runners of the deployment.
    pub runners: Counts,
    /// Why no further runner can be made, if so.
    pub gate: Option<Gate>,
}

/// The lease of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Ours until then; it is renewed long before.
    Held {
        /// Until then.
        until: At,
    },
    /// Another's, or nobody's.
    NotHeld,
}

/// The listener of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// None.
    None,
    /// It runs.
    Running {
        /// The set that it listens to.
        set: i64,
        /// When it last told anything: a message, that there is none, that there is trouble.
        alive: At,
        /// What the trouble is, while there is any.
        trouble: Option<Failure>,
    },
}

/// Why no further runner can be made; the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// No further runner is let in: a quota of the namespace is used up, or a rule refuses Runners.
    Quota,
    /// Runners fail before GitHub sees them. One at a time is tried.
    Backoff,
    /// The deployment cannot work.
    Blocked,
}

/// One idempotent effect. They are done in order, up to the first that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Create the scale set, or make it what it should be; write its id into the status.
    EnsureScaleSet,
    /// Open a session and poll.
    Listen {
        /// GitHub's number of the set.
        set: i64,
        /// A session that may be in the way, and is ours to delete.
        previous: Option<String>,
    },
    /// Delete the session, and stop polling.
    StopListening,
    /// Read the set's numbers.
    ReadStatistics {
        /// GitHub's number of the set.
        set: i64,
    },
    /// Ask for everything again that was not acknowledged.
    Replay,
}

/// What to do, and when to look again if nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub effects: Vec<Effect>,
    /// How many jobs the set may have in total: `X-ScaleSetMaxCapacity` of the next poll.
    pub capacity: u32,
    /// Why it is not the maximum.
    pub gated_by: Option<Gate>,
    /// How the session does; `None` where another replica knows.
    pub claim: Option<Claim>,
    /// When to look again if nothing changes.
    pub requeue_after: Option<Duration>,
}

/// Decides.
pub fn decide(seen: &Observed) -> Plan {
    let (capacity, gated_by) = capacity(seen);
    let mut plan =
        Plan { effects: Vec::new(), capacity, gated_by, claim: None, requeue_after: None };
    let held = matches!(seen.lease, Lease::Held { until } if seen.now < until);
    if !held || !seen.wanted || seen.blocked.is_some() {
        // Without the lease another may listen already: of two, GitHub turns one away.
        if seen.listener != Listener::None {
            plan.effects.push(Effect::StopListening);
        }
        plan.claim = seen.blocked.as_ref().filter(|_| held).and_then(Failure::claim);
        return plan;
    }
    let Some(set) = seen.scale_set else {
        plan.claim = trouble_claim(seen);
        plan.requeue_after = ensure(seen, &mut plan);
        return plan;
    };
    listen(seen, set, &mut plan);
    plan
}

/// In how long a poll is given up for another, where GitHub was told another capacity with it: a poll
/// takes 50 s to end by itself, and so long jobs would wait for room that there is, or come where there is
/// none. `None`: it is left to its end. `polling`: for how long it is under way; `silent`: how long before
/// it began the last sign of life was.
///
/// Nothing is lost by it: a message that was on its way is not deleted, and comes again.
pub fn poll_again(told: u32, wanted: u32, polling: Duration, silent: Duration) -> Option<Duration> {
    (told != wanted && silent < GIVEN_UP_MAX).then(|| POLL_MIN.saturating_sub(polling))
}

/// Has the set made as it should be; or in how long, where that has just failed.
fn ensure(seen: &Observed, plan: &mut Plan) -> Option<Duration> {
    let held = seen.trouble.as_ref().filter(|trouble| trouble.holds(seen.now));
    if held.is_none() {
        plan.effects.push(Effect::EnsureScaleSet);
    }
    held.map(|trouble| seen.now.until(trouble.next))
}

fn listen(seen: &Observed, set: i64, plan: &mut Plan) {
    let start = Effect::Listen { set, previous: seen.previous.clone() };
    match &seen.listener {
        Listener::None => {
            plan.claim = trouble_claim(seen);
            // The set may have been removed by somebody: it is looked at before each session.
            plan.requeue_after = ensure(seen, plan);
            if plan.requeue_after.is_none() {
                plan.effects.push(start);
            }
        }
        Listener::Running { set: other, .. } if *other != set => {
            plan.effects.extend([Effect::StopListening, start]);
        }
        Listener::Running { alive, .. } if seen.now.is_past(*alive, SILENCE_MAX) => {
            plan.effects.extend([Effect::StopListening, start]);
        }
        Listener::Running { alive, trouble, .. } => {
            let mut next = seen.now.until(*alive + SILENCE_MAX);
            plan.claim = trouble.as_ref().map_or_else(|| Some(polling()), Failure::claim);
            if seen.changed {
                // It takes jobs as it was, until it is as it should be.
                plan.claim = trouble_claim(seen).or(plan.claim.take());
                next = ensure(seen, plan).map_or(next, |wait| next.min(wait));
            }
            if trouble.is_none() {
                next = next.min(refresh(seen, set, plan));
            }
            plan.requeue_after = Some(next.max(Duration::from_millis(100)));
        }
    }
}

/// What is read from time to time whether there are messages or not; when next.
fn refresh(seen: &Observed, set: i64, plan: &mut Plan) -> Duration {
    let due =
        |last: Option<At>, every| last.map_or(Duration::ZERO, |at| seen.now.until(at + every));
    let reckoned = seen.reckoned.map(|at| at + RECKONED_MAX);
    let reckoned = reckoned.filter(|at| seen.statistics.is_none_or(|read| read < *at));
    let reckoned = reckoned.map(|at| seen.now.until(at));
    let statistics = due(seen.statistics, STATISTICS_EVERY);
    let statistics = reckoned.map_or(statistics, |due| due.min(statistics));
    if statistics.is_zero() {
        plan.effects.push(Effect::ReadStatistics { set });
    }
    let replay = due(seen.replayed, REPLAY_EVERY);
    if replay.is_zero() {
        plan.effects.push(Effect::Replay);
    }
    let next = |due: Duration, every| if due.is_zero() { every } else { due };
    next(statistics, STATISTICS_EVERY).min(next(replay, REPLAY_EVERY))
}

/// How many of its maximum there may not be now, and why; also where there is no session to tell GitHub.
pub fn withheld(seen: &Observed) -> Option<(Gate, u32)> {
    let (capacity, gate) = capacity(seen);
    gate.map(|gate| (gate, seen.max.saturating_sub(capacity)))
}

fn capacity(seen: &Observed) -> (u32, Option<Gate>) {
    if !seen.wanted {
        return (0, None);
    }
    let gate = if seen.blocked.is_some() { Some(Gate::Blocked) } else { seen.gate };
    let open = match gate {
        None => return (seen.max, None),
        Some(Gate::Blocked) => seen.runners.busy,
        Some(Gate::Quota) => seen.runners.live,
        // One more: without a job nothing is tried where no runner is kept ready.
        Some(Gate::Backoff) => seen.runners.busy + seen.runners.idle + 1,
    };
    (open.min(seen.max), gate.filter(|_| open < seen.max))
}

fn trouble_claim(seen: &Observed) -> Option<Claim> {
    seen.trouble.as_ref().and_then(|trouble| trouble.failure.claim())
}

fn polling() -> Claim {
    let message = String::new();
    Claim { kind: READY, truth: Truth::True, reason: Reason::Polling, message }
}

#[cfg(test)]
mod tests;
