//! What is left over in a namespace, and at GitHub of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use sekisho_api::{FINALIZER_REGISTRATION, LABEL_DEPLOYMENT, Runner, RunnerReplicaSet};
use sekisho_reconcile::Failure;
use sekisho_reconcile::runner::{AtGitHub, Record, Registration};
use sekisho_reconcile::sweep::{self, Effect, Object, Observed, Registered, SWEEP_EVERY};

use crate::asks;
use crate::context::Context;
use crate::failure;
use crate::github::Account;
use crate::lean::{self, Metadata};
use crate::owned::controller;
use crate::queue::Key;
use crate::record::at;
use crate::runner::{by_uid, gone};

/// Objects on a page of a list.
const PAGE: u32 = 500;

/// Sweeps a namespace, if this replica works in it; when to do so again.
pub(crate) async fn reconcile(context: &Context, namespace: String) -> Option<Duration> {
    let mut here = context.stores.deployments.state();
    here.retain(|it| it.namespace().as_ref() == Some(&namespace));
    if here.is_empty() {
        return None;
    }
    let ours = here.iter().any(|it| context.holds(&(namespace.clone(), it.name_any())));
    if ours && let Err(failure) = sweep_namespace(context, &namespace).await {
        tracing::info!(namespace, "a sweep was not made: {failure}");
        context.metrics.failed(&failure);
    }
    Some(SWEEP_EVERY)
}

type ByAccount = Vec<(Arc<Account>, sekisho_github::rest::Runner)>;

async fn sweep_namespace(context: &Context, namespace: &str) -> Result<(), Failure> {
    let Some(mark) = context.mark(namespace) else { return Ok(()) };
    // In this order: what was made in between then has its Runner in the list.
    let pods = list(&context.api::<Metadata<Pod>>(namespace), &ours(), read_object).await?;
    let secrets = list(&context.api::<Metadata<Secret>>(namespace), &ours(), read_object).await?;
    let (found, listed) = registrations(context, namespace).await;
    let any = ListParams::default();
    let read = |it: lean::Runner| read_runner(&it.into(), &listed);
    let runners = list(&context.api::<lean::Runner>(namespace), &any, read).await?;
    let sets = list(&context.api::<RunnerReplicaSet>(namespace), &any, |it| it.uid()).await?;
    let now = context.now();
    let seen = Observed {
        now,
        mark: mark.clone(),
        registrations: found.iter().map(|(_, it)| read_registration(it)).collect(),
        runners,
        sets: sets.into_iter().flatten().collect(),
        pods,
        secrets,
        memory: context.memory().sweeps.get(namespace).cloned().unwrap_or_default(),
    };
    let plan = sweep::decide(&seen);
    context.metrics.ghosts.set(i64::try_from(plan.ghosts).unwrap_or(i64::MAX));
    for name in &plan.stuck {
        tracing::warn!(runner = name, "GitHub says that a runner has a job, and there is none");
    }
    tell_runners(context, namespace, &plan.memory, &found, now);
    context.memory().sweeps.insert(namespace.to_owned(), plan.memory);
    for effect in &plan.effects {
        act(context, namespace, effect, &found).await?;
    }
    Ok(())
}

/// What GitHub's list says of each runner.
fn tell_runners(
    context: &Context,
    namespace: &str,
    told: &sweep::Memory,
    found: &ByAccount,
    now: sekisho_reconcile::At,
) {
    let absent = told
        .absent
        .iter()
        .map(|(name, sweeps)| (name.clone(), Registration::Absent { sweeps: *sweeps }));
    let present = found.iter().map(|(_, it)| (it.name.clone(), asks::present(it)));
    let seen: BTreeMap<String, Registration> = absent.chain(present).collect();
    for runner in context.stores.runners.state() {
        let name = runner.name_any();
        if let Some(seen) =
            seen.get(&name).filter(|_| runner.namespace().as_deref() == Some(namespace))
        {
            let key = (namespace.to_owned(), name.clone());
            context.memory().github.insert(key, AtGitHub { at: now, seen: *seen });
            context.enqueue(Key::Runner(namespace.to_owned(), name));
        }
    }
}

