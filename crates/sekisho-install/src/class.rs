//! The three classes that a workflow chooses from by its label.

use sekisho_api::{GROUP, VERSION};
use serde_json::{Value, json};

use crate::SECCOMP_PROFILE;

/// `default`, `cpu` and `memory`: the first for most jobs, the second with twice the processors, the
/// third with four times the memory. Each prefers spot machines and takes on-demand ones where there
/// are none. `cpu` and `memory` are for nodes that are labelled and may be tainted with
/// `runners.sekisho.dev/class`; `default` takes any node, and tolerates the taint of its own.
pub fn classes() -> Vec<Value> {
    [("default", "2", "4", "8Gi"), ("cpu", "4", "8", "16Gi"), ("memory", "2", "4", "32Gi")]
        .into_iter()
        .map(|(name, cpu, cpu_limit, memory)| {
            let mut class = json!({
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": "RunnerClass",
                "metadata": { "name": name },
                "spec": {
                    "requests": { "cpu": cpu, "memory": memory, "ephemeral-storage": "10Gi" },
                    // Memory is asked for whole: what is given twice is taken back by a kill.
                    "limits": { "cpu": cpu_limit, "memory": memory, "ephemeral-storage": "40Gi" },
                    "capacity": { "prefer": "Spot" },
                    // Without it no image is built in the runner's container.
                    "security": { "localhostSeccompProfile": SECCOMP_PROFILE },
                    "tolerations": [
                        { "key": "runners.sekisho.dev/class", "operator": "Equal", "value": name,
                          "effect": "NoSchedule" }
                    ]
                }
            });
            if name != "default" {
                class["spec"]["nodeSelector"] = json!({ "runners.sekisho.dev/class": name });
            }
            class
        })
        .collect()
}
