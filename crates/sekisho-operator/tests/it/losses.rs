//! What one side knows and the other does not: registrations, Runners, and operators that are gone.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use sekisho_api::{GitHubConnection, Runner, RunnerReplicaSet, condition};
use sekisho_hub::faults::{Call, Fault};
use serde_json::json;
use testkit::{ApiServer, Fault as ApiFault, FaultKind, Verb};

use crate::refusals::rule;
use crate::world::{Server, World, until};

scenarios![
    a_registration_without_a_runner_is_removed,
    a_runner_whose_registration_is_gone_is_replaced,
    a_job_whose_node_falls_silent_is_said_to_be_interrupted_at_once,
];

async fn a_registration_without_a_runner_is_removed(server: Server) {
    let world = World::new(&server, |_| ()).await;
    // One that cannot be listed keeps no sweep from the others.
    let none = json!({ "token": { "secretRef": { "name": "none", "key": "none" } } });
    world
        .create::<GitHubConnection>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "GitHubConnection",
            "metadata": { "name": "broken" },
            "spec": { "url": format!("{}/other", world.url), "auth": none }
        }))
        .await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let ghost = world.registered().await;
    operator.shutdown().await;
    // Somebody helps himself: the Runner goes without its finalizer, and nobody tells GitHub.
    let sets = world.api::<RunnerReplicaSet>();
    let runners = world.api::<Runner>();
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    runners.patch(&ghost[0], &PatchParams::default(), &free).await.unwrap();
    runners.delete(&ghost[0], &DeleteParams::default()).await.unwrap();
    until("the pod that goes with it", || async {
        world.list::<Pod>().await.is_empty().then_some(())
    })
    .await;
    assert_eq!(world.registered().await, ghost, "GitHub was not told");
    assert_eq!(sets.list(&Default::default()).await.unwrap().items.len(), 1);

    let operator = world.operator("two").await;
    until("another runner", || async { (world.registered().await.len() == 2).then_some(()) }).await;
    world
        .until_later("a ghost that is counted", 0, &operator, || async {
            operator.metrics().contains("sekisho_operator_ghosts 1\n").then_some(())
        })
        .await;
    world
        .until_later("a ghost that is removed", 130, &operator, || async {
            let now = world.registered().await;
            (now.len() == 1 && now != ghost).then_some(())
        })
        .await;
    world
        .until_later("no ghost", 0, &operator, || async {
            operator.metrics().contains("sekisho_operator_ghosts 0\n").then_some(())
        })
        .await;
    operator.shutdown().await;
}

async fn a_runner_whose_registration_is_gone_is_replaced(server: Server) {
    let world = World::new(&server, |_| ()).await;
    // Its runner does not notice: it has stopped asking.
    world.runners.deaf.store(true, std::sync::atomic::Ordering::SeqCst);
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let first = world.registered().await;
    world.deregister(&first[0]).await;
    world
        .until_later("another runner", 20, &operator, || async {
            let now = world.registered().await;
            (now.len() == 1 && now != first).then_some(())
        })
        .await;
    let failed = world.api::<Runner>().get(&first[0]).await.unwrap();
    let conditions = failed.status.unwrap().conditions;
    let ended = condition::find(&conditions, condition::SUCCEEDED).unwrap();
    assert_eq!((ended.status.as_str(), ended.reason.as_str()), ("False", "RegistrationLost"));
    assert!(world.list::<Runner>().await.iter().any(|it| it.name_any() != first[0]));
    operator.shutdown().await;
}

/// On the double alone: a real one takes no pod that is not hardened.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_has_a_runners_name_is_said_and_left_alone() {
    let world = World::new(&Server::double(), |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let first = world.registered().await;
    let (stem, number) = first[0].rsplit_once('-').unwrap();
    let next = format!("{stem}-{:06}", number.parse::<u64>().unwrap() + 1);
    // Without our labels: no watch of the operator shows it.
    let spec = json!({ "containers": [{ "name": "main", "image": "x" }], "nodeSelector": { "no": "node" } });
    let foreign: Pod = world.create(json!({ "metadata": { "name": next }, "spec": spec })).await;
    world.change(json!({ "replicas": 2 })).await;
    let message = until("what is in the way", || async {
        let status = world.api::<Runner>().get_opt(&next).await.unwrap()?.status?;
        let ended = condition::find(&status.conditions, condition::SUCCEEDED)?;
        (ended.reason == "PodRejected").then(|| ended.message.clone())
    })
    .await;
    assert!(message.contains("belongs to somebody else"), "{message}");
    until("another runner", || async { (world.registered().await.len() == 2).then_some(()) }).await;
    let there = world.api::<Pod>().get(&next).await.unwrap().metadata;
    assert_eq!((there.uid, there.deletion_timestamp), (foreign.metadata.uid, None));
    operator.shutdown().await;
}

