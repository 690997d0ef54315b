//! GitHubConnection: observe, decide, act.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource as _, ResourceExt as _};
use secrecy::SecretString;
use sekisho_api::condition::{self, Claim};
use sekisho_api::{GitHubConnection, Reason, SecretKeyRef};
use sekisho_reconcile::{At, Failure, connection};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::context::{ConnectionMemory, Context, Name};
use crate::failure;
use crate::github::{Account, Secrets};
use crate::queue::Key;
use crate::record::time;

/// How often the secret of a connection is read: a key that was changed is noticed within it.
const SECRET_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether the account of a connection that is gone is still needed.
const GONE_EVERY: Duration = Duration::from_secs(60);

/// Works on a connection; when to look again.
pub(crate) async fn reconcile(context: &Context, name: Name) -> Option<Duration> {
    let reference = ObjectRef::new(&name.1).within(&name.0);
    let Some(object) = context.stores.connections.get(&reference) else {
        deployments_of(context, &name);
        let mut all = context.stores.deployments.state();
        all.retain(|it| {
            it.namespace().as_ref() == Some(&name.0) && it.spec.connection_ref == name.1
        });
        if all.is_empty() {
            context.memory().connections.remove(&name);
            return None;
        }
        // Those that are being deleted too still have to tell GitHub.
        return Some(GONE_EVERY);
    };
    let secrets = read_secrets(context, &object).await;
    let content = content(&object, secrets.as_ref());
    let known = context.memory().connections.get(&name).cloned().unwrap_or_default();
    let now = context.now();
    let mut seen = connection::Observed {
        now,
        changed: known.content.as_ref() != Some(&content),
        checked: known.checked,
        trouble: known.trouble.clone(),
        contrary: contrary(&object, known.claimed, &known, now).map(|it| it.1),
        leaving: known.account.is_some() && context.terminating(&name.0),
        jitter: context.jitter(),
        account: Some(object.spec.url.clone()),
    };
    let before = known.account.is_some();
    let mut plan = connection::decide(&seen);
    if plan.check {
        let mut account = known.account.clone().filter(|_| !seen.changed);
        let failure = match secrets {
            Err(failure) => Some(failure),
            Ok(secrets) => check(&object, &secrets, &mut account).await.err(),
        };
        let trouble = connection::found(&seen, failure);
        if let Some(trouble) = &trouble {
            context.metrics.failed(&trouble.failure);
            if !matches!(trouble.failure, Failure::Unreachable { .. } | Failure::RateLimited { .. })
            {
                account = None;
            }
        }
        (seen.trouble, seen.checked, seen.changed) = (trouble, Some(seen.now), false);
        let mut memory = context.memory();
        let entry = memory.connections.entry(name.clone()).or_default();
        entry.account = account.clone();
        // What GitHub's outage says of a key is nothing; of another key it is not known.
        let worked = entry.signed_in && entry.content.as_ref() == Some(&content);
        entry.signed_in = account.is_some() && (worked || seen.trouble.is_none());
        entry.content = Some(content);
        entry.checked = seen.checked;
        entry.trouble.clone_from(&seen.trouble);
        drop(memory);
        plan = connection::decide(&seen);
        if before != account.is_some() || seen.trouble != known.trouble {
            deployments_of(context, &name);
        }
    }
    let webhook = webhook(context, &object, &name).await;
    let claimed = plan.claim.as_ref().map(|it| it.reason).or(known.claimed);
    // What was said before GitHub was asked is no news.
    let after_it = contrary(&object, claimed, &known, now);
    context.memory().connections.entry(name.clone()).or_default().says(claimed, after_it);
    if let Some(claim) = &plan.claim {
        write(context, &object, claim, webhook.as_ref(), seen.now).await;
    }
    Some(plan.requeue_after.unwrap_or(SECRET_EVERY).min(SECRET_EVERY))
}

/// What is said of it that this replica, which found `claimed`, does not say; and since when.
fn contrary(
    object: &GitHubConnection,
    claimed: Option<Reason>,
    known: &ConnectionMemory,
    now: At,
) -> Option<(Reason, At)> {
    let conditions = object.status.as_ref().map(|it| it.conditions.as_slice()).unwrap_or_default();
    let said: Reason = condition::find(conditions, condition::READY)?.reason.parse().ok()?;
    let since = known.contrary.filter(|it| it.0 == said).map_or(now, |it| it.1);
    claimed.is_some_and(|claimed| claimed != said).then_some((said, since))
}

/// What the account is made of; a digest, for the secret is not kept.
fn content(object: &GitHubConnection, secrets: Result<&Secrets, &Failure>) -> String {
    use secrecy::ExposeSecret as _;
    let mut hash = Sha256::new();
    hash.update(json!(object.spec).to_string());
    match secrets {
        Ok(secrets) => {
            for secret in [Some(&secrets.auth), secrets.proxy.as_ref()].into_iter().flatten() {
                hash.update(secret.expose_secret());
                hash.update([0]);
            }
        }
        Err(failure) => hash.update(failure.to_string()),
    }
    hex::encode(hash.finalize())
}

