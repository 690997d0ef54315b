//! A runner that ended: what is left of it goes, and its job's fate is found out.

use sekisho_api::Reason;

use super::live::read_fate;
use super::{
    ASK_EVERY, Completion, Container, Effect, FATE_DEADLINE, FORCE_AFTER, Fate, Job, Node,
    Observed, Plan, RETRY, secs,
};

/// Decides for a runner whose end is recorded.
pub(super) fn decide(seen: &Observed) -> Plan {
    let state = seen.record.state;
    if let Some(plan) = spare(seen) {
        return plan;
    }
    let mut plan = if seen.finalizer { clean(seen, true) } else { Plan::of(state, []) };
    let Some(job) = seen.open_job() else { return plan };
    if let Some(Fate { result: Some(result), at }) = seen.fate {
        let known = Job { result: Some(result), completed: Some(at), ..job.clone() };
        if let Completion::Write(record) = seen.record.completed(&known, false) {
            plan.effects.insert(0, Effect::WriteStatus(record));
        }
        return plan;
    }
    let ended = seen.record.ended.unwrap_or(seen.now);
    if seen.deleting.is_some() || seen.now.is_past(ended, FATE_DEADLINE) {
        return plan;
    }
    read_fate(seen, plan)
}

/// A second controller with an old view may have registered a runner that this one gave up, and then it
/// may have a job. So of a pod that runs the registration goes first, and what has a job may end it.
fn spare(seen: &Observed) -> Option<Plan> {
    let pod = seen.pod.as_ref().filter(|pod| pod.ours && pod.gone_by.is_none())?;
    let running = matches!(pod.runner, Container::Running { .. }) && seen.node != Node::Gone;
    let meant = matches!(
        seen.record.state,
        Reason::JobTimeout | Reason::StoppedWithJob | Reason::OutOfMemory
    );
    let deadline = seen.record.ended? + secs(u64::from(seen.lifecycle.max_job_seconds));
    let unknown = !seen.is_absent() && seen.registered();
    if !running || meant || !unknown || seen.stop_now || seen.now >= deadline {
        return None;
    }
    let state = seen.record.state;
    if seen.is_busy() {
        let due = seen.ask_in(ASK_EVERY);
        let effects = (due.is_zero() && seen.held().is_none()).then_some(Effect::AskGitHub);
        return Some(Plan::of(state, effects).within(due.max(RETRY)));
    }
    if let Some(trouble) = seen.held() {
        return Some(Plan::wait(state, seen.now.until(trouble.next)).within(RETRY));
    }
    let mut plan = clean(seen, false);
    plan.effects.insert(0, Effect::Deregister { id: seen.registration() });
    Some(plan)
}

/// Ends a runner that cannot take a job any more: first what happened is written, then it goes.
pub(super) fn fail(seen: &Observed, reason: Reason, message: impl Into<String>) -> Plan {
    let mut plan = clean(seen, true);
    plan.effects.insert(0, seen.end(reason, message));
    plan.state = reason;
    plan
}

/// Ends a runner whose pod may be alive: first its registration is removed, so that no job comes any
/// more; if one came already, that fails, and the runner is busy.
pub(super) fn give_up(seen: &Observed, reason: Reason, message: impl Into<String>) -> Plan {
    if !seen.registered() || seen.is_absent() {
        return fail(seen, reason, message);
    }
    if let Some(trouble) = seen.held() {
        return Plan::wait(seen.record.state, seen.now.until(trouble.next)).within(RETRY);
    }
    let mut plan = clean(seen, false);
    let first = [Effect::Deregister { id: seen.registration() }, seen.end(reason, message)];
    plan.effects.splice(0..0, first);
    plan.state = reason;
    plan
}

/// Removes secret, pod, registration (if `deregister`) and finalizer, as far as it goes now.
pub(super) fn clean(seen: &Observed, deregister: bool) -> Plan {
    let start = seen.record.ended.or(seen.deleting).unwrap_or(seen.now);
    let deadline = start + secs(u64::from(seen.lifecycle.deletion_timeout_seconds));
    let late = seen.is_late(start);
    let mut effects = Vec::new();
    effects.extend(drop_secret(seen));
    let pod_goes = drop_pod(seen, late, &mut effects);
    if deregister && !late && !seen.is_absent() {
        match seen.held() {
            Some(trouble) => {
                let span = seen.now.until(trouble.next.min(deadline));
                return Plan { effects, ..Plan::wait(seen.record.state, span) }.within(RETRY);
            }
            // One that has a job cannot be removed; the pod that had it ends first.
            None => effects.push(Effect::Deregister { id: seen.registration() }),
        }
    }
    if pod_goes && seen.finalizer {
        if deregister && late && !seen.is_absent() && seen.registered() {
            effects.push(left_behind(seen));
        }
        effects.push(Effect::RemoveFinalizer);
        return Plan::of(seen.record.state, effects).within(RETRY);
    }
    Plan::of(seen.record.state, effects).within(seen.now.until(deadline).min(RETRY))
}

/// What is told when the finalizer goes although the registration may be there.
pub(super) fn left_behind(seen: &Observed) -> Effect {
    let busy = seen.is_busy() || seen.noted_busy();
    let reason = if busy { Reason::StoppedWithJob } else { Reason::GitHubUnreachable };
    let message = format!(
        "{}: its registration could not be removed within {} s, and is left to the sweep",
        seen.name, seen.lifecycle.deletion_timeout_seconds
    );
    Effect::Event { reason, message }
}

/// Deletes the secret.
pub(super) fn drop_secret(seen: &Observed) -> Option<Effect> {
    seen.secret.as_ref().map(|secret| Effect::DeleteSecret { uid: secret.uid.clone() })
}

/// Deletes the pod; whether it is gone once the effects are done.
fn drop_pod(seen: &Observed, late: bool, effects: &mut Vec<Effect>) -> bool {
    let Some(pod) = seen.pod.as_ref().filter(|pod| pod.ours) else { return true };
    let stopped = matches!(pod.runner, Container::Ended { .. }) || seen.node == Node::Gone;
    let never_ran = pod.node.is_none();
    // Nobody stops it any more: its node is dead, and its grace period and more is over.
    let dead = matches!(seen.node, Node::Silent { .. })
        && pod.gone_by.is_some_and(|gone_by| seen.now.is_past(gone_by, FORCE_AFTER));
    let at_once = stopped || never_ran || late || dead;
    if at_once || pod.gone_by.is_none() {
        effects.push(Effect::DeletePod { uid: pod.uid.clone(), at_once });
    }
    at_once
}
