//! Runners that are registered one by one: their queue is read from time to time, and at once on a webhook.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use sekisho_api::{GitHubConnection, Reason, Runner, RunnerDeployment, condition};
use sekisho_github::webhook::sign;
use sekisho_hub::Webhook;
use sekisho_hub::faults::{Call, Fault, Plan};
use serde_json::{Value, json};

use crate::refusals::{is_over, is_waited_for, metric, rule};
use crate::world::{Server, World, until};

scenarios![
    runners_that_are_registered_one_by_one,
    jobs_of_an_organization_are_found_without_webhooks,
    a_webhook_has_the_queue_read_whichever_replica_gets_it,
    a_webhook_that_is_not_signed_is_refused,
    a_group_that_is_not_there_is_said_where_no_set_is,
    what_is_withheld_is_counted_where_no_set_is,
    a_registration_that_is_refused_is_said_at_the_deadline,
];

const SECRET: &str = "what webhooks are signed with";

async fn runners_that_are_registered_one_by_one(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let labels = json!(["self-hosted", "gpu"]);
    let mode = json!({ "mode": "Registration" });
    world.set(json!({ "replicas": 1, "labels": labels, "acquisition": mode })).await;
    let operator = world.operator("one").await;
    let run = world.push(1).await;
    world.runners.ends.add_permits(1);
    assert_eq!(world.conclusion(run).await, "success");
    let api = world.api::<RunnerDeployment>();
    api.delete("gpu", &DeleteParams::default()).await.unwrap();
    world.ended().await;
    operator.shutdown().await;
}

/// As many as there are jobs.
fn scaled() -> Value {
    json!({
        "acquisition": { "mode": "Registration" },
        "scaling": { "min": 0, "max": 5, "scaleDownDelaySeconds": 0 }
    })
}

async fn jobs_of_an_organization_are_found_without_webhooks(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(scaled()).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let run = world.push(2).await;
    world
        .until_later("jobs that begin", 31, &operator, || async {
            (world.runners.begun.load(std::sync::atomic::Ordering::SeqCst) == 2).then_some(())
        })
        .await;
    // The next look finds who has which.
    let known = world
        .until_later("the jobs on their Runners", 31, &operator, || async {
            let mut jobs: Vec<String> = world
                .list::<Runner>()
                .await
                .into_iter()
                .filter_map(|it| Some(it.status?.job?.display_name))
                .collect();
            jobs.sort();
            (jobs.len() == 2).then_some(jobs)
        })
        .await;
    assert_eq!(known, ["job0", "job1"]);
    world.runners.ends.add_permits(2);
    assert_eq!(world.conclusion(run).await, "success");
    world.until_later("nothing that is left", 6, &operator, || world.is_clean()).await;
    // What did its job has not failed.
    assert!(!operator.metrics().contains("runners_ended_total{"), "{}", operator.metrics());
    operator.shutdown().await;
}

/// What the hub sends webhooks to: a stand-in for an ingress, which passes them on to a replica.
struct Ingress {
    url: String,
    replica: Arc<Mutex<Option<SocketAddr>>>,
}

impl Ingress {
    async fn new(namespace: &str) -> Self {
        let replica: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
        let (to, path) = (Arc::clone(&replica), format!("/webhooks/{namespace}/acme"));
        let pass = move |mut headers: HeaderMap, body: Bytes| async move {
            let Some(to) = *to.lock().unwrap() else { return StatusCode::SERVICE_UNAVAILABLE };
            headers.remove("host");
            let http = reqwest::Client::new().post(format!("http://{to}{path}"));
            http.headers(headers).body(body).send().await.unwrap().status()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = axum::Router::new().route("/", post(pass));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, replica }
    }
}

async fn with_webhooks(server: &Server) -> (World, Ingress) {
    let namespace = World::next_namespace();
    let ingress = Ingress::new(&namespace).await;
    let hook = Webhook { url: ingress.url.clone(), secret: SECRET.into(), events: vec![] };
    let world = World::in_namespace(server, namespace, |config| config.webhooks = vec![hook]).await;
    let patch = json!({ "spec": { "webhook": { "secretRef": { "name": "hook", "key": "key" } } } });
    world.set(scaled()).await;
    let connections = world.api::<GitHubConnection>();
    let patch = Patch::Merge(patch);
    connections.patch("acme", &PatchParams::default(), &patch).await.unwrap();
    (world, ingress)
}

/// Waits until the connection says so of its webhooks.
async fn webhooks_are(world: &World, reason: &str) {
    until(reason, || async {
        let status = world.api::<GitHubConnection>().get("acme").await.unwrap().status?;
        let claim = condition::find(&status.conditions, condition::WEBHOOK)?;
        (claim.reason == reason).then_some(())
    })
    .await;
}

async fn hook_secret(world: &World) {
    let secret = json!({ "metadata": { "name": "hook" }, "stringData": { "key": SECRET } });
    world.create::<Secret>(secret).await;
}

