//! What somebody has to put right. Of each it is checked that it is said with a stable reason and the next
//! step, that a metric shows that it waits, that to look at it again and again asks nobody and writes
//! nothing, and that it is over without a restart once it is put right.

use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, Secret};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use sekisho_api::{GitHubConnection, Reason, Runner, RunnerDeployment, condition};
use sekisho_hub::App;
use sekisho_hub::faults::{Call, Fault, Plan, Rule};
use sekisho_operator::Operator;
use serde_json::json;

use crate::world::{Server, World, until};

scenarios![
    a_broken_template_is_said_until_it_is_mended,
    what_a_class_forbids_is_said_until_it_is_left_out,
    a_missing_secret_is_said_until_it_comes,
    a_wrong_secret_is_said_until_it_is_the_right_one,
    a_revoked_app_is_said_until_it_may_again,
    an_unknown_group_is_said_until_a_known_one_is_named,
    an_image_that_cannot_be_pulled_ends_its_runner_and_holds_the_others_back,
    an_image_that_cannot_be_pulled_for_a_while_costs_nothing,
    a_quota_without_room_is_said_until_there_is_some,
    a_class_that_is_missing_is_said_until_it_comes,
    a_namespace_that_is_deleted_is_not_held,
    a_namespace_that_is_deleted_goes_though_github_was_away,
];

/// How often it is looked, to see that nothing comes of it.
const LOOKS: usize = 100;
/// What may happen meanwhile for other reasons.
const FEW: u64 = 10;

pub(crate) fn rule(fault: Fault, call: Call, times: u32) -> Plan {
    Plan { seed: 1, rules: vec![Rule { fault, call: Some(call), skip: 0, times, percent: 100 }] }
}

