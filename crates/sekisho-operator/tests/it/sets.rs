//! The scale set of a deployment, as GitHub has it.

use std::sync::Arc;

use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, Patch, PatchParams};
use sekisho_api::RunnerDeployment;
use sekisho_github::http::ClientOptions;
use sekisho_github::rest::{Address, Clock, Credential, GithubClient};
use sekisho_github::scale_set::{Tenant, TenantOptions};
use sekisho_github::wire::scale_set::ScaleSet;
use sekisho_hub::faults::{Call, Fault};
use serde_json::{Value, json};

use crate::refusals::rule;
use crate::world::{ADMIN, Server, World, until};

scenarios![
    a_set_that_is_listened_to_gets_other_labels_and_another_group,
    a_set_that_github_does_not_let_go_is_told_of_and_left,
    two_events_of_one_reason_are_two_with_their_own_text,
];

async fn two_events_of_one_reason_are_two_with_their_own_text(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    for group in ["nobody", "noone"] {
        world.change(json!({ "group": group })).await;
        world.says("GroupNotFound").await;
        world.change(json!({ "group": "Default" })).await;
        world.says("AllRunnersReady").await;
    }
    let notes = until("what is told of both", || async {
        let all = world.list::<Event>().await;
        let told = all.into_iter().filter(|it| it.reason.as_deref() == Some("GroupNotFound"));
        let mut notes: Vec<String> = told.filter_map(|it| it.note).collect();
        notes.sort();
        (notes.len() == 2).then_some(notes)
    })
    .await;
    assert!(notes[0].contains("`nobody`") && notes[1].contains("`noone`"), "{notes:?}");
    operator.shutdown().await;
}

async fn a_set_that_is_listened_to_gets_other_labels_and_another_group(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let id = world.set_of().await;
    assert_eq!(labels(&world, id).await, ["gpu"]);
    world.change(json!({ "labels": ["gpu", "large"] })).await;
    until("the other labels at GitHub", || async {
        (labels(&world, id).await == ["gpu", "large"]).then_some(())
    })
    .await;
    // What cannot be done is said, and the set takes jobs as it was.
    world.change(json!({ "group": "nobody" })).await;
    let message = world.says("GroupNotFound").await;
    assert!(message.contains("`nobody`"), "{message}");
    let run = world.push(1).await;
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    world.change(json!({ "group": "Default", "labels": ["gpu", "small"] })).await;
    world.says("AllRunnersReady").await;
    until("the last labels at GitHub", || async {
        (labels(&world, id).await == ["gpu", "small"]).then_some(())
    })
    .await;
    assert_eq!(world.set_of().await, id);
    operator.shutdown().await;
}

async fn a_set_that_github_does_not_let_go_is_told_of_and_left(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let id = world.set_of().await;
    world.hub.arm(rule(Fault::Status { status: 503, after_ms: 0 }, Call::ScaleSet, u32::MAX));
    let api = world.api::<RunnerDeployment>();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    world
        .until_later("the end of the deployment", 31, &operator, || async {
            api.get_opt("gpu").await.unwrap().is_none().then_some(())
        })
        .await;
    let told = until("what is told of it", || async {
        let all = world.list::<Event>().await;
        all.into_iter().find(|it| it.reason.as_deref() == Some("GitHubUnreachable"))
    })
    .await;
    assert_eq!(told.type_.as_deref(), Some("Warning"));
    let note = told.note.unwrap();
    assert!(note.starts_with(&format!("scale set {id} is left at GitHub, ")), "{note}");
    operator.shutdown().await;
}

pub(crate) async fn labels(world: &World, id: i64) -> Vec<String> {
    let set = world.scale_set(id).await.unwrap();
    set.labels.into_iter().map(|label| label.name).collect()
}

impl World {
    /// The scale set of that number.
    pub(crate) async fn scale_set(&self, id: i64) -> Option<ScaleSet> {
        self.tenant().set(id).await.unwrap()
    }

    /// GitHub's scale sets, for somebody else with the right to them.
    pub(crate) fn tenant(&self) -> Tenant {
        let address = Address::parse(&format!("{}/acme", self.url), false).unwrap();
        let (http, credential) = (ClientOptions::default(), Credential::Token(ADMIN.into()));
        let rest = GithubClient::new(address, credential, &http, Clock::default()).unwrap();
        let options = TenantOptions { http, subsystem: "test", ..Default::default() };
        Tenant::new(Arc::new(rest), options).unwrap()
    }

    /// Makes a runner group; its number.
    pub(crate) async fn group(&self, name: &str) -> i64 {
        let url = format!("{}/api/v3/orgs/acme/actions/runner-groups", self.url);
        let made = self.http.post(url).bearer_auth(ADMIN);
        let made = made.json(&json!({ "name": name, "visibility": "all" })).send().await.unwrap();
        let made: Value = made.error_for_status().unwrap().json().await.unwrap();
        made["id"].as_i64().unwrap()
    }

    /// The number of the deployment's scale set, once it has one.
    pub(crate) async fn set_of(&self) -> i64 {
        let api = self.api::<RunnerDeployment>();
        until("a scale set", || async { Some(api.get("gpu").await.unwrap().status?.scale_set?.id) })
            .await
    }

    /// Changes the spec of the deployment.
    pub(crate) async fn change(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let api = self.api::<RunnerDeployment>();
        api.patch("gpu", &PatchParams::default(), &patch).await.unwrap();
    }
}
