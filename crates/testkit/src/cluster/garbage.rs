//! The garbage collector: what belongs to nobody any more goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::{GitHubConnection, Runner, RunnerDeployment, RunnerReplicaSet};
use serde_json::json;

use super::Shared;

const FOREGROUND: &str = "foregroundDeletion";

/// The kinds whose owners are looked at.
pub(super) fn kinds() -> Vec<ApiResource> {
    vec![
        ApiResource::erase::<RunnerDeployment>(&()),
        ApiResource::erase::<RunnerReplicaSet>(&()),
        ApiResource::erase::<Runner>(&()),
        ApiResource::erase::<GitHubConnection>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
    ]
}

#[derive(Clone)]
struct Object {
    kind: usize,
    namespace: String,
    name: String,
    owners: Vec<String>,
    /// It waits for what it owns.
    foreground: bool,
}

#[derive(Default)]
struct Graph {
    objects: BTreeMap<String, Object>,
    dependents: BTreeMap<String, BTreeSet<String>>,
    synced: BTreeSet<usize>,
}

type Seen = (usize, watcher::Result<watcher::Event<PartialObjectMeta<DynamicObject>>>);

/// Collects for ever.
pub(super) async fn collect(shared: Arc<Shared>) {
    let kinds = kinds();
    let streams = kinds.iter().enumerate().map(|(at, kind)| {
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(shared.client.clone(), kind);
        let events = watcher(api, watcher::Config::default()).default_backoff();
        events.map(move |event| (at, event)).boxed()
    });
    let mut events = futures_util::stream::select_all(streams);
    let mut graph = Graph::default();
    while let Some(seen) = events.next().await {
        for uid in graph.see(seen, kinds.len()) {
            if let Some(object) = graph.objects.get(&uid).cloned() {
                let client = shared.client.clone();
                let kind = kinds[object.kind].clone();
                let owns = graph.dependents.get(&uid).is_some_and(|all| !all.is_empty());
                if !object.foreground || graph.is_orphan(&object) {
                    shared.spawn(async move { delete(&client, &kind, &object, &uid).await });
                } else if !owns {
                    shared.spawn(async move { release(&client, &kind, &object).await });
                }
            }
        }
    }
}

impl Graph {
    /// Takes an event in; what is to be looked at then.
    fn see(&mut self, (kind, event): Seen, kinds: usize) -> Vec<String> {
        let mut touched = Vec::new();
        match event {
            Ok(watcher::Event::Apply(meta) | watcher::Event::InitApply(meta)) => {
                let uid = meta.uid().unwrap_or_default();
                let owners: Vec<String> =
                    meta.owner_references().iter().map(|owner| owner.uid.clone()).collect();
                for owner in &owners {
                    self.dependents.entry(owner.clone()).or_default().insert(uid.clone());
                }
                let foreground = meta.metadata.deletion_timestamp.is_some()
                    && meta.finalizers().iter().any(|it| it == FOREGROUND);
                let (namespace, name) = (meta.namespace().unwrap_or_default(), meta.name_any());
                self.objects
                    .insert(uid.clone(), Object { kind, namespace, name, owners, foreground });
                if foreground {
                    touched.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
                }
                touched.push(uid);
            }
            Ok(watcher::Event::Delete(meta)) => {
                let uid = meta.uid().unwrap_or_default();
                if let Some(object) = self.objects.remove(&uid) {
                    for owner in object.owners {
                        if let Some(all) = self.dependents.get_mut(&owner) {
                            all.remove(&uid);
                        }
                        touched.push(owner);
                    }
                }
                touched.extend(self.dependents.remove(&uid).into_iter().flatten());
            }
            Ok(watcher::Event::InitDone) => {
                self.synced.insert(kind);
                touched.extend(self.objects.keys().cloned());
            }
            Ok(watcher::Event::Init) => {}
            Err(error) => tracing::debug!("the garbage collector's watch: {error}"),
        }
        // An owner that is not known yet may only not have been listed yet.
        if self.synced.len() < kinds {
            return Vec::new();
        }
        touched.retain(|uid| {
            self.objects.get(uid).is_some_and(|object| object.foreground || self.is_orphan(object))
        });
        touched
    }

    /// Whether all owners are gone, or wait for this one to go.
    fn is_orphan(&self, object: &Object) -> bool {
        !object.owners.is_empty()
            && object
                .owners
                .iter()
                .all(|owner| self.objects.get(owner).is_none_or(|owner| owner.foreground))
    }
}

fn api(client: &Client, kind: &ApiResource, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, kind)
}

async fn delete(client: &Client, kind: &ApiResource, object: &Object, uid: &str) {
    let api = api(client, kind, &object.namespace);
    // The owner may be one whose watch is behind: look before.
    let Ok(Some(live)) = api.get_opt(&object.name).await else { return };
    if live.metadata.deletion_timestamp.is_some() || live.metadata.uid.as_deref() != Some(uid) {
        return;
    }
    for owner in live.owner_references() {
        let Some(owner_kind) = kinds().into_iter().find(|kind| kind.kind == owner.kind) else {
            return;
        };
        let owners = self::api(client, &owner_kind, &object.namespace);
        match owners.get_opt(&owner.name).await {
            Ok(Some(there)) if there.metadata.uid.as_ref() == Some(&owner.uid) => {
                let waits = there.finalizers().iter().any(|it| it == FOREGROUND);
                if !waits {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::background()
    };
    if let Err(error) = api.delete(&object.name, &params).await {
        tracing::debug!("the garbage collector, {}: {error}", object.name);
    }
}

/// Removes the finalizer of an owner that waited.
async fn release(client: &Client, kind: &ApiResource, object: &Object) {
    let api = api(client, kind, &object.namespace);
    let Ok(Some(live)) = api.get_opt(&object.name).await else { return };
    let rest: Vec<&String> = live.finalizers().iter().filter(|it| *it != FOREGROUND).collect();
    let patch =
        json!({ "metadata": { "resourceVersion": live.resource_version(), "finalizers": rest } });
    drop(api.patch(&object.name, &PatchParams::default(), &Patch::Merge(patch)).await);
}
