//! RunnerDeployment: how many runners, of which revision.
//!
//! `desired` is the fixed number, or jobs plus idle ones between minimum and maximum; fewer only after
//! they were enough for `scaleDownDelaySeconds`. The delay keeps runners from being stopped; it makes no
//! new ones ([`Plan::growth`]). New runners are of the revision that the spec has
//! now. Older revisions only lose runners ([`rollout`]); one that has a job ends it.
//!
//! **One runner a job.** GitHub's numbers and its messages are not of one moment: the numbers that come
//! with a message are newer than it, and the messages that explain them are still on their way. Until those
//! are heard, runners whose job is over are counted as if they had it. So
//! - what numbers and message say takes effect at once: the runners whose jobs it tells to be over count no
//!   more ([`crate::replica_set::Runner::over`]) in the same moment in which the numbers do not have them;
//! - runners are made by the newest numbers: counting too many runners makes none too many;
//! - runners are stopped only when nothing more is to be heard ([`Observed::settled`]);
//! - a runner that is seen to be done before GitHub's numbers say so takes its job out of them
//!   ([`Demand::less_one`]).
//!
//! What is left is in GitHub's protocol: a job that is cancelled before a runner has it, or that a runner
//! has which is lost, leaves one runner too many. It waits for the next job, or is stopped.
//!
//! Deletion, in this order: no more jobs are taken; the sets stop their runners, which they do as soon
//! as their deployment is being deleted; the sets go; then the scale set at GitHub; then the finalizer.
//! Each step waits for the one before it, without the cluster's garbage collector; what GitHub does not
//! let go is given up after [`RELEASE_TIMEOUT`].

pub mod rollout;
mod told;

use std::time::Duration;

use sekisho_api::condition::Claim;

use crate::At;
use crate::failure::{Failure, Trouble};
use crate::replica_set::Counts;
use rollout::Percent;
pub use told::dropped;

/// How long the scale set at GitHub is tried to be removed once its runners are gone.
pub const RELEASE_TIMEOUT: Duration = Duration::from_secs(300);
/// How often it is tried.
pub const RELEASE_EVERY: Duration = Duration::from_secs(10);
/// How long after its numbers GitHub must have had nothing to tell: a message that is there answers a poll
/// at once.
pub const SETTLE: Duration = Duration::from_secs(2);
/// The same where the queue is read and no messages come: by then a runner whose job is in the list no
/// more has ended, and GitHub was asked for it ([`crate::runner::ASK_AFTER`]).
pub const SETTLE_QUEUE: Duration = Duration::from_secs(15);

/// Everything [`decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made.
    pub now: At,
    /// `metadata.deletionTimestamp`.
    pub deleting: Option<At>,
    /// Our finalizer is on it.
    pub finalizer: bool,
    /// [`sekisho_api::ANNOTATION_STOP_NOW`] is on it.
    pub stop_now: bool,
    /// Nothing can be created in the namespace, and nothing may hold it.
    pub namespace_terminating: bool,
    /// How many runners are wanted.
    pub size: Size,
    /// Names what a runner is to be, as the spec has it now.
    pub revision: String,
    /// `spec.rollout`.
    pub rollout: Rollout,
    /// The sets that the deployment owns, by uid of the controller reference.
    pub sets: Vec<Set>,
    /// How many jobs there are; `None` until GitHub has told it.
    pub demand: Option<Demand>,
    /// From when on all is known that GitHub had to tell when it told `demand`; `None` while it tells more.
    pub settled: Option<At>,
    /// `status.desired`.
    pub desired_before: Option<u32>,
    /// Since when fewer than `desired_before` are enough: [`Plan::lower_since`] of the last decision.
    pub lower_since: Option<At>,
    /// The session that takes its jobs.
    pub session: Session,
    /// Its scale set at GitHub.
    pub scale_set: ScaleSet,
    /// Labels that GitHub did not take.
    pub dropped_labels: Vec<String>,
    /// Since when there is no set any more while it is being deleted: [`Plan::released_since`] of the
    /// last decision.
    pub released_since: Option<At>,
    /// What keeps it from working: no connection, no class, a template that is none.
    pub blocked: Option<Failure>,
    /// Removing the scale set failed.
    pub trouble: Option<Trouble>,
}

