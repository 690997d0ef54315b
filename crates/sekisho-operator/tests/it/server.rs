//! Where a scenario is played, and what is left there for the next one.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::{GitHubConnection, Runner, RunnerClass, RunnerDeployment, RunnerReplicaSet};
use serde_json::json;
use testkit::{ApiServer, RealServer};

/// Where a scenario is played.
#[derive(Clone)]
pub(crate) enum Server {
    /// In memory.
    Double(ApiServer),
    /// kube-apiserver, on which the operator has the rights that are rendered, and no others.
    Real(Arc<RealServer>),
}

/// A scenario: written once, played on either.
pub(crate) type Scenario = fn(Server) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Server {
    pub(crate) fn double() -> Self {
        Self::Double(ApiServer::new())
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        match self {
            Self::Double(api) => api.client(name),
            Self::Real(real) => real.client().unwrap(),
        }
    }

    /// Removes what a scenario left, for the next one.
    pub(crate) async fn clear(&self) {
        let client = self.client("test");
        let kinds = [
            ApiResource::erase::<RunnerDeployment>(&()),
            ApiResource::erase::<RunnerReplicaSet>(&()),
            ApiResource::erase::<Runner>(&()),
            ApiResource::erase::<GitHubConnection>(&()),
            ApiResource::erase::<RunnerClass>(&()),
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<Node>(&()),
        ];
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        for kind in kinds {
            let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            for object in all.list(&ListParams::default()).await.unwrap() {
                let (name, params) = (object.name_any(), DeleteParams::default().grace_period(0));
                let api: Api<DynamicObject> = match object.namespace() {
                    Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
                    None => all.clone(),
                };
                // What goes by itself meanwhile is gone.
                drop(api.delete(&name, &params).await);
                drop(api.patch(&name, &PatchParams::default(), &free).await);
            }
        }
    }
}
