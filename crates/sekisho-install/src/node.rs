//! What nodes need for runners that build images: the seccomp profile, in the kubelet's folder.
//!
//! A DaemonSet puts it there, for a node that comes later needs it as well. It is in a namespace of its own:
//! to write a file of the node is what neither the operator nor a runner may do.

use sekisho_api::SecurityProfile;
use serde_json::{Value, json};

use crate::{Install, labels, namespaces};

/// The name of its objects.
const NAME: &str = "sekisho-node";
/// Where the kubelet has its profiles, unless it was told otherwise.
const KUBELET: &str = "/var/lib/kubelet/seccomp/sekisho";
/// Where its container has it.
const FOLDER: &str = "/profiles";

/// The namespace.
pub(crate) fn name(install: &Install) -> String {
    let mut name = install.namespace.clone();
    // With what is added, 63 characters at most.
    name.truncate(57);
    format!("{}-nodes", name.trim_end_matches('-'))
}

pub(crate) fn namespace(install: &Install) -> Value {
    // A folder of the node can be mounted in no other profile.
    namespaces::namespace(&name(install), SecurityProfile::Privileged)
}

pub(crate) fn all(install: &Install) -> Vec<Value> {
    let mut policy = namespaces::deny_all(&name(install));
    policy["metadata"]["name"] = json!(NAME);
    vec![policy, daemon_set(install)]
}

fn daemon_set(install: &Install) -> Value {
    let labels = || {
        let mut labels = labels();
        labels["app.kubernetes.io/name"] = json!(NAME);
        labels
    };
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": NAME, "namespace": name(install), "labels": labels() },
        "spec": {
            "selector": { "matchLabels": { "app.kubernetes.io/name": NAME } },
            "template": {
                "metadata": { "labels": labels() },
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    // Also where nobody else may be: there may be runners.
                    "tolerations": [{ "operator": "Exists" }],
                    "terminationGracePeriodSeconds": 5,
                    "securityContext": { "seccompProfile": { "type": "RuntimeDefault" } },
                    "containers": [{
                        "name": "profile",
                        "image": install.image,
                        "args": ["operator", "profile", format!("--place={FOLDER}")],
                        "resources": {
                            "requests": { "cpu": "5m", "memory": "16Mi" },
                            "limits": { "memory": "64Mi" }
                        },
                        // The folder is root's. Of root's rights it has none but to be its owner.
                        "securityContext": {
                            "runAsUser": 0,
                            "allowPrivilegeEscalation": false,
                            "readOnlyRootFilesystem": true,
                            "capabilities": { "drop": ["ALL"] }
                        },
                        "volumeMounts": [{ "name": "profiles", "mountPath": FOLDER }]
                    }],
                    "volumes": [{
                        "name": "profiles",
                        "hostPath": { "path": KUBELET, "type": "DirectoryOrCreate" }
                    }]
                }
            }
        }
    })
}
