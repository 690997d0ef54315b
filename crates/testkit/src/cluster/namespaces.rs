//! The controllers of namespaces and of quotas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::{Shared, garbage};

/// How often it is looked whether a namespace is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Empties namespaces that are deleted, and lets them go.
pub(super) async fn finalize(shared: Arc<Shared>) {
    let api: Api<Namespace> = Api::all(shared.client.clone());
    let events = watcher(api, watcher::Config::default()).default_backoff().applied_objects();
    let empty = |namespace: watcher::Result<Namespace>| async {
        match namespace {
            Ok(namespace) if namespace.metadata.deletion_timestamp.is_some() => {
                empty(&shared.client, &namespace).await;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("the watch of namespaces: {error}"),
        }
    };
    events.for_each_concurrent(4, empty).await;
}

async fn empty(client: &Client, namespace: &Namespace) {
    let name = namespace.name_any();
    let mut kinds = garbage::kinds();
    kinds.push(ApiResource::erase::<Lease>(&()));
    kinds.push(ApiResource::erase::<ResourceQuota>(&()));
    loop {
        let mut left = 0;
        for kind in &kinds {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, kind);
            drop(api.delete_collection(&DeleteParams::default(), &ListParams::default()).await);
            match api.list_metadata(&ListParams::default()).await {
                Ok(list) => left += list.items.len(),
                // The definition of the kind went, and all of its objects with it.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(_) => left += 1,
            }
        }
        if left == 0 {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name }, "spec": { "finalizers": [] } });
    let request = http::Request::put(format!("/api/v1/namespaces/{name}/finalize"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes());
    if let Ok(request) = request {
        drop(client.request::<serde_json::Value>(request).await);
    }
}

/// Counts pods for the quotas, after pods went and quotas changed.
pub(super) async fn count(shared: Arc<Shared>) {
    let client = &shared.client;
    let quotas = watcher(Api::<ResourceQuota>::all(client.clone()), watcher::Config::default());
    let pods: Api<PartialObjectMeta<Pod>> = Api::all(client.clone());
    let pods = watcher(pods, watcher::Config::default());
    let quotas = quotas.default_backoff().map(|event| match event {
        Ok(watcher::Event::Apply(quota) | watcher::Event::InitApply(quota)) => quota.namespace(),
        _ => None,
    });
    let pods = pods.default_backoff().map(|event| match event {
        Ok(watcher::Event::Delete(pod)) => pod.namespace(),
        _ => None,
    });
    let mut touched = futures_util::stream::select(quotas.boxed(), pods.boxed());
    while let Some(namespace) = touched.next().await {
        if let Some(namespace) = namespace {
            recount(client, &namespace).await;
        }
    }
}

async fn recount(client: &Client, namespace: &str) {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    let Ok(all) = quotas.list(&ListParams::default()).await else { return };
    for quota in all.items {
        let hard = quota.spec.as_ref().and_then(|it| it.hard.clone()).unwrap_or_default();
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let Ok(pods) = pods.list(&ListParams::default()).await else { return };
        let ended = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        };
        let used = pods.items.iter().filter(ended).count().to_string();
        let used: BTreeMap<&String, Quantity> = hard
            .keys()
            .filter(|kind| matches!(kind.as_str(), "pods" | "count/pods"))
            .map(|kind| (kind, Quantity(used.clone())))
            .collect();
        let known = quota.status.as_ref().and_then(|status| status.hard.clone());
        let same =
            quota.status.as_ref().and_then(|status| status.used.as_ref()).is_some_and(|known| {
                used.iter().all(|(kind, value)| known.get(*kind) == Some(value))
            });
        if known.as_ref() == Some(&hard) && same {
            continue;
        }
        // Of the version that was read: a pod may be admitted meanwhile.
        let patch = json!({
            "metadata": { "resourceVersion": quota.resource_version() },
            "status": { "hard": hard, "used": used }
        });
        let name = quota.name_any();
        if quotas.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await.is_err()
        {
            tracing::debug!("the quota {name} changed meanwhile");
        }
    }
}
