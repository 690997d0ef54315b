//! What somebody has to put right: said with a stable reason, tried again with pauses, and over without a
//! restart.

use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use sekisho_api::{GitHubConnection, Runner, RunnerDeployment, condition};
use sekisho_hub::faults::{Call, Fault, Plan};
use serde_json::{Value, json};

use crate::troubles::rule;
use crate::world::{Server, World, until};

scenarios![
    credentials_that_are_revoked_in_flight_are_said_and_asked_for_again,
    a_secret_that_is_replaced_by_a_wrong_one_is_noticed,
    an_image_that_cannot_be_pulled_ends_its_runner_and_holds_the_others_back,
    an_unknown_group_is_said_until_a_known_one_is_named,
    a_broken_template_is_said_until_it_is_mended,
    a_class_that_is_missing_is_said_until_it_comes,
];

async fn change(world: &World, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    world.api::<RunnerDeployment>().patch("gpu", &PatchParams::default(), &patch).await.unwrap();
}

/// What a counter or a gauge says.
fn metric(text: &str, line: &str) -> u64 {
    let found = text.lines().find_map(|it| it.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_default()
}

/// The reason of the connection's `Ready`.
async fn connection(world: &World) -> Option<String> {
    let status = world.api::<GitHubConnection>().get("acme").await.unwrap().status?;
    condition::find(&status.conditions, condition::READY).map(|it| it.reason.clone())
}

async fn credentials_that_are_revoked_in_flight_are_said_and_asked_for_again(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let before = world.registered().await;
    world.hub.arm(rule(Fault::Unauthorized { after_ms: 0 }, Call::Runner, u32::MAX));
    world
        .until_later("a refusal that is said", 310, &operator, || async {
            (connection(&world).await? == "CredentialsRefused").then_some(())
        })
        .await;
    let message = world.says("ConnectionNotReady").await;
    assert!(message.contains("CredentialsRefused"), "{message}");
    // No hot loop: of some hundred looks, few asked GitHub.
    let refused = || {
        let text = operator.metrics();
        metric(&text, "sekisho_operator_failures_total{reason=\"CredentialsRefused\"}")
    };
    let first = refused();
    assert!(first > 0, "{}", operator.metrics());
    for _ in 0..100 {
        operator.look();
    }
    until("all of them looked at", || async {
        let text = operator.metrics();
        (metric(&text, "sekisho_operator_queue_depth") == 0).then_some(())
    })
    .await;
    assert!(refused() <= first + 10, "{first} and {}", refused());
    world.hub.arm(Plan { seed: 1, rules: vec![] });
    world
        .until_later("the recovery", 130, &operator, || async {
            (connection(&world).await? == "Connected").then_some(())
        })
        .await;
    world.says("AllRunnersReady").await;
    assert_eq!(world.registered().await, before, "an idle runner was not the worse for it");
    operator.shutdown().await;
}

async fn a_secret_that_is_replaced_by_a_wrong_one_is_noticed(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let right = world.token("wrong").await;
    world
        .until_later("a refusal that is said", 11, &operator, || async {
            (connection(&world).await? == "CredentialsRefused").then_some(())
        })
        .await;
    world.token(&right).await;
    world
        .until_later("the recovery", 11, &operator, || async {
            (connection(&world).await? == "Connected").then_some(())
        })
        .await;
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}

async fn an_image_that_cannot_be_pulled_ends_its_runner_and_holds_the_others_back(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.runners.unpullable.store(true, Ordering::SeqCst);
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let waiting = until("a pod that waits", || async {
        let pods = world.list::<Pod>().await;
        pods.into_iter()
            .find(|it| it.status.as_ref().is_some_and(|it| it.container_statuses.is_some()))
    })
    .await;
    let ended = world
        .until_later("the end of its runner", 31, &operator, || async {
            let runner = world.api::<Runner>().get_opt(&waiting.name_any()).await.unwrap()?;
            let conditions = runner.status?.conditions;
            condition::find(&conditions, condition::SUCCEEDED)
                .filter(|it| it.status == "False")
                .cloned()
        })
        .await;
    assert_eq!(ended.reason, "ImagePullFailed");
    assert!(ended.message.contains("no such image"), "{}", ended.message);
    until("a pause that is told", || async {
        (metric(&operator.metrics(), "sekisho_operator_backing_off") == 1).then_some(())
    })
    .await;
    world.runners.unpullable.store(false, Ordering::SeqCst);
    let ready = || async {
        let deployment = world.api::<RunnerDeployment>().get("gpu").await.unwrap();
        let ready = condition::find(&deployment.status?.conditions, condition::READY)?.clone();
        (ready.reason == "AllRunnersReady").then_some(())
    };
    world.until_later("the recovery", 15, &operator, ready).await;
    operator.shutdown().await;
}

async fn an_unknown_group_is_said_until_a_known_one_is_named(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1, "group": "nobody" })).await;
    let operator = world.operator("one").await;
    let message = world.says("GroupNotFound").await;
    assert!(message.contains("`nobody`"), "{message}");
    change(&world, json!({ "group": "Default" })).await;
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}

async fn a_broken_template_is_said_until_it_is_mended(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let broken = json!({ "spec": { "containers": [{ "name": "runner", "image": 7 }] } });
    world.set(json!({ "replicas": 1, "template": broken })).await;
    let operator = world.operator("one").await;
    let message = world.says("TemplateInvalid").await;
    assert!(
        message.contains("`spec.template.spec`") && message.contains("integer `7`"),
        "{message}"
    );
    // What the class's profile forbids is another reason.
    let forbidden = json!({ "spec": {
        "hostNetwork": true, "containers": [{ "name": "runner", "image": "registry.example/r:1" }]
    } });
    change(&world, json!({ "template": forbidden })).await;
    let message = world.says("TemplateForbidden").await;
    assert!(message.contains("hostNetwork"), "{message}");
    assert_eq!(world.list::<Pod>().await.len(), 0);
    change(&world, json!({ "template": null })).await;
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}

async fn a_class_that_is_missing_is_said_until_it_comes(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1, "classRef": "memory" })).await;
    let operator = world.operator("one").await;
    let message = world.says("ClassNotFound").await;
    assert!(message.contains("`memory`"), "{message}");
    world.class("memory").await;
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}
