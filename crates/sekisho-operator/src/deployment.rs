//! RunnerDeployment: observe, decide, act.

pub(crate) mod checks;
mod status;

use std::sync::Arc;
use std::time::Duration;

use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use sekisho_api::condition;
use sekisho_api::{
    ANNOTATION_STOP_NOW, FINALIZER_SCALE_SET, LABEL_DEPLOYMENT, LABEL_REVISION, Reason,
    RunnerDeployment, RunnerReplicaSet, RunnerReplicaSetSpec, RunnerSpec,
};
use sekisho_reconcile::deployment::rollout::Percent;
use sekisho_reconcile::deployment::{
    self, Effect, Observed, Plan, Rollout, ScaleSet, Session, Set, Size,
};
use sekisho_reconcile::failure::CHANGE_PAUSE;
use sekisho_reconcile::{Failure, replica_set};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::context::{Context, Growth, Name};
use crate::failure;
use crate::queue::Key;
use crate::record::at;
use crate::runner::{by_uid, gone};
use crate::session;

/// Characters of a revision.
const REVISION_LENGTH: usize = 10;

/// Works on a deployment; when to look again.
pub(crate) async fn reconcile(context: &Arc<Context>, name: Name) -> Option<Duration> {
    let key = Key::Deployment(name.0.clone(), name.1.clone());
    let Some(object) = context.stores.deployments.get(&ObjectRef::new(&name.1).within(&name.0))
    else {
        let mut memory = context.memory();
        memory.trouble.remove(&key);
        memory.written.remove(&key);
        drop(memory);
        for runner in context.stores.runners.state() {
            if runner.namespace().as_ref() == Some(&name.0) && runner.spec.deployment == name.1 {
                context.enqueue(Key::Runner(name.0.clone(), runner.name_any()));
            }
        }
        checks::look_at_refused(context);
        return None;
    };
    session::ensure(context, &name);
    for (namespace, name) in checks::younger(context, &object) {
        context.enqueue(Key::Deployment(namespace, name));
    }
    if !context.holds(&name) {
        return None;
    }
    let mut blocked = checks::blocked(context, &object).err();
    if blocked.is_none() && object.metadata.deletion_timestamp.is_none() {
        blocked = checks::policies(context, &object).await.err();
    }
    let (seen, told) = observe(context, &object, blocked.clone());
    let plan = deployment::decide(&seen);
    remember(context, &name, &plan, (told, blocked, seen.deleting.is_some()));
    for effect in &plan.effects {
        if let Err(failure) = act(context, &object, effect).await {
            tracing::info!(deployment = name.1, "{failure}");
            let trouble = context.failed(&key, failure);
            return Some(context.now().until(trouble.next).max(Duration::from_millis(100)));
        }
    }
    if !plan.effects.is_empty() {
        context.memory().trouble.remove(&key);
    }
    // Not all that puts it right is an event of its own; and policies may be edited by others.
    let look = if seen.blocked.is_some() { CHANGE_PAUSE } else { checks::SHIELD_EVERY };
    let mut after = Some(plan.requeue_after.map_or(look, |known| known.min(look)));
    if let Some(due) = status::write(context, &object, &plan, seen.now, key).await {
        after = Some(after.map_or(due, |known| known.min(due)));
    }
    after
}

/// What the set's decisions and the session need to know of this one.
fn remember(
    context: &Context,
    name: &Name,
    plan: &Plan,
    (told, blocked, goes): (u64, Option<Failure>, bool),
) {
    let mut memory = context.memory();
    let entry = memory.deployments.entry(name.clone()).or_default();
    entry.lower_since = plan.lower_since;
    entry.released_since = plan.released_since;
    let revision = plan.status.revision.clone();
    let growth = Some(Growth { revision, runners: plan.growth });
    let wakes = entry.growth != growth || entry.blocked != blocked;
    // A set sees that its deployment goes when it is looked at, and none of its runners may have news.
    let changed = wakes || entry.decided != told || goes;
    (entry.growth, entry.decided) = (growth, told);
    entry.blocked = blocked;
    if wakes {
        entry.wake.notify_one();
    }
    if changed {
        drop(memory);
        for set in sets_of(context, name) {
            context.enqueue(Key::ReplicaSet(name.0.clone(), set.name_any()));
        }
    }
}

/// What a runner of the deployment is to be.
fn runner_spec(object: &RunnerDeployment) -> RunnerSpec {
    let spec = &object.spec;
    RunnerSpec {
        deployment: object.name_any(),
        connection_ref: spec.connection_ref.clone(),
        class_ref: spec.class_ref.clone(),
        mode: spec.acquisition.mode,
        group: spec.group.clone(),
        labels: spec.labels.clone(),
        trust_zone: spec.trust_zone,
        lifecycle: spec.lifecycle.clone(),
    }
}

