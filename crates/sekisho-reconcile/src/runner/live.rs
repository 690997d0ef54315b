//! A runner that is wanted.

use std::time::Duration;

use sekisho_api::{JobResult, Reason};

use super::{
    ABSENT_SWEEPS, ASK_AFTER, ASK_EVERY, Container, Effect, FATE_DEADLINE, FATE_EVERY, FORCE_AFTER,
    NOTE_AFTER, Node, Observed, PULL_GRACE, Plan, Pod, RESULT_AFTER, Registration, SILENT_NODE,
    Waiting, ended, secs,
};
use crate::At;

/// Decides for a runner that nobody deletes and that has not ended.
pub(super) fn decide(seen: &Observed) -> Plan {
    if !seen.finalizer {
        return Plan::of(Reason::Pending, [Effect::AddFinalizer]);
    }
    if let Some(result) = seen.record.job.as_ref().and_then(|job| job.result) {
        return concluded(seen, result);
    }
    let bound = seen.bound();
    let pod = match (&seen.pod, bound) {
        (None, None) => return start(seen),
        (None, Some(_)) => return lost(seen, "its pod disappeared"),
        (Some(pod), Some(uid)) if pod.uid != uid => {
            return lost(seen, "its pod disappeared, and another one has its name");
        }
        (Some(pod), None) if !pod.ours => {
            let message = "a pod of this name is there, and belongs to somebody else";
            return ended::fail(seen, Reason::PodRejected, message);
        }
        (Some(pod), _) => pod,
    };
    if pod.out_of_memory {
        return ended::fail(
            seen,
            Reason::OutOfMemory,
            "a container of its pod was killed for its memory",
        );
    }
    if let Container::Ended { at, code } = pod.runner {
        return exited(seen, pod, at, code);
    }
    if seen.node == Node::Gone {
        return lost(seen, "its node disappeared");
    }
    if let Some(gone_by) = pod.gone_by {
        return interrupted(seen, pod, gone_by);
    }
    match pod.runner {
        Container::Running { since } => running(seen, since),
        Container::Waiting | Container::Ended { .. } => waiting(seen, pod),
    }
}

/// Its job has a result. One that did not succeed while somebody stopped it is a loss all the same.
fn concluded(seen: &Observed, result: JobResult) -> Plan {
    if seen.record.state == Reason::Interrupted && result != JobResult::Succeeded {
        let reason = if seen.node == Node::Ready { Reason::PodLost } else { Reason::NodeLost };
        return ended::fail(seen, reason, seen.record.message.clone());
    }
    Plan::of(Reason::Completing, [Effect::DeleteRunner])
}

/// There is no pod, and never was one with a registration.
fn start(seen: &Observed) -> Plan {
    let deadline = seen.created + timeout(seen.lifecycle.pending_timeout_seconds);
    if let Some(trouble) = &seen.trouble {
        if trouble.failure.refuses_pod() {
            let reason = trouble.failure.reason().unwrap_or(Reason::PodRejected);
            return ended::fail(seen, reason, trouble.failure.sentence());
        }
        if seen.now >= deadline {
            let reason = trouble.failure.reason().unwrap_or(Reason::PendingTimeout);
            return ended::fail(seen, reason, trouble.failure.sentence());
        }
        if trouble.holds(seen.now) {
            let message = trouble.failure.sentence();
            return note(seen, Reason::Pending, message, seen.created)
                .within(seen.now.until(trouble.next.min(deadline)));
        }
    }
    if seen.namespace_terminating {
        return Plan::of(Reason::Pending, []);
    }
    Plan::of(Reason::Pending, [Effect::CreatePod])
}

