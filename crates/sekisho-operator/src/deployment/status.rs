//! The status of a deployment, written when it says something new.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Resource as _, ResourceExt as _};
use sekisho_api::condition;
use sekisho_api::{JobCounts, LABEL_DEPLOYMENT, RunnerDeployment};
use sekisho_reconcile::At;
use sekisho_reconcile::deployment::Plan;
use serde_json::json;

use crate::context::Context;
use crate::queue::Key;
use crate::record::time;
use crate::replica_set::{STATUS_EVERY, counts};

/// Writes the status if it says something new; or when it may be written.
pub(super) async fn write(
    context: &Context,
    object: &RunnerDeployment,
    plan: &Plan,
    now: At,
    key: Key,
) -> Option<Duration> {
    let (status, generation) = (&plan.status, object.metadata.generation.unwrap_or_default());
    let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let mut next = object.status.clone().unwrap_or_default();
    next.observed_generation = Some(generation);
    next.revision = Some(status.revision.clone());
    next.selector = Some(format!("{LABEL_DEPLOYMENT}={}", object.name_any()));
    next.desired = Some(signed(status.desired));
    next.runners = Some(counts(status.runners));
    next.jobs =
        Some(JobCounts { waiting: signed(status.waiting), running: signed(status.running) });
    condition::set(&mut next.conditions, &status.claim, generation, time(now).0);
    if object.status.as_ref() == Some(&next) {
        return None;
    }
    let last = context.memory().written.get(&key).copied();
    let due = last.map_or(Duration::ZERO, |last| now.until(last + STATUS_EVERY));
    if !due.is_zero() {
        return Some(due);
    }
    let api = context.api::<RunnerDeployment>(&object.namespace().unwrap_or_default());
    // Of the scale set, the session tells.
    (next.scale_set, next.claimed_group) = (None, None);
    let patch = json!({
        "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() },
        "status": next
    });
    context.memory().written.insert(key, now);
    context.metrics.wrote("patch");
    let params = PatchParams::default();
    match api.patch_status(&object.name_any(), &params, &Patch::Merge(patch)).await {
        Ok(_) => {
            let before = object.status.as_ref().map(|it| it.conditions.as_slice());
            context.tell(&object.object_ref(&()), before.unwrap_or_default(), &status.claim).await;
            None
        }
        Err(error) => {
            tracing::debug!("the status of a deployment changed meanwhile: {error}");
            Some(STATUS_EVERY)
        }
    }
}
