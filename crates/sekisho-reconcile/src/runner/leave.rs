//! A runner that is being deleted: it was not needed any more, its job is over, or somebody wants so.
//!
//! ```text
//!  no registration   ─▶ pod goes
//!  no job, or so it seems ─▶ registration goes ─▶ pod goes        "it has a job": wait
//!  a job             ─▶ wait for its end, at most until its deadline; not at all with stop-now
//! ```
//!
//! What is left after `deletionTimeoutSeconds` (of waiting for anything but a job) is left to the
//! sweep: the finalizer never holds a namespace.

use std::time::Duration;

use sekisho_api::Reason;

use super::live::job_deadline;
use super::{
    ASK_EVERY, Container, EXIT_GRACE, Effect, FORCE_AFTER, Node, Observed, Plan, Pod, RESULT_AFTER,
    RETRY, Registration, SILENT_NODE, ended, secs,
};
use crate::At;

/// Decides for a runner that is being deleted and whose end is not recorded.
pub(super) fn decide(seen: &Observed, since: At) -> Plan {
    let pod = match &seen.pod {
        Some(pod) if pod.ours && seen.bound().is_none_or(|uid| uid == pod.uid) => pod,
        _ => return without_pod(seen),
    };
    if let Container::Ended { at, code } = pod.runner {
        return stopped(seen, pod, at, code);
    }
    if seen.node == Node::Gone {
        return without_pod(seen);
    }
    let busy = has_job(seen);
    let overdue = job_deadline(seen).is_some_and(|deadline| busy && seen.now >= deadline);
    let hurried = seen.stop_now || seen.namespace_terminating || overdue;
    if busy && hurried {
        return tell(seen, stop_reason(overdue), "it was stopped while it had a job");
    }
    if busy && pod.gone_by.is_none() {
        return wait_for_job(seen);
    }
    if let Some(gone_by) = pod.gone_by {
        return stopping(seen, gone_by, busy);
    }
    retire(seen, pod, since)
}

/// What GitHub says counts; before it said anything, what was recorded. That it has a registration
/// without a job may be old: to remove that registration is then refused.
fn has_job(seen: &Observed) -> bool {
    if seen.concluded().is_some() {
        return false;
    }
    match seen.github.map(|at| at.seen) {
        Some(Registration::Present { busy, .. }) => busy,
        Some(Registration::Absent { .. }) => false,
        None => seen.noted_busy(),
    }
}

const fn stop_reason(overdue: bool) -> Reason {
    if overdue { Reason::JobTimeout } else { Reason::StoppedWithJob }
}

/// It has no job: the registration goes, then the pod.
fn retire(seen: &Observed, pod: &Pod, since: At) -> Plan {
    let deadline = since + secs(u64::from(seen.lifecycle.deletion_timeout_seconds));
    if let Some(over) = job_over(seen)
        && !seen.now.is_past(over, EXIT_GRACE)
        && !seen.stop_now
    {
        return Plan::wait(Reason::Completing, seen.now.until(over + EXIT_GRACE));
    }
    let mut effects = Vec::new();
    let late = seen.is_late(since);
    if !late && may_be_registered(seen, pod) {
        if let Some(trouble) = seen.held() {
            let next = seen.now.until(trouble.next.min(deadline));
            return Plan::wait(Reason::Completing, next).within(RETRY);
        }
        effects.push(Effect::Deregister { id: seen.registration() });
    }
    effects.extend(ended::drop_secret(seen));
    let at_once = pod.node.is_none() || late;
    effects.push(Effect::DeletePod { uid: pod.uid.clone(), at_once });
    if at_once {
        if late && may_be_registered(seen, pod) {
            effects.push(ended::left_behind(seen));
        }
        effects.push(Effect::RemoveFinalizer);
    }
    Plan::of(Reason::Completing, effects).within(RETRY)
}

/// When its job was seen to be over: it will exit by itself.
fn job_over(seen: &Observed) -> Option<At> {
    seen.record.job.as_ref()?;
    let told = seen.fate.filter(|fate| fate.result.is_some()).map(|fate| fate.at);
    told.or(seen.github.filter(|_| seen.is_absent()).map(|at| at.at))
}

/// A pod without a node is never registered; with one, the answer may have been lost. What runs may have
/// been registered after GitHub said that it is not, by one whose view is older: that answer is asked for
/// again, in the same breath.
fn may_be_registered(seen: &Observed, pod: &Pod) -> bool {
    let absent = seen.is_absent() && !matches!(pod.runner, Container::Running { .. });
    !absent && (seen.registered() || pod.node.is_some())
}

