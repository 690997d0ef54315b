//! What must be right before a deployment is worked on; and what shields its runners from the network.

use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use sekisho_api::{AcquisitionMode, RunnerDeployment};
use sekisho_pods::{GroupUse, Reach};
use sekisho_reconcile::Failure;
use sekisho_reconcile::failure::Trouble;
use serde_json::json;

use super::runner_spec;
use crate::context::{Context, Name, Shield};
use crate::failure;
use crate::queue::Key;
use crate::watch::apis;

/// Who applies network policies.
const MANAGER_POLICIES: &str = "sekisho-network";
/// How often network policies are applied in any case.
pub(super) const SHIELD_EVERY: Duration = Duration::from_secs(300);

/// What keeps a deployment from working, whoever can put it right.
pub(super) fn blocked(context: &Context, object: &RunnerDeployment) -> Result<(), Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let spec = &object.spec;
    let name = &spec.connection_ref;
    let connection = context.stores.connections.get(&ObjectRef::new(name).within(&namespace));
    let Some(connection) = connection else {
        return Err(Failure::ConnectionNotFound { name: name.clone() });
    };
    if context.account(&namespace, name).is_none() {
        let key = (namespace.clone(), name.clone());
        let trouble = context.memory().connections.get(&key).and_then(|it| it.trouble.clone());
        let detail = trouble
            .and_then(|it| it.failure.reason())
            .map_or_else(|| "it was not checked yet".to_owned(), |reason| reason.name().to_owned());
        return Err(Failure::ConnectionNotReady { name: name.clone(), detail });
    }
    let Some(class) = context.stores.classes.get(&ObjectRef::new(&spec.class_ref)) else {
        return Err(Failure::ClassNotFound { name: spec.class_ref.clone() });
    };
    sekisho_pods::pod(&sekisho_pods::RunnerPod {
        name: "check",
        namespace: &namespace,
        uid: "check",
        revision: "check",
        spec: &runner_spec(object),
        class: &class.spec,
        template: &spec.template,
        cluster: context.cluster,
        reach: Reach::of(&connection.spec),
    })
    .map_err(|error| failure::pod(&error))?;
    zones(context, object, &namespace, &connection.spec.url)?;
    free_name(context, object, &connection.spec.url)
}

/// Whether no other deployment has a scale set of this name: of two, each would change and delete what is
/// the other's. Who has one stays; else who was there before.
fn free_name(context: &Context, object: &RunnerDeployment, url: &str) -> Result<(), Failure> {
    let Some(this) = SetUse::of(object, url.to_owned()) else { return Ok(()) };
    let (group, label) = (&object.spec.group, &this.name);
    let others = context.stores.deployments.state().into_iter().filter_map(|it| {
        // Those alone that may clash: an address is read only of them.
        if !it.spec.group.eq_ignore_ascii_case(group)
            || !it.spec.labels.first()?.eq_ignore_ascii_case(label)
            || !context.is_signed_in(&it.namespace()?, &it.spec.connection_ref)
        {
            return None;
        }
        SetUse::of(&it, url_of(context, &it)?)
    });
    let before = others.filter(|it| it.clashes_with(&this)).map(|it| it.order).min();
    match before {
        Some(other) if other < this.order => {
            let (name, group) = (this.name, object.spec.group.clone());
            Err(Failure::SetNameInUse { other: other.2, name, group })
        }
        _ => Ok(()),
    }
}

/// The name of a deployment's scale set, and who is first to have it.
struct SetUse {
    place: (String, String),
    name: String,
    /// Has no set there, when it was made, `namespace/name`.
    order: (bool, i64, String),
}

impl SetUse {
    /// `None` where runners are registered one by one.
    fn of(object: &RunnerDeployment, url: String) -> Option<Self> {
        if object.spec.acquisition.mode == AcquisitionMode::Registration {
            return None;
        }
        let this = group_use(object, url);
        let set = object.status.as_ref().and_then(|it| it.scale_set.as_ref());
        let has = set.is_some_and(|it| it.group.as_ref().is_none_or(|it| *it == this.group));
        Some(Self {
            place: (this.url.to_ascii_lowercase(), this.group.to_ascii_lowercase()),
            name: object.spec.labels.first()?.to_ascii_lowercase(),
            order: (!has, this.created, this.deployment),
        })
    }

