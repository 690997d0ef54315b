//! Which step comes next: a pure function of the job's state.
//!
//! ```text
//!  pending ─ Judge ─▶ judged ─ Start ─▶ running ─▶ done
//!                       └────── Skip, Fail ──────────▲
//! main steps in order, then post steps in reverse order of their registration, then Finish
//! ```
//!
//! Level-triggered: a condition that was judged before the job was cancelled is judged again.

use sekisho_github::wire::results::StepConclusion;

/// How the job is doing: what `success()`, `failure()` and `cancelled()` ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    Failure,
    Cancelled,
}

impl Status {
    /// The word of `job.status`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What came out of a step's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is true. The flag: it would be true of a cancelled job as well.
    Run { also_if_cancelled: bool },
    /// It is false.
    Skip,
    /// It could not be evaluated.
    Error,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing is known of it yet.
    Pending,
    /// Its condition was evaluated under this status.
    Judged { verdict: Verdict, under: Status },
    /// It runs.
    Running { also_if_cancelled: bool },
    /// It is over; after `continue-on-error`.
    Done(StepConclusion),
}

/// Which step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Index into the main steps.
    Main(usize),
    /// Index into the post steps, in the order of their registration.
    Post(usize),
}

/// All that [`decide`] looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    /// "Set up job" failed: no main step runs.
    pub(crate) setup_failed: bool,
    /// The job is cancelled.
    pub(crate) cancelled: bool,
    /// There is no time left: nothing may start, and what runs is stopped.
    pub(crate) out_of_time: bool,
    pub(crate) main: Vec<Slot>,
    pub(crate) post: Vec<Slot>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Evaluate the condition.
    Judge(Place),
    /// Run the step.
    Start(Place),
    /// Record it as skipped.
    Skip(Place),
    /// Record it as failed: its condition is wrong.
    Fail(Place),
    /// Wait for the running step, and stop it when [`must_stop`] says so.
    Wait(Place),
    /// All steps are done.
    Finish(Status),
}

impl Observed {
    /// The job's status as of now.
    pub(crate) fn status(&self) -> Status {
        let failed = |slot: &Slot| *slot == Slot::Done(StepConclusion::Failure);
        if self.cancelled || self.out_of_time {
            Status::Cancelled
        } else if self.setup_failed || self.main.iter().chain(&self.post).any(failed) {
            Status::Failure
        } else {
            Status::Success
        }
    }

    fn slots(&self) -> impl Iterator<Item = (Place, Slot)> {
        let main = self.main.iter().enumerate().map(|(i, slot)| (Place::Main(i), *slot));
        let post = self.post.iter().enumerate().rev().map(|(i, slot)| (Place::Post(i), *slot));
        main.chain(post)
    }
}

/// Whether a running step must stop: at once when there is no time left, and in a cancelled job
/// when its condition does not hold there.
pub(crate) fn must_stop(cancelled: bool, out_of_time: bool, also_if_cancelled: bool) -> bool {
    out_of_time || (cancelled && !also_if_cancelled)
}

/// Chooses the next action.
pub(crate) fn decide(seen: &Observed) -> Action {
    let status = seen.status();
    let running = |slot: Slot| matches!(slot, Slot::Running { .. });
    if let Some((place, _)) = seen.slots().find(|(_, slot)| running(*slot)) {
        return Action::Wait(place);
    }
    let next = seen.slots().find(|(_, slot)| !matches!(slot, Slot::Done(_)));
    let Some((place, slot)) = next else { return Action::Finish(status) };
    if seen.out_of_time || (seen.setup_failed && matches!(place, Place::Main(_))) {
        return Action::Skip(place);
    }
    match slot {
        Slot::Judged { verdict, under } if under == status => match verdict {
            Verdict::Run { .. } => Action::Start(place),
            Verdict::Skip => Action::Skip(place),
            Verdict::Error => Action::Fail(place),
        },
        Slot::Pending | Slot::Judged { .. } | Slot::Running { .. } | Slot::Done(_) => {
            Action::Judge(place)
        }
    }
}

#[cfg(test)]
mod tests;
