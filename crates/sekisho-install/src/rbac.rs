//! What the operator may do: its own kinds and what runners are made of, where runners are; nothing
//! elsewhere, but reading classes, nodes and namespaces.

use sekisho_api::GROUP;
use serde_json::{Value, json};

use crate::{Install, NAME, RunnerNamespace, labels};

/// The account of the operator, and what it reads of the cluster. In its own namespace it may do nothing:
/// the lease of a RunnerDeployment is beside it.
pub(crate) fn of_operator(install: &Install) -> Vec<Value> {
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": NAME, "namespace": install.namespace, "labels": labels() },
        // The pod asks for it by itself; nothing else that uses the account gets it.
        "automountServiceAccountToken": false
    });
    // Namespaces are watched for their zone and their end; a list cannot be narrowed to names.
    let cluster = json!([
        { "apiGroups": [GROUP], "resources": ["runnerclasses"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list", "watch"] }
    ]);
    let mut all = vec![account];
    // The cluster's objects are named after the namespace, so that two operators do not share them.
    all.extend(role("ClusterRole", &cluster_name(install), None, &cluster, install));
    all
}

/// What the operator may do in a namespace of runners.
pub(crate) fn of_runners(install: &Install, runners: &RunnerNamespace) -> Vec<Value> {
    let rules = json!([
        // Written by users.
        { "apiGroups": [GROUP], "resources": ["githubconnections", "runnerdeployments"],
          "verbs": ["get", "list", "watch", "patch"] },
        // Written by the operator.
        { "apiGroups": [GROUP], "resources": ["runnerreplicasets", "runners"],
          "verbs": ["get", "list", "watch", "create", "patch", "delete"] },
        { "apiGroups": [GROUP],
          "resources": ["githubconnections/status", "runnerdeployments/status",
            "runnerreplicasets/status", "runners/status"],
          "verbs": ["patch", "update"] },
        // Who names an owner that is not to be deleted before must be allowed to hold it.
        { "apiGroups": [GROUP],
          "resources": ["runnerdeployments/finalizers", "runnerreplicasets/finalizers",
            "runners/finalizers"],
          "verbs": ["update"] },
        { "apiGroups": [""], "resources": ["pods"],
          "verbs": ["get", "list", "watch", "create", "delete"] },
        // The credentials of connections are read; the secrets of registrations written and removed.
        { "apiGroups": [""], "resources": ["secrets"],
          "verbs": ["get", "list", "watch", "create", "delete"] },
        // Applied, and never read; they go with their owner.
        { "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"],
          "verbs": ["create", "patch"] },
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
          "verbs": ["get", "create", "update", "delete"] },
        { "apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create"] }
    ]);
    role("Role", NAME, Some(&runners.name), &rules, install).to_vec()
}

fn cluster_name(install: &Install) -> String {
    format!("{NAME}:{}", install.namespace)
}

/// A role, and the binding that gives it to the operator.
fn role(
    kind: &str,
    name: &str,
    namespace: Option<&str>,
    rules: &Value,
    install: &Install,
) -> [Value; 2] {
    let mut metadata = json!({ "name": name, "labels": labels() });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    let api_version = "rbac.authorization.k8s.io/v1";
    [
        json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "rules": rules }),
        json!({
            "apiVersion": api_version,
            "kind": format!("{kind}Binding"),
            "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
            "subjects": [
                { "kind": "ServiceAccount", "name": NAME, "namespace": install.namespace }
            ]
        }),
    ]
}
