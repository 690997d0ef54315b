//! The operator's Deployment, and what protects it.

use sekisho_pods::{METADATA_NETWORKS, dns, everywhere_but, user};
use serde_json::{Value, json};

use crate::{Install, LABEL_METRICS, NAME, PORT, PORT_WEBHOOKS, labels};

/// Of the image of the operator: whoever it is, he is not root.
const USER: i64 = 65_532;
/// How long a session at GitHub may take to be closed.
const GRACE_SECONDS: u32 = 30;

pub(crate) fn all(install: &Install) -> Vec<Value> {
    let mut all = vec![network_policy(install), deployment(install)];
    if install.replicas > 1 {
        all.push(budget(install));
    }
    if install.webhooks {
        all.push(service(install));
    }
    all
}

fn metadata(install: &Install) -> Value {
    json!({ "name": NAME, "namespace": install.namespace, "labels": labels() })
}

fn selector() -> Value {
    json!({ "matchLabels": { "app.kubernetes.io/name": NAME } })
}

fn deployment(install: &Install) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(install),
        "spec": {
            "replicas": install.replicas,
            "selector": selector(),
            // The one that stands by takes over before another is stopped.
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } },
            "template": {
                "metadata": {
                    "labels": labels(),
                    "annotations": { "kubectl.kubernetes.io/default-container": "operator" }
                },
                "spec": pod(install)
            }
        }
    })
}

fn pod(install: &Install) -> Value {
    json!({
        "serviceAccountName": NAME,
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": user(USER),
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector()
        }],
        "containers": [{
            "name": "operator",
            "image": install.image,
            "args": arguments(install),
            "env": [
                { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "POD_NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                { "name": "AWS_EC2_METADATA_DISABLED", "value": "true" }
            ],
            "ports": ports(install),
            "livenessProbe": probe("/livez", 10, 3),
            "readinessProbe": probe("/readyz", 5, 2),
            "startupProbe": probe("/livez", 1, 60),
            "resources": {
                "requests": { "cpu": "100m", "memory": "128Mi", "ephemeral-storage": "64Mi" },
                "limits": { "memory": "512Mi", "ephemeral-storage": "256Mi" }
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] }
            }
        }]
    })
}

fn arguments(install: &Install) -> Vec<String> {
    let mut all = vec!["operator".to_owned(), "run".to_owned()];
    all.push(format!("--listen=0.0.0.0:{PORT}"));
    if install.webhooks {
        all.push(format!("--webhooks=0.0.0.0:{PORT_WEBHOOKS}"));
    }
    all.extend(install.runners.iter().map(|it| format!("--namespace={}", it.name)));
    all
}

fn ports(install: &Install) -> Vec<Value> {
    let mut all = vec![json!({ "name": "admin", "containerPort": PORT })];
    if install.webhooks {
        all.push(json!({ "name": "webhooks", "containerPort": PORT_WEBHOOKS }));
    }
    all
}

/// What an ingress sends GitHub's webhooks to. Any replica takes them.
fn service(install: &Install) -> Value {
    let mut metadata = metadata(install);
    metadata["name"] = json!(format!("{NAME}-webhooks"));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "selector": { "app.kubernetes.io/name": NAME },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "webhooks" }]
        }
    })
}

fn probe(path: &str, period_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "admin" },
        "periodSeconds": period_seconds,
        "failureThreshold": failures,
        "timeoutSeconds": 3
    })
}

/// Nothing listens but what the kubelet and Prometheus ask, and webhooks where they are taken; out it goes
/// to the API server and to GitHub, whose addresses nobody knows beforehand, and not to the cloud's
/// credentials.
fn network_policy(install: &Install) -> Value {
    let mut ingress = vec![json!({
        "from": [{ "namespaceSelector": { "matchLabels": { LABEL_METRICS: "true" } } }],
        "ports": [{ "protocol": "TCP", "port": PORT }]
    })];
    if install.webhooks {
        // From wherever the ingress is; what is not signed is refused.
        ingress.push(json!({ "ports": [{ "protocol": "TCP", "port": PORT_WEBHOOKS }] }));
    }
    // The API server's, before and behind its service.
    let ports = [443, 6443].into_iter().chain(install.egress_ports.iter().copied());
    let ports: Vec<Value> = ports.map(|port| json!({ "protocol": "TCP", "port": port })).collect();
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(install),
        "spec": {
            "podSelector": selector(),
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": [
                dns(),
                { "to": everywhere_but(METADATA_NETWORKS), "ports": ports }
            ]
        }
    })
}

/// A drain leaves one of them.
fn budget(install: &Install) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(install),
        "spec": { "minAvailable": 1, "selector": selector() }
    })
}