/// All registrations of the connections of the namespace, and the names of those that could be listed. Of
/// the others nothing is known; that is told, and keeps nobody from the rest.
async fn registrations(context: &Context, namespace: &str) -> (ByAccount, BTreeSet<String>) {
    let (mut all, mut listed) = (Vec::new(), BTreeSet::new());
    for connection in context.stores.connections.state() {
        if connection.namespace().as_deref() != Some(namespace) {
            continue;
        }
        let name = connection.name_any();
        // What keeps it from being ready is a condition of its own.
        let Some(account) = context.account(namespace, &name) else { continue };
        match account.rest.runners(None).await {
            Ok(runners) => {
                all.extend(runners.into_iter().map(|runner| (Arc::clone(&account), runner)));
                listed.insert(name);
            }
            Err(error) => {
                let failure = failure::rest(&error);
                tracing::info!(namespace, connection = name, "not swept: {failure}");
                context.metrics.failed(&failure);
            }
        }
    }
    (all, listed)
}

fn read_registration(runner: &sekisho_github::rest::Runner) -> Registered {
    Registered {
        id: runner.id.try_into().unwrap_or_default(),
        name: runner.name.clone(),
        busy: runner.busy,
    }
}

/// One whose registrations were not listed is not missing.
fn read_runner(runner: &Runner, listed: &BTreeSet<String>) -> sweep::Runner {
    let is_listed = listed.contains(&runner.spec.connection_ref);
    let record = Record::of(runner.status.as_ref());
    sweep::Runner {
        name: runner.name_any(),
        uid: runner.uid().unwrap_or_default(),
        registered: is_listed && record.ended.is_none() && record.registration.is_some(),
        finalizer: runner.finalizers().iter().any(|it| it == FINALIZER_REGISTRATION),
        owner: controller(&runner.metadata).map(|it| it.uid.clone()),
        created: runner.creation_timestamp().as_ref().map(at).unwrap_or_default(),
        deleting: runner.metadata.deletion_timestamp.is_some(),
    }
}

/// Everything of a kind. It is read page by page, and of a page no more is kept than is asked about: in
/// one piece, ten thousand objects would take more memory than all else.
async fn list<K, T>(
    api: &Api<K>,
    which: &ListParams,
    read: impl Fn(K) -> T,
) -> Result<Vec<T>, Failure>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let (mut all, mut page) = (Vec::new(), which.clone().limit(PAGE));
    loop {
        let list = api.list(&page).await.map_err(failure::kube)?;
        all.extend(list.items.into_iter().map(&read));
        page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            return Ok(all);
        }
    }
}

fn ours() -> ListParams {
    ListParams::default().labels(LABEL_DEPLOYMENT)
}

fn read_object<K>(it: Metadata<K>) -> Object {
    Object {
        owner: controller(&it.metadata).map(|it| it.uid.clone()),
        created: it.metadata.creation_timestamp.as_ref().map(at).unwrap_or_default(),
        deleting: it.metadata.deletion_timestamp.is_some(),
        name: it.metadata.name.unwrap_or_default(),
        uid: it.metadata.uid.unwrap_or_default(),
    }
}

async fn act(
    context: &Context,
    namespace: &str,
    effect: &Effect,
    found: &ByAccount,
) -> Result<(), Failure> {
    match effect {
        Effect::Deregister { id, name } => {
            let is = |(_, it): &&(Arc<Account>, sekisho_github::rest::Runner)| {
                i64::try_from(it.id).ok() == Some(*id) && it.name == *name
            };
            let Some((account, runner)) = found.iter().find(is) else { return Ok(()) };
            tracing::info!(runner = name, "a registration without a Runner is removed");
            match account.rest.delete_runner(runner.id).await {
                Ok(_) => Ok(()),
                Err(error) => match failure::removal(&error) {
                    Failure::RunnerBusy => Ok(()),
                    other => Err(other),
                },
            }
        }
        Effect::DeleteRunner { name, uid } => {
            gone(context.api::<Runner>(namespace).delete(name, &by_uid(uid, None)).await)
        }
        Effect::DeletePod { name, uid } => {
            gone(context.api::<Pod>(namespace).delete(name, &by_uid(uid, None)).await)
        }
        Effect::DeleteSecret { name, uid } => {
            gone(context.api::<Secret>(namespace).delete(name, &by_uid(uid, None)).await)
        }
    }
}