    fn clashes_with(&self, other: &Self) -> bool {
        (&self.place, &self.name) == (&other.place, &other.name) && self.order.2 != other.order.2
    }
}

/// Whether another deployment has this set, or may have made it by now in the group that it claimed:
/// `claim`, group and name of the set. Read live, for it is deleted otherwise.
///
/// One that two have, as before a set was of one alone, goes with the last.
pub(crate) async fn is_anothers(
    context: &Context,
    object: &RunnerDeployment,
    id: i64,
    claim: Option<(&str, &str)>,
) -> Result<bool, Failure> {
    let place = |it: &RunnerDeployment| url_of(context, it).map(account);
    let this = place(object);
    let claims = |it: &RunnerDeployment| {
        let claimed = it.status.as_ref().and_then(|status| status.claimed_group.as_ref());
        let label = it.spec.labels.first();
        claim.zip(claimed).zip(label).is_some_and(|(((group, name), claimed), label)| {
            claimed.eq_ignore_ascii_case(group) && label.eq_ignore_ascii_case(name)
        })
    };
    Ok(now(context).await?.iter().any(|it| {
        let set = it.status.as_ref().and_then(|status| status.scale_set.as_ref());
        let has = set.is_some_and(|set| set.id == id);
        it.uid() != object.uid() && (has || claims(it)) && place(it) == this
    }))
}

/// All deployments that are worked on, as they are now.
async fn now(context: &Context) -> Result<Vec<RunnerDeployment>, Failure> {
    let mut all = Vec::new();
    for api in apis::<RunnerDeployment>(&context.client, &context.settings.namespaces) {
        let list = api.list(&ListParams::default()).await.map_err(failure::kube)?;
        all.extend(list.items);
    }
    Ok(all)
}

/// One is gone: those that another was in the way of are looked at.
pub(super) fn look_at_refused(context: &Context) {
    let memory = context.memory();
    let refused = memory.deployments.iter().filter(|(_, it)| {
        matches!(it.blocked, Some(Failure::SetNameInUse { .. } | Failure::GroupShared { .. }))
    });
    let names: Vec<Name> = refused.map(|(name, _)| name.clone()).collect();
    drop(memory);
    for (namespace, name) in names {
        context.enqueue(Key::Deployment(namespace, name));
    }
}

fn zones(
    context: &Context,
    object: &RunnerDeployment,
    namespace: &str,
    url: &str,
) -> Result<(), Failure> {
    let zone = object.spec.trust_zone;
    if let Some(found) = context.stores.namespaces.get(&ObjectRef::new(namespace)) {
        sekisho_pods::check_namespace(namespace, found.labels(), zone).map_err(|_| {
            let label = found.labels().get(sekisho_api::LABEL_TRUST_ZONE);
            Failure::TrustZoneMismatch {
                namespace: label.cloned().unwrap_or_else(|| "none".to_owned()),
                wanted: zone.label().to_owned(),
            }
        })?;
    }
    let this = group_use(object, url.to_owned());
    let uses: Vec<GroupUse> = uses(context, &this).collect();
    sekisho_pods::check_group(&this, &uses).map_err(|error| match error {
        sekisho_pods::ZoneError::Group { group, other, .. } => {
            Failure::GroupShared { group, other }
        }
        other => Failure::TrustZoneMismatch { namespace: other.to_string(), wanted: String::new() },
    })
}

fn group_use(object: &RunnerDeployment, url: String) -> GroupUse {
    let namespace = object.namespace().unwrap_or_default();
    GroupUse {
        deployment: format!("{namespace}/{}", object.name_any()),
        url: account(url),
        group: object.spec.group.clone(),
        zone: object.spec.trust_zone,
        created: object.creation_timestamp().map_or(i64::MAX, |it| it.0.as_second()),
    }
}

/// One text for each account, however its URL is written.
fn account(url: String) -> String {
    match url::Url::parse(&url) {
        Ok(parsed) => parsed.as_str().trim_end_matches('/').to_owned(),
        Err(_) => url,
    }
}

