//! Nodes and the scheduler.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Binding, Node as NodeObject, ObjectReference, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Node, Shared};

/// Who writes.
const MANAGER: &str = "cluster";

pub(super) async fn add(
    shared: &Shared,
    name: &str,
    labels: BTreeMap<String, String>,
) -> anyhow::Result<()> {
    let api: Api<NodeObject> = Api::all(shared.client.clone());
    let mut all = labels.clone();
    all.insert("kubernetes.io/hostname".to_owned(), name.to_owned());
    let node: NodeObject = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": all },
        "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady" }] }
    }))?;
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(error)) if error.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    let mut state = shared.lock();
    state.frozen.remove(name);
    state.nodes.insert(name.to_owned(), Node { labels: all });
    Ok(())
}

/// Its kubelet is not heard any more, and Kubernetes says so.
pub(super) async fn silence(shared: &Shared, name: &str) -> anyhow::Result<()> {
    shared.lock().frozen.insert(name.to_owned());
    let nodes: Api<NodeObject> = Api::all(shared.client.clone());
    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown" }] } });
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

pub(super) async fn lose(shared: &Shared, name: &str) -> anyhow::Result<()> {
    {
        let mut state = shared.lock();
        state.nodes.remove(name);
        // In one moment with the end of its containers: it starts none of them again.
        state.frozen.insert(name.to_owned());
        state.pods.retain(|_, handle| handle.node != name);
    }
    silence(shared, name).await?;
    let nodes: Api<NodeObject> = Api::all(shared.client.clone());
    let taint = json!({ "spec": { "taints": [{ "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" }] } });
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(taint)).await?;
    for pod in pods_of(shared, name).await? {
        let api: Api<Pod> =
            Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
        // Marked to go; who would do it is not there any more.
        drop(api.delete(&pod.name_any(), &DeleteParams::default()).await);
    }
    Ok(())
}

pub(super) async fn remove(shared: &Shared, name: &str) -> anyhow::Result<()> {
    let nodes: Api<NodeObject> = Api::all(shared.client.clone());
    nodes.delete(name, &DeleteParams::default()).await?;
    for pod in pods_of(shared, name).await? {
        let api: Api<Pod> =
            Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
        drop(api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await);
    }
    Ok(())
}

async fn pods_of(shared: &Shared, node: &str) -> anyhow::Result<Vec<Pod>> {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    Ok(api.list(&on_node).await?.items)
}

/// Gives each pod a node.
pub(super) async fn schedule(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let unbound = watcher::Config::default().fields("spec.nodeName=");
    let events = watcher(api, unbound).default_backoff().applied_objects();
    let bind = |pod: watcher::Result<Pod>| async {
        match pod {
            Ok(pod) if pod.metadata.deletion_timestamp.is_none() => place(&shared, &pod).await,
            Ok(_) => {}
            Err(error) => tracing::debug!("the watch of pods without a node: {error}"),
        }
    };
    events.for_each_concurrent(16, bind).await;
}

/// A node with the labels that the pod wants; they take turns.
fn choose(shared: &Shared, pod: &Pod) -> Option<String> {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.node_selector.clone()).unwrap_or_default();
    let mut state = shared.lock();
    let fits = |node: &Node| wanted.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    let fitting: Vec<String> =
        state.nodes.iter().filter(|(_, node)| fits(node)).map(|(name, _)| name.clone()).collect();
    state.next += 1;
    let at = state.next.checked_rem(fitting.len())?;
    fitting.into_iter().nth(at)
}

async fn place(shared: &Shared, pod: &Pod) {
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
    let Some(node) = choose(shared, pod) else {
        let known = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
        if known
            .is_some_and(|all| all.iter().any(|it| it.reason.as_deref() == Some("Unschedulable")))
        {
            return;
        }
        let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0 nodes are available" });
        let status =
            json!({ "metadata": { "uid": pod.uid() }, "status": { "conditions": [condition] } });
        let (name, params) = (pod.name_any(), PatchParams::default());
        return drop(api.patch_status(&name, &params, &Patch::Merge(status)).await);
    };
    let binding = Binding {
        metadata: kube::api::ObjectMeta {
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node),
            ..Default::default()
        },
    };
    let params = PostParams { field_manager: Some(MANAGER.into()), ..Default::default() };
    // The answer is no pod but a Status.
    let bound: kube::Result<serde_json::Value> =
        api.create_subresource("binding", &pod.name_any(), &params, &binding).await;
    if let Err(error) = bound {
        tracing::debug!("binding {}: {error}", pod.name_any());
    }
}
