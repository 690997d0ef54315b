//! RunnerReplicaSet: observe, decide, act.

use std::mem::discriminant;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use sekisho_api::condition;
use sekisho_api::{
    ANNOTATION_STOP_NOW, FINALIZER_REGISTRATION, LABEL_DEPLOYMENT, LABEL_REVISION, Runner,
    RunnerCounts, RunnerReplicaSet, RunnerReplicaSetStatus,
};
use sekisho_reconcile::failure::QUOTA_PAUSE;
use sekisho_reconcile::replica_set::{self, Counts, Effect, Observed, Status};
use sekisho_reconcile::session::Gate;
use sekisho_reconcile::{At, Failure};
use serde_json::json;

use crate::context::{Context, Name};
use crate::failure;
use crate::queue::Key;
use crate::record::time;
use crate::runner::{self, gone};

/// How often a status is written for nothing but to be read.
pub(crate) const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How many Runners are created, or deleted, at a time.
const AT_ONCE: usize = 16;
/// How many calls are made ready at a time: each takes some kilobytes, and there may be ten thousand.
const PREPARED: usize = 256;

/// Works on a set; when to look again.
pub(crate) async fn reconcile(context: &Context, name: Name) -> Option<Duration> {
    let key = Key::ReplicaSet(name.0.clone(), name.1.clone());
    let Some(set) = context.stores.sets.get(&ObjectRef::new(&name.1).within(&name.0)) else {
        let mut memory = context.memory();
        memory.backing_off.remove(&name);
        memory.written.remove(&key);
        memory.trouble.remove(&key);
        return None;
    };
    let deployment = (name.0.clone(), set.spec.runner.deployment.clone());
    if !context.holds(&deployment) {
        return None;
    }
    let seen = observe(context, &set, &deployment);
    let plan = replica_set::decide(&seen);
    let backing_off = {
        let mut memory = context.memory();
        match plan.backoff {
            Some(_) => memory.backing_off.insert(name.clone()),
            None => memory.backing_off.remove(&name),
        };
        let tried = seen.trouble.as_ref().is_some_and(|it| it.failure.reason().is_some());
        let gate = match plan.backoff {
            Some(_) => Some(Gate::Backoff),
            None if seen.refused.is_some() || tried => Some(Gate::Quota),
            None => None,
        };
        // The set that new runners are of is the one that says whether there is room for them.
        let deployment = memory.deployments.entry(deployment).or_default();
        if deployment.makes(&set.spec.revision) {
            deployment.gate = gate;
        }
        memory.backing_off.len()
    };
    context.metrics.backing_off.set(i64::try_from(backing_off).unwrap_or(i64::MAX));
    // Each write is of the version that the one before it made.
    let mut version = set.resource_version();
    let (mut wrote, mut made) = (false, false);
    for effects in plan.effects.chunk_by(|a, b| discriminant(a) == discriminant(b)) {
        if let Err(failure) = act(context, &set, effects, &mut version).await {
            tracing::info!(set = name.1, "{failure}");
            let trouble = context.failed(&key, failure);
            // What somebody has to hear of is written at once, and tried again later.
            let told = trouble.failure.reason().map(|_| Duration::ZERO);
            let next = told.unwrap_or_else(|| context.now().until(trouble.next));
            return Some(next.max(Duration::from_millis(100)));
        }
        wrote |= matches!(effects, [Effect::WriteStatus(_), ..]);
        made |= matches!(effects, [Effect::CreateRunners { .. }, ..]);
    }
    if made || seen.trouble.as_ref().is_some_and(|it| !it.holds(seen.now)) {
        context.memory().trouble.remove(&key);
    }
    let mut after = plan.requeue_after;
    if !wrote && differs(&set, &plan.status, seen.now) {
        let due = context
            .memory()
            .written
            .get(&key)
            .map_or(Duration::ZERO, |last| seen.now.until(*last + STATUS_EVERY));
        if due.is_zero() {
            context.memory().written.insert(key, seen.now);
            // One that was changed meanwhile is looked at again anyway.
            drop(write(context, &set, &plan.status, &mut version).await);
        } else {
            after = Some(after.map_or(due, |known| known.min(due)));
        }
    }
    after
}

fn observe(context: &Context, set: &RunnerReplicaSet, deployment: &Name) -> Observed {
    let namespace = &deployment.0;
    let uid = set.uid().unwrap_or_default();
    let owner = context.stores.deployments.get(&ObjectRef::new(&deployment.1).within(namespace));
    let key = Key::ReplicaSet(namespace.clone(), set.name_any());
    let status = set.status.clone().unwrap_or_default();
    // One moment: who is counted, by which numbers, and who is expected.
    let memory = context.memory();
    let runners = memory.runners(context, namespace, &uid);
    let remembered = memory.deployments.get(deployment).cloned().unwrap_or_default();
    Observed {
        now: context.now(),
        deleting: set.metadata.deletion_timestamp.is_some()
            || owner.is_none_or(|it| it.metadata.deletion_timestamp.is_some()),
        namespace_terminating: context.terminating(namespace),
        stop_now: set.annotations().contains_key(ANNOTATION_STOP_NOW),
        desired: u32::try_from(set.spec.replicas).unwrap_or_default(),
        growth: remembered.growth_now(&set.spec.revision),
        next_number: status.next_number.and_then(|it| it.try_into().ok()).unwrap_or_default(),
        last_success: status
            .last_success_seconds
            .and_then(|it| it.try_into().ok())
            .map(At::from_secs),
        failed_ttl: Duration::from_secs(set.spec.runner.lifecycle.failed_ttl_seconds.into()),
        runners,
        expected: memory.expected.get(&uid).cloned().unwrap_or_default(),
        blocked: remembered.blocked,
        refused: remembered
            .refused
            .filter(|it| context.now() < it.next + QUOTA_PAUSE)
            .map(|it| it.failure),
        trouble: memory.trouble.get(&key).cloned(),
    }
}