/// The sum of the lines of a metric that begin so.
pub(crate) fn metric(operator: &Operator, line: &str) -> u64 {
    let text = operator.metrics();
    let numbers = text.lines().filter(|it| it.starts_with(line));
    numbers.filter_map(|it| it.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn waiting(operator: &Operator, reason: Reason) -> u64 {
    metric(operator, &format!("sekisho_operator_waiting{{reason=\"{reason}\"}}"))
}

/// What was asked and written because of it.
fn work(operator: &Operator, reason: Reason) -> [u64; 2] {
    let failures = format!("sekisho_operator_failures_total{{reason=\"{reason}\"}}");
    [metric(operator, &failures), metric(operator, "sekisho_operator_writes_total{")]
}

/// The message of the connection, once it says so.
pub(crate) async fn connection_says(world: &World, reason: Reason) -> Option<String> {
    let status = world.api::<GitHubConnection>().get("acme").await.unwrap().status?;
    let ready = condition::find(&status.conditions, condition::READY)?;
    (ready.reason == reason.name()).then(|| ready.message.clone())
}

/// What has to be so while it is not put right.
pub(crate) async fn is_waited_for(operator: &Operator, reason: Reason, message: &str) {
    assert!(!reason.next_step().is_empty(), "{reason} has no next step");
    assert!(message.ends_with(reason.next_step()), "{message}");
    until("a metric that shows it", || async { (waiting(operator, reason) > 0).then_some(()) })
        .await;
    is_no_hot_loop(operator, reason).await;
}

async fn is_no_hot_loop(operator: &Operator, reason: Reason) {
    let before = work(operator, reason);
    for _ in 0..LOOKS {
        operator.look();
        until("all of it looked at", || async {
            (metric(operator, "sekisho_operator_queue_depth ") == 0).then_some(())
        })
        .await;
    }
    let after = work(operator, reason);
    for (before, after) in before.iter().zip(&after) {
        assert!(*after <= before + FEW, "{reason}: {before} and then {after}");
    }
}

/// It is over.
pub(crate) async fn is_over(world: &World, operator: &Operator, reason: Reason) {
    world.says("AllRunnersReady").await;
    until("a metric that forgets it", || async { (waiting(operator, reason) == 0).then_some(()) })
        .await;
}

async fn a_broken_template_is_said_until_it_is_mended(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let broken = json!({ "spec": { "containers": [{ "name": "runner", "image": 7 }] } });
    world.set(json!({ "replicas": 1, "template": broken })).await;
    let operator = world.operator("one").await;
    let message = world.says("TemplateInvalid").await;
    let want = "`spec.template.spec.containers[runner].image`: invalid type: integer `7`";
    assert!(message.starts_with(want), "{message}");
    is_waited_for(&operator, Reason::TemplateInvalid, &message).await;
    assert_eq!(world.list::<Pod>().await.len(), 0);
    world.change(json!({ "template": null })).await;
    is_over(&world, &operator, Reason::TemplateInvalid).await;
    operator.shutdown().await;
}

async fn what_a_class_forbids_is_said_until_it_is_left_out(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let forbidden = json!({ "spec": { "hostNetwork": true } });
    world.set(json!({ "replicas": 1, "template": forbidden })).await;
    let operator = world.operator("one").await;
    let message = world.says("TemplateForbidden").await;
    assert!(message.starts_with("`spec.template.spec.hostNetwork`"), "{message}");
    is_waited_for(&operator, Reason::TemplateForbidden, &message).await;
    assert_eq!(world.list::<Pod>().await.len(), 0);
    world.change(json!({ "template": null })).await;
    is_over(&world, &operator, Reason::TemplateForbidden).await;
    operator.shutdown().await;
}

async fn a_missing_secret_is_said_until_it_comes(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.connection().await;
    world.deployment(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let message = world.says("ConnectionNotReady").await;
    assert!(message.contains("SecretNotFound"), "{message}");
    let reason = Reason::SecretNotFound;
    let message = until("the reason", || connection_says(&world, reason)).await;
    assert!(message.starts_with("there is no key `token` in secret `github`; "), "{message}");
    is_waited_for(&operator, reason, &message).await;
    world.secret().await;
    is_over(&world, &operator, reason).await;
    operator.shutdown().await;
}

async fn a_wrong_secret_is_said_until_it_is_the_right_one(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let wrong = json!({ "metadata": { "name": "github" }, "stringData": { "token": "wrong" } });
    world.create::<Secret>(wrong).await;
    world.connection().await;
    world.deployment(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let reason = Reason::CredentialsRefused;
    let message = until("the reason", || connection_says(&world, reason)).await;
    assert!(!message.contains("wrong"), "{message}");
    is_waited_for(&operator, reason, &message).await;
    world.token().await;
    is_over(&world, &operator, reason).await;
    operator.shutdown().await;
}

/// A connection as a GitHub App, and the hub that knows it.
async fn with_app(server: &Server) -> World {
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let public_key = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let world = World::new(server, |config| {
        config.app = Some(App {
            id: 7,
            client_id: "Iv23liTest".to_owned(),
            public_key,
            permissions: [("organization_self_hosted_runners".to_owned(), "write".to_owned())]
                .into(),
            installations: [(1, "acme".to_owned())].into(),
        });
    })
    .await;
    let pem = key.to_pkcs8_pem(LineEnding::LF).unwrap();
    let secret = json!({ "metadata": { "name": "github" }, "stringData": { "key": *pem } });
    world.create::<Secret>(secret).await;
    let key = json!({ "name": "github", "key": "key" });
    world.connect(json!({ "app": { "clientId": "Iv23liTest", "privateKeySecretRef": key } })).await;
    world
}

async fn a_revoked_app_is_said_until_it_may_again(server: Server) {
    let world = with_app(&server).await;
    world.deployment(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let before = world.registered().await;
    // From now on its tokens are refused, and no others are made.
    let refused = Fault::Unauthorized { after_ms: 0 };
    let mut plan = rule(refused.clone(), Call::Runner, u32::MAX);
    plan.rules.extend(rule(refused, Call::Rest, u32::MAX).rules);
    world.hub.arm(plan);
    let reason = Reason::CredentialsRefused;
    let message =
        world.until_later("the reason", 310, &operator, || connection_says(&world, reason)).await;
    let said = world.says("ConnectionNotReady").await;
    assert!(said.contains("CredentialsRefused"), "{said}");
    is_waited_for(&operator, reason, &message).await;
    world.hub.arm(Plan { seed: 1, rules: vec![] });
    world
        .until_later("the recovery", 130, &operator, || connection_says(&world, Reason::Connected))
        .await;
    is_over(&world, &operator, reason).await;
    assert_eq!(world.registered().await, before, "an idle runner was not the worse for it");
    operator.shutdown().await;
}

async fn an_unknown_group_is_said_until_a_known_one_is_named(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1, "group": "nobody" })).await;
    let operator = world.operator("one").await;
    let message = world.says("GroupNotFound").await;
    assert!(message.contains("`nobody`"), "{message}");
    is_waited_for(&operator, Reason::GroupNotFound, &message).await;
    world.change(json!({ "group": "Default" })).await;
    is_over(&world, &operator, Reason::GroupNotFound).await;
    operator.shutdown().await;
}

async fn an_image_that_cannot_be_pulled_ends_its_runner_and_holds_the_others_back(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.runners.unpullable.store(true, Ordering::SeqCst);
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let waiting = until("a pod that waits", || pod_that_waits(&world)).await;
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
    let message = world.says("BackingOff").await;
    assert!(message.contains("ImagePullFailed"), "{message}");
    assert!(message.ends_with(Reason::ImagePullFailed.next_step()), "{message}");
    let backing_off = || metric(&operator, "sekisho_operator_backing_off ");
    until("a pause that is told", || async { (backing_off() == 1).then_some(()) }).await;
    is_no_hot_loop(&operator, Reason::ImagePullFailed).await;
    world.runners.unpullable.store(false, Ordering::SeqCst);
    let ready = || async {
        let deployment = world.api::<RunnerDeployment>().get("gpu").await.unwrap();
        let ready = condition::find(&deployment.status?.conditions, condition::READY)?.clone();
        (ready.reason == "AllRunnersReady" && backing_off() == 0).then_some(())
    };
    world.until_later("the recovery", 15, &operator, ready).await;
    operator.shutdown().await;
}

/// A pod whose kubelet said how its containers are.
async fn pod_that_waits(world: &World) -> Option<Pod> {
    let pods = world.list::<Pod>().await;
    pods.into_iter().find(|it| it.status.as_ref().is_some_and(|it| it.container_statuses.is_some()))
}

async fn an_image_that_cannot_be_pulled_for_a_while_costs_nothing(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.runners.unpullable.store(true, Ordering::SeqCst);
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let pod = until("a pod that waits", || pod_that_waits(&world)).await;
    world.runners.unpullable.store(false, Ordering::SeqCst);
    world.says("AllRunnersReady").await;
    assert_eq!(world.registered().await, [pod.name_any()]);
    operator.shutdown().await;
}

async fn a_quota_without_room_is_said_until_there_is_some(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "0" } } });
    world.create::<ResourceQuota>(quota).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    let message = world.says("QuotaExceeded").await;
    is_waited_for(&operator, Reason::QuotaExceeded, &message).await;
    let api = world.api::<ResourceQuota>();
    let more = Patch::Merge(json!({ "spec": { "hard": { "pods": "5" } } }));
    api.patch("q", &PatchParams::default(), &more).await.unwrap();
    world
        .until_later("room", 31, &operator, || async {
            let deployment = world.api::<RunnerDeployment>().get("gpu").await.unwrap();
            let status = deployment.status?;
            let ready = condition::find(&status.conditions, condition::READY)?;
            (ready.reason != "QuotaExceeded").then_some(())
        })
        .await;
    is_over(&world, &operator, Reason::QuotaExceeded).await;
    operator.shutdown().await;
}

