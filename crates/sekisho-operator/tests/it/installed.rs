//! What is installed in a world: as it is rendered, and applied as `kubectl` does.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use sekisho_install::{Install, RunnerNamespace};
use serde_json::{Value, json};

use crate::world::{PLANE, Server, World};

impl World {
    /// The namespace and, on a real API server, the operator's rights: as they are rendered.
    pub(crate) async fn install(&self) {
        if let Server::Double(_) = &self.server {
            let api: Api<Namespace> = Api::all(self.client.clone());
            if api.get_opt(&self.namespace).await.unwrap().is_none() {
                let namespace = json!({ "metadata": { "name": self.namespace } });
                self.create_all::<Namespace>(namespace).await;
            }
            return;
        }
        for manifest in self.manifests() {
            if manifest["kind"] != "CustomResourceDefinition" {
                self.apply(&manifest).await;
            }
        }
    }

    /// What is installed.
    pub(crate) fn manifests(&self) -> Vec<Value> {
        let install = Install {
            namespace: PLANE.to_owned(),
            image: "registry.example/sekisho:1".to_owned(),
            replicas: 2,
            webhooks: false,
            node_profile: true,
            egress_ports: Vec::new(),
            runners: vec![RunnerNamespace { name: self.namespace.clone(), ..Default::default() }],
        };
        sekisho_install::manifests(&install).unwrap()
    }

    /// As `kubectl apply --server-side` does.
    pub(crate) async fn apply(&self, manifest: &Value) {
        let (api, object) = self.api_of(manifest);
        let params = PatchParams::apply("kubectl").force();
        api.patch(&object.name_any(), &params, &Patch::Apply(manifest)).await.unwrap();
    }

    /// As `kubectl delete` does.
    pub(crate) async fn remove(&self, manifest: &Value) {
        let (api, object) = self.api_of(manifest);
        api.delete(&object.name_any(), &DeleteParams::default()).await.unwrap();
    }

    fn api_of(&self, manifest: &Value) -> (Api<DynamicObject>, DynamicObject) {
        let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
        let types = object.types.clone().unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        (api, object)
    }
}