/// Does effects of one kind. What concerns different Runners is done at the same time.
async fn act(
    context: &Context,
    set: &RunnerReplicaSet,
    effects: &[Effect],
    version: &mut Option<String>,
) -> Result<(), Failure> {
    let namespace = &set.namespace().unwrap_or_default();
    let mut on_runners = Vec::new();
    for effect in effects {
        match effect {
            Effect::WriteStatus(status) => write(context, set, status, version).await?,
            Effect::CreateRunners { numbers } => create(context, set, numbers).await?,
            Effect::DeleteRunner { .. } | Effect::MarkStopNow { .. } => on_runners.push(effect),
        }
    }
    all(&on_runners, |effect| act_on_runner(context, namespace, effect)).await
}

/// Does calls at the same time, each to its end; the first failure.
async fn all<T: Copy, F: Future<Output = Result<(), Failure>>>(
    of: &[T],
    call: impl Fn(T) -> F,
) -> Result<(), Failure> {
    let mut result = Ok(());
    for some in of.chunks(PREPARED) {
        let calls: Vec<F> = some.iter().copied().map(&call).collect();
        let done = futures_util::stream::iter(calls).buffer_unordered(AT_ONCE);
        result = done.collect::<Vec<_>>().await.into_iter().fold(result, Result::and);
    }
    result
}

async fn act_on_runner(context: &Context, namespace: &str, effect: &Effect) -> Result<(), Failure> {
    match effect {
        Effect::DeleteRunner { name, uid } => {
            runner::delete(context, namespace, name, uid, None).await
        }
        Effect::MarkStopNow { name } => {
            context.metrics.wrote("patch");
            let patch = json!({ "metadata": { "annotations": { ANNOTATION_STOP_NOW: "true" } } });
            let (api, params) = (context.api::<Runner>(namespace), PatchParams::default());
            gone(api.patch_metadata(name, &params, &Patch::Merge(patch)).await)
        }
        Effect::WriteStatus(_) | Effect::CreateRunners { .. } => Ok(()),
    }
}

async fn create(context: &Context, set: &RunnerReplicaSet, numbers: &[u64]) -> Result<(), Failure> {
    let namespace = set.namespace().unwrap_or_default();
    let Some(mark) = context.mark(&namespace) else { return Err(Failure::NamespaceTerminating) };
    let uid = set.uid().unwrap_or_default();
    let deployment = &set.spec.runner.deployment;
    let api = &context.api::<Runner>(&namespace);
    context.memory().expected.entry(uid.clone()).or_default().extend(numbers);
    let made = |number: u64| {
        let name = sekisho_reconcile::name::runner(&mark, deployment, &uid, number);
        let mut runner = Runner::new(&name, set.spec.runner.clone());
        runner.metadata = ObjectMeta {
            name: Some(name),
            labels: Some(
                [
                    (LABEL_DEPLOYMENT.to_owned(), deployment.clone()),
                    (LABEL_REVISION.to_owned(), set.spec.revision.clone()),
                ]
                .into(),
            ),
            finalizers: Some(vec![FINALIZER_REGISTRATION.to_owned()]),
            owner_references: set.controller_owner_ref(&()).map(|mut owner| {
                owner.block_owner_deletion = Some(true);
                vec![owner]
            }),
            ..ObjectMeta::default()
        };
        let uid = uid.clone();
        async move {
            context.metrics.wrote("create");
            match api.create(&PostParams::default(), &runner).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    if let Some(expected) = context.memory().expected.get_mut(&uid) {
                        expected.remove(&number);
                    }
                    if failure::is_conflict(&error) { Ok(()) } else { Err(failure::kube(error)) }
                }
            }
        }
    };
    // To the end, whatever comes of one: a number whose call is given up stays expected for ever.
    all(numbers, made).await
}

pub(crate) fn counts(counts: Counts) -> RunnerCounts {
    let of = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    RunnerCounts {
        live: of(counts.live),
        pending: of(counts.pending),
        idle: of(counts.idle),
        busy: of(counts.busy),
        failed: of(counts.failed),
    }
}

fn status_of(set: &RunnerReplicaSet, status: &Status, now: At) -> RunnerReplicaSetStatus {
    let generation = set.metadata.generation.unwrap_or_default();
    let mut next = set.status.clone().unwrap_or_default();
    next.observed_generation = Some(generation);
    next.selector = Some(format!(
        "{LABEL_DEPLOYMENT}={},{LABEL_REVISION}={}",
        set.spec.runner.deployment, set.spec.revision
    ));
    next.next_number = i64::try_from(status.next_number).ok();
    next.last_success_seconds = status.last_success.and_then(|it| i64::try_from(it.as_secs()).ok());
    next.runners = Some(counts(status.runners));
    condition::set(&mut next.conditions, &status.claim, generation, time(now).0);
    next
}

fn differs(set: &RunnerReplicaSet, status: &Status, now: At) -> bool {
    set.status.as_ref() != Some(&status_of(set, status, now))
}

async fn write(
    context: &Context,
    set: &RunnerReplicaSet,
    status: &Status,
    version: &mut Option<String>,
) -> Result<(), Failure> {
    let mut next = set.clone();
    next.status = Some(status_of(set, status, context.now()));
    next.metadata.resource_version.clone_from(version);
    let api = context.api::<RunnerReplicaSet>(&set.namespace().unwrap_or_default());
    context.metrics.wrote("update");
    let written = api.replace_status(&set.name_any(), &PostParams::default(), &next).await;
    *version = written.map_err(failure::kube)?.resource_version();
    Ok(())
}