/// Its pod is there, and its container has not started.
fn waiting(seen: &Observed, pod: &Pod) -> Plan {
    let deadline = pod.created + timeout(seen.lifecycle.pending_timeout_seconds);
    if let Some(Waiting::ImagePull { since, detail }) = &pod.waiting
        && seen.now.is_past(*since, PULL_GRACE)
    {
        return ended::give_up(seen, Reason::ImagePullFailed, detail.clone());
    }
    let why = match &pod.waiting {
        None => String::new(),
        Some(Waiting::Unschedulable(text) | Waiting::Other(text)) => text.clone(),
        Some(Waiting::ImagePull { detail, .. }) => detail.clone(),
    };
    if seen.now >= deadline {
        if pod.node.is_some()
            && !seen.registered()
            && let Some(trouble) = &seen.trouble
        {
            // It waits for its registration, and what that fails for is why.
            let reason = trouble.failure.reason().unwrap_or(Reason::PendingTimeout);
            return ended::give_up(seen, reason, trouble.failure.sentence());
        }
        let why = if why.is_empty() { its_events(seen) } else { why };
        let message = format!(
            "its pod did not start within {} s: {why}",
            seen.lifecycle.pending_timeout_seconds,
        );
        return ended::give_up(seen, Reason::PendingTimeout, message);
    }
    let left = seen.now.until(deadline);
    if pod.node.is_none() {
        return note(seen, Reason::Provisioning, why, pod.created).within(left);
    }
    if !seen.registered() {
        return register(seen, pod, left);
    }
    let left = match &pod.waiting {
        Some(Waiting::ImagePull { since, .. }) => left.min(seen.now.until(*since + PULL_GRACE)),
        _ => left,
    };
    note(seen, Reason::Starting, why, pod.created).within(left)
}

/// What keeps a sandbox from being made the kubelet tells in events alone, which outlive the pod.
fn its_events(seen: &Observed) -> String {
    let name = &seen.name;
    format!("`kubectl get events --field-selector involvedObject.name={name}` may say why")
}

/// Its pod has a node: the time to register.
fn register(seen: &Observed, pod: &Pod, left: Duration) -> Plan {
    if let Some(trouble) = &seen.trouble {
        if matches!(trouble.failure, crate::Failure::NameTaken { .. }) {
            let reason = Reason::RegistrationLost;
            return ended::fail(seen, reason, trouble.failure.sentence());
        }
        if trouble.holds(seen.now) {
            let message = trouble.failure.sentence();
            let next = seen.now.until(trouble.next);
            return note(seen, Reason::Starting, message, pod.created).within(left.min(next));
        }
    }
    Plan::of(Reason::Starting, [Effect::Register { pod_uid: pod.uid.clone() }]).within(left)
}

/// Its container runs.
fn running(seen: &Observed, since: At) -> Plan {
    let busy = seen.is_busy() || seen.record.job.is_some();
    let online = busy || seen.is_online() || seen.record.online.is_some();
    if !busy && let Some(reason) = gone_at_github(seen) {
        return ended::give_up(seen, Reason::RegistrationLost, reason);
    }
    if !online {
        return unseen(seen, since);
    }
    if !busy && seen.record.online.is_none() && !seen.now.is_past(since, ASK_AFTER) {
        return Plan::wait(Reason::Starting, seen.now.until(since + ASK_AFTER));
    }
    // Kubernetes waited before it said so: what it knows is written down at once, for it may soon be gone.
    let silent = matches!(seen.node, Node::Silent { .. });
    let (state, message) = match (busy, silent) {
        (true, true) => (Reason::Interrupted, "its node does not answer"),
        (true, false) => (Reason::Busy, ""),
        (false, _) => (Reason::Idle, ""),
    };
    let mut effects = Vec::new();
    if seen.record.online.is_none() || seen.record.state != state {
        let mut record = seen.noted(state, message);
        record.online = seen.record.online.or(Some(seen.now));
        effects.push(Effect::WriteStatus(Box::new(record)));
    }
    effects.extend(ended::drop_secret(seen));
    let plan = if busy { working(seen, since) } else { idle(seen) };
    let requeue_after = plan.requeue_after;
    effects.extend(plan.effects);
    Plan { state: plan.state, effects, requeue_after }
}

/// GitHub has not seen it yet.
fn unseen(seen: &Observed, since: At) -> Plan {
    let deadline = since + timeout(seen.lifecycle.registration_timeout_seconds);
    if seen.now >= deadline {
        let message = format!(
            "its container runs, and GitHub did not see it within {} s",
            seen.lifecycle.registration_timeout_seconds
        );
        return ended::give_up(seen, Reason::RegistrationTimeout, message);
    }
    let plan = note(seen, Reason::Starting, "", since).within(seen.now.until(deadline));
    ask(seen, plan, since + ASK_AFTER)
}

