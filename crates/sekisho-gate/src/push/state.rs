//! Where a push is: one record per repository, tag and manifest, and what may follow what.
//!
//! ```text
//!  staged ─▶ analysed ─┬▶ denied
//!                      ├▶ held ─┬▶ promoting (approved, or judged anew: released)
//!                      │        ├▶ rejected
//!                      │        ├▶ expired (nobody answered for 14 days)
//!                      │        └▶ superseded (another image has the tag)
//!                      └▶ promoting ─┬▶ promoted ─▶ superseded
//!                                    └▶ promote_failed ─▶ promoting
//! ```
//!
//! `receiving` is no record: that is the upload. All here is plain: what is read and written is the
//! business of [`super::journal`].

use jiff::{SignedDuration, Timestamp};
use sekisho_policy::Identity;
use sekisho_types::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

/// How long a held image waits for an answer, with its bits.
pub(crate) const HELD_FOR: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How long the record of a push that is over is kept.
pub(crate) const OVER_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Where a push is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// All of it is here.
    Staged,
    /// What it holds is known.
    Analysed,
    /// It was refused.
    Denied {
        /// The decision's number.
        decision: String,
    },
    /// It waits for somebody to approve or reject it.
    Held {
        /// The decision's number.
        decision: String,
        /// Until when.
        until: Timestamp,
    },
    /// It may ship, and is on its way.
    Promoting {
        /// The decision's number.
        decision: String,
    },
    /// It is upstream.
    Promoted {
        /// The decision's number.
        decision: String,
    },
    /// It may ship, and did not get there yet.
    PromoteFailed {
        /// The decision's number.
        decision: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Somebody said no.
    Rejected {
        /// The decision's number.
        decision: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Nobody answered in time; its bits are gone.
    Expired {
        /// The decision's number.
        decision: String,
    },
    /// Another image has its tag.
    Superseded {
        /// The decision's number.
        decision: String,
        /// That image.
        by: Digest,
    },
}

impl State {
    /// The decision that led here.
    pub(crate) fn decision(&self) -> Option<&str> {
        match self {
            Self::Staged | Self::Analysed => None,
            Self::Denied { decision }
            | Self::Held { decision, .. }
            | Self::Promoting { decision }
            | Self::Promoted { decision }
            | Self::PromoteFailed { decision, .. }
            | Self::Rejected { decision, .. }
            | Self::Expired { decision }
            | Self::Superseded { decision, .. } => Some(decision),
        }
    }

    /// Whether the manifest may still be wanted.
    pub(crate) fn needs_manifest(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::Promoting { .. } | Self::PromoteFailed { .. })
    }

    /// Whether losing the record to a power cut would break a promise: a held image was promised to
    /// be kept, a rejected one to stay out. Everything else is found again by another PUT.
    pub(crate) fn is_promise(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::Rejected { .. })
    }
}

/// All that an answer rests on beside the manifest. Equal bases, equal answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Of everything that is known about who pushes.
    pub identity: Digest,
    /// Of the policies.
    pub policy: Digest,
    /// Of the exceptions.
    pub exceptions: Option<Digest>,
    /// The inspector and its data.
    pub data: String,
    /// Of what was said about it by others: its referrers, but the gate's own.
    #[serde(default)]
    pub said: Option<Digest>,
    /// The name is nobody's, or that of who pushes.
    #[serde(default = "yes")]
    pub same_owner: bool,
    /// The tag names another image.
    #[serde(default)]
    pub overwrites: bool,
    /// The day, for rules speak of ages in days and exceptions end.
    pub day: String,
}

/// Of a push that began before owners were known.
fn yes() -> bool {
    true
}

/// One push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// Where to.
    pub repository: RepositoryName,
    /// `None` for one by digest.
    pub tag: Option<Tag>,
    /// Of the manifest.
    pub digest: Digest,
    /// Of the manifest.
    pub media_type: String,
    /// Who pushed.
    pub identity: Identity,
    /// What the answer rests on.
    pub basis: Basis,
    /// The manifest, as long as it may be needed: to promote without another PUT.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    /// When it came here.
    pub at: Timestamp,
    /// Where it is.
    #[serde(flatten)]
    pub state: State,
}

/// What happened to a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The manifest was put, and all that it names is here.
    Staged,
    Analysed,
    Denied(String),
    Held(String),
    /// A decision lets it pass, perhaps because somebody approved.
    Allowed(String),
    Promoted,
    PromoteFailed,
    Rejected {
        by: String,
        reason: String,
    },
    /// The tag names another image now.
    Superseded(Digest),
    /// Time passed.
    Tick,
}