/// How many runners are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// `spec.replicas`.
    Fixed(u32),
    /// `spec.scaling`.
    Scaled {
        /// Never fewer.
        min: u32,
        /// Never more.
        max: u32,
        /// Beyond the jobs that are there.
        idle: u32,
        /// How long fewer must be enough.
        scale_down_delay: Duration,
    },
}

/// `spec.rollout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// How many runners there may be above what is desired.
    pub max_surge: Percent,
    /// How many of the desired runners may be missing.
    pub max_unavailable: Percent,
    /// How many old revisions are kept.
    pub history_limit: usize,
}

/// A set of the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.revision`.
    pub revision: String,
    /// `metadata.creationTimestamp`.
    pub created: At,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// [`sekisho_api::ANNOTATION_STOP_NOW`] is on it.
    pub stop_now: bool,
    /// `spec.replicas`.
    pub replicas: u32,
    /// Its runners, counted from the runners themselves and not from its status.
    pub runners: Counts,
    /// Runners that it still has, of any phase.
    pub all_runners: u32,
    /// Its condition `Ready` when it does not hold.
    pub problem: Option<Claim>,
}

/// How many jobs there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Ours to run: assigned to us and not over, running ones included.
    pub assigned: u32,
    /// Of those, running.
    pub running: u32,
    /// Beside those, for runners like ours, and not assigned: there is no room for them yet.
    pub available: u32,
}

impl Demand {
    /// Jobs that no runner has yet.
    pub fn waiting(self) -> u32 {
        self.assigned.saturating_add(self.available).saturating_sub(self.running)
    }

    /// After the end of one that is still counted.
    #[must_use]
    pub fn less_one(self) -> Self {
        let (assigned, running) = (self.assigned.saturating_sub(1), self.running.saturating_sub(1));
        Self { assigned, running, ..self }
    }
}

/// The scale set of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleSet {
    /// None was made.
    None,
    /// One was made, or was to be made: its number is not written down ([`crate::session::scale_set`]).
    Claimed,
    /// GitHub's number.
    Known(i64),
}

impl ScaleSet {
    /// GitHub's number, where it is known.
    pub fn id(self) -> Option<i64> {
        match self {
            Self::None | Self::Claimed => None,
            Self::Known(id) => Some(id),
        }
    }
}

/// The session that takes the jobs of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Session {
    /// None: this replica does not hold the lease, or it was stopped.
    None,
    /// It listens.
    Polling,
    /// It does not.
    Troubled(Failure),
}

/// One idempotent effect. They are done in order, up to the first that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Before anything else.
    AddFinalizer,
    /// Create the set of the revision. `AlreadyExists` is a success.
    CreateSet {
        /// `spec.revision`.
        revision: String,
        /// `spec.replicas`.
        replicas: u32,
    },
    /// Patch `spec.replicas`, with the resourceVersion that was read as precondition.
    ScaleSet {
        /// Which.
        name: String,
        /// So many.
        replicas: u32,
    },
    /// With the uid as precondition.
    DeleteSet {
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
    /// Take no more jobs, and end the session.
    StopSession,
    /// Remove the scale set at GitHub. That there is none is a success.
    DeleteScaleSet {
        /// GitHub's number; the one of the name that was claimed, where it is not known.
        id: Option<i64>,
    },
    /// Tell that the scale set could not be removed, and is left at GitHub.
    LeaveScaleSet {
        /// GitHub's number, where it is known.
        id: Option<i64>,
        /// What the last try said.
        why: Option<Failure>,
    },
    /// Last.
    RemoveFinalizer,
}

/// The status of the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The revision that new runners are of.
    pub revision: String,
    /// How many runners are wanted now.
    pub desired: u32,
    /// How many there are, of all revisions.
    pub runners: Counts,
    /// Jobs that wait for a runner.
    pub waiting: u32,
    /// Jobs that run.
    pub running: u32,
    /// `Ready`.
    pub claim: Claim,
}