/// Why the registration is believed to be gone.
fn gone_at_github(seen: &Observed) -> Option<String> {
    if seen.is_absent_for_good() {
        return Some(format!("GitHub did not know it {ABSENT_SWEEPS} times in a row"));
    }
    match (seen.github.map(|at| at.seen), seen.registration()) {
        (Some(Registration::Present { id, .. }), Some(ours)) if id != ours => {
            Some(format!("GitHub has registration {id} of this name, and not {ours}"))
        }
        _ => None,
    }
}

/// It waits for a job.
fn idle(seen: &Observed) -> Plan {
    if let Node::Silent { since } = seen.node {
        if seen.now.is_past(since, SILENT_NODE) {
            return ended::give_up(seen, Reason::NodeLost, "its node does not answer");
        }
        return Plan::wait(Reason::Idle, seen.now.until(since + SILENT_NODE));
    }
    let online = seen.record.online.unwrap_or(seen.now);
    let deadline = online + timeout(seen.lifecycle.idle_timeout_seconds);
    if seen.now >= deadline {
        // The deletion removes the registration first: a job that comes just now is still served.
        return Plan::of(Reason::Idle, [Effect::DeleteRunner]);
    }
    Plan::wait(Reason::Idle, seen.now.until(deadline))
}

/// It has a job.
fn working(seen: &Observed, since: At) -> Plan {
    let deadline = job_deadline(seen).unwrap_or(since + timeout(seen.lifecycle.max_job_seconds));
    if seen.now >= deadline {
        let message = format!("its job ran for {} s", seen.lifecycle.max_job_seconds);
        return ended::fail(seen, Reason::JobTimeout, message);
    }
    let plan = Plan::wait(Reason::Busy, seen.now.until(deadline));
    if !seen.is_absent_for_good() {
        return plan;
    }
    // An ephemeral registration goes with its job; that the runner still runs is not its job's fault.
    match seen.concluded() {
        Some(result) => concluded(seen, result),
        None => read_fate(seen, plan),
    }
}

/// When its job has run for as long as it may.
pub(super) fn job_deadline(seen: &Observed) -> Option<At> {
    let started = seen.record.job.as_ref().and_then(|job| job.started).or(seen.record.online);
    started.map(|at| at + timeout(seen.lifecycle.max_job_seconds))
}

/// Somebody else stops its pod. What is known is written before the pod is gone.
fn interrupted(seen: &Observed, pod: &Pod, gone_by: At) -> Plan {
    let mut effects = Vec::new();
    let busy = seen.is_busy() || seen.record.job.is_some();
    if seen.record.state != Reason::Interrupted {
        let why = pod.disrupted.as_deref().unwrap_or("nothing says why");
        let message = format!("its pod is being stopped by somebody else: {why}");
        effects.push(Effect::WriteStatus(Box::new(seen.noted(Reason::Interrupted, message))));
    }
    let dead = !matches!(seen.node, Node::Ready | Node::Unknown);
    if dead && seen.now.is_past(gone_by, FORCE_AFTER) {
        let plan = ended::fail(seen, Reason::NodeLost, "its node did not stop it in time");
        effects.extend(plan.effects);
        return Plan { effects, ..plan };
    }
    if !busy && seen.registered() && !seen.is_absent() && seen.held().is_none() {
        // No job shall be given to it any more.
        effects.push(Effect::Deregister { id: seen.registration() });
    }
    let left = seen.now.until(gone_by + FORCE_AFTER).max(secs(5));
    Plan::of(Reason::Interrupted, effects).within(left)
}

/// Its container ended, and nothing says how its job did.
fn exited(seen: &Observed, pod: &Pod, at: At, code: Option<i32>) -> Plan {
    let clean = code == Some(0);
    let code = code.map_or("without a code".to_owned(), |code| format!("with code {code}"));
    let why = pod.disrupted.as_deref().map(|why| format!("; {why}")).unwrap_or_default();
    let message = format!("its container ended {code}{why}");
    let result_due = at + RESULT_AFTER;
    if seen.record.job.is_none() {
        let well = clean && pod.disrupted.is_none() && pod.gone_by.is_none();
        return without_job(seen, pod, at, well, message);
    }
    if let Some(result) = seen.concluded() {
        return concluded(seen, result);
    }
    let mut effects = Vec::new();
    // The pod may vanish before the result is known: how it ended is written down while it is seen.
    let state = if pod.disrupted.is_some() { Reason::Interrupted } else { Reason::Completing };
    if !clean && !matches!(seen.record.state, Reason::Interrupted | Reason::Completing) {
        let record = seen.noted(state, message.clone());
        effects.push(Effect::WriteStatus(Box::new(record)));
    }
    if seen.now < result_due {
        return Plan::of(Reason::Completing, effects).within(seen.now.until(result_due));
    }
    if seen.now.is_past(at, FATE_DEADLINE) {
        let reason = if pod.disrupted.is_some() { Reason::PodLost } else { Reason::StoppedWithJob };
        return ended::fail(seen, reason, message);
    }
    let plan = Plan::of(Reason::Completing, effects).within(seen.now.until(at + FATE_DEADLINE));
    read_fate(seen, plan)
}

