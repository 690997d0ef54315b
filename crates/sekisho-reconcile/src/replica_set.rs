//! RunnerReplicaSet: which runners are made, and which are stopped.
//!
//! A runner takes part (is *live*) until its job is over, until it ends, or until it is deleted without a
//! job. One that failed is kept to be looked at, and is never counted. Nothing that is not owned by the
//! set is touched.
//!
//! **Names.** `status.nextNumber` is raised, with the resourceVersion as precondition, before runners
//! of these numbers are made: so no name is used twice, and of two controllers with the same view only
//! one makes them. Numbers of runners that were never made (a crash) are left out for ever.
//!
//! **Back-off.** Runners that failed before GitHub saw them, one after the other, make a *streak*.
//! While it lasts, one runner at a time is tried, after a pause as long as the streak has lasted
//! already (which doubles it), between [`PAUSE_MIN`] and [`PAUSE_MAX`]. A runner that reaches GitHub
//! ends it. Failures after that, with a job or without, are no reason to start fewer.

mod steps;

use std::collections::BTreeSet;
use std::time::Duration;

use sekisho_api::Reason;
use sekisho_api::condition::{Claim, READY, Truth};

use crate::At;
use crate::failure::{Failure, Trouble};
use crate::runner::Record;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The pause after the first failure of a streak.
pub const PAUSE_MIN: Duration = secs(10);
/// The longest pause: what was put right is noticed within it.
pub const PAUSE_MAX: Duration = secs(300);
/// How long a failure counts for the streak, and is kept for it whatever `failedTtlSeconds` says.
pub const STREAK_MEMORY: Duration = secs(900);
/// How many failed runners are kept for the streak: its first and the newest.
pub const STREAK_KEPT: usize = 4;
/// How long a runner that was lost is kept whatever `failedTtlSeconds` says, while it is open what
/// became of its job: the message may still come.
pub const LOSS_KEPT: Duration = secs(20 * 60);
/// How far another replica's clock may be ahead.
pub const CLOCK_SKEW: Duration = secs(30);
/// Most failed runners that are kept; beyond them the oldest go before their time.
pub const FAILED_KEPT: usize = 50;
/// Most runners that are made or stopped in one pass.
pub const BATCH: usize = 200;
/// How exactly the last success is written while nothing fails.
pub const SUCCESS_GRAIN: Duration = secs(60);

/// Everything [`decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made.
    pub now: At,
    /// `metadata.deletionTimestamp` is set, on the set or on its RunnerDeployment.
    pub deleting: bool,
    /// Nothing can be created in the namespace.
    pub namespace_terminating: bool,
    /// [`sekisho_api::ANNOTATION_STOP_NOW`] is on it.
    pub stop_now: bool,
    /// `spec.replicas`.
    pub desired: u32,
    /// How many runners are worth making now: [`crate::deployment::Plan::growth`] of the same moment.
    /// `desired` still holds idle runners back from being stopped when this has fallen already, and a
    /// runner whose job is over must not be replaced meanwhile. 0 of an older revision; where nothing
    /// is decided yet, for `desired` may be long past (another held the lease); and where it was decided
    /// before GitHub told its last numbers, for `runners` are counted by these.
    pub growth: u32,
    /// `status.nextNumber`; 0 where there is none.
    pub next_number: u64,
    /// `status.lastSuccessSeconds`.
    pub last_success: Option<At>,
    /// `spec.runner.lifecycle.failedTtlSeconds`.
    pub failed_ttl: Duration,
    /// All runners that the set owns, by uid of the controller reference.
    pub runners: Vec<Runner>,
    /// Numbers of runners that this process made, and that the cache does not show yet.
    pub expected: BTreeSet<u64>,
    /// What keeps runners from being made: no connection, no class, a template that is none.
    pub blocked: Option<Failure>,
    /// What the last try to make a pod said that will be tried again: the quota has no room.
    pub refused: Option<Failure>,
    /// What the last try to make Runners said.
    pub trouble: Option<Trouble>,
}

/// A runner of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: At,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// Our finalizer is still on it.
    pub finalizer: bool,
    /// [`sekisho_api::ANNOTATION_STOP_NOW`] is on it.
    pub stop_now: bool,
    /// What it does.
    pub phase: Phase,
    /// Its job is over, whatever its status says: the jobs that GitHub counted last do not have it.
    pub over: bool,
    /// `timeline.online`.
    pub online: Option<At>,
}

/// What a runner does, as far as its set needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// GitHub does not see it yet. `placed`: its pod has a node.
    Pending {
        /// Its pod has a node: stopping it wastes more.
        placed: bool,
    },
    /// It waits for a job.
    Idle,
    /// It has a job.
    Busy,
    /// It has a job no more, or will lose it, and is on its way out.
    Completing,
    /// It failed.
    Failed {
        /// When.
        at: At,
        /// Why.
        reason: Reason,
        /// It has, or may have had, a job whose result is not known.
        open_job: bool,
    },
}