/// What to do, and when to look again if nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub effects: Vec<Effect>,
    /// What the status should say; who acts writes it when it differs, at most once a second.
    pub status: Status,
    /// How many runners of the current revision are worth making now.
    pub growth: u32,
    /// To be remembered for the next observation.
    pub lower_since: Option<At>,
    /// To be remembered for the next observation.
    pub released_since: Option<At>,
    /// `None`: when something changes.
    pub requeue_after: Option<Duration>,
}

/// Decides.
pub fn decide(seen: &Observed) -> Plan {
    let (wanted, desired, lower_since) = desired(seen);
    let status = told::status(seen, desired);
    let mut plan = Plan {
        effects: Vec::new(),
        status,
        growth: rollout::replicas_of_new(seen, wanted),
        lower_since,
        released_since: None,
        requeue_after: None,
    };
    match seen.deleting {
        Some(_) if !seen.finalizer => {}
        Some(_) => release(seen, &mut plan),
        None if !seen.finalizer => plan.effects.push(Effect::AddFinalizer),
        None => {
            rollout::decide(seen, desired, &mut plan.effects);
            if let (Some(since), Size::Scaled { scale_down_delay, .. }, Some(settled)) =
                (lower_since, seen.size, seen.settled)
            {
                look_again(&mut plan, seen.now.until(settled.max(since + scale_down_delay)));
            }
        }
    }
    plan
}

/// How many runners the jobs want now; how many are wanted after the delay; since when fewer would be
/// enough.
fn desired(seen: &Observed) -> (u32, u32, Option<At>) {
    let (min, max, idle, delay) = match seen.size {
        Size::Fixed(number) => return (number, number, None),
        Size::Scaled { min, max, idle, scale_down_delay } => (min, max, idle, scale_down_delay),
    };
    let before = seen.desired_before.map(|before| before.clamp(min, max));
    let Some(demand) = seen.demand else {
        // GitHub has not told yet: what was enough before is kept. But that may be long ago, and the
        // jobs over: for what is not known no runner is made.
        return (min, before.unwrap_or(min), None);
    };
    let wanted = demand.assigned.saturating_add(idle).clamp(min, max);
    match before {
        Some(before) if wanted < before => {
            let since = seen.lower_since.unwrap_or(seen.now);
            let settled = seen.settled.is_some_and(|settled| seen.now >= settled);
            if settled && seen.now.is_past(since, delay) {
                (wanted, wanted, None)
            } else {
                (wanted, before, Some(since))
            }
        }
        _ => (wanted, wanted, None),
    }
}

/// Deletion, step by step.
fn release(seen: &Observed, plan: &mut Plan) {
    if seen.session != Session::None {
        plan.effects.push(Effect::StopSession);
    }
    for set in &seen.sets {
        if seen.stop_now && !set.stop_now {
            plan.effects.push(Effect::MarkStopNow { name: set.name.clone() });
        }
        if !set.deleting && set.all_runners == 0 {
            plan.effects.push(Effect::DeleteSet { name: set.name.clone(), uid: set.uid.clone() });
        }
    }
    if !seen.sets.is_empty() {
        return;
    }
    let since = seen.released_since.unwrap_or(seen.now);
    plan.released_since = Some(since);
    let late = seen.now.is_past(since, RELEASE_TIMEOUT);
    let id = seen.scale_set.id();
    match (seen.scale_set, &seen.trouble) {
        (ScaleSet::None, _) => {}
        (_, Some(trouble)) if !late && trouble.holds(seen.now) => {
            look_again(plan, seen.now.until(trouble.next).min(RELEASE_EVERY));
            return;
        }
        (_, _) if !late => {
            plan.effects.push(Effect::DeleteScaleSet { id });
            look_again(plan, RELEASE_EVERY);
        }
        (_, trouble) => {
            let why = trouble.as_ref().map(|trouble| trouble.failure.clone());
            plan.effects.push(Effect::LeaveScaleSet { id, why });
        }
    }
    plan.effects.push(Effect::RemoveFinalizer);
}

fn look_again(plan: &mut Plan, span: Duration) {
    let span = span.max(Duration::from_millis(100));
    plan.requeue_after = Some(plan.requeue_after.map_or(span, |known| known.min(span)));
}

#[cfg(test)]
mod tests;
