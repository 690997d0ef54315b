//! `concurrency`: a group that one run or job at a time may have.
//!
//! ```text
//! claim:  Waiting ── Begin ──▶ Holding ── Stop ──▶ Ending ──▶ gone, when who claims has ended
//!            └ Drop: a newer claim takes its place
//! ```

use serde::{Deserialize, Serialize};

use crate::expr::{Contexts, NoFunctions};
use crate::token::{self, Token};

/// Longest name of a group, in bytes, as on GitHub.
pub const MAX_GROUP_BYTES: usize = 400;

/// Claims that wait for one group with `queue: max`. GitHub's own limit is not published.
pub const MAX_WAITING: usize = 100;

/// `concurrency`, evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// The group. Names that differ only in case are one, within a repository.
    pub group: String,
    /// Whether whoever has the group is stopped.
    pub cancel_in_progress: bool,
    /// How many may wait.
    pub queue: GroupQueue,
}

/// How many may wait for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupQueue {
    /// The newest alone.
    #[default]
    Single,
    /// [`MAX_WAITING`].
    Max,
}

impl Concurrency {
    /// Evaluates what a file says, which its reader has checked.
    ///
    /// # Errors
    /// A sentence: the group cannot be evaluated, is empty or too long.
    pub fn read(token: &Token, contexts: &Contexts) -> Result<Self, String> {
        let field = |name: &str| token.entries().and(token.get(name));
        let group = if token.entries().is_some() { field("group") } else { Some(token) };
        let group = group.ok_or_else(|| "`concurrency` has no group".to_owned())?;
        let group = token::eval_string(group, contexts, &NoFunctions)
            .map_err(|error| format!("`concurrency`: {error}"))?;
        if group.trim().is_empty() || group.len() > MAX_GROUP_BYTES {
            return Err(format!("the group of `concurrency` has 1 to {MAX_GROUP_BYTES} bytes"));
        }
        let cancel_in_progress = match field("cancel-in-progress") {
            Some(token) => token::eval_bool(token, contexts, &NoFunctions)
                .map_err(|error| format!("`cancel-in-progress`: {error}"))?,
            None => false,
        };
        let max = field("queue").and_then(Token::as_str) == Some("max");
        let queue = if max { GroupQueue::Max } else { GroupQueue::Single };
        Ok(Self { group, cancel_in_progress, queue })
    }

    /// What names of one group have in common.
    pub fn key(&self) -> String {
        self.group.to_lowercase()
    }
}

/// The group that a `concurrency` names without any expression.
pub(crate) fn literal_group(token: &Token) -> Option<&str> {
    token.as_str().or_else(|| token.get("group")?.as_str())
}

/// Somebody who wants a group, or has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How far he is.
    pub state: ClaimState,
    /// As [`Concurrency::cancel_in_progress`].
    pub cancel_in_progress: bool,
    /// As [`Concurrency::queue`].
    pub queue: GroupQueue,
}

/// How far a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// For the group.
    Waiting,
    /// Has it.
    Holding,
    /// Has it, and was told to stop.
    Ending,
}

/// One thing to do about a claim, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupAction {
    /// It has the group: it becomes [`ClaimState::Holding`].
    Begin(usize),
    /// It is given up: it never began.
    Drop(usize),
    /// Whoever has the group is told to stop: it becomes [`ClaimState::Ending`].
    Stop(usize),
}

/// What can be done about a group now, given its claims in the order in which they came.
///
/// A claim that is over is not among them. An action that was applied is not given again; applying
/// some can make others possible.
pub fn decide_group(claims: &[Claim]) -> Vec<GroupAction> {
    let mut actions = Vec::new();
    let mut waiting: Vec<usize> = Vec::new();
    let mut holder = None;
    for (at, claim) in claims.iter().enumerate() {
        match claim.state {
            ClaimState::Waiting => waiting.push(at),
            ClaimState::Holding | ClaimState::Ending => holder = Some((at, claim.state)),
        }
    }
    if holder.is_none() && !waiting.is_empty() {
        actions.push(GroupAction::Begin(waiting.remove(0)));
    }
    // Who lets nobody else wait takes the place of all before him.
    let alone = |at: &usize| claims.get(*at).is_some_and(|one| one.queue == GroupQueue::Single);
    let (replaced, left) = waiting.split_at(waiting.iter().rposition(alone).unwrap_or(0));
    let (left, surplus) = left.split_at(left.len().min(MAX_WAITING));
    actions.extend(replaced.iter().chain(surplus).map(|at| GroupAction::Drop(*at)));
    let impatient = |at: &usize| claims.get(*at).is_some_and(|one| one.cancel_in_progress);
    if let Some((at, ClaimState::Holding)) = holder
        && left.iter().any(impatient)
    {
        actions.push(GroupAction::Stop(at));
    }
    actions
}