async fn a_webhook_has_the_queue_read_whichever_replica_gets_it(server: Server) {
    let (world, ingress) = with_webhooks(&server).await;
    let one = world.operator("one").await;
    webhooks_are(&world, "SecretNotFound").await;
    world.says("AllRunnersReady").await;
    hook_secret(&world).await;
    let two = world.operator("two").await;
    world
        .until_later("what webhooks are signed with", 11, &one, || async {
            let status = world.api::<GitHubConnection>().get("acme").await.unwrap().status?;
            let claim = condition::find(&status.conditions, condition::WEBHOOK)?;
            (claim.reason == "SecretFound").then_some(())
        })
        .await;
    // The one that stands by gets them all.
    *ingress.replica.lock().unwrap() = two.webhooks();
    // No poll comes meanwhile: its clock stands still.
    world.stop_the_clock();
    let passed = world.passed();
    let run = world.push(2).await;
    until("webhooks that are noted", || async {
        two.metrics().contains("webhooks_total{outcome=\"noted\"}").then_some(())
    })
    .await;
    until("what they told, written down", || async {
        let connection = world.api::<GitHubConnection>().get("acme").await.unwrap();
        connection.metadata.annotations.filter(|it| it.contains_key(sekisho_api::ANNOTATION_JOBS))
    })
    .await;
    let begun = || async {
        (world.runners.begun.load(std::sync::atomic::Ordering::SeqCst) == 2).then_some(())
    };
    world.until_later("jobs that begin", 1, &one, begun).await;
    let passed = world.passed() - passed;
    assert!(passed < 20, "{passed} s: a poll may have found them");
    world.runners.ends.add_permits(2);
    assert_eq!(world.conclusion(run).await, "success");
    world.go_on_with_the_clock();
    world.until_later("nothing that is left", 6, &one, || world.is_clean()).await;
    two.shutdown().await;
    one.shutdown().await;
}

async fn a_webhook_that_is_not_signed_is_refused(server: Server) {
    let (world, _ingress) = with_webhooks(&server).await;
    hook_secret(&world).await;
    let operator = world.operator("one").await;
    webhooks_are(&world, "SecretFound").await;
    let address = operator.webhooks().unwrap();
    let body = json!({ "zen": "", "hook_id": 1 }).to_string();
    let send = async |connection: &str, signature: String, event: &str| {
        let url = format!("http://{address}/webhooks/{}/{connection}", world.namespace);
        let request = reqwest::Client::new().post(url).body(body.clone());
        let request = request
            .header("x-hub-signature-256", signature)
            .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
            .header("x-github-event", event);
        request.send().await.unwrap().status().as_u16()
    };
    let good = sign(&SECRET.into(), body.as_bytes());
    assert_eq!(send("acme", good.clone(), "ping").await, 200);
    assert_eq!(send("acme", sign(&"another".into(), body.as_bytes()), "ping").await, 401);
    assert_eq!(send("acme", String::new(), "ping").await, 401);
    assert_eq!(send("other", good.clone(), "ping").await, 401, "who is there is not told");
    assert_eq!(send("acme", good, "workflow_job").await, 400, "signed, and no job's");
    let connection = world.api::<GitHubConnection>().get("acme").await.unwrap();
    assert_eq!(connection.metadata.annotations, None, "nothing is written down");
    operator.shutdown().await;
}

async fn a_group_that_is_not_there_is_said_where_no_set_is(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let mode = json!({ "mode": "Registration" });
    world.set(json!({ "replicas": 1, "group": "nobody", "acquisition": mode })).await;
    let operator = world.operator("one").await;
    let message = world.says("GroupNotFound").await;
    assert!(message.starts_with("GitHub has no runner group `nobody`; "), "{message}");
    is_waited_for(&operator, Reason::GroupNotFound, &message).await;
    world.change(json!({ "group": "Default" })).await;
    is_over(&world, &operator, Reason::GroupNotFound).await;
    operator.shutdown().await;
}

async fn what_is_withheld_is_counted_where_no_set_is(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let mut spec = scaled();
    spec["classRef"] = json!("memory");
    world.set(spec).await;
    let operator = world.operator("one").await;
    world.says("ClassNotFound").await;
    let withheld = || metric(&operator, "sekisho_operator_capacity_withheld{gate=\"blocked\"}");
    until("a metric of all five", || async { (withheld() == 5).then_some(()) }).await;
    world.class("memory").await;
    is_over(&world, &operator, Reason::ClassNotFound).await;
    until("a metric of none", || async { (withheld() == 0).then_some(()) }).await;
    operator.shutdown().await;
}

async fn a_registration_that_is_refused_is_said_at_the_deadline(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.hub.arm(rule(Fault::Status { status: 422, after_ms: 0 }, Call::Jit, u32::MAX));
    let (mode, short) = (json!({ "mode": "Registration" }), json!({ "pendingTimeoutSeconds": 60 }));
    world.set(json!({ "replicas": 1, "acquisition": mode, "lifecycle": short })).await;
    let operator = world.operator("one").await;
    let (reason, message) = world
        .until_later("the end of a runner", 31, &operator, || async {
            world.list::<Runner>().await.into_iter().find_map(|it| {
                let conditions = it.status?.conditions;
                let ended = condition::find(&conditions, condition::SUCCEEDED)?;
                (ended.status == "False").then(|| (ended.reason.clone(), ended.message.clone()))
            })
        })
        .await;
    assert_eq!(reason, "RequestRefused", "{message}");
    assert!(message.starts_with("GitHub refuses the request: "), "{message}");
    assert!(message.ends_with(Reason::RequestRefused.next_step()), "{message}");
    world.hub.arm(Plan { seed: 1, rules: vec![] });
    // The operator's clock is ahead of the pods' by now, and the short time over before it began.
    world.change(json!({ "lifecycle": null })).await;
    until("a runner", || async { (world.registered().await.len() == 1).then_some(()) }).await;
    operator.shutdown().await;
}
