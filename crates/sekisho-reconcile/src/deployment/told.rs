//! What is said of a deployment.

use sekisho_api::Reason;
use sekisho_api::condition::{Claim, READY, Truth};

use super::{Observed, Session, Status};
use crate::failure::Failure;
use crate::replica_set::Counts;

fn total(seen: &Observed) -> Counts {
    seen.sets.iter().fold(Counts::default(), |sum, set| Counts {
        live: sum.live + set.runners.live,
        pending: sum.pending + set.runners.pending,
        idle: sum.idle + set.runners.idle,
        busy: sum.busy + set.runners.busy,
        failed: sum.failed + set.runners.failed,
    })
}

pub(super) fn status(seen: &Observed, desired: u32) -> Status {
    let runners = total(seen);
    let demand = seen.demand.unwrap_or_default();
    Status {
        revision: seen.revision.clone(),
        desired,
        runners,
        waiting: demand.waiting(),
        running: demand.running,
        claim: claim(seen, desired, runners),
    }
}

/// The most pressing first: what somebody must put right, then what passes by itself.
fn claim(seen: &Observed, desired: u32, runners: Counts) -> Claim {
    let not_ready = |reason, message| Claim { kind: READY, truth: Truth::False, reason, message };
    if seen.namespace_terminating {
        let message =
            format!("the namespace goes: {} runners with a job are stopped", runners.busy);
        return not_ready(Reason::NamespaceTerminating, message);
    }
    if seen.deleting.is_some() {
        let message = format!("{} runners have a job and are waited for", runners.busy);
        return not_ready(Reason::Deleting, message);
    }
    if let Some(claim) = seen.blocked.as_ref().and_then(Failure::claim) {
        return claim;
    }
    if let Session::Troubled(failure) = &seen.session
        && let Some(claim) = failure.claim()
    {
        return claim;
    }
    if let Some(claim) = dropped(&seen.dropped_labels).and_then(|failure| failure.claim()) {
        return claim;
    }
    let current = seen.sets.iter().find(|set| set.revision == seen.revision);
    if let Some(problem) = current.and_then(|set| set.problem.as_ref())
        && !matches!(problem.reason, Reason::Scaling)
    {
        return problem.clone();
    }
    let old: u32 = seen
        .sets
        .iter()
        .filter(|set| set.revision != seen.revision)
        .map(|set| set.runners.live)
        .sum();
    let ready = runners.idle + runners.busy;
    if old > 0 {
        let message = format!("{old} runners are of an older revision");
        return not_ready(Reason::RollingOut, message);
    }
    if runners.live == desired && runners.pending == 0 {
        let message = format!("{ready} runners");
        return Claim { kind: READY, truth: Truth::True, reason: Reason::AllRunnersReady, message };
    }
    not_ready(Reason::Scaling, format!("{ready} of {desired} runners are ready"))
}

/// What is said of labels that GitHub did not take. Jobs that ask for the others are taken.
pub fn dropped(labels: &[String]) -> Option<Failure> {
    let quoted: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
    (!quoted.is_empty()).then(|| Failure::LabelsDropped { labels: quoted.join(", ") })
}