/// Its pod was told to stop and still runs.
fn stopping(seen: &Observed, gone_by: At, busy: bool) -> Plan {
    let mut effects: Vec<Effect> = ended::drop_secret(seen).into_iter().collect();
    let dead = matches!(seen.node, Node::Silent { .. });
    if dead && seen.now.is_past(gone_by, FORCE_AFTER) {
        return without_pod(seen);
    }
    if busy && seen.record.state != Reason::Interrupted {
        let message = "its pod is being stopped while it has a job";
        let record = seen.noted(Reason::Interrupted, message);
        let first = [told(seen, Reason::PodLost, message), [Effect::WriteStatus(Box::new(record))]];
        effects.splice(0..0, first.into_iter().flatten());
    }
    let left = seen.now.until(gone_by + FORCE_AFTER).max(RETRY);
    Plan::of(Reason::Completing, effects).within(left)
}

/// It is busy, and gets the time that its job needs. GitHub says when that is over.
fn wait_for_job(seen: &Observed) -> Plan {
    let mut effects: Vec<Effect> = Vec::new();
    let deadline = job_deadline(seen);
    let silent =
        matches!(seen.node, Node::Silent { since } if seen.now.is_past(since, SILENT_NODE));
    if silent && seen.record.state != Reason::Interrupted {
        let message = "its node does not answer";
        effects.extend(told(seen, Reason::NodeLost, message));
        let mut record = seen.noted(Reason::Interrupted, message);
        record.online = record.online.or(Some(seen.now));
        effects.push(Effect::WriteStatus(Box::new(record)));
    } else if deadline.is_none() {
        // Nobody said yet that it has a job; from now on its time is counted.
        let mut record = seen.noted(Reason::Busy, "");
        record.online = Some(seen.now);
        effects.push(Effect::WriteStatus(Box::new(record)));
    }
    effects.extend(ended::drop_secret(seen));
    let left = deadline.map_or(Duration::MAX, |deadline| seen.now.until(deadline));
    let due = seen.ask_in(ASK_EVERY);
    if due.is_zero() && seen.held().is_none() {
        effects.push(Effect::AskGitHub);
        return Plan::of(Reason::Busy, effects).within(left.min(ASK_EVERY));
    }
    Plan::of(Reason::Busy, effects).within(left.min(due))
}

/// Its container ended.
fn stopped(seen: &Observed, pod: &Pod, at: At, code: Option<i32>) -> Plan {
    if seen.concluded().is_some() {
        // GitHub removes an ephemeral registration with its job: there is nothing to ask for.
        return ended::clean(seen, false);
    }
    let clean = code == Some(0) && !pod.out_of_memory && pod.disrupted.is_none();
    if !clean && seen.registered() && seen.github.is_none() && seen.held().is_none() {
        // Nobody may have told yet that it had a job; its pod is the evidence, and stays meanwhile.
        return Plan::of(Reason::Completing, [Effect::AskGitHub]).within(RETRY);
    }
    let open = seen.is_busy() || seen.noted_busy();
    let waited = seen.now.is_past(at, RESULT_AFTER) && !seen.is_absent();
    if open && (!clean || waited) {
        return lost(seen, pod);
    }
    ended::clean(seen, true)
}

/// Its container ended badly, with a job whose end nobody has told.
fn lost(seen: &Observed, pod: &Pod) -> Plan {
    let reason = if pod.out_of_memory { Reason::OutOfMemory } else { Reason::StoppedWithJob };
    let why = pod.disrupted.as_deref().unwrap_or("its container ended");
    tell(seen, reason, &format!("it was being deleted, and stopped with a job: {why}"))
}

/// There is no pod that could still run.
fn without_pod(seen: &Observed) -> Plan {
    if seen.concluded().is_some() || !seen.noted_busy() && !seen.is_busy() {
        return ended::clean(seen, true);
    }
    if let (true, Some(job), None) = (seen.is_absent(), &seen.record.job, seen.fate)
        && !seen.namespace_terminating
    {
        // GitHub is done with it: how its job ended can be read, and then it is no loss.
        if let Some(trouble) = seen.held() {
            return Plan::wait(Reason::Completing, seen.now.until(trouble.next)).within(RETRY);
        }
        return Plan::of(Reason::Completing, [Effect::ReadFate { run_id: job.run_id }])
            .within(RETRY);
    }
    let reason = if seen.node == Node::Gone { Reason::NodeLost } else { Reason::PodLost };
    tell(seen, reason, "it was being deleted, and its pod disappeared with a job")
}

/// A loss of a runner that goes: its record goes with it, so an event tells it too.
fn tell(seen: &Observed, reason: Reason, message: &str) -> Plan {
    let mut plan = ended::fail(seen, reason, message);
    plan.effects.splice(0..0, told(seen, reason, message));
    plan
}

fn told(seen: &Observed, reason: Reason, message: &str) -> [Effect; 1] {
    let job = seen.record.job.as_ref().map_or(String::new(), |job| {
        format!(" ({} of {}, run {})", job.display_name, job.repository, job.run_id)
    });
    [Effect::Event { reason, message: format!("{}: {message}{job}", seen.name) }]
}