/// It cannot happen in this state: another replica, or a person, was faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Illegal;

/// The state that follows.
pub(crate) fn step(state: &State, event: Event, now: Timestamp) -> Result<State, Illegal> {
    use State::{
        Analysed, Denied, Expired, Held, PromoteFailed, Promoted, Promoting, Rejected, Staged,
        Superseded,
    };
    let until = now.checked_add(HELD_FOR).unwrap_or(Timestamp::MAX);
    Ok(match (state, event) {
        // A manifest that is put again is judged again. One that is on its way has a decision that
        // lets it pass, and arrives.
        (_, Event::Staged) => Staged,
        (Staged | Analysed, Event::Analysed) => Analysed,
        (Analysed, Event::Denied(decision)) => Denied { decision },
        (Analysed, Event::Held(decision)) => Held { decision, until },
        // From `Held`: approved.
        (Analysed | Held { .. }, Event::Allowed(decision)) => Promoting { decision },
        // An approval that finds something worse than what it was asked about.
        (Held { .. }, Event::Denied(decision)) => Denied { decision },
        (Promoting { decision } | PromoteFailed { decision, .. }, Event::Promoted) => {
            Promoted { decision: decision.clone() }
        }
        // Two replicas at the same promotion.
        (Promoted { .. }, Event::Promoted | Event::PromoteFailed) => state.clone(),
        (Promoting { decision }, Event::PromoteFailed) => {
            PromoteFailed { decision: decision.clone(), attempts: 1 }
        }
        (PromoteFailed { decision, attempts }, Event::PromoteFailed) => {
            PromoteFailed { decision: decision.clone(), attempts: attempts.saturating_add(1) }
        }
        (Held { decision, .. }, Event::Rejected { by, reason }) => {
            Rejected { decision: decision.clone(), by, reason }
        }
        // From `Promoting`: what a crash cut short must not take the tag back later.
        (
            Held { decision, .. }
            | Promoting { decision }
            | PromoteFailed { decision, .. }
            | Promoted { decision },
            Event::Superseded(by),
        ) => Superseded { decision: decision.clone(), by },
        (Held { decision, until }, Event::Tick) if *until <= now => {
            Expired { decision: decision.clone() }
        }
        (_, Event::Tick) => state.clone(),
        _ => return Err(Illegal),
    })
}

/// What a manifest PUT leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OnPut<'a> {
    /// The answer is known: that of this decision.
    Answer(&'a str),
    /// It may ship by this decision, and is not upstream for sure.
    Promote(&'a str),
    /// It must be judged.
    Judge,
}

/// Whether a push was answered before, on the same basis.
pub(crate) fn on_put<'a>(known: Option<&'a Push>, basis: &Basis, now: Timestamp) -> OnPut<'a> {
    // A promotion makes the tag name what is put: it has not to be judged again for that.
    let rests_on = |push: &Push| Basis { overwrites: basis.overwrites, ..push.basis.clone() };
    let Some(push) = known.filter(|push| rests_on(push) == *basis) else { return OnPut::Judge };
    let is_same = push.basis == *basis;
    match &push.state {
        State::Denied { decision } | State::Rejected { decision, .. } if is_same => {
            OnPut::Answer(decision)
        }
        State::Held { decision, until } if is_same && now < *until => OnPut::Answer(decision),
        // Also when it is promoted: somebody may have deleted it, and then it is put there again.
        State::Promoting { decision }
        | State::PromoteFailed { decision, .. }
        | State::Promoted { decision } => OnPut::Promote(decision),
        State::Staged
        | State::Analysed
        | State::Denied { .. }
        | State::Rejected { .. }
        | State::Held { .. }
        | State::Expired { .. }
        | State::Superseded { .. } => OnPut::Judge,
    }
}

/// What a gate does about a push that it finds: when it starts, and from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnFind {
    /// Nothing.
    Leave,
    /// Nobody answered in time.
    Expire,
    /// It may ship, and nobody may be there to ask for it again.
    Promote,
    /// It is over: the record goes.
    Forget,
}

/// See [`OnFind`]. `begins`: the gate starts, so nobody is at work on it.
pub(crate) fn on_find(push: &Push, begins: bool, now: Timestamp) -> OnFind {
    let is_old = now.duration_since(push.at) > OVER_KEPT;
    match &push.state {
        State::Held { until, .. } if *until <= now => OnFind::Expire,
        State::Held { .. } => OnFind::Leave,
        State::Promoting { .. } | State::PromoteFailed { .. } if begins => OnFind::Promote,
        _ if is_old => OnFind::Forget,
        _ => OnFind::Leave,
    }
}

#[cfg(test)]
mod tests;