fn revision(object: &RunnerDeployment) -> String {
    let content = json!([runner_spec(object), object.spec.template]).to_string();
    let mut name = hex::encode(Sha256::digest(content));
    name.truncate(REVISION_LENGTH);
    name
}

fn sets_of(context: &Context, name: &Name) -> Vec<Arc<RunnerReplicaSet>> {
    let mut sets = context.stores.sets.state();
    sets.retain(|set| {
        set.namespace().as_ref() == Some(&name.0) && set.spec.runner.deployment == name.1
    });
    sets
}

/// What is to be known, and the number of what GitHub told.
fn observe(
    context: &Context,
    object: &RunnerDeployment,
    blocked: Option<Failure>,
) -> (Observed, u64) {
    let name = (object.namespace().unwrap_or_default(), object.name_any());
    let uid = object.uid();
    let unsigned = |number: i32| u32::try_from(number).unwrap_or_default();
    let spec = &object.spec;
    let size = match (&spec.scaling, spec.replicas) {
        (Some(scaling), _) => Size::Scaled {
            min: unsigned(scaling.min),
            max: unsigned(scaling.max),
            idle: unsigned(scaling.idle),
            scale_down_delay: Duration::from_secs(scaling.scale_down_delay_seconds.into()),
        },
        (None, replicas) => Size::Fixed(unsigned(replicas.unwrap_or_default())),
    };
    let owned = |set: &Arc<RunnerReplicaSet>| {
        set.owner_references().iter().any(|it| Some(&it.uid) == uid.as_ref())
    };
    let sets: Vec<_> = sets_of(context, &name).into_iter().filter(owned).collect();
    let status = object.status.clone().unwrap_or_default();
    let memory = context.memory();
    let sets = sets.iter().map(|set| read_set(set, memory.runners(context, &name.0, &uid_of(set))));
    let sets: Vec<Set> = sets.collect();
    let remembered = memory.deployments.get(&name).cloned().unwrap_or_default();
    let told = remembered.told;
    let seen = Observed {
        now: context.now(),
        deleting: object.metadata.deletion_timestamp.as_ref().map(at),
        finalizer: object.finalizers().iter().any(|it| it == FINALIZER_SCALE_SET),
        stop_now: object.annotations().get(ANNOTATION_STOP_NOW).is_some_and(|it| it == "true"),
        namespace_terminating: context.terminating(&name.0),
        size,
        revision: revision(object),
        rollout: Rollout {
            max_surge: Percent(spec.rollout.max_surge_percent),
            max_unavailable: Percent(spec.rollout.max_unavailable_percent),
            history_limit: spec.rollout.history_limit as usize,
        },
        sets,
        demand: remembered.demand,
        settled: remembered.settled,
        desired_before: status.desired.map(unsigned),
        lower_since: remembered.lower_since,
        session: remembered.session.unwrap_or(Session::None),
        dropped_labels: status
            .scale_set
            .as_ref()
            .map_or_else(Vec::new, |it| it.dropped_labels.clone()),
        scale_set: match (status.scale_set, status.claimed_group) {
            (Some(set), _) => ScaleSet::Known(set.id),
            (None, Some(_)) => ScaleSet::Claimed,
            (None, None) => ScaleSet::None,
        },
        released_since: remembered.released_since,
        blocked,
        trouble: memory.trouble.get(&Key::Deployment(name.0, name.1)).cloned(),
    };
    (seen, told)
}

fn uid_of(set: &RunnerReplicaSet) -> String {
    set.uid().unwrap_or_default()
}

fn read_set(set: &RunnerReplicaSet, runners: Vec<replica_set::Runner>) -> Set {
    let conditions = set.status.as_ref().map(|it| it.conditions.as_slice()).unwrap_or_default();
    let ready = condition::find(conditions, condition::READY).filter(|it| it.status == "False");
    Set {
        name: set.name_any(),
        revision: set.spec.revision.clone(),
        created: set.creation_timestamp().as_ref().map(at).unwrap_or_default(),
        deleting: set.metadata.deletion_timestamp.is_some(),
        stop_now: set.annotations().contains_key(ANNOTATION_STOP_NOW),
        replicas: u32::try_from(set.spec.replicas).unwrap_or_default(),
        all_runners: u32::try_from(runners.len()).unwrap_or(u32::MAX),
        runners: replica_set::count(&runners),
        problem: ready.and_then(|it| {
            Some(condition::Claim {
                kind: condition::READY,
                truth: condition::Truth::False,
                reason: it.reason.parse().ok()?,
                message: it.message.clone(),
            })
        }),
        uid: uid_of(set),
    }
}