impl Phase {
    /// What a runner with this status does. `placed`: its pod has a node.
    pub fn of(record: &Record, placed: bool) -> Self {
        if let Some(at) = record.ended {
            let reason = record.state;
            // Without a Runner there is nothing that a late message could be written on.
            let may_have_had_one = record.registration.is_some()
                && matches!(
                    reason,
                    Reason::PodLost
                        | Reason::NodeLost
                        | Reason::RunnerExited
                        | Reason::OutOfMemory
                        | Reason::StoppedWithJob
                        | Reason::JobTimeout
                );
            let open_job = record.job.as_ref().map_or(may_have_had_one, |job| job.result.is_none());
            return Self::Failed { at, reason, open_job };
        }
        match record.state {
            Reason::Idle => Self::Idle,
            Reason::Busy => Self::Busy,
            Reason::Interrupted | Reason::Completing => Self::Completing,
            _ => Self::Pending { placed },
        }
    }
}

/// How many runners there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pending, idle and busy.
    pub live: u32,
    /// GitHub does not see them yet.
    pub pending: u32,
    /// Wait for a job.
    pub idle: u32,
    /// Have a job that is not over, also while they are deleted.
    pub busy: u32,
    /// Failed.
    pub failed: u32,
}

/// A streak of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// When it began.
    pub since: At,
    /// How many of its failures are still there.
    pub failures: u32,
    /// Why the newest failed; the label of the metric.
    pub reason: Reason,
    /// When the next runner is tried.
    pub next: At,
}

/// One idempotent effect. They are done in order, up to the first that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Replace the status, with the resourceVersion that was read as precondition.
    WriteStatus(Box<Status>),
    /// Create runners of these numbers, with the finalizer on them. `AlreadyExists` is a success.
    CreateRunners {
        /// In order; at most [`BATCH`].
        numbers: Vec<u64>,
    },
    /// With the uid as precondition.
    DeleteRunner {
        /// Which.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Put [`sekisho_api::ANNOTATION_STOP_NOW`] on it.
    MarkStopNow {
        /// Which.
        name: String,
    },
}

/// The status of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The number of the next runner.
    pub next_number: u64,
    /// When a runner was last seen to reach GitHub.
    pub last_success: Option<At>,
    /// How many runners there are.
    pub runners: Counts,
    /// `Ready`.
    pub claim: Claim,
}

/// What to do, and when to look again if nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub effects: Vec<Effect>,
    /// How many runners there are.
    pub counts: Counts,
    /// Whether runners fail before GitHub sees them.
    pub backoff: Option<Backoff>,
    /// What the status should say. It is a write of its own only if [`Effect::WriteStatus`] is in the
    /// plan; otherwise who acts writes it when it differs, at most once a second.
    pub status: Status,
    /// `None`: when something changes.
    pub requeue_after: Option<Duration>,
}

/// Decides.
pub fn decide(seen: &Observed) -> Plan {
    let mut counts = count(&seen.runners);
    let unseen = number(unseen(seen).count());
    (counts.pending, counts.live) = (counts.pending + unseen, counts.live + unseen);
    let backoff = backoff(seen);
    let status = Status {
        next_number: seen.next_number,
        last_success: last_success(seen, backoff.is_some()),
        runners: counts,
        claim: claim(seen, counts, backoff),
    };
    let mut plan = Plan { effects: Vec::new(), counts, backoff, status, requeue_after: None };
    if seen.deleting {
        steps::stop_all(seen, &mut plan);
        return plan;
    }
    steps::bury(seen, &mut plan);
    let live = counts.live as usize;
    let desired = seen.desired as usize;
    let growth = seen.growth as usize;
    // The spec is a little behind the jobs.
    let kept = desired.max(growth);
    if live > kept {
        steps::stop_some(seen, live - kept, &mut plan);
        return plan;
    }
    let wanted = desired.min(growth);
    if let Some(trouble) = seen.trouble.as_ref().filter(|it| live < wanted && it.holds(seen.now)) {
        plan.requeue_after = Some(seen.now.until(trouble.next).max(secs(1)));
        return plan;
    }
    if live < wanted && seen.blocked.is_none() && !seen.namespace_terminating {
        steps::start_some(seen, wanted - live, &mut plan);
    }
    plan
}

/// Whether a runner takes part: it can take a job, or has one.
fn is_live(runner: &Runner) -> bool {
    match runner.phase {
        _ if runner.over => false,
        Phase::Busy => true,
        Phase::Pending { .. } | Phase::Idle => !runner.deleting,
        Phase::Completing | Phase::Failed { .. } => false,
    }
}