async fn check(
    object: &GitHubConnection,
    secrets: &Secrets,
    account: &mut Option<Arc<Account>>,
) -> Result<(), Failure> {
    let ready = match account {
        Some(ready) => Arc::clone(ready),
        None => Arc::new(Account::new(&object.spec, secrets)?),
    };
    let checked = ready.check().await;
    *account = Some(ready);
    checked
}

async fn read_secrets(context: &Context, object: &GitHubConnection) -> Result<Secrets, Failure> {
    let auth = &object.spec.auth;
    let app = auth.app.as_ref().map(|app| &app.private_key_secret_ref);
    let reference = app.or(auth.token.as_ref().map(|token| &token.secret_ref));
    let Some(reference) = reference else {
        return Err(Failure::CredentialsRefused { detail: "`spec.auth` is empty".to_owned() });
    };
    let namespace = object.namespace().unwrap_or_default();
    let auth = read_key(context, &namespace, reference).await?;
    let proxy = object.spec.proxy.as_ref().and_then(|it| it.credentials_secret_ref.as_ref());
    let proxy = match proxy {
        Some(reference) => Some(read_key(context, &namespace, reference).await?),
        None => None,
    };
    Ok(Secrets { auth, proxy })
}

/// What webhooks are signed with is remembered; the condition of it, where there is to be something.
async fn webhook(context: &Context, object: &GitHubConnection, name: &Name) -> Option<Claim> {
    let reference = object.spec.webhook.as_ref().map(|it| &it.secret_ref);
    let read = match reference {
        Some(reference) => Some(read_key(context, &name.0, reference).await),
        None => None,
    };
    let claim = read.as_ref().map(|read| connection::webhook(read.as_ref().err()));
    let mut memory = context.memory();
    memory.connections.entry(name.clone()).or_default().webhook = read.and_then(Result::ok);
    claim
}

async fn read_key(
    context: &Context,
    namespace: &str,
    SecretKeyRef { name, key }: &SecretKeyRef,
) -> Result<SecretString, Failure> {
    let missing = || Failure::SecretNotFound { secret: name.clone(), key: key.clone() };
    let api = context.api::<Secret>(namespace);
    let secret = api.get_opt(name).await.map_err(failure::kube)?.ok_or_else(missing)?;
    let bytes = secret.data.and_then(|mut data| data.remove(key)).ok_or_else(missing)?;
    let text = String::from_utf8(bytes.0).map_err(|_| missing())?;
    Ok(text.into())
}

/// Its deployments and runners are looked at, for it can now be used, or not any more.
fn deployments_of(context: &Context, name: &Name) {
    let deployments = context.stores.deployments.state().into_iter().filter_map(|it| {
        let key = Key::Deployment(it.namespace()?, it.name_any());
        (it.namespace()? == name.0 && it.spec.connection_ref == name.1).then_some(key)
    });
    let runners = context.stores.runners.state().into_iter().filter_map(|it| {
        let key = Key::Runner(it.namespace()?, it.name_any());
        (it.namespace()? == name.0 && it.spec.connection_ref == name.1).then_some(key)
    });
    for key in deployments.chain(runners) {
        // What waited for the connection is tried now, and not when it would have been tried again.
        let mut memory = context.memory();
        let trouble = memory.trouble.get(&key).map(|it| &it.failure);
        if matches!(
            trouble,
            Some(Failure::ConnectionNotReady { .. } | Failure::ConnectionNotFound { .. })
        ) {
            memory.trouble.remove(&key);
        }
        drop(memory);
        context.enqueue(key);
    }
}

async fn write(
    context: &Context,
    object: &GitHubConnection,
    claim: &Claim,
    webhook: Option<&Claim>,
    now: At,
) {
    let generation = object.metadata.generation.unwrap_or_default();
    let mut conditions = object.status.clone().unwrap_or_default().conditions;
    let before = conditions.clone();
    if webhook.is_none() {
        conditions.retain(|it| it.type_ != condition::WEBHOOK);
    }
    for claim in [claim].into_iter().chain(webhook) {
        condition::set(&mut conditions, claim, generation, time(now).0);
    }
    if conditions == before {
        return;
    }
    let patch = json!({
        "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() },
        "status": { "observedGeneration": generation, "conditions": conditions }
    });
    let api = context.api::<GitHubConnection>(&object.namespace().unwrap_or_default());
    let params = PatchParams::default();
    if let Err(error) = api.patch_status(&object.name_any(), &params, &Patch::Merge(patch)).await {
        tracing::debug!("the status of a connection changed meanwhile: {error}");
        return;
    }
    // What is said otherwise from now on is news.
    let name = (object.namespace().unwrap_or_default(), object.name_any());
    if let Some(entry) = context.memory().connections.get_mut(&name) {
        entry.contrary = None;
    }
    for claim in [claim].into_iter().chain(webhook) {
        context.tell(&object.object_ref(&()), &before, claim).await;
    }
}
