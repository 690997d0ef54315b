use k8s_openapi::api::core::v1;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::*;

fn meta() -> Value {
    json!({
        "name": "a", "namespace": "ci", "uid": "u", "resourceVersion": "7", "generation": 2,
        "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": "2026-01-02T00:00:00Z",
        "deletionGracePeriodSeconds": 90,
        "labels": { "l": "1" }, "annotations": { "n": "2" }, "finalizers": ["f"],
        "ownerReferences": [{
            "apiVersion": "v1", "kind": "K", "name": "o", "uid": "ou", "controller": true
        }],
    })
}

fn with_managers() -> Value {
    let mut meta = meta();
    meta["managedFields"] = json!([{
        "manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": { "f:status": { "f:phase": {} } }
    }]);
    meta
}

#[test]
fn metadata_is_all_but_who_wrote_it() {
    let want: ObjectMeta = serde_json::from_value(meta()).unwrap();
    let of = json!({ "metadata": with_managers() });
    let pod: Pod = serde_json::from_value(of.clone()).unwrap();
    assert_eq!(pod.metadata, want);
    let node: Node = serde_json::from_value(of.clone()).unwrap();
    assert_eq!(node.metadata, want);
    let secret: Metadata<v1::Secret> = serde_json::from_value(of).unwrap();
    assert_eq!(secret.metadata, want);
}

#[test]
fn a_runner_is_read_whole() {
    let spec = json!({
        "deployment": "d", "connectionRef": "c", "classRef": "k", "mode": "ScaleSet",
        "group": "g", "labels": ["x"], "trustZone": "PullRequest"
    });
    let whole = json!({
        "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "Runner", "metadata": meta(),
        "spec": spec, "status": { "registration": { "id": 5 } }
    });
    let want: sekisho_api::Runner = serde_json::from_value(whole.clone()).unwrap();
    let mut told = whole;
    told["metadata"] = with_managers();
    let read: Runner = serde_json::from_value(told).unwrap();
    assert_eq!(sekisho_api::Runner::from(read), want);
}

#[test]
fn what_is_read_of_a_pod_and_a_node_is_there() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "a", "creationTimestamp": null },
        "spec": { "nodeName": "n", "containers": [{ "name": "runner", "image": "i" }] },
        "status": {
            "phase": "Running", "reason": "Evicted", "podIP": "10.0.0.1",
            "conditions": [{ "type": "PodScheduled", "status": "True" }],
            "containerStatuses": [{
                "name": "runner", "ready": true, "restartCount": 0, "image": "i", "imageID": "i",
                "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } }
            }],
            "initContainerStatuses": [{
                "name": "docker", "state": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } }
            }]
        }
    }))
    .unwrap();
    assert_eq!(pod.name_any(), "a");
    assert_eq!(pod.spec.node_name.as_deref(), Some("n"));
    assert_eq!(pod.status.phase.as_deref(), Some("Running"));
    assert_eq!(pod.status.reason.as_deref(), Some("Evicted"));
    assert_eq!(pod.status.conditions[0].type_, "PodScheduled");
    assert_eq!(pod.status.container_statuses[0].name, "runner");
    assert!(pod.status.container_statuses[0].state.running.is_some());
    let ended = pod.status.init_container_statuses[0].state.terminated.as_ref();
    assert_eq!(ended.and_then(|it| it.reason.as_deref()), Some("OOMKilled"));

    let node: Node = serde_json::from_value(json!({
        "metadata": { "name": "n" },
        "spec": { "taints": [{ "key": "k", "effect": "NoSchedule" }] },
        "status": {
            "conditions": [{ "type": "Ready", "status": "False" }],
            "runtimeHandlers": [{ "name": "runc", "features": { "userNamespaces": true } }],
            "images": [{ "names": ["i"], "sizeBytes": 1 }]
        }
    }))
    .unwrap();
    assert_eq!(node.spec.taints[0].key, "k");
    assert_eq!(node.status.conditions[0].status, "False");
    let handler = &node.status.runtime_handlers[0];
    assert_eq!(handler.name.as_deref(), Some("runc"));
    assert_eq!(handler.features.as_ref().and_then(|it| it.user_namespaces), Some(true));
}

#[test]
fn kinds_are_those_of_the_api_server() {
    assert_eq!(Pod::url_path(&(), Some("ci")), v1::Pod::url_path(&(), Some("ci")));
    assert_eq!(Node::url_path(&(), None), v1::Node::url_path(&(), None));
    let runners = sekisho_api::Runner::url_path(&(), Some("ci"));
    assert_eq!(Runner::url_path(&(), Some("ci")), runners);
    let secrets = v1::Secret::url_path(&(), Some("ci"));
    assert_eq!(Metadata::<v1::Secret>::url_path(&(), Some("ci")), secrets);
    assert!(Metadata::<v1::Secret>::metadata_api(), "a secret's content is not asked for");
}
