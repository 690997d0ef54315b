//! What the operator does with its rights: no more than it was given, and its shield stays.
//!
//! On the double alone: a real API server refuses by itself.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use sekisho_api::RunnerDeployment;
use serde_json::{Value, json};
use testkit::ApiServer;

use crate::world::{Server, World, until};

/// `verb resource` of all that the manifests grant.
fn granted(world: &World) -> BTreeSet<String> {
    let words = |rule: &Value, part: &str| -> Vec<String> {
        let all = rule[part].as_array().unwrap().iter();
        all.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for role in world.manifests() {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for resource in words(rule, "resources") {
                all.extend(words(rule, "verbs").iter().map(|verb| format!("{verb} {resource}")));
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_one_that_the_roles_grant() {
    let api = ApiServer::new();
    let world = World::new(&Server::Double(api.clone()), |_| ()).await;
    world.set(json!({ "scaling": { "min": 1, "max": 3, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(2).await;
    world.runners.ends.add_permits(2);
    assert_eq!(world.conclusion(run).await, "success");
    operator.look();
    world.says("AllRunnersReady").await;
    world.api::<RunnerDeployment>().delete("gpu", &DeleteParams::default()).await.unwrap();
    world.ended().await;
    operator.shutdown().await;
    let called: BTreeSet<String> = api
        .calls()
        .iter()
        .filter(|call| call.client == "one")
        .map(|call| {
            let verb = format!("{:?}", call.verb).to_lowercase();
            match call.subresource.as_str() {
                "" => format!("{verb} {}", call.resource),
                sub => format!("{verb} {}/{sub}", call.resource),
            }
        })
        .collect();
    assert!(called.contains("create leases") && called.contains("patch networkpolicies"));
    let granted = granted(&world);
    let beyond: Vec<&String> = called.difference(&granted).collect();
    assert!(beyond.is_empty(), "{beyond:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_policy_that_somebody_changes_or_deletes_comes_back() {
    let world = World::new(&Server::double(), |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let specs = async || -> Vec<Value> {
        world.policies_of_deployments().await.iter().map(|it| json!(it.spec)).collect()
    };
    let right = specs().await;
    let name = world.policies_of_deployments().await[0].name_any();
    let api = world.api::<NetworkPolicy>();
    let open = Patch::Merge(json!({ "spec": { "egress": [{}] } }));
    api.patch(&name, &PatchParams::default(), &open).await.unwrap();
    assert_ne!(specs().await, right);
    world
        .until_later("the right rules", 61, &operator, || async {
            (specs().await == right).then_some(())
        })
        .await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    until("a policy that is gone", || async {
        api.get_opt(&name).await.unwrap().is_none().then_some(())
    })
    .await;
    world
        .until_later("the policy", 61, &operator, || async {
            (specs().await == right).then_some(())
        })
        .await;
    operator.shutdown().await;
}
