//! Webhooks out: signed, in order, written down, and once more.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use reqwest::Method;
use sekisho_github::webhook::{Delivery, JobActionKind, WebhookEvent};
use sekisho_hub::Webhook;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::runner::Runner;
use crate::world::{ADMIN, WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";

/// Takes deliveries as Sekisho does, and refuses the first `workflow_job`.
pub(crate) struct Receiver {
    url: String,
    got: watch::Receiver<usize>,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    payloads: Arc<Mutex<Vec<Value>>>,
}

#[derive(Clone)]
struct Shared {
    deliveries: Arc<Mutex<Vec<Delivery>>>,
    payloads: Arc<Mutex<Vec<Value>>>,
    count: Arc<watch::Sender<usize>>,
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let delivery = Delivery::receive(&["s3cret".to_owned().into()], &headers, &body).unwrap();
    shared.payloads.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    let (mut all, count) = (shared.deliveries.lock().unwrap(), shared.count);
    let is_job = |delivery: &Delivery| matches!(delivery.event, WebhookEvent::WorkflowJob(_));
    let refuse = is_job(&delivery) && !all.iter().any(is_job);
    all.push(delivery);
    count.send_modify(|count| *count += 1);
    if refuse { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::NO_CONTENT }
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (deliveries, payloads) = (Arc::default(), Arc::default());
        let (count, got) = watch::channel(0);
        let shared = Shared {
            deliveries: Arc::clone(&deliveries),
            payloads: Arc::clone(&payloads),
            count: Arc::new(count),
        };
        let router = axum::Router::new().route("/hook", axum::routing::post(take));
        let router = router.with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, got, deliveries, payloads }
    }

    /// A hook that tells it of these events.
    pub(crate) fn hook(&self, events: &[&str]) -> Webhook {
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        Webhook { url: self.url.clone(), secret: "s3cret".to_owned().into(), events }
    }

    /// All payloads.
    pub(crate) fn payloads(&self) -> Vec<Value> {
        self.payloads.lock().unwrap().clone()
    }

    /// Waits until there were so many deliveries.
    pub(crate) async fn wait(&mut self, wanted: usize) {
        self.got.wait_for(|got| *got >= wanted).await.unwrap();
    }

    /// A word for each delivery.
    fn words(&self) -> Vec<String> {
        let word = |delivery: &Delivery| match &delivery.event {
            WebhookEvent::WorkflowJob(event) => format!("job {:?}", event.action),
            WebhookEvent::WorkflowRun(event) => format!("run {:?}", event.action),
            WebhookEvent::Push(event) => format!("push {}", event.git_ref),
            WebhookEvent::Ping(_) => "ping".to_owned(),
            WebhookEvent::Other(event) => event.clone(),
        };
        self.deliveries.lock().unwrap().iter().map(word).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_hear_is_told_and_told_again() {
    let mut receiver = Receiver::start().await;
    let hook = receiver.hook(&[]);
    let closed =
        Webhook { url: "http://127.0.0.1:1/".into(), events: vec!["push".into()], ..hook.clone() };
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(dir, |config| config.webhooks.extend([hook, closed])).await;
    receiver.wait(1).await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = world.push(&folder, "acme/app").await;
    receiver.wait(4).await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    receiver.wait(6).await;
    runner.complete(&world, "failed").await;
    receiver.wait(8).await;
    let words = ["ping", "push refs/heads/main", "run Requested", "job Queued"];
    let more = ["job InProgress", "run InProgress", "job Completed", "run Completed"];
    assert_eq!(receiver.words(), [words, more].concat());
    check_jobs(&receiver, id, &folder.sha());

    let get = async |path: String| world.get(&format!("/api/v3/repos/acme/app/hooks{path}")).await;
    let hooks = get(String::new()).await;
    assert_eq!(hooks[0]["config"]["secret"], "********");
    assert_eq!((&hooks[0]["events"], &hooks[1]["events"]), (&json!(["*"]), &json!(["push"])));
    let all = get("/1/deliveries".to_owned()).await;
    let failed = all.as_array().unwrap().iter().find(|done| done["status_code"] == 503).unwrap();
    assert_eq!((&failed["event"], &failed["action"]), (&json!("workflow_job"), &json!("queued")));
    assert_eq!(failed["status"], "Invalid HTTP Response: 503");
    let whole = get(format!("/1/deliveries/{}", failed["id"])).await;
    assert_eq!(whole["request"]["payload"]["workflow_job"]["run_id"], id);

    let again = format!("/api/v3/repos/acme/app/hooks/1/deliveries/{}/attempts", failed["id"]);
    assert_eq!(world.post(&again, &json!({})).await.status(), 202);
    receiver.wait(9).await;
    let ids = |place: usize| receiver.deliveries.lock().unwrap()[place].id;
    assert_eq!(ids(3), ids(8), "the same delivery");
    let none = again.replace(&failed["id"].to_string(), "999");
    assert_eq!(world.post(&none, &json!({})).await.status(), 404);

    // Who is elsewhere sees nothing of it, nor has it told again.
    let elsewhere = world.get("/api/v3/orgs/other/hooks/1/deliveries").await;
    let elsewhere = elsewhere.as_array().unwrap().iter().map(|done| &done["event"]);
    assert_eq!(elsewhere.collect::<Vec<_>>(), [&json!("ping")]);
    let theirs = again.replace("acme/app", "acme/web");
    assert_eq!(world.post(&theirs, &json!({})).await.status(), 404);

    // The other hook heard of the push alone, and nobody was there.
    let deliveries = async || get("/2/deliveries".to_owned()).await;
    while deliveries().await.as_array().unwrap().len() < 2 {}
    let all = deliveries().await;
    let events: Vec<&Value> = all.as_array().unwrap().iter().map(|done| &done["event"]).collect();
    assert_eq!(events, [&json!("push"), &json!("ping")]);
    assert_eq!(
        (&all[0]["status_code"], &all[0]["status"]),
        (&json!(0), &json!("the request failed"))
    );
    let pings = "/api/v3/orgs/acme/hooks/1/pings";
    assert_eq!(world.post(pings, &json!({})).await.status(), 204);
    receiver.wait(10).await;
    let unknown = world.request(Method::GET, "/api/v3/orgs/acme/hooks/3/deliveries");
    assert_eq!(unknown.bearer_auth(ADMIN).send().await.unwrap().status(), 404);
}

fn check_jobs(receiver: &Receiver, run: u64, sha: &str) {
    let all = receiver.deliveries.lock().unwrap();
    let jobs = all.iter().filter_map(|delivery| match &delivery.event {
        WebhookEvent::WorkflowJob(event) => Some((delivery, event)),
        _ => None,
    });
    for (delivery, event) in jobs {
        assert_eq!(delivery.hook_id, Some(1));
        let job = &event.workflow_job;
        assert_eq!((job.run_id, job.head_sha.as_str(), job.name.as_str()), (run, sha, "hello"));
        assert_eq!(job.labels, ["default", "linux"]);
        assert_eq!(event.repository.full_name, "acme/app");
        assert_eq!(event.repository.default_branch.as_deref(), Some("main"));
        let queued = event.action == JobActionKind::Queued;
        assert_eq!(job.runner_name.as_deref(), (!queued).then_some("r1"));
        assert_eq!(job.runner_id.is_none(), queued);
        assert_eq!(job.completed_at.is_some(), event.action == JobActionKind::Completed);
        assert!(!queued || job.started_at == job.created_at);
    }
}

/// Nothing runs for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_is_deleted_is_told_of() {
    let mut receiver = Receiver::start().await;
    let hook = receiver.hook(&["push"]);
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(dir, |config| config.webhooks.push(hook)).await;
    let folder = world.folder("work", &[("a.txt", "a\n")]);
    let remote = world.remote("acme/app");
    for refs in ["main", "main:topic", ":topic"] {
        let (folder, remote) = (folder.clone(), remote.clone());
        let push = move || folder.git(&["push", "--quiet", &remote, refs]);
        tokio::task::spawn_blocking(push).await.unwrap();
    }
    receiver.wait(4).await;
    assert_eq!(
        receiver.words(),
        ["ping", "push refs/heads/main", "push refs/heads/topic", "push refs/heads/topic"]
    );
    let told = receiver.payloads();
    let zeros = json!("0".repeat(40));
    let (made, gone) = (&told[2], &told[3]);
    assert_eq!((&made["created"], &made["deleted"]), (&json!(true), &json!(false)));
    assert_eq!((&made["before"], &made["after"]), (&zeros, &json!(folder.sha())));
    assert_eq!((&gone["created"], &gone["deleted"]), (&json!(false), &json!(true)));
    assert_eq!((&gone["before"], &gone["after"]), (&json!(folder.sha()), &zeros));
    assert_eq!(gone["head_commit"], Value::Null);
}
