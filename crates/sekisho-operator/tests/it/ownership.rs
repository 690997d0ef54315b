//! Whose a scale set is: what somebody else made is left alone, and what was made here is found again.

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use sekisho_api::{Reason, RunnerDeployment, condition};
use sekisho_github::scale_set::wanted::Wanted;
use sekisho_hub::faults::{Call, Fault, Plan, Rule};
use serde_json::json;

use crate::refusals::{is_over, is_waited_for, rule};
use crate::sets::labels;
use crate::world::{Server, World, until};

scenarios![
    a_set_that_somebody_else_made_is_neither_changed_nor_deleted,
    a_set_that_is_taken_over_is_as_if_it_had_been_made_here,
    a_set_whose_making_was_not_answered_is_ours,
    a_set_that_was_claimed_goes_with_its_deployment,
    a_set_that_was_claimed_in_another_group_is_the_one_that_goes,
    a_set_that_was_claimed_goes_when_another_group_is_asked_for,
    a_set_that_another_deployment_has_by_now_is_not_the_one_that_was_claimed,
    a_claim_gives_way_to_another_deployments_claim,
    a_set_that_was_refused_is_not_claimed,
    a_name_that_is_taken_by_a_try_of_before_is_no_others,
    of_two_deployments_of_one_name_the_younger_waits,
    a_set_that_two_deployments_have_goes_with_the_last,
    labels_that_github_drops_are_said_until_they_are_not_asked_for,
];

const SCALED: fn() -> serde_json::Value =
    || json!({ "scaling": { "min": 0, "max": 2, "scaleDownDelaySeconds": 0 } });

/// Another tool's set of the same name.
async fn theirs(world: &World) -> i64 {
    theirs_in(world, 1).await
}

async fn theirs_in(world: &World, group: i64) -> i64 {
    let wanted = Wanted {
        name: "gpu".to_owned(),
        group,
        labels: vec!["gpu".to_owned(), "theirs".to_owned()],
        disable_update: true,
    };
    world.tenant().ensure_set(&wanted, None).await.unwrap().set.id
}

async fn delete(world: &World) {
    let api = world.api::<RunnerDeployment>();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    world.ended().await;
}

async fn a_set_that_somebody_else_made_is_neither_changed_nor_deleted(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let id = theirs(&world).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let message = world.says("ScaleSetNotOurs").await;
    let want = format!("scale set {id} of runner group `Default` has the name `gpu`");
    assert!(message.starts_with(&want), "{message}");
    is_waited_for(&operator, Reason::ScaleSetNotOurs, &message).await;
    assert_eq!(labels(&world, id).await, ["gpu", "theirs"]);
    assert_eq!(world.registered().await.len(), 0);
    delete(&world).await;
    assert_eq!(labels(&world, id).await, ["gpu", "theirs"]);
    operator.shutdown().await;
}

async fn a_set_that_is_taken_over_is_as_if_it_had_been_made_here(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let id = theirs(&world).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("ScaleSetNotOurs").await;
    world.change(json!({ "acquisition": { "takeOver": true } })).await;
    is_over(&world, &operator, Reason::ScaleSetNotOurs).await;
    assert_eq!(world.set_of().await, id);
    assert_eq!(labels(&world, id).await, ["gpu"]);
    delete(&world).await;
    assert_eq!(world.scale_set(id).await, None);
    operator.shutdown().await;
}

async fn a_set_whose_making_was_not_answered_is_ours(server: Server) {
    let world = World::new(&server, |_| ()).await;
    // It is looked for, and then made.
    let cut = Fault::Cut { done: true };
    let rules =
        vec![Rule { fault: cut, call: Some(Call::ScaleSet), skip: 1, times: 1, percent: 100 }];
    world.hub.arm(Plan { seed: 1, rules });
    world.set(SCALED()).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let id = world.set_of().await;
    assert_eq!(world.tenant().set_by_name(1, "gpu").await.unwrap().unwrap().id, id);
    let status = world.api::<RunnerDeployment>().get("gpu").await.unwrap().status.unwrap();
    assert_eq!(status.claimed_group, None, "its number is known");
    assert_eq!(status.scale_set.unwrap().group.as_deref(), Some("Default"));
    operator.shutdown().await;
}