async fn a_class_that_is_missing_is_said_until_it_comes(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1, "classRef": "memory" })).await;
    let operator = world.operator("one").await;
    let message = world.says("ClassNotFound").await;
    assert!(message.contains("`memory`"), "{message}");
    until("a metric of what is withheld", || async {
        let withheld = "sekisho_operator_capacity_withheld{gate=\"blocked\"}";
        (metric(&operator, withheld) == 1).then_some(())
    })
    .await;
    is_waited_for(&operator, Reason::ClassNotFound, &message).await;
    world.class("memory").await;
    is_over(&world, &operator, Reason::ClassNotFound).await;
    operator.shutdown().await;
}

/// A finalizer of somebody else, which holds the deployment while its namespace goes; or nothing.
async fn hold(world: &World, holds: bool) {
    let api = world.api::<RunnerDeployment>();
    let known = api.get("gpu").await.unwrap();
    let mut all: Vec<String> = known.finalizers().to_vec();
    all.retain(|it| it != "example.com/held");
    all.extend(holds.then(|| "example.com/held".to_owned()));
    let version = known.resource_version();
    let patch = json!({ "metadata": { "finalizers": all, "resourceVersion": version } });
    let patched = api.patch("gpu", &PatchParams::default(), &Patch::Merge(patch)).await;
    assert!(patched.is_ok(), "{patched:?}");
}

async fn delete_namespace(world: &World) {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
}

async fn namespace_is_gone(world: &World) -> Option<()> {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.get_opt(&world.namespace).await.unwrap().is_none().then_some(())
}

async fn a_namespace_that_is_deleted_is_not_held(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 2 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    hold(&world, true).await;
    delete_namespace(&world).await;
    // Its runners go, and what is left of them; the deployment is somebody else's to let go.
    until("nothing at GitHub", || async { world.registered().await.is_empty().then_some(()) })
        .await;
    let message = world.says("NamespaceTerminating").await;
    assert!(message.starts_with("the namespace goes: 0 runners"), "{message}");
    is_no_hot_loop(&operator, Reason::NamespaceTerminating).await;
    hold(&world, false).await;
    until("the end of the namespace", || namespace_is_gone(&world)).await;
    // One of the same name is worked on as if nothing had been.
    world.install().await;
    world.set(json!({ "replicas": 1 })).await;
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
}

async fn a_namespace_that_is_deleted_goes_though_github_was_away(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let before = metric(&operator, "sekisho_operator_failures_total{");
    world.hub.arm(rule(Fault::Status { status: 503, after_ms: 0 }, Call::Runner, u32::MAX));
    delete_namespace(&world).await;
    // Longer than a lease holds; and none can be made any more.
    world
        .until_later("that it is tried", 12, &operator, || async {
            let now = metric(&operator, "sekisho_operator_failures_total{");
            (now > before + 3).then_some(())
        })
        .await;
    assert!(namespace_is_gone(&world).await.is_none(), "a registration is still to be removed");
    world.hub.arm(Plan { seed: 1, rules: vec![] });
    world
        .until_later("the end of the namespace", 12, &operator, || namespace_is_gone(&world))
        .await;
    assert_eq!(world.registered().await, [""; 0]);
    operator.shutdown().await;
}
