//! Whether the nodes can give a pod ids of its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, PodSpec};
use sekisho_pods::{NodeView, ids_can_be_mapped};
use serde_json::{Value, json};

/// Of nodes as the API server tells them.
#[track_caller]
fn mapped(pod: Value, nodes: &[Value]) -> bool {
    let mut pod = pod;
    pod["containers"] = json!([]);
    let spec: PodSpec = serde_json::from_value(pod).unwrap();
    let nodes: Vec<Node> =
        nodes.iter().map(|node| serde_json::from_value(node.clone()).unwrap()).collect();
    let views: Vec<_> = nodes
        .iter()
        .map(|node| {
            let spec = node.spec.as_ref().and_then(|it| it.taints.as_deref());
            let handlers = node.status.as_ref().and_then(|it| it.runtime_handlers.as_deref());
            NodeView {
                labels: node.metadata.labels.as_ref(),
                taints: spec.unwrap_or_default(),
                handlers: handlers.unwrap_or_default(),
            }
        })
        .collect();
    ids_can_be_mapped(&spec, views.into_iter())
}

/// containerd 2 with runc, as the kubelet tells it.
fn new(labels: &[(&str, &str)], taints: Value) -> Value {
    let of = |name: &str| {
        json!({ "name": name, "features": {
            "recursiveReadOnlyMounts": true, "userNamespaces": true } })
    };
    let mut node = old(labels, taints);
    node["status"] = json!({ "runtimeHandlers": [of(""), of("runc")] });
    node
}

/// containerd 1, of which the kubelet tells nothing.
fn old(labels: &[(&str, &str)], taints: Value) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    json!({ "metadata": { "labels": labels }, "spec": { "taints": taints } })
}

#[test]
fn one_node_that_cannot_is_enough_to_ask_none() {
    let (can, cannot) = (new(&[], json!([])), old(&[], json!([])));
    let handler = |name: &str, can: Value| json!({ "status": { "runtimeHandlers": [{ "name": name, "features": can }] } });
    assert!(!mapped(json!({}), &[]), "nothing is known");
    assert!(mapped(json!({}), &[can.clone(), can.clone()]));
    assert!(!mapped(json!({}), &[can.clone(), cannot]));
    assert!(!mapped(json!({}), &[handler("", json!({ "userNamespaces": false }))]));
    assert!(!mapped(json!({}), &[handler("", json!({}))]));
    assert!(!mapped(json!({}), &[handler("runc", json!({ "userNamespaces": true }))]));
    // Another runtime is asked for itself.
    let kata = json!({ "runtimeClassName": "kata" });
    assert!(!mapped(kata.clone(), &[can]));
    assert!(mapped(kata, &[handler("kata", json!({ "userNamespaces": true }))]));
}

#[test]
fn nodes_where_it_cannot_land_do_not_count() {
    let mine = [("pool", "builds")];
    let can = || new(&mine, json!([]));
    let selects = json!({ "nodeSelector": { "pool": "builds" } });
    assert!(mapped(selects.clone(), &[can(), old(&[("pool", "web")], json!([]))]));
    assert!(!mapped(selects.clone(), &[can(), old(&mine, json!([]))]));
    // Of a group that has no node yet, the others tell.
    assert!(mapped(selects.clone(), &[new(&[], json!([]))]));
    assert!(!mapped(selects, &[old(&[], json!([]))]));
    assert!(mapped(json!({}), &[can(), old(&[("kubernetes.io/os", "windows")], json!([]))]));

    let tainted = |effect: &str| old(&[], json!([{ "key": "k", "value": "v", "effect": effect }]));
    assert!(mapped(json!({}), &[can(), tainted("NoSchedule")]));
    assert!(mapped(json!({}), &[can(), tainted("NoExecute")]));
    assert!(!mapped(json!({}), &[can(), tainted("PreferNoSchedule")]));
    let passing = json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }]);
    assert!(!mapped(json!({}), &[can(), old(&[], passing)]), "it will be back");
    for (toleration, lands) in [
        (json!({ "operator": "Exists" }), true),
        (json!({ "key": "k", "operator": "Exists" }), true),
        (json!({ "key": "k", "value": "v" }), true),
        (json!({ "key": "k", "value": "v", "effect": "NoSchedule" }), true),
        (json!({ "key": "k", "value": "v", "effect": "NoExecute" }), false),
        (json!({ "key": "k", "value": "other" }), false),
        (json!({ "key": "other", "operator": "Exists" }), false),
    ] {
        let pod = json!({ "tolerations": [toleration] });
        assert_eq!(mapped(pod.clone(), &[can(), tainted("NoSchedule")]), !lands, "{pod}");
    }
}