/// As after a power cut between the making of the set and the writing of its number.
async fn a_set_that_was_claimed_goes_with_its_deployment(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let id = theirs(&world).await;
    world.set(SCALED()).await;
    claimed(&world).await;
    let api = world.api::<RunnerDeployment>();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    let operator = world.operator("one").await;
    world.ended().await;
    assert_eq!(world.scale_set(id).await, None);
    operator.shutdown().await;
}

/// The status says that the name was free in `Default`.
async fn claimed(world: &World) {
    let api = world.api::<RunnerDeployment>();
    let params = PatchParams::default();
    let finalizer = json!({ "metadata": { "finalizers": [sekisho_api::FINALIZER_SCALE_SET] } });
    api.patch("gpu", &params, &Patch::Merge(finalizer)).await.unwrap();
    let claimed = json!({ "status": { "claimedGroup": "Default" } });
    api.patch_status("gpu", &params, &Patch::Merge(claimed)).await.unwrap();
}

/// As after a power cut, and then a change of the group, and then the end.
async fn a_set_that_was_claimed_in_another_group_is_the_one_that_goes(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let group = world.group("others").await;
    let (ours, theirs) = (theirs(&world).await, theirs_in(&world, group).await);
    world.set(SCALED()).await;
    claimed(&world).await;
    world.change(json!({ "group": "others" })).await;
    let api = world.api::<RunnerDeployment>();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    let operator = world.operator("one").await;
    world.ended().await;
    assert_eq!(world.scale_set(ours).await, None);
    assert_eq!(labels(&world, theirs).await, ["gpu", "theirs"]);
    operator.shutdown().await;
}

