//! What goes wrong, what is said about it, and that it recovers without a restart.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use sekisho_api::{Reason, Runner, RunnerDeployment, condition};
use sekisho_hub::faults::{Call, Fault};
use serde_json::json;
use testkit::FaultKind;

use crate::refusals::{is_over, is_waited_for, metric, rule};
use crate::refused::refuse;
use crate::world::{Server, World, until};

scenarios![
    a_pod_that_is_killed_is_a_lost_runner_and_another_takes_its_place,
    a_node_that_is_lost_with_a_job_is_said_and_cleaned_up,
    a_name_that_is_taken_by_a_registration_of_ours_is_freed,
    a_session_that_is_anothers_is_waited_for,
];

async fn a_pod_that_is_killed_is_a_lost_runner_and_another_takes_its_place(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let first = world.registered().await;
    let api = world.api::<Pod>();
    api.delete(&first[0], &DeleteParams::default().grace_period(0)).await.unwrap();
    until("another runner", || async {
        let now = world.registered().await;
        (now.len() == 1 && now != first).then_some(())
    })
    .await;
    let failed = world.api::<Runner>().get(&first[0]).await.unwrap();
    let conditions = failed.status.unwrap().conditions;
    assert_eq!(condition::find(&conditions, condition::SUCCEEDED).unwrap().reason, "PodLost");
    operator.shutdown().await;
}

async fn a_node_that_is_lost_with_a_job_is_said_and_cleaned_up(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.push(1).await;
    world.begun(1).await;
    let runner = world.busy().await;
    let pod = world.api::<Pod>().get(&runner.name_any()).await.unwrap();
    let node = pod.spec.unwrap().node_name.unwrap();
    world.cluster.lose_node(&node).await.unwrap();
    world.cluster.remove_node(&node).await.unwrap();
    assert_eq!(world.lost(&runner).await, "NodeLost");
    operator.shutdown().await;
}

async fn a_name_that_is_taken_by_a_registration_of_ours_is_freed(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.hub.arm(rule(Fault::JitConflict, Call::Jit, 1));
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    assert_eq!(world.hub.struck().len(), 1);
    operator.shutdown().await;
}

async fn a_session_that_is_anothers_is_waited_for(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.hub.arm(rule(Fault::SessionConflict, Call::CreateSession, 1));
    world.set(json!({ "scaling": { "min": 0, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(1).await;
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    assert_eq!(world.hub.struck().len(), 1);
    operator.shutdown().await;
}

/// On the double alone: nobody makes a real one stumble.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_stumbles_loses_nothing() {
    let api = testkit::ApiServer::new();
    let world = World::new(&Server::Double(api.clone()), |_| ()).await;
    for (kind, times) in
        [(FaultKind::Status(500), 4), (FaultKind::AnswerLost, 4), (FaultKind::Status(409), 4)]
    {
        api.arm(testkit::Fault {
            kind,
            verbs: Vec::new(),
            resource: String::new(),
            client: "one".to_owned(),
            skip: 40,
            times,
        });
    }
    world.set(json!({ "scaling": { "min": 0, "max": 10, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(3).await;
    world.begun(1).await;
    api.lose_watch_events();
    world.runners.ends.add_permits(3);
    assert_eq!(world.conclusion(run).await, "success");
    api.lose_watch_events();
    world.clean().await;
    operator.shutdown().await;
}

/// On the double alone: nobody makes a real one late.
#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_comes_again_at_once_is_worked_on() {
    let api = testkit::ApiServer::new();
    let world = World::new(&Server::Double(api.clone()), |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    // Who worked on the first is not done with its lease when the second comes.
    let late = FaultKind::Late(Duration::from_secs(2));
    api.arm(testkit::Fault::once(late, &[testkit::Verb::Delete], "leases"));
    world.api::<RunnerDeployment>().delete("gpu", &DeleteParams::default()).await.unwrap();
    world.ended().await;
    world.deployment(json!({ "replicas": 1 })).await;
    // And not when all is looked at again after minutes.
    let ready = tokio::time::timeout(Duration::from_secs(60), world.says("AllRunnersReady")).await;
    assert!(ready.is_ok(), "{}", world.told().await);
    operator.shutdown().await;
}

/// On the double alone: a real one goes by its roles.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_cannot_be_had_are_said_until_they_can() {
    let api = testkit::ApiServer::new();
    let world = World::new(&Server::Double(api.clone()), |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    for (step, verb) in [("read", testkit::Verb::Get), ("write", testkit::Verb::Update)] {
        refuse(&api, verb, "leases");
        let message = world.says("LeaseNotTaken").await;
        assert!(message.starts_with("the lease cannot be had: "), "{message}");
        is_waited_for(&operator, Reason::LeaseNotTaken, &message).await;
        let failed = format!("sekisho_operator_lease_failures_total{{step=\"{step}\"}}");
        assert!(metric(&operator, &failed) > 0, "{failed}");
        // What runs goes on.
        assert_eq!(world.registered().await.len(), 1);
        api.disarm();
        is_over(&world, &operator, Reason::LeaseNotTaken).await;
    }
    operator.shutdown().await;
}