async fn act(context: &Context, object: &RunnerDeployment, effect: &Effect) -> Result<(), Failure> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let sets = context.api::<RunnerReplicaSet>(&namespace);
    let merge = |patch: Value| Patch::Merge(patch);
    let params = PatchParams::default();
    match effect {
        Effect::AddFinalizer => {
            let mut all = object.finalizers().to_vec();
            all.push(FINALIZER_SCALE_SET.to_owned());
            finalizers(context, object, &all).await
        }
        Effect::RemoveFinalizer => {
            let all = object.finalizers().iter().filter(|it| *it != FINALIZER_SCALE_SET);
            finalizers(context, object, &all.cloned().collect::<Vec<_>>()).await
        }
        Effect::CreateSet { revision, replicas } => {
            context.metrics.wrote("create");
            let set = new_set(object, revision, *replicas);
            match sets.create(&PostParams::default(), &set).await {
                Ok(_) => Ok(()),
                Err(error) if failure::is_conflict(&error) => Ok(()),
                Err(error) => Err(failure::kube(error)),
            }
        }
        Effect::ScaleSet { name, replicas } => {
            context.metrics.wrote("patch");
            let known = context.stores.sets.get(&ObjectRef::new(name).within(&namespace));
            let version = known.and_then(|set| set.resource_version());
            let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": replicas } });
            gone(sets.patch(name, &params, &merge(patch)).await)
        }
        Effect::DeleteSet { name, uid } => {
            context.metrics.wrote("delete");
            gone(sets.delete(name, &by_uid(uid, None)).await)
        }
        Effect::MarkStopNow { name } => {
            context.metrics.wrote("patch");
            let patch = json!({ "metadata": { "annotations": { ANNOTATION_STOP_NOW: "true" } } });
            gone(sets.patch_metadata(name, &params, &merge(patch)).await)
        }
        Effect::StopSession => {
            // The session looks for itself whether it is wanted.
            let key = (namespace, name);
            let wake = context.memory().deployments.get(&key).map(|it| Arc::clone(&it.wake));
            wake.into_iter().for_each(|wake| wake.notify_one());
            Ok(())
        }
        Effect::LeaveScaleSet { id, why } => {
            tell_left(context, object, *id, why.as_ref()).await;
            Ok(())
        }
        Effect::DeleteScaleSet { id } => {
            if let Some(id) = id
                && checks::is_anothers(context, object, *id, None).await?
            {
                return Ok(());
            }
            let connection = &object.spec.connection_ref;
            let Some(account) = context.account(&namespace, connection) else {
                if context.terminating(&namespace) {
                    // Nothing may hold a namespace; the set takes no jobs without a session.
                    tracing::warn!(deployment = name, ?id, "its scale set is left at GitHub");
                    return Ok(());
                }
                let (name, detail) =
                    (connection.clone(), "its scale set cannot be removed".to_owned());
                return Err(Failure::ConnectionNotReady { name, detail });
            };
            session::scale_set::remove(context, &account, object, *id).await
        }
    }
}

/// What is left at GitHub is told before the deployment is gone: nobody else knows of it.
async fn tell_left(
    context: &Context,
    object: &RunnerDeployment,
    id: Option<i64>,
    why: Option<&Failure>,
) {
    let timeout = deployment::RELEASE_TIMEOUT.as_secs();
    let label = object.spec.labels.first();
    let id = id.map_or_else(|| format!("`{}`", label.map_or("", |it| it)), |id| id.to_string());
    let detail = why.map(|why| format!(": {why}")).unwrap_or_default();
    let message = format!(
        "scale set {id} is left at GitHub, for it could not be removed within {timeout} s{detail}"
    );
    tracing::warn!(deployment = object.name_any(), "{message}");
    let reason = why.and_then(Failure::reason).unwrap_or(Reason::GitHubUnreachable);
    context.event(&object.object_ref(&()), reason, message).await;
}

async fn finalizers(
    context: &Context,
    object: &RunnerDeployment,
    all: &[String],
) -> Result<(), Failure> {
    let patch = json!({ "metadata": {
        "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": all
    } });
    context.metrics.wrote("patch");
    let api = context.api::<RunnerDeployment>(&object.namespace().unwrap_or_default());
    let params = PatchParams::default();
    gone(api.patch_metadata(&object.name_any(), &params, &Patch::Merge(patch)).await)
}

fn new_set(object: &RunnerDeployment, revision: &str, replicas: u32) -> RunnerReplicaSet {
    let deployment = object.name_any();
    let name = sekisho_reconcile::name::replica_set(&deployment, revision);
    let spec = RunnerReplicaSetSpec {
        replicas: i32::try_from(replicas).unwrap_or(i32::MAX),
        revision: revision.to_owned(),
        runner: runner_spec(object),
        template: object.spec.template.clone(),
    };
    let mut set = RunnerReplicaSet::new(&name, spec);
    set.metadata = ObjectMeta {
        name: Some(name),
        labels: Some(
            [
                (LABEL_DEPLOYMENT.to_owned(), deployment),
                (LABEL_REVISION.to_owned(), revision.to_owned()),
            ]
            .into(),
        ),
        owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    set
}
