//! From one version to the next, and away again.

use std::path::Path;
use std::sync::atomic::Ordering;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use sekisho_api::{GitHubConnection, Runner, RunnerDeployment, RunnerReplicaSet};
use serde_json::{Value, json};

use crate::world::{Server, World, until};

scenarios![
    an_upgrade_with_jobs_under_way_loses_none,
    an_uninstall_leaves_nothing,
    an_operator_that_is_dropped_stops,
];

/// The definitions of the version before, as `kubectl` has them.
fn previous() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sekisho-api/previous");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let read =
        files.map(|path| serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap());
    let all: Vec<Value> = read.collect();
    assert_eq!(all.len(), 5);
    all
}

async fn define(world: &World, definitions: &[Value]) {
    for definition in definitions {
        world.apply(definition).await;
    }
    let api: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for definition in definitions {
        let name = definition["metadata"]["name"].as_str().unwrap();
        until("a definition that is taken in", || async {
            let status = api.get(name).await.unwrap().status?;
            let all = status.conditions?;
            all.iter().any(|it| it.type_ == "Established" && it.status == "True").then_some(())
        })
        .await;
    }
}

/// Gives the connection a field that only the newer definition has; whether it is kept.
async fn new_field_is_kept(world: &World) -> bool {
    let webhook = json!({ "secretRef": { "name": "hook", "key": "key" } });
    let patch = Patch::Merge(json!({ "spec": { "webhook": webhook } }));
    let api = world.api::<GitHubConnection>();
    api.patch("acme", &PatchParams::default(), &patch).await.unwrap().spec.webhook.is_some()
}

async fn an_upgrade_with_jobs_under_way_loses_none(server: Server) {
    let world = World::new(&server, |_| ()).await;
    define(&world, &previous()).await;
    // Its schema is known a moment after the definition is.
    until("objects as the version before has them", || async {
        if world.api::<GitHubConnection>().get_opt("acme").await.unwrap().is_none() {
            world
                .set(json!({ "scaling": { "min": 1, "max": 10, "scaleDownDelaySeconds": 0 } }))
                .await;
        }
        (!new_field_is_kept(&world).await).then_some(())
    })
    .await;
    let old = world.operator("old-1").await;
    world.says("AllRunnersReady").await;
    let run = world.push(2).await;
    world.begun(2).await;
    // As `sekisho operator render | kubectl apply --server-side -f -`: all of it, definitions first.
    let manifests = world.manifests();
    let new: Vec<Value> =
        manifests.into_iter().filter(|it| it["kind"] == "CustomResourceDefinition").collect();
    define(&world, &new).await;
    world.install().await;
    until("the new field", || async { new_field_is_kept(&world).await.then_some(()) }).await;
    // One of the new version comes before the old one goes, and jobs come meanwhile.
    let new = world.operator("new-1").await;
    let later = world.push(1).await;
    old.shutdown().await;
    world.runners.ends.add_permits(3);
    assert_eq!(world.conclusion(run).await, "success");
    assert_eq!(world.conclusion(later).await, "success");
    assert_eq!(world.runners.begun.load(Ordering::SeqCst), 3, "each job was begun once");
    world.says("AllRunnersReady").await;
    new.shutdown().await;
}

async fn an_uninstall_leaves_nothing(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 2, "max": 10, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let run = world.push(1).await;
    world.begun(1).await;
    // As the page says: `kubectl delete rdeploy --all`, which waits for the jobs.
    let api = world.api::<RunnerDeployment>();
    let set = api.get("gpu").await.unwrap().status.unwrap().scale_set.unwrap().id;
    assert!(world.scale_set(set).await.is_some());
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    world.says("Deleting").await;
    // Who has no job goes at once, and not when somebody else has news.
    until("the idle runner's end", || async {
        (world.registered().await.len() == 1).then_some(())
    })
    .await;
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    world.ended().await;
    assert!(world.scale_set(set).await.is_none(), "the scale set is gone");
    until("nothing that is left of it in the namespace", || async {
        let left = world.list::<RunnerReplicaSet>().await.len()
            + world.list::<Runner>().await.len()
            + world.list::<Lease>().await.len()
            + world.policies_of_deployments().await.len();
        (left == 0).then_some(())
    })
    .await;
    // Then all that was applied, at once: nobody is left to wait for.
    operator.shutdown().await;
    world.uninstall().await;
}

async fn an_operator_that_is_dropped_stops(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let one = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let metrics = format!("http://{}/metrics", one.admin().unwrap());
    drop(one);
    let leases = world.api::<Lease>();
    until("a lease that is given back", || async {
        let lease = leases.get("sekisho-gpu").await.unwrap();
        lease.spec?.holder_identity.filter(String::is_empty)
    })
    .await;
    until("a port that is closed", || async {
        reqwest::get(&metrics).await.is_err().then_some(())
    })
    .await;
    let before = leases.get("sekisho-gpu").await.unwrap().resource_version();
    // Somebody else does the work from now on.
    let two = world.operator("two").await;
    world.change(json!({ "replicas": 2 })).await;
    until("two runners", || async { (world.registered().await.len() == 2).then_some(()) }).await;
    let lease = leases.get("sekisho-gpu").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("two"));
    assert_ne!(lease.metadata.resource_version, before);
    two.shutdown().await;
}

impl World {
    /// Network policies that were made for a RunnerDeployment.
    pub(crate) async fn policies_of_deployments(&self) -> Vec<NetworkPolicy> {
        let mut all = self.list::<NetworkPolicy>().await;
        all.retain(|it| it.labels().contains_key(sekisho_api::LABEL_DEPLOYMENT));
        all
    }

    /// As `sekisho operator render | kubectl delete --ignore-not-found -f -`; of the definitions, other scenarios need.
    async fn uninstall(&self) {
        let manifests = match &self.server {
            Server::Double(_) => Vec::new(),
            Server::Real(_) => self.manifests(),
        };
        for manifest in manifests.iter().rev() {
            if !matches!(manifest["kind"].as_str(), Some("CustomResourceDefinition" | "Namespace"))
            {
                self.remove(manifest).await;
            }
        }
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
        until("the end of the namespace", || async {
            api.get_opt(&self.namespace).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}