/// On the double alone, as no other operator may have the lease.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_the_connection_goes_on_when_it_is_ready() {
    let world = World::new(&Server::double(), |_| ()).await;
    world.set(json!({ "scaling": { "min": 1, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let one = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let first = world.registered().await;
    one.shutdown().await;
    let runners = world.api::<Runner>();
    runners.delete(&first[0], &DeleteParams::default()).await.unwrap();
    // All else was looked at by the time that the connection is checked.
    world.hub.arm(rule(Fault::Slow { after_ms: 3000 }, Call::Runner, 1));
    let two = world.operator("two").await;
    // And not when it is tried again after a minute or two.
    let goes_on = async {
        until("the end of a runner", || async {
            runners.get_opt(&first[0]).await.unwrap().is_none().then_some(())
        })
        .await;
        let run = world.push(1).await;
        world.runners.ends.add_permits(1);
        world.conclusion(run).await
    };
    let conclusion = tokio::time::timeout(std::time::Duration::from_secs(50), goes_on).await;
    assert_eq!(conclusion.as_deref(), Ok("success"));
    two.shutdown().await;
}

async fn a_job_whose_node_falls_silent_is_said_to_be_interrupted_at_once(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.push(1).await;
    world.begun(1).await;
    let runner = world.busy().await;
    let pod = world.api::<Pod>().get(&runner.name_any()).await.unwrap();
    // The clock stands still: no minute passes before it is said.
    world.stop_the_clock();
    world.cluster.silence_node(&pod.spec.unwrap().node_name.unwrap()).await.unwrap();
    let message = until("the interruption on its Runner", || async {
        let known = world.api::<Runner>().get(&runner.name_any()).await.unwrap();
        let conditions = known.status?.conditions;
        let state = condition::find(&conditions, condition::SUCCEEDED)?;
        (state.reason == "Interrupted").then(|| state.message.clone())
    })
    .await;
    assert_eq!(message, "its node does not answer");
    let pod = world.api::<Pod>().get(&runner.name_any()).await.unwrap();
    assert_eq!(pod.metadata.deletion_timestamp, None, "nobody told it to go yet");
    world.go_on_with_the_clock();
    operator.shutdown().await;
}

/// On the double alone: nobody makes the watch of a real one late.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_the_watch_does_not_show_yet_ends_no_runner_and_one_that_is_gone_does() {
    let api = ApiServer::new();
    let world = World::new(&Server::Double(api.clone()), |_| ()).await;
    let operator = world.operator("one").await;
    // From now on nothing is told of nodes.
    let told = ApiFault::once(FaultKind::Status(503), &[Verb::List, Verb::Watch], "nodes");
    api.arm(ApiFault { client: "one".to_owned(), times: u32::MAX, ..told });
    api.cut_watches();
    world.cluster.add_node("late", [("pool".to_owned(), "late".to_owned())].into()).await.unwrap();
    let template = json!({ "spec": { "nodeSelector": { "pool": "late" } } });
    let scaling = json!({ "min": 0, "max": 2, "scaleDownDelaySeconds": 0 });
    world.set(json!({ "scaling": scaling, "template": template })).await;
    let run = world.push(1).await;
    world.begun(1).await;
    let known = world.list::<Pod>().await;
    assert_eq!(known[0].spec.as_ref().unwrap().node_name.as_deref(), Some("late"));
    // It is looked at again and again, and keeps its job.
    for _ in 0..10 {
        operator.look();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    world.clean().await;
    assert_eq!(world.runners.begun.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(!operator.metrics().contains("runners_ended_total{"), "{}", operator.metrics());

    world.push(1).await;
    world.begun(2).await;
    let runner = world.busy().await;
    world.cluster.lose_node("late").await.unwrap();
    world.cluster.remove_node("late").await.unwrap();
    assert_eq!(world.lost(&runner).await, "NodeLost");
    operator.shutdown().await;
}

impl World {
    /// The Runner that has a job, once one has.
    pub(crate) async fn busy(&self) -> Runner {
        until("the job on its Runner", || async {
            let all = self.list::<Runner>().await;
            all.into_iter().find(|it| it.status.as_ref().is_some_and(|it| it.job.is_some()))
        })
        .await
    }

    /// Why a Runner ended in vain, once it did.
    pub(crate) async fn lost(&self, runner: &Runner) -> String {
        until("the loss on its Runner", || async {
            let known = self.api::<Runner>().get_opt(&runner.name_any()).await.unwrap()?;
            let conditions = known.status?.conditions;
            let ended = condition::find(&conditions, condition::SUCCEEDED)?;
            (ended.status == "False").then(|| ended.reason.clone())
        })
        .await
    }
}
