//! Jobs that go well.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use kube::ResourceExt as _;
use kube::api::DeleteParams;
use sekisho_api::{Runner, RunnerDeployment};
use sekisho_hub::Assignment;
use serde_json::json;

use crate::refusals::metric;
use crate::world::{Server, World, until};

scenarios![
    the_first_job_from_the_queue_to_nothing_that_is_left,
    a_burst_of_jobs_each_on_a_runner_of_its_own,
    where_jobs_must_be_acquired_they_are,
    more_jobs_than_runners_are_acquired_all_the_same,
    another_operator_goes_on_where_one_was_stopped,
    another_operator_goes_on_where_one_was_killed,
    a_deployment_that_is_deleted_waits_for_its_jobs,
    fewer_are_wanted_and_a_new_revision_takes_over,
];

async fn the_first_job_from_the_queue_to_nothing_that_is_left(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 10, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(1).await;
    if tokio::time::timeout(std::time::Duration::from_secs(60), world.begun(1)).await.is_err() {
        panic!("no job began: {}", world.told().await);
    }
    let busy = world.busy().await;
    let status = busy.status.clone().unwrap();
    assert_eq!(status.job.unwrap().display_name, "job0");
    assert_eq!(world.registered().await, [busy.name_any()]);
    until("a metric of the runner that is at work", || async {
        (metric(&operator, "sekisho_operator_runners{state=\"Busy\"}") == 1).then_some(())
    })
    .await;
    until("a metric of the job that runs", || async {
        (metric(&operator, "sekisho_operator_jobs{state=\"running\"}") == 1).then_some(())
    })
    .await;
    // GitHub may tell it twice.
    assert!(metric(&operator, "sekisho_operator_job_start_seconds_count") >= 1);
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    world.clean().await;
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
    let Server::Double(api) = &server else { return };
    // One Runner was made, and the API server written to at most eight times for it; nine, where it was
    // online long before its job was told.
    let writes: Vec<String> = api
        .calls()
        .iter()
        .filter(|call| call.client == "one" && call.is_write() && call.status < 300)
        .filter(|call| matches!(call.resource.as_str(), "runners" | "pods" | "secrets"))
        .map(|call| format!("{:?} {}/{}", call.verb, call.resource, call.subresource))
        .collect();
    let made = writes.iter().filter(|write| *write == "Create runners/").count();
    assert!(made == 1 && writes.len() <= 9, "{} writes: {writes:#?}", writes.len());
    assert_eq!(world.runners.jits().len(), 1, "one runner was registered");
    // And asked, beside the watches, whether there is a secret before its pod and its registration are
    // made. Where a watch is late pods are asked for too: how often, the machine decides.
    let reads: Vec<String> = api
        .calls()
        .iter()
        .filter(|call| call.client == "one" && !call.is_write() && !call.name.is_empty())
        .filter(|call| call.resource == "secrets" && call.name != "github")
        .map(|call| format!("{:?} {} {}", call.verb, call.resource, call.name))
        .collect();
    assert!(reads.len() <= 2, "{} reads: {reads:#?}", reads.len());
}

async fn a_burst_of_jobs_each_on_a_runner_of_its_own(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 100, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(20).await;
    world.runners.ends.add_permits(20);
    assert_eq!(world.conclusion(run).await, "success");
    world.clean().await;
    assert_eq!(world.runners.jits().len(), 20, "no runner was one too many");
    operator.shutdown().await;
}

async fn where_jobs_must_be_acquired_they_are(server: Server) {
    let world = World::new(&server, |config| config.assignment = Assignment::Explicit).await;
    world.set(json!({ "scaling": { "min": 0, "max": 10, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(2).await;
    world.runners.ends.add_permits(2);
    assert_eq!(world.conclusion(run).await, "success");
    world.clean().await;
    operator.shutdown().await;
}

async fn more_jobs_than_runners_are_acquired_all_the_same(server: Server) {
    let world = World::new(&server, |config| config.assignment = Assignment::Explicit).await;
    world.set(json!({ "scaling": { "min": 0, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    // They are offered once.
    let run = world.push(5).await;
    world.begun(2).await;
    for _ in 0..10 {
        assert!(world.list::<Runner>().await.iter().filter(|it| is_alive(it)).count() <= 2);
        operator.look();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(world.runners.begun.load(Ordering::SeqCst), 2, "the others wait for their turn");
    world.runners.ends.add_permits(5);
    assert_eq!(world.conclusion(run).await, "success");
    assert_eq!(world.runners.begun.load(Ordering::SeqCst), 5);
    world.clean().await;
    operator.shutdown().await;
}

fn is_alive(runner: &Runner) -> bool {
    runner.metadata.deletion_timestamp.is_none()
}

async fn another_operator_goes_on_where_one_was_stopped(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 10, "scaleDownDelaySeconds": 0 } })).await;
    let one = world.operator("one").await;
    let two = world.operator("two").await;
    let run = world.push(2).await;
    world.begun(2).await;
    one.shutdown().await;
    let later = world.push(1).await;
    world.runners.ends.add_permits(3);
    assert_eq!(world.conclusion(run).await, "success");
    assert_eq!(world.conclusion(later).await, "success");
    world.clean().await;
    two.shutdown().await;
}

async fn another_operator_goes_on_where_one_was_killed(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 0, "max": 10, "scaleDownDelaySeconds": 0 } })).await;
    let one = world.doomed("one").await;
    let run = world.push(2).await;
    world.begun(2).await;
    let two = world.operator("two").await;
    one.kill();
    // A job that comes while nobody listens, and two that end meanwhile.
    let later = world.push(1).await;
    world.runners.ends.add_permits(3);
    assert_eq!(world.conclusion(run).await, "success");
    assert_eq!(world.conclusion(later).await, "success");
    world.clean().await;
    assert_eq!(world.runners.begun.load(Ordering::SeqCst), 3, "each job was begun once");
    two.shutdown().await;
}

async fn a_deployment_that_is_deleted_waits_for_its_jobs(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 2, "max": 10, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(1).await;
    world.begun(1).await;
    let api = world.api::<RunnerDeployment>();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    until("idle runners that go", || async { (world.registered().await.len() == 1).then_some(()) })
        .await;
    assert!(api.get_opt("gpu").await.unwrap().is_some(), "a job is under way");
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    world.ended().await;
    operator.shutdown().await;
}

async fn fewer_are_wanted_and_a_new_revision_takes_over(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 3 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    assert_eq!(world.registered().await.len(), 3);
    world.change(json!({ "replicas": 1 })).await;
    until("one runner", || async { (world.registered().await.len() == 1).then_some(()) }).await;
    let before = world.registered().await;
    let image = json!({ "template": { "metadata": { "labels": { "a": "b" } } } });
    world.change(image).await;
    until("a runner of the new revision", || async {
        let now = world.registered().await;
        (now.len() == 1 && now != before).then_some(())
    })
    .await;
    let labels: Vec<BTreeMap<String, String>> = world
        .list::<k8s_openapi::api::core::v1::Pod>()
        .await
        .iter()
        .filter(|it| it.metadata.deletion_timestamp.is_none())
        .map(|it| it.labels().clone())
        .collect();
    assert_eq!(labels.iter().filter(|it| it.contains_key("a")).count(), 1, "{labels:?}");
    operator.shutdown().await;
}
