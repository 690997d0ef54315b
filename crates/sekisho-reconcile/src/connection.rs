//! GitHubConnection: whether GitHub can be reached, and as whom.

use std::time::Duration;

use sekisho_api::Reason;
use sekisho_api::condition::{Claim, READY, Truth, WEBHOOK};

use crate::At;
use crate::backoff::{Jitter, pause};
use crate::failure::{Failure, Trouble};

/// How often a connection that works is looked at: a revoked App is noticed within it, whatever its
/// runners do.
pub const CHECK_PERIOD: Duration = Duration::from_secs(300);

/// How soon after the last time GitHub is asked where another replica found something else: whose answer is
/// the newer counts, and two that contradict each other would write for ever.
pub const DOUBT_AFTER: Duration = Duration::from_secs(10);

/// Everything [`decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made.
    pub now: At,
    /// The content of spec and secrets was changed since the last check.
    pub changed: bool,
    /// When GitHub was last asked; `None` since the start.
    pub checked: Option<At>,
    /// What came of it; `None`: it works.
    pub trouble: Option<Trouble>,
    /// Since when the condition says something else than this replica found.
    pub contrary: Option<At>,
    /// We were signed in, and the namespace goes.
    pub leaving: bool,
    /// Draws the time of the next check.
    pub jitter: Jitter,
    /// As whom we are signed in, for people: `acme as App 12345`.
    pub account: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Ask GitHub now, then observe again.
    pub check: bool,
    /// The condition to be written, where there is one already.
    pub claim: Option<Claim>,
    /// When to look again.
    pub requeue_after: Option<Duration>,
}

/// Decides.
pub fn decide(seen: &Observed) -> Plan {
    let doubts = matches!((seen.contrary, seen.checked), (Some(since), Some(at)) if at < since);
    let due = match (&seen.trouble, seen.checked) {
        (_, None) => seen.now,
        (_, Some(checked)) if doubts => checked + DOUBT_AFTER,
        (Some(trouble), Some(_)) => trouble.next,
        (None, Some(checked)) => checked + pause(CHECK_PERIOD, CHECK_PERIOD, 1, seen.jitter),
    };
    // A namespace that goes takes the secret first, and its runners still have to tell GitHub: who was
    // signed in stays so.
    let check = (seen.changed || seen.now >= due) && !seen.leaving;
    let claim = match (&seen.trouble, seen.checked) {
        _ if doubts => None,
        (Some(trouble), _) => trouble.failure.claim(),
        (None, Some(_)) => Some(Claim {
            kind: READY,
            truth: Truth::True,
            reason: Reason::Connected,
            message: seen.account.clone().unwrap_or_default(),
        }),
        (None, None) => None,
    };
    let requeue_after = (!check && !seen.leaving).then(|| seen.now.until(due));
    Plan { check, claim, requeue_after }
}

/// What a check found, as the trouble to be remembered.
pub fn found(seen: &Observed, failure: Option<Failure>) -> Option<Trouble> {
    let before = seen.trouble.as_ref().filter(|_| !seen.changed);
    failure.map(|failure| Trouble::after(before, failure, seen.now, seen.jitter))
}

/// What is said of the secret that webhooks are signed with. Without it they are refused, and the queue is
/// read as seldom as if there were none: no reason to take no jobs.
pub fn webhook(missing: Option<&Failure>) -> Claim {
    let claim = missing.map_or_else(
        || Some((Truth::True, Reason::SecretFound, String::new())),
        |failure| Some((Truth::False, failure.reason()?, failure.sentence())),
    );
    let (truth, reason, message) =
        claim.unwrap_or_else(|| (Truth::Unknown, Reason::Pending, String::new()));
    Claim { kind: WEBHOOK, truth, reason, message }
}

#[cfg(test)]
mod tests;
