//! The decision: facts in, verdict out.

use jiff::Timestamp;
use sekisho_policy::{Content, Identity, Policies, Target, Verdict};
use serde::{Deserialize, Serialize};

use crate::decisions::Approval;

/// Everything that a decision may look at.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) target: Target,
    /// One per image that the manifest holds; none for an index of nothing.
    pub(crate) contents: Vec<Content>,
    /// When it was observed.
    pub(crate) now: Timestamp,
    /// Somebody's word, when it was held before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) approval: Option<Approval>,
}

/// May this identity do this here, and may all of this content ship? The strictest answer wins.
pub(crate) fn decide(policies: &Policies, facts: &Facts) -> Verdict {
    let may_push = policies.may_push(&facts.identity, &facts.target);
    let verdict = facts.contents.iter().fold(may_push, |verdict, content| {
        verdict.and(policies.may_ship(&facts.identity, &facts.target, content, facts.now))
    });
    match &facts.approval {
        Some(approval) => verdict.approved(&approval.sentence()),
        None => verdict,
    }
}
