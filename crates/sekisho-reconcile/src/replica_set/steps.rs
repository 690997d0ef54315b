//! Which failed runners go, which are stopped, and which are made.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{
    BATCH, Effect, FAILED_KEPT, LOSS_KEPT, Observed, PAUSE_MAX, Phase, Plan, Runner, STREAK_KEPT,
    secs, streak,
};
use crate::At;

/// Failed runners whose time is over go.
pub(super) fn bury(seen: &Observed, plan: &mut Plan) {
    let streak: Vec<&str> = streak(seen).iter().map(|(.., runner)| runner.name.as_str()).collect();
    let kept: BTreeSet<&str> =
        streak.iter().take(1).chain(streak.iter().rev().take(STREAK_KEPT - 1)).copied().collect();
    let mut failed: Vec<(At, &Runner)> = Vec::new();
    for runner in seen.runners.iter().filter(|runner| !runner.deleting) {
        let Phase::Failed { at, open_job, .. } = runner.phase else { continue };
        // What is not cleaned up yet, or may still get its result, stays in any case.
        let open = runner.finalizer || (open_job && !seen.now.is_past(at, LOSS_KEPT));
        if open || kept.contains(runner.name.as_str()) {
            continue;
        }
        if seen.now.is_past(at, seen.failed_ttl) {
            plan.effects.push(delete(runner));
        } else {
            failed.push((at, runner));
            look_again(plan, seen.now.until(at + seen.failed_ttl));
        }
    }
    failed.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
    let surplus = failed.len().saturating_sub(FAILED_KEPT);
    plan.effects.extend(failed.iter().take(surplus).map(|(_, runner)| delete(runner)));
    let waits = plan.counts.failed > 0 && plan.requeue_after.is_none();
    if waits {
        look_again(plan, PAUSE_MAX);
    }
}

/// The least useful first: without a node, then those that start, then those that wait; of each the
/// oldest. Never one with a job.
pub(super) fn stop_some(seen: &Observed, surplus: usize, plan: &mut Plan) {
    let worth = |runner: &Runner| match runner.phase {
        Phase::Pending { placed: false } => Some(0),
        Phase::Pending { placed: true } => Some(1),
        Phase::Idle => Some(2),
        _ => None,
    };
    let mut candidates: Vec<(u8, At, &Runner)> = seen
        .runners
        .iter()
        .filter(|runner| !runner.deleting && !runner.over)
        .filter_map(|runner| Some((worth(runner)?, runner.created, runner)))
        .collect();
    candidates.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    let stopped = candidates.iter().take(surplus.min(BATCH)).map(|(.., runner)| delete(runner));
    plan.effects.extend(stopped);
    if surplus > BATCH {
        look_again(plan, secs(1));
    }
}

/// Numbers are reserved first, then runners are made.
pub(super) fn start_some(seen: &Observed, missing: usize, plan: &mut Plan) {
    let allowed = match plan.backoff {
        None => missing,
        Some(_) if plan.counts.pending > 0 => 0,
        Some(backoff) if seen.now < backoff.next => {
            look_again(plan, seen.now.until(backoff.next));
            0
        }
        Some(_) => 1,
    };
    let batch = allowed.min(BATCH);
    if batch == 0 {
        return;
    }
    // A number that is seen is taken, whatever the status says: it may have been restored.
    let highest = seen.runners.iter().filter_map(|runner| crate::name::number(&runner.name)).max();
    let first = seen.next_number.max(highest.map_or(0, |number| number.saturating_add(1)));
    let next = first.saturating_add(batch as u64);
    plan.status.next_number = next;
    plan.effects.push(Effect::WriteStatus(Box::new(plan.status.clone())));
    plan.effects.push(Effect::CreateRunners { numbers: (first..next).collect() });
    if missing > batch && plan.backoff.is_none() {
        look_again(plan, secs(1));
    }
}

/// All go; those with a job when it is over, unless they are told to stop now.
pub(super) fn stop_all(seen: &Observed, plan: &mut Plan) {
    let told = seen.runners.iter().filter(|runner| seen.stop_now && !runner.stop_now);
    plan.effects.extend(told.map(|runner| Effect::MarkStopNow { name: runner.name.clone() }));
    plan.effects.extend(seen.runners.iter().filter(|runner| !runner.deleting).map(delete));
}

fn delete(runner: &Runner) -> Effect {
    Effect::DeleteRunner { name: runner.name.clone(), uid: runner.uid.clone() }
}

fn look_again(plan: &mut Plan, span: Duration) {
    let span = span.max(Duration::from_millis(100));
    plan.requeue_after = Some(plan.requeue_after.map_or(span, |known| known.min(span)));
}
