//! What a World is like, for a test that fails.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use sekisho_api::{Runner, RunnerDeployment, RunnerReplicaSet};
use serde_json::json;

use crate::world::World;

impl World {
    /// What there is, for a failure.
    pub(crate) async fn told(&self) -> String {
        let mut text = String::new();
        for it in self.list::<RunnerDeployment>().await {
            text.push_str(&format!("{}: {}\n", it.name_any(), json!(it.status)));
        }
        for it in self.list::<RunnerReplicaSet>().await {
            text.push_str(&format!(
                "{} {}: {}\n",
                it.name_any(),
                it.spec.replicas,
                json!(it.status)
            ));
        }
        for it in self.list::<Runner>().await {
            text.push_str(&format!(
                "{} {:?}: {}\n",
                it.name_any(),
                it.metadata.deletion_timestamp,
                json!(it.status)
            ));
        }
        for it in self.list::<Pod>().await {
            text.push_str(&format!("pod {}: {}\n", it.name_any(), json!(it.status)));
        }
        text
    }
}