async fn a_set_that_was_claimed_goes_when_another_group_is_asked_for(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let group = world.group("others").await;
    let first = theirs(&world).await;
    world.set(SCALED()).await;
    claimed(&world).await;
    world.change(json!({ "group": "others" })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let id = world.set_of().await;
    assert_eq!(world.tenant().set_by_name(group, "gpu").await.unwrap().unwrap().id, id);
    assert_eq!(world.scale_set(first).await, None);
    operator.shutdown().await;
}

/// The twin has a set, or says that its name was free, in the group that is called `default` too.
async fn twin_says(world: &World, status: serde_json::Value) {
    twin(world).await;
    let api = world.api::<RunnerDeployment>();
    let status = Patch::Merge(json!({ "status": status }));
    api.patch_status("twin", &PatchParams::default(), &status).await.unwrap();
}

/// As after a power cut, and a change of the group, in which another deployment found the name free.
async fn a_set_that_another_deployment_has_by_now_is_not_the_one_that_was_claimed(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.group("others").await;
    let id = theirs(&world).await;
    world.set(SCALED()).await;
    claimed(&world).await;
    world.change(json!({ "group": "others" })).await;
    twin_says(&world, json!({ "scaleSet": { "id": id, "name": "GPU", "group": "default" } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    assert_ne!(world.set_of().await, id);
    assert!(world.scale_set(id).await.is_some(), "it is the twin's");
    operator.shutdown().await;
}

/// The same, at the end; and nobody can say which of the two made it.
async fn a_claim_gives_way_to_another_deployments_claim(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let id = theirs(&world).await;
    world.set(SCALED()).await;
    claimed(&world).await;
    twin_says(&world, json!({ "claimedGroup": "default" })).await;
    let api = world.api::<RunnerDeployment>();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    let operator = world.operator("one").await;
    let of_the_twin = || async {
        let status = api.get("twin").await.unwrap().status?;
        (api.get_opt("gpu").await.unwrap().is_none()).then_some(status.scale_set?.id)
    };
    assert_eq!(until("a set of the twin's", of_the_twin).await, id);
    assert!(world.scale_set(id).await.is_some());
    operator.shutdown().await;
}

async fn a_set_that_was_refused_is_not_claimed(server: Server) {
    let world = World::new(&server, |_| ()).await;
    // All but the first look.
    let mut plan = rule(Fault::Status { status: 403, after_ms: 0 }, Call::ScaleSet, u32::MAX);
    plan.rules[0].skip = 1;
    world.hub.arm(plan);
    world.set(SCALED()).await;
    let operator = world.operator("one").await;
    world.says("PermissionMissing").await;
    let status = world.api::<RunnerDeployment>().get("gpu").await.unwrap().status.unwrap();
    assert_eq!((status.claimed_group, status.scale_set), (None, None));
    operator.shutdown().await;
}

async fn a_name_that_is_taken_by_a_try_of_before_is_no_others(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let mut plan = rule(Fault::Status { status: 409, after_ms: 0 }, Call::ScaleSet, 1);
    plan.rules[0].skip = 1;
    world.hub.arm(plan);
    world.set(SCALED()).await;
    claimed(&world).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    assert_eq!(world.hub.struck().len(), 1);
    let told = world.list::<Event>().await;
    let refused = told.iter().filter(|it| it.reason.as_deref() == Some("ScaleSetNotOurs"));
    assert_eq!(refused.count(), 0);
    operator.shutdown().await;
}

/// As an operator of before left it, to whom a set of the name was his own.
async fn a_set_that_two_deployments_have_goes_with_the_last(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(SCALED()).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let id = world.set_of().await;
    twin(&world).await;
    let api = world.api::<RunnerDeployment>();
    let recorded = json!({ "status": { "scaleSet": { "id": id, "name": "gpu" } } });
    api.patch_status("twin", &PatchParams::default(), &Patch::Merge(recorded)).await.unwrap();
    api.delete("twin", &DeleteParams::default()).await.unwrap();
    until("the end of the younger", || async {
        api.get_opt("twin").await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(labels(&world, id).await, ["gpu"]);
    delete(&world).await;
    assert_eq!(world.scale_set(id).await, None);
    operator.shutdown().await;
}

/// Another deployment, whose first label is the same for GitHub.
async fn twin(world: &World) {
    world
        .create::<RunnerDeployment>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerDeployment",
            "metadata": { "name": "twin" },
            "spec": {
                "connectionRef": "acme", "classRef": "default", "group": "default",
                "labels": ["GPU", "more"], "replicas": 1
            }
        }))
        .await;
}

async fn of_two_deployments_of_one_name_the_younger_waits(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(SCALED()).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let id = world.set_of().await;
    twin(&world).await;
    let api = world.api::<RunnerDeployment>();
    let younger = |reason: &'static str| {
        let api = &api;
        until(reason, move || async move {
            let status = api.get("twin").await.unwrap().status?;
            let ready = condition::find(&status.conditions, condition::READY)?;
            (ready.reason == reason).then(|| ready.message.clone())
        })
    };
    let message = younger("ScaleSetNameInUse").await;
    let other = format!("`{}/gpu` takes jobs as `gpu`", world.namespace);
    assert!(message.starts_with(&other), "{message}");
    is_waited_for(&operator, Reason::ScaleSetNameInUse, &message).await;
    world.says("AllRunnersReady").await;
    assert_eq!(labels(&world, id).await, ["gpu"]);
    assert_eq!(world.registered().await.len(), 0);
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    younger("AllRunnersReady").await;
    let found = world.tenant().set_by_name(1, "GPU").await.unwrap().unwrap();
    assert_eq!((found.id == id, found.labels.len()), (false, 2));
    assert_eq!(api.get("twin").await.unwrap().name_any(), "twin");
    operator.shutdown().await;
}

async fn labels_that_github_drops_are_said_until_they_are_not_asked_for(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.hub.arm(rule(Fault::LabelsDropped, Call::ScaleSet, u32::MAX));
    world.set(json!({ "replicas": 1, "labels": ["gpu", "large", "arm"] })).await;
    let operator = world.operator("one").await;
    let message = world.says("LabelsDropped").await;
    assert!(message.starts_with("GitHub did not take the labels `large`, `arm`; "), "{message}");
    is_waited_for(&operator, Reason::LabelsDropped, &message).await;
    // It takes the jobs that it can.
    let run = world.push(1).await;
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    world.change(json!({ "labels": ["gpu"] })).await;
    is_over(&world, &operator, Reason::LabelsDropped).await;
    operator.shutdown().await;
}
