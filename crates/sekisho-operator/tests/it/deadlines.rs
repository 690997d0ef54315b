//! How long a runner may be in each state, and what becomes of its job where it ends otherwise.

use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use sekisho_api::condition::Condition;
use sekisho_api::{ANNOTATION_STOP_NOW, JobResult, Reason, Runner, RunnerDeployment, condition};
use sekisho_hub::faults::{Call, Fault, Plan};
use sekisho_operator::Operator;
use serde_json::{Value, json};

use crate::refusals::{metric, rule};
use crate::world::{ADMIN, Server, World, until};

scenarios![
    a_pod_that_finds_no_node_is_given_up,
    a_runner_that_github_never_sees_is_given_up,
    a_runner_that_waited_long_enough_makes_way,
    a_job_that_runs_too_long_is_stopped,
    a_registration_that_cannot_be_removed_holds_nobody,
    a_runner_that_needs_too_much_memory_is_said_to,
    a_pod_that_is_drained_ends_its_job,
    what_became_of_a_lost_job_is_read_and_shown,
    a_registration_that_outlives_its_job_is_removed,
    whoever_is_told_to_stop_now_waits_for_no_job,
];

/// A runner that has its job, in a world where each job gets one.
struct AtWork {
    world: World,
    operator: Operator,
    run: u64,
    runner: Runner,
}

impl AtWork {
    async fn new(server: &Server, lifecycle: &Value) -> Self {
        Self::in_world(World::new(server, |_| ()).await, lifecycle).await
    }

    async fn in_world(world: World, lifecycle: &Value) -> Self {
        let scaling = json!({ "min": 0, "max": 2, "scaleDownDelaySeconds": 0 });
        world.set(json!({ "scaling": scaling, "lifecycle": lifecycle })).await;
        let operator = world.operator("one").await;
        let run = world.push(1).await;
        world.begun(1).await;
        let runner = world.busy().await;
        Self { world, operator, run, runner }
    }
}

/// GitHub gives a job up ten minutes after its runner fell silent.
const GIVEN_UP: u32 = 660;

impl World {
    /// How a Runner is, or how it ended.
    async fn state(&self, name: &str) -> Option<Condition> {
        let status = self.api::<Runner>().get_opt(name).await.unwrap()?.status?;
        condition::find(&status.conditions, condition::SUCCEEDED).cloned()
    }

    /// How a Runner ended in vain, once it did.
    async fn failed(&self, name: &str) -> Option<Condition> {
        self.state(name).await.filter(|it| it.status == "False")
    }

    /// What a Runner that is kept says of the end of its job, once it does.
    async fn fate(&self, name: &str) -> Option<JobResult> {
        self.api::<Runner>().get_opt(name).await.unwrap()?.status?.job?.result
    }

