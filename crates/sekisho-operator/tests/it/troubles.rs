//! What goes wrong, what is said about it, and that it recovers without a restart.

use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, Secret};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use sekisho_api::{Runner, condition};
use sekisho_hub::faults::{Call, Fault, Plan, Rule};
use serde_json::json;
use testkit::FaultKind;

use crate::world::{Server, World, until};

scenarios![
    a_missing_secret_is_said_and_noticed_when_it_comes,
    credentials_that_are_refused_are_said,
    a_pod_that_is_killed_is_a_lost_runner_and_another_takes_its_place,
    a_node_that_is_lost_with_a_job_is_said_and_cleaned_up,
    a_name_that_is_taken_by_a_registration_of_ours_is_freed,
    a_session_that_is_anothers_is_waited_for,
    a_quota_is_said_and_recovers,
    an_image_that_cannot_be_pulled_for_a_while_costs_nothing,
    a_namespace_that_is_deleted_is_not_held,
];

pub(crate) fn rule(fault: Fault, call: Call, times: u32) -> Plan {
    Plan { seed: 1, rules: vec![Rule { fault, call: Some(call), skip: 0, times, percent: 100 }] }
}

async fn a_missing_secret_is_said_and_noticed_when_it_comes(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.connection().await;
    world.deployment(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let message = world.says("ConnectionNotReady").await;
    assert!(message.contains("SecretNotFound"), "{message}");
    world.secret().await;
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}

async fn credentials_that_are_refused_are_said(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world
        .create::<Secret>(
            json!({ "metadata": { "name": "github" }, "stringData": { "token": "wrong" } }),
        )
        .await;
    world.connection().await;
    world.deployment(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let message = world.says("ConnectionNotReady").await;
    assert!(message.contains("CredentialsRefused"), "{message}");
    assert!(!operator.metrics().contains("wrong"));
    operator.shutdown().await;
}

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
    let runner = until("the job on its Runner", || async {
        let all = world.list::<Runner>().await;
        all.into_iter().find(|it| it.status.as_ref().is_some_and(|it| it.job.is_some()))
    })
    .await;
    let pod = world.api::<Pod>().get(&runner.name_any()).await.unwrap();
    let node = pod.spec.unwrap().node_name.unwrap();
    world.cluster.lose_node(&node).await.unwrap();
    world.cluster.remove_node(&node).await.unwrap();
    until("the loss on its Runner", || async {
        let runner = world.api::<Runner>().get_opt(&runner.name_any()).await.unwrap()?;
        let conditions = runner.status?.conditions;
        let ended = condition::find(&conditions, condition::SUCCEEDED)?;
        matches!(ended.reason.as_str(), "NodeLost" | "PodLost").then_some(())
    })
    .await;
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

async fn a_quota_is_said_and_recovers(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let quota = world.create::<ResourceQuota>(
        json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "0" } } }),
    );
    quota.await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    until("a quota that is said", || async {
        operator.metrics().contains("reason=\"QuotaExceeded\"").then_some(())
    })
    .await;
    let api = world.api::<ResourceQuota>();
    let more = Patch::Merge(json!({ "spec": { "hard": { "pods": "5" } } }));
    api.patch("q", &PatchParams::default(), &more).await.unwrap();
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}

async fn an_image_that_cannot_be_pulled_for_a_while_costs_nothing(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.runners.unpullable.store(true, Ordering::SeqCst);
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    until("a pod that waits", || async {
        world
            .list::<Pod>()
            .await
            .pop()
            .filter(|it| it.status.as_ref().is_some_and(|it| it.container_statuses.is_some()))
    })
    .await;
    world.runners.unpullable.store(false, Ordering::SeqCst);
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}

async fn a_namespace_that_is_deleted_is_not_held(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 2 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    until("the end of the namespace", || async {
        namespaces.get_opt(&world.namespace).await.unwrap().is_none().then_some(())
    })
    .await;
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
