//! What the API server refuses beside pods: said with its words, tried later, over by itself.
//!
//! On the double alone: nobody makes a rule for a real one.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use sekisho_api::{Reason, Runner, RunnerReplicaSet, condition};
use serde_json::json;
use testkit::{ApiServer, Fault, FaultKind, Verb};

use crate::refusals::{is_over, is_waited_for};
use crate::world::{Server, World};

/// From now on this is refused.
pub(crate) fn refuse(api: &ApiServer, verb: Verb, resource: &str) {
    api.arm(Fault { times: u32::MAX, ..Fault::once(FaultKind::Status(403), &[verb], resource) });
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_that_are_refused_are_said_until_they_are_let_in() {
    let api = ApiServer::new();
    let world = World::new(&Server::Double(api.clone()), |_| ()).await;
    refuse(&api, Verb::Create, "runners");
    world.set(json!({ "replicas": 2 })).await;
    let operator = world.operator("one").await;
    let message = world.says("Forbidden").await;
    assert!(message.starts_with("the API server refuses it: "), "{message}");
    is_waited_for(&operator, Reason::Forbidden, &message).await;
    assert_eq!(world.list::<Runner>().await.len(), 0);
    let sets = world.list::<RunnerReplicaSet>().await;
    let conditions = &sets[0].status.as_ref().unwrap().conditions;
    assert_eq!(condition::find(conditions, condition::READY).unwrap().reason, "Forbidden");
    api.disarm();
    world
        .until_later("runners", 61, &operator, || async {
            (world.registered().await.len() == 2).then_some(())
        })
        .await;
    is_over(&world, &operator, Reason::Forbidden).await;
    operator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_policy_that_is_refused_is_no_pod() {
    let api = ApiServer::new();
    let world = World::new(&Server::Double(api.clone()), |_| ()).await;
    refuse(&api, Verb::Patch, "networkpolicies");
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let message = world.says("Forbidden").await;
    assert!(message.ends_with(Reason::Forbidden.next_step()), "{message}");
    assert_eq!(world.list::<Pod>().await.len(), 0, "no runner without its shield");
    api.disarm();
    world
        .until_later("a runner", 61, &operator, || async {
            (world.registered().await.len() == 1).then_some(())
        })
        .await;
    is_over(&world, &operator, Reason::Forbidden).await;
    let pods = world.list::<Pod>().await;
    assert_eq!(pods[0].name_any(), world.registered().await[0]);
    operator.shutdown().await;
}
