//! One registration, made and given to one pod: what to do next, from what came of the last step.
//!
//! ```text
//!  Start ─▶ Make ─▶ CreateSecret ─▶ Done
//!            │ ▲         │ it is there already, or is refused
//!   409 name ▼ │         ▼
//!         LookUp ─▶ Remove, at most MAX_REMOVALS times      RemoveOwn ─▶ Done or GiveUp
//! ```
//!
//! The JIT configuration itself never passes through here. With a scale set, `LookUp` and `Remove`
//! are done by the client of `sekisho-github` already, which ends with [`Seen::NameForeign`].

use crate::failure::Failure;

/// How often a registration of this name is removed to make room.
pub const MAX_REMOVALS: u32 = 3;

/// What came of the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing was done yet.
    Start,
    /// There is a registration, and its JIT configuration.
    Made {
        /// GitHub's number.
        id: i64,
    },
    /// The name is taken (409).
    NameTaken,
    /// Who has the name; `None`: nobody any more.
    Holder(Option<Holder>),
    /// The name is taken by a runner that is not ours, or again and again.
    NameForeign {
        /// Which.
        detail: String,
    },
    /// A registration in the way is gone.
    Removed,
    /// The secret stands.
    SecretCreated,
    /// A secret of this name was there already (409): another did the same.
    SecretExists,
    /// The secret cannot be created.
    SecretRefused(Failure),
    /// Our own registration is gone again.
    OwnRemoved,
    /// The step failed otherwise.
    Failed(Failure),
}

/// A registration that has the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// GitHub's number.
    pub id: i64,
    /// It has a job.
    pub busy: bool,
    /// It is of the same scale set; over REST, its labels are ours.
    pub ours: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask GitHub for a JIT configuration.
    Make,
    /// Look for who has the name.
    LookUp,
    /// Remove the registration in the way.
    Remove {
        /// GitHub's number.
        id: i64,
    },
    /// Create the secret: named like the runner, owned by it, annotated with pod and registration.
    CreateSecret {
        /// GitHub's number.
        registration: i64,
    },
    /// Remove the registration that was made for nothing.
    RemoveOwn {
        /// GitHub's number.
        id: i64,
    },
    /// It is done, by us or by another.
    Done,
    /// It is not done.
    GiveUp(Failure),
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    made: Option<i64>,
    removals: u32,
    refused: Option<Failure>,
}

/// Decides, and remembers.
pub fn decide(progress: &Progress, seen: &Seen) -> (Progress, Step) {
    let mut next = progress.clone();
    let step = match seen {
        Seen::Start => Step::Make,
        Seen::Removed | Seen::Holder(None) => {
            next.removals += 1;
            Step::Make
        }
        Seen::Made { id } => {
            next.made = Some(*id);
            Step::CreateSecret { registration: *id }
        }
        Seen::NameTaken if next.removals >= MAX_REMOVALS => {
            taken(format!("it was taken again after {MAX_REMOVALS} removals"))
        }
        Seen::NameTaken => Step::LookUp,
        Seen::Holder(Some(holder)) if !holder.ours => taken(format!("runner {}", holder.id)),
        Seen::Holder(Some(holder)) if holder.busy => {
            taken(format!("runner {}, which has a job", holder.id))
        }
        Seen::Holder(Some(holder)) => Step::Remove { id: holder.id },
        Seen::NameForeign { detail } => taken(detail.clone()),
        Seen::SecretCreated => Step::Done,
        Seen::SecretExists => remove_own(&next, None),
        Seen::SecretRefused(failure) => {
            next.refused = Some(failure.clone());
            remove_own(&next, Some(failure))
        }
        Seen::OwnRemoved => next.refused.clone().map_or(Step::Done, Step::GiveUp),
        Seen::Failed(failure) => Step::GiveUp(next.refused.clone().unwrap_or(failure.clone())),
    };
    (next, step)
}

fn taken(detail: String) -> Step {
    Step::GiveUp(Failure::NameTaken { detail })
}

fn remove_own(progress: &Progress, failure: Option<&Failure>) -> Step {
    match (progress.made, failure) {
        (Some(id), _) => Step::RemoveOwn { id },
        (None, Some(failure)) => Step::GiveUp(failure.clone()),
        (None, None) => Step::Done,
    }
}
