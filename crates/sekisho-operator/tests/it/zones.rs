//! Trust zones: one in a namespace, one in a runner group.

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use sekisho_api::{GitHubConnection, LABEL_TRUST_ZONE, Reason, RunnerDeployment, condition};
use serde_json::{Value, json};

use crate::refusals::{is_over, is_waited_for};
use crate::world::{ADMIN, Object, Server, World, create_at, until};

scenarios![a_namespace_of_another_zone_is_said_until_it_is_labelled];

async fn a_namespace_of_another_zone_is_said_until_it_is_labelled(server: Server) {
    let world = World::new(&server, |_| ()).await;
    label(&world, &world.namespace, Some("fork-pull-request")).await;
    world.set(json!({ "replicas": 1, "trustZone": "ProtectedBranch" })).await;
    let operator = world.operator("one").await;
    let message = world.says("TrustZoneMismatch").await;
    assert!(
        message.contains("`fork-pull-request`, and the RunnerDeployment of `protected-branch`")
    );
    is_waited_for(&operator, Reason::TrustZoneMismatch, &message).await;
    assert_eq!(world.list::<Pod>().await.len(), 0);
    label(&world, &world.namespace, Some("protected-branch")).await;
    is_over(&world, &operator, Reason::TrustZoneMismatch).await;
    operator.shutdown().await;
}

async fn label(world: &World, namespace: &str, zone: Option<&str>) {
    let api: Api<Namespace> = Api::all(world.client.clone());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { LABEL_TRUST_ZONE: zone } } }));
    api.patch(namespace, &PatchParams::default(), &patch).await.unwrap();
}

/// A namespace of somebody else.
struct Tenant<'a> {
    world: &'a World,
    namespace: String,
}

impl<'a> Tenant<'a> {
    /// Whoever has it wants the runners of production.
    async fn new(world: &'a World, name: &str, token: &str) -> Self {
        let tenant = Self { world, namespace: format!("{}-{name}", world.namespace) };
        world.create_all::<Namespace>(json!({ "metadata": { "name": tenant.namespace } })).await;
        tenant
            .make::<Secret>(
                json!({ "metadata": { "name": "github" }, "stringData": { "token": token } }),
            )
            .await;
        let token = json!({ "name": "github", "key": "token" });
        tenant
            .make::<GitHubConnection>(json!({
                "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "GitHubConnection",
                "metadata": { "name": "acme" },
                "spec": { "url": format!("{}/acme/", world.url), "auth": { "token": { "secretRef": token } } }
            }))
            .await;
        tenant
            .make::<RunnerDeployment>(json!({
                "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerDeployment",
                "metadata": { "name": "forks" },
                "spec": {
                    "connectionRef": "acme", "classRef": "default", "group": "Default",
                    "labels": ["forks"], "acquisition": { "mode": "ScaleSet" },
                    "trustZone": "ForkPullRequest", "replicas": 1
                }
            }))
            .await;
        tenant
    }

    async fn make<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Object,
    {
        let api = Api::namespaced(self.world.client.clone(), &self.namespace);
        create_at::<K>(&api, object).await;
    }

    async fn says(&self, reason: &str) -> String {
        let api = Api::<RunnerDeployment>::namespaced(self.world.client.clone(), &self.namespace);
        until(reason, || async {
            let status = api.get("forks").await.unwrap().status?;
            let ready = condition::find(&status.conditions, condition::READY)?;
            (ready.reason == reason).then(|| ready.message.clone())
        })
        .await
    }
}

/// On the double alone, as the operator of a real one sees one namespace.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_group_is_of_the_zone_that_used_it_first() {
    let world = World::new(&Server::double(), |_| ()).await;
    // Made before production, and with a token that never worked.
    let stranger = Tenant::new(&world, "stranger", "wrong").await;
    label(&world, &stranger.namespace, Some("fork-pull-request")).await;
    let operator = world.operator("one").await;
    stranger.says("ConnectionNotReady").await;
    label(&world, &world.namespace, Some("protected-branch")).await;
    world.set(json!({ "replicas": 1, "trustZone": "ProtectedBranch" })).await;
    world.says("AllRunnersReady").await;
    let mine = world.registered().await;

    // Of another zone than its namespace: refused for itself, it is in nobody's way.
    let forks = Tenant::new(&world, "forks", ADMIN).await;
    forks.says("TrustZoneMismatch").await;
    is_left_alone(&world, &operator, &mine).await;
    // In its namespace, but not in its group.
    label(&world, &forks.namespace, Some("fork-pull-request")).await;
    let message = forks.says("GroupSharedAcrossZones").await;
    assert!(message.contains(&format!("`{}/gpu`", world.namespace)), "{message}");
    is_waited_for(&operator, Reason::GroupSharedAcrossZones, &message).await;
    is_left_alone(&world, &operator, &mine).await;

    world.api::<RunnerDeployment>().delete("gpu", &DeleteParams::default()).await.unwrap();
    // Looked at again within two minutes, whoever went.
    world
        .until_later("a group that is free", 11, &operator, || async {
            let now = world.registered().await;
            (now.len() == 1 && now != mine).then_some(())
        })
        .await;
    operator.shutdown().await;
}

/// Looked at again and again, production goes on as it was.
async fn is_left_alone(world: &World, operator: &sekisho_operator::Operator, mine: &[String]) {
    for _ in 0..10 {
        operator.look();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.says("AllRunnersReady").await;
    assert_eq!(world.registered().await, mine);
}