/// Its container ended, and nobody told of a job. No message tells of the jobs of runners that are
/// registered one by one; but an ephemeral registration goes with its job: of one that ended well by
/// itself, and that GitHub does not know any more, the job is over, and its result stands at GitHub.
fn without_job(seen: &Observed, pod: &Pod, at: At, well: bool, message: String) -> Plan {
    let asked = seen.github.filter(|asked| asked.at >= at).map(|asked| asked.seen);
    if well && matches!(asked, Some(Registration::Absent { .. })) {
        return Plan::of(Reason::Completing, [Effect::JobOver, Effect::DeleteRunner]);
    }
    let result_due = at + RESULT_AFTER;
    if seen.now >= result_due {
        return ended::fail(seen, ended_without_job(pod), message);
    }
    let plan = Plan::wait(Reason::Completing, seen.now.until(result_due));
    if well { ask(seen, plan, at + ASK_AFTER) } else { plan }
}

fn ended_without_job(pod: &Pod) -> Reason {
    if pod.disrupted.is_some() { Reason::PodLost } else { Reason::RunnerExited }
}

/// The pod is gone, and the runner with it.
fn lost(seen: &Observed, message: &str) -> Plan {
    // A pod that vanishes from a node which does not answer went with it.
    let reason = match seen.node {
        Node::Gone | Node::Silent { .. } => Reason::NodeLost,
        Node::Ready | Node::Unknown => Reason::PodLost,
    };
    let node = seen.record.pod.as_ref().and_then(|pod| pod.node.as_deref());
    let mut message = message.to_owned();
    if let Some(node) = node {
        message.push_str(&format!(" (node {node})"));
    }
    if seen.record.state == Reason::Interrupted && !seen.record.message.is_empty() {
        message.push_str(&format!("; before that: {}", seen.record.message));
    }
    ended::fail(seen, reason, message)
}

/// Reads the job's fate when it is due.
pub(super) fn read_fate(seen: &Observed, mut plan: Plan) -> Plan {
    let due = seen.fate.map_or(seen.now, |fate| fate.at + FATE_EVERY);
    match seen.record.job.as_ref() {
        Some(job) if seen.now >= due && seen.held().is_none() => {
            plan.effects.push(Effect::ReadFate { run_id: job.run_id });
            plan.within(FATE_EVERY)
        }
        _ => plan.within(seen.now.until(due).max(secs(1))),
    }
}

/// Asks GitHub for the registration, not before `earliest` and not too often.
fn ask(seen: &Observed, mut plan: Plan, earliest: At) -> Plan {
    let due = seen.now.until(earliest).max(seen.ask_in(ASK_EVERY));
    if due.is_zero() && seen.held().is_none() {
        plan.effects.push(Effect::AskGitHub);
        return plan.within(ASK_EVERY);
    }
    plan.within(due)
}

/// Waits, and writes the state down once it has lasted.
fn note(seen: &Observed, state: Reason, message: impl Into<String>, since: At) -> Plan {
    let message = message.into();
    let lasting = seen.now.is_past(since, NOTE_AFTER);
    if !lasting {
        return Plan::wait(state, seen.now.until(since + NOTE_AFTER));
    }
    if seen.record.state == state && (seen.record.message == message || message.is_empty()) {
        return Plan::of(state, []);
    }
    Plan::of(state, [Effect::WriteStatus(Box::new(seen.noted(state, message)))])
}

fn timeout(seconds: u32) -> Duration {
    secs(u64::from(seconds))
}