/// How many there are of these.
pub fn count(runners: &[Runner]) -> Counts {
    let mut counts = Counts::default();
    for runner in runners {
        let live = is_live(runner);
        match runner.phase {
            Phase::Pending { .. } if live => counts.pending += 1,
            Phase::Idle if live => counts.idle += 1,
            Phase::Busy if live => counts.busy += 1,
            Phase::Failed { .. } => counts.failed += 1,
            _ => {}
        }
    }
    counts.live = counts.pending + counts.idle + counts.busy;
    counts
}

/// Runners that were made and are not shown yet.
fn unseen(seen: &Observed) -> impl Iterator<Item = u64> {
    let shown: BTreeSet<u64> =
        seen.runners.iter().filter_map(|runner| crate::name::number(&runner.name)).collect();
    seen.expected.iter().copied().filter(move |number| !shown.contains(number))
}

/// Failures of the streak: before GitHub saw them, after the last success, not too old.
fn streak(seen: &Observed) -> Vec<(At, Reason, &Runner)> {
    let newest_online = seen.runners.iter().filter_map(|runner| runner.online).max();
    let success = seen.last_success.max(newest_online);
    let mut failures: Vec<(At, Reason, &Runner)> = seen
        .runners
        .iter()
        .filter(|runner| runner.online.is_none())
        .filter_map(|runner| match runner.phase {
            Phase::Failed { at, reason, .. } => Some((at, reason, runner)),
            _ => None,
        })
        .filter(|(at, ..)| success.is_none_or(|success| *at > success))
        .filter(|(at, ..)| !seen.now.is_past(*at, STREAK_MEMORY))
        // Written by a clock that was wrong: it would hold everything back until then.
        .filter(|(at, ..)| seen.now.until(*at) <= CLOCK_SKEW)
        .collect();
    failures.sort_by(|a, b| (a.0, &a.2.name).cmp(&(b.0, &b.2.name)));
    failures
}

fn backoff(seen: &Observed) -> Option<Backoff> {
    let failures = streak(seen);
    let (first, last) = (failures.first()?, failures.last()?);
    let pause = last.0.since(first.0).clamp(PAUSE_MIN, PAUSE_MAX);
    Some(Backoff {
        since: first.0,
        failures: number(failures.len()),
        reason: last.1,
        next: last.0 + pause,
    })
}

/// Written to the minute, and exactly where it ends a streak.
fn last_success(seen: &Observed, in_streak: bool) -> Option<At> {
    let newest = seen.runners.iter().filter_map(|runner| runner.online).max();
    match (seen.last_success, newest) {
        (known, None) => known,
        (None, Some(newest)) => Some(newest),
        (Some(known), Some(newest)) => {
            let ends_streak = in_streak
                || seen.runners.iter().any(|runner| {
                    matches!(runner.phase, Phase::Failed { at, .. } if at > known && at <= newest)
                        && runner.online.is_none()
                });
            let due = newest.is_past(known, SUCCESS_GRAIN) || (ends_streak && newest > known);
            Some(if due { newest } else { known })
        }
    }
}

fn claim(seen: &Observed, counts: Counts, backoff: Option<Backoff>) -> Claim {
    let not_ready = |reason, message| Claim { kind: READY, truth: Truth::False, reason, message };
    if seen.deleting {
        let message = format!("{} runners have a job and are waited for", counts.busy);
        return not_ready(Reason::Deleting, message);
    }
    if let Some(claim) = seen.blocked.as_ref().and_then(Failure::claim) {
        return claim;
    }
    if seen.namespace_terminating {
        return not_ready(Reason::NamespaceTerminating, String::new());
    }
    if let Some(claim) = seen.refused.as_ref().and_then(Failure::claim) {
        return claim;
    }
    // It stands until it is tried again, with another end; and where no more are wanted, it is over.
    let trouble = seen.trouble.as_ref().filter(|_| counts.live < seen.desired);
    if let Some(claim) = trouble.and_then(|trouble| trouble.failure.claim()) {
        return claim;
    }
    if let Some(backoff) = backoff {
        let newest = newest_failed(seen)
            .map_or(String::new(), |name| format!(" (runner {name} has the message)"));
        let message = format!(
            "runners fail before they reach GitHub: {}{newest}; {}",
            backoff.reason,
            Some(backoff.reason.next_step())
                .filter(|step| !step.is_empty())
                .unwrap_or(Reason::BackingOff.next_step()),
        );
        return not_ready(Reason::BackingOff, message);
    }
    let ready = counts.idle + counts.busy;
    if counts.live == seen.desired && counts.pending == 0 {
        let message = format!("{ready} runners");
        return Claim { kind: READY, truth: Truth::True, reason: Reason::AllRunnersReady, message };
    }
    let message = format!("{ready} of {} runners are ready", seen.desired);
    not_ready(Reason::Scaling, message)
}

fn newest_failed(seen: &Observed) -> Option<&str> {
    streak(seen).last().map(|(_, _, runner)| runner.name.as_str())
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