/// The uses of runner groups that count: where the namespace is of the zone, and GitHub took the
/// credentials. Others get no job, and what they say of a group stops nobody. Those alone that may clash
/// with this one: of its group, and of another zone.
fn uses(context: &Context, this: &GroupUse) -> impl Iterator<Item = GroupUse> {
    let all = context.stores.deployments.state().into_iter();
    all.filter_map(|it| {
        if it.spec.trust_zone == this.zone || !it.spec.group.eq_ignore_ascii_case(&this.group) {
            return None;
        }
        let (namespace, connection) = (it.namespace()?, &it.spec.connection_ref);
        let found = context.stores.namespaces.get(&ObjectRef::new(&namespace))?;
        let zone = sekisho_pods::check_namespace(&namespace, found.labels(), it.spec.trust_zone);
        if zone.is_err() || !context.is_signed_in(&namespace, connection) {
            return None;
        }
        Some(group_use(&it, url_of(context, &it)?))
    })
}

/// The url of the connection of a deployment.
fn url_of(context: &Context, object: &RunnerDeployment) -> Option<String> {
    let reference = ObjectRef::new(&object.spec.connection_ref).within(&object.namespace()?);
    Some(context.stores.connections.get(&reference)?.spec.url.clone())
}

/// Deployments that this one may have been in the way of, or is now: they are looked at too.
pub(super) fn younger(context: &Context, object: &RunnerDeployment) -> Vec<Name> {
    let Some(url) = url_of(context, object) else { return Vec::new() };
    let this = group_use(object, url);
    let theirs = uses(context, &this).filter(|it| this.clashes_with(it) && this.is_older_than(it));
    theirs.filter_map(|it| it.deployment.split_once('/').map(owned)).collect()
}

fn owned((namespace, name): (&str, &str)) -> Name {
    (namespace.to_owned(), name.to_owned())
}

/// Network policies, applied when they changed, and now and then: whoever may edit them may have done so.
/// One that is refused is tried again later.
pub(super) async fn policies(context: &Context, object: &RunnerDeployment) -> Result<(), Failure> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let Some(class) = context.stores.classes.get(&ObjectRef::new(&object.spec.class_ref)) else {
        return Ok(());
    };
    let uid = object.uid().unwrap_or_default();
    let zone = object.spec.trust_zone;
    let all = sekisho_pods::network_policies(&name, &namespace, &uid, zone, &class.spec)
        .map_err(|error| Failure::TemplateForbidden { detail: error.to_string() })?;
    let content = json!(all).to_string();
    let key = (namespace.clone(), name);
    let known = context.memory().deployments.get(&key).and_then(|it| it.shield.clone());
    let known = known.filter(|it| it.content == content);
    let now = context.now();
    if let Some(known) = known.as_ref().filter(|it| now < it.next) {
        return known.gap().map_or(Ok(()), Err);
    }
    let applied = apply(context, &namespace, &all).await;
    let before = known.as_ref().and_then(|it| it.trouble.as_ref());
    let trouble = applied.err().map(|failure| {
        tracing::info!(deployment = key.1, "a network policy: {failure}");
        context.metrics.failed(&failure);
        Trouble::after(before, failure, now, context.jitter())
    });
    let next = trouble.as_ref().map_or(now + SHIELD_EVERY, |it| it.next);
    let stands = trouble.is_none() || known.is_some_and(|it| it.stands);
    let shield = Shield { content, next, trouble, stands };
    let gap = shield.gap();
    context.memory().deployments.entry(key).or_default().shield = Some(shield);
    gap.map_or(Ok(()), Err)
}

async fn apply(context: &Context, namespace: &str, all: &[NetworkPolicy]) -> Result<(), Failure> {
    let api = context.api::<NetworkPolicy>(namespace);
    let params = PatchParams::apply(MANAGER_POLICIES).force();
    for policy in all {
        let mut policy = json!(policy);
        policy["apiVersion"] = json!("networking.k8s.io/v1");
        policy["kind"] = json!("NetworkPolicy");
        let name = policy["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        context.metrics.wrote("apply");
        api.patch(&name, &params, &Patch::Apply(policy)).await.map_err(failure::kube)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::account;

    #[test]
    fn an_account_is_the_same_however_its_url_is_written() {
        let same = [
            "https://github.com/acme",
            "https://GitHub.com:443/acme/",
            "HTTPS://github.com/acme//",
        ];
        for url in same {
            assert_eq!(account(url.to_owned()), "https://github.com/acme", "{url}");
        }
        assert_eq!(
            account("https://github.com/acme/app/".to_owned()),
            "https://github.com/acme/app"
        );
        assert_eq!(
            account("https://ghe.acme.test:8443/acme".to_owned()),
            "https://ghe.acme.test:8443/acme"
        );
    }
}