    /// Time passes at GitHub.
    async fn passes_at_github(&self, seconds: u32) {
        let request = self.http.post(format!("{}/_hub/v1/clock", self.url)).bearer_auth(ADMIN);
        let answer = request.json(&json!({ "advance_s": seconds })).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn is_told_to_go(&self, pod: &str) -> Option<()> {
        self.api::<Pod>().get_opt(pod).await.unwrap()?.metadata.deletion_timestamp.map(drop)
    }

    async fn is_gone(&self, name: &str) -> Option<()> {
        self.api::<Runner>().get_opt(name).await.unwrap().is_none().then_some(())
    }

    async fn is_forgotten(&self, name: &str) -> Option<()> {
        (!self.registered().await.iter().any(|it| it == name)).then_some(())
    }
}

/// Nothing is left of one that was given up, and it is said why the next one waits.
async fn is_given_up(world: &World, operator: &Operator, name: &str, reason: Reason) {
    until("no registration", || world.is_forgotten(name)).await;
    until("no pod", || async {
        world.api::<Pod>().get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
    let message = world.says("BackingOff").await;
    assert!(message.ends_with(reason.next_step()), "{message}");
    let ended = format!("sekisho_operator_runners_ended_total{{reason=\"{reason}\"}}");
    assert!(metric(operator, &ended) >= 1);
}

/// With time enough, whatever the clocks say, a runner comes.
async fn recovers(world: &World) {
    let long = json!({ "pendingTimeoutSeconds": 86_400, "registrationTimeoutSeconds": 3_600 });
    world.change(json!({ "lifecycle": long, "template": null })).await;
    world.says("AllRunnersReady").await;
}

async fn a_pod_that_finds_no_node_is_given_up(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let nowhere = json!({ "spec": { "nodeSelector": { "no": "node" } } });
    let short = json!({ "pendingTimeoutSeconds": 60 });
    world.set(json!({ "replicas": 1, "template": nowhere, "lifecycle": short })).await;
    let operator = world.operator("one").await;
    let name = until("a pod that no node takes", || async {
        let pod = world.list::<Pod>().await.pop()?;
        let all = pod.status.as_ref()?.conditions.clone()?;
        all.iter().any(|it| it.status == "False").then(|| pod.name_any())
    })
    .await;
    let ended = world.until_later("its end", 61, &operator, || world.failed(&name)).await;
    assert_eq!(ended.reason, "PendingTimeout");
    assert_eq!(ended.message, "its pod did not start within 60 s: 0 nodes are available");
    is_given_up(&world, &operator, &name, Reason::PendingTimeout).await;
    assert!(metric(&operator, "sekisho_operator_registrations_total") == 0, "it cost none");
    recovers(&world).await;
    operator.shutdown().await;
}

async fn a_runner_that_github_never_sees_is_given_up(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.runners.mute.store(true, Ordering::SeqCst);
    let short = json!({ "registrationTimeoutSeconds": 60 });
    world.set(json!({ "replicas": 1, "lifecycle": short })).await;
    let operator = world.operator("one").await;
    let name = until("a container that runs", || async {
        let pod = world.list::<Pod>().await.pop()?;
        (pod.status.as_ref()?.phase.as_deref() == Some("Running")).then(|| pod.name_any())
    })
    .await;
    let ended = world.until_later("its end", 61, &operator, || world.failed(&name)).await;
    assert_eq!(ended.reason, "RegistrationTimeout");
    is_given_up(&world, &operator, &name, Reason::RegistrationTimeout).await;
    world.runners.mute.store(false, Ordering::SeqCst);
    recovers(&world).await;
    operator.shutdown().await;
}

async fn a_runner_that_waited_long_enough_makes_way(server: Server) {
    let world = World::new(&server, |_| ()).await;
    // Time enough for the one that comes, however often the clock jumps.
    let lifecycle = json!({
        "idleTimeoutSeconds": 60, "registrationTimeoutSeconds": 3_600,
        "pendingTimeoutSeconds": 86_400
    });
    world.set(json!({ "replicas": 1, "lifecycle": lifecycle })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let first = world.registered().await;
    world
        .until_later("another in its place", 61, &operator, || async {
            let now = world.registered().await;
            (now.len() == 1 && now != first).then_some(())
        })
        .await;
    // It did nothing wrong.
    until("its end", || world.is_gone(&first[0])).await;
    assert!(!operator.metrics().contains("runners_ended_total{"), "{}", operator.metrics());
    operator.shutdown().await;
}

async fn a_job_that_runs_too_long_is_stopped(server: Server) {
    let AtWork { world, operator, run, runner } =
        AtWork::new(&server, &json!({ "maxJobSeconds": 600 })).await;
    let name = runner.name_any();
    let ended = world.until_later("its end", 601, &operator, || world.failed(&name)).await;
    assert_eq!(
        (ended.reason.as_str(), ended.message.as_str()),
        ("JobTimeout", "its job ran for 600 s")
    );
    until("a pod that is told to go", || world.is_told_to_go(&name)).await;
    // It gets its time to say how the job ended, which is then shown.
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    let fate = until("the end of its job", || world.fate(&name)).await;
    assert_eq!(fate, JobResult::Succeeded);
    until("no registration", || world.is_forgotten(&name)).await;
    operator.shutdown().await;
}

async fn a_registration_that_cannot_be_removed_holds_nobody(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1, "lifecycle": { "deletionTimeoutSeconds": 60 } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let name = world.registered().await.remove(0);
    world.hub.arm(rule(Fault::Status { status: 503, after_ms: 0 }, Call::Runner, u32::MAX));
    world.change(json!({ "replicas": 0 })).await;
    world.until_later("the end of its finalizer", 31, &operator, || world.is_gone(&name)).await;
    let told = until("what is told of it", || async {
        let all = world.list::<Event>().await;
        all.into_iter().filter_map(|it| it.note).find(|it| it.contains("is left to the sweep"))
    })
    .await;
    assert!(told.contains(&name) && told.contains("within 60 s"), "{told}");
    world.hub.arm(Plan { seed: 1, rules: vec![] });
    world.until_later("its end", 130, &operator, || world.is_forgotten(&name)).await;
    operator.shutdown().await;
}

async fn a_runner_that_needs_too_much_memory_is_said_to(server: Server) {
    let AtWork { world, operator, run, runner } = AtWork::new(&server, &json!({})).await;
    let name = runner.name_any();
    world.runners.grows.add_permits(1);
    assert_eq!(world.lost(&runner).await, "OutOfMemory");
    world.passes_at_github(GIVEN_UP).await;
    assert_eq!(world.conclusion(run).await, "failure");
    let fate = until("the end of its job", || world.fate(&name)).await;
    assert_eq!(fate, JobResult::Failed);
    operator.shutdown().await;
}

async fn a_pod_that_is_drained_ends_its_job(server: Server) {
    let AtWork { world, operator, run, runner } = AtWork::new(&server, &json!({})).await;
    let name = runner.name_any();
    let patient = DeleteParams::default().grace_period(3_600);
    world.api::<Pod>().delete(&name, &patient).await.unwrap();
    let state = until("the interruption on its Runner", || async {
        world.state(&name).await.filter(|it| it.reason == "Interrupted")
    })
    .await;
    assert_eq!(state.status, "Unknown", "it may end well");
    assert!(state.message.starts_with("its pod is being stopped by somebody else"), "{state:?}");
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    world.clean().await;
    assert!(!operator.metrics().contains("runners_ended_total{"), "{}", operator.metrics());
    operator.shutdown().await;
}

async fn what_became_of_a_lost_job_is_read_and_shown(server: Server) {
    let AtWork { world, operator, run, runner } = AtWork::new(&server, &json!({})).await;
    let name = runner.name_any();
    let pod = world.api::<Pod>().get(&name).await.unwrap();
    let node = pod.spec.unwrap().node_name.unwrap();
    world.cluster.lose_node(&node).await.unwrap();
    world.cluster.remove_node(&node).await.unwrap();
    assert_eq!(world.lost(&runner).await, "NodeLost");
    assert_eq!(world.fate(&name).await, None, "nobody knows yet");
    world.passes_at_github(GIVEN_UP).await;
    assert_eq!(world.conclusion(run).await, "failure");
    let fate = until("the end of its job", || world.fate(&name)).await;
    assert_eq!(fate, JobResult::Failed);
    let known = world.api::<Runner>().get(&name).await.unwrap();
    let job = known.status.unwrap().job.unwrap();
    assert_eq!((job.display_name.as_str(), job.completed.is_some()), ("job0", true));
    // And both sides are clean.
    until("no registration", || world.is_forgotten(&name)).await;
    assert!(world.api::<Pod>().get_opt(&name).await.unwrap().is_none());
    until("a Runner that is kept for its story alone", || async {
        let runner = world.api::<Runner>().get(&name).await.unwrap();
        runner.finalizers().is_empty().then_some(())
    })
    .await;
    operator.shutdown().await;
}

async fn a_registration_that_outlives_its_job_is_removed(server: Server) {
    let world = World::new(&server, |_| ()).await;
    // GitHub says twice that it still has the job.
    world.hub.arm(rule(Fault::Ghost { refusals: 2 }, Call::AcquireJob, 1));
    let AtWork { world, operator, run, runner } = AtWork::in_world(world, &json!({})).await;
    let name = runner.name_any();
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    until("the end of its Runner", || world.is_gone(&name)).await;
    assert_eq!(world.registered().await, std::slice::from_ref(&name), "a ghost");
    world.until_later("its end", 610, &operator, || world.is_forgotten(&name)).await;
    world.clean().await;
    operator.shutdown().await;
}

async fn whoever_is_told_to_stop_now_waits_for_no_job(server: Server) {
    let AtWork { world, operator, runner, .. } = AtWork::new(&server, &json!({})).await;
    let name = runner.name_any();
    let api = world.api::<RunnerDeployment>();
    let now = json!({ "metadata": { "annotations": { ANNOTATION_STOP_NOW: "true" } } });
    api.patch("gpu", &PatchParams::default(), &Patch::Merge(now)).await.unwrap();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    until("a pod that is told to go", || world.is_told_to_go(&name)).await;
    until("what is told of it", || async {
        let all = world.list::<Event>().await;
        all.into_iter().find(|it| it.reason.as_deref() == Some("StoppedWithJob"))
    })
    .await;
    // The played runner takes all its grace where nobody lets its job end.
    world.runners.ends.add_permits(1);
    world.ended().await;
    operator.shutdown().await;
}
