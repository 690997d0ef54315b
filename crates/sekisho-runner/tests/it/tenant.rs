//! The old flow: a tenant's session and queue, its job traffic, and the move to a broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{delete, get, patch, post};
use sekisho_github::wire::run_service::Conclusion;
use sekisho_runner::RunnerOutcome;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Job, id, run, tenant_blob};
use crate::server::{ACCESS, JOB_TOKEN, Server, expect_bearer};

const JOB: &str = "44444444-4444-4444-4444-444444444444";
const PLAN: &str =
    "00000000-0000-0000-0000-000000000000/actions/22222222-2222-2222-2222-222222222222";

type Shared = State<Arc<Server>>;
type Answer = Result<Json<Value>, StatusCode>;

/// Routes that only `connectionData` tells of.
pub(crate) fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/_apis/connectionData", get(connection_data))
        .route("/s/{pool}", post(session))
        .route("/s/{pool}/{session}", delete(no_session))
        .route("/m/{pool}", get(message))
        .route("/m/{pool}/{message}", delete(no_message))
        .route("/lock/{pool}/{request}", patch(lock))
        .route("/plan/{*path}", post(plan).patch(plan))
}

async fn connection_data(Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    assert_eq!(query["lastChangeId64"], "-1");
    let plan = "/plan/{scopeIdentifier}/{hubName}/{planId}";
    let routes = [
        ("134E239E-2df3-4794-a6f6-24f1f19ec8dc", "/s/{poolId}/{sessionId}".to_owned()),
        ("c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7", "/m/{poolId}/{messageId}".to_owned()),
        ("fc825784-c92a-4299-9221-998a02d1b54f", "/lock/{poolId}/{requestId}".to_owned()),
        ("8893bc5b-35b2-4be7-83cb-99e683551db4", format!("{plan}/records/{{timelineId}}")),
        ("46f5667d-263a-4684-91b1-dff7fdcf64e2", format!("{plan}/logs/{{logId}}")),
        ("557624af-b29e-4c20-8ab0-0399d2204f3f", format!("{plan}/events")),
    ];
    let definition = |(id, path): &(&str, String)| json!({"identifier": id, "relativePath": path});
    let all: Vec<Value> = routes.iter().map(definition).collect();
    Json(json!({"instanceId": PLAN, "locationServiceData": {"serviceDefinitions": all}}))
}

async fn session(State(server): Shared, headers: HeaderMap, Json(mut body): Json<Value>) -> Answer {
    expect_bearer(&headers, ACCESS)?;
    server.tell("tenant session", |_| {});
    body["sessionId"] = json!("11111111-1111-1111-1111-111111111111");
    merge(&mut body, &server.tenant.lock().unwrap().session);
    Ok(Json(body))
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

async fn no_session(State(server): Shared) -> Json<Value> {
    server.tell("delete tenant session", |_| {});
    Json(json!({}))
}

async fn message(
    State(server): Shared,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, StatusCode> {
    expect_bearer(&headers, ACCESS)?;
    assert_eq!(query["lastMessageId"], "0");
    let message = server.tenant.lock().unwrap().message.clone();
    server.tell(&format!("tenant poll {}", query["status"]), |_| {});
    match (message, query["status"].as_str()) {
        (Some(message), _) if message["messageType"] == json!("BrokerMigration") => {
            Ok(Json(message).into_response())
        }
        (Some(message), "Online") => Ok(Json(message).into_response()),
        _ => {
            tokio::time::sleep(std::time::Duration::from_secs(20)).await;
            Ok(StatusCode::ACCEPTED.into_response())
        }
    }
}

async fn no_message(
    State(server): Shared,
    Path((_, message)): Path<(String, String)>,
) -> Json<Value> {
    server.tell(&format!("delete message {message}"), |_| {});
    Json(json!({}))
}

async fn lock(
    State(server): Shared,
    headers: HeaderMap,
    Path((_, request)): Path<(String, String)>,
    Query(query): Query<BTreeMap<String, String>>,
    Json(body): Json<Value>,
) -> Answer {
    expect_bearer(&headers, ACCESS)?;
    assert_eq!(query["lockToken"], "00000000-0000-0000-0000-000000000000");
    assert_eq!((request.as_str(), &body["requestId"]), ("1", &json!(1)));
    server.tell("lock", |_| {});
    if body.get("finishTime").is_some() {
        server.tell("finish", |told| told.complete = Some(body));
    }
    Ok(Json(json!({"requestId": 1, "lockedUntil": "2030-01-01T00:00:00Z"})))
}

async fn plan(
    State(server): Shared,
    headers: HeaderMap,
    Path(path): Path<String>,
    body: Bytes,
) -> Answer {
    expect_bearer(&headers, JOB_TOKEN)?;
    let rest = path.strip_prefix(PLAN).unwrap().trim_start_matches('/').to_owned();
    let json = || serde_json::from_slice::<Value>(&body).unwrap();
    match rest.as_str() {
        "records/33333333-3333-3333-3333-333333333333" => {
            let body = json();
            assert_eq!(body["count"], json!(body["value"].as_array().unwrap().len()));
            server.tell("records", |told| told.updates.push(body));
        }
        "logs" => {
            let path = json()["path"].as_str().unwrap().to_owned();
            let mut tenant = server.tenant.lock().unwrap();
            tenant.logs.push(path);
            return Ok(Json(json!({"id": tenant.logs.len()})));
        }
        "events" => server.tell("complete", |told| told.complete = Some(json())),
        log => {
            let number: usize = log.strip_prefix("logs/").unwrap().parse().unwrap();
            let path = server.tenant.lock().unwrap().logs[number - 1].clone();
            server.tell("log", |told| told.blobs.entry(path).or_default().extend(&body));
        }
    }
    Ok(Json(json!({})))
}

/// What a tenant says, and what it was told.
#[derive(Default)]
pub(crate) struct Tenant {
    pub(crate) session: Value,
    pub(crate) message: Option<Value>,
    pub(crate) logs: Vec<String>,
}

fn steps() -> Job {
    let mut job = Job::new([run("hello", "echo hello; echo '::error file=a.c,line=3::bad'")]);
    job.outputs = crate::fixture::mapping(&[("a", json!("1"))]);
    job.variables = json!({"system.github.results_endpoint": {"value": ""}});
    job
}

async fn tenant(job: Job, version: i32) -> (RunnerOutcome, crate::server::Told) {
    let fixture = Fixture::new().await;
    let mut message = job.message(&fixture.server);
    message["messageType"] = json!("PipelineAgentJobRequest");
    message["plan"]["version"] = json!(version);
    message["resources"]["endpoints"][0]["url"] = json!(format!("{}/tenant/", fixture.server.url));
    fixture.server.tenant.lock().unwrap().message = Some(json!({"messageId": 7,
        "messageType": "PipelineAgentJobRequest", "body": format!("\u{feff}{message}")}));
    let jit = tenant_blob(&fixture.server.url);
    let outcome = sekisho_runner::run(jit, fixture.options()).await.unwrap();
    let told = std::mem::take(&mut *fixture.server.told.lock().unwrap());
    (outcome, told)
}

/// The last that the timeline says of a record, field by field.
fn record(told: &crate::server::Told, id: &str) -> Value {
    let mut record = json!({});
    for update in &told.updates {
        for value in update["value"].as_array().unwrap().iter().filter(|v| v["id"] == json!(id)) {
            merge(&mut record, value);
        }
    }
    record
}

#[tokio::test]
async fn a_whole_job_is_run_with_its_lock_timeline_and_logs_at_the_tenant() {
    let (outcome, told) = tenant(steps(), 12).await;
    assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    let mut calls = told.calls.iter();
    for call in [
        "tenant session",
        "tenant poll Online",
        "lock",
        "delete message 7",
        "complete",
        "delete tenant session",
    ] {
        assert!(calls.any(|c| c == call), "`{call}` is not in its place: {:?}", told.calls);
    }
    assert!(!told.calls.iter().any(|call| call == "acquire" || call == "acknowledge"));
    let end = told.complete.as_ref().unwrap();
    assert_eq!((&end["name"], &end["result"]), (&json!("JobCompleted"), &json!("succeeded")));
    assert_eq!(end["outputs"], json!({"a": {"value": "1", "isSecret": false}}));
    let step = id("hello");
    let log = String::from_utf8(told.blobs[&format!("logs\\{step}")].clone()).unwrap();
    assert!(log.lines().any(|line| line.ends_with("Z hello")), "{log}");
    let record = record(&told, &step);
    assert_eq!((&record["state"], &record["result"]), (&json!("completed"), &json!("succeeded")));
    assert_eq!((&record["parentId"], &record["type"]), (&json!(JOB), &json!("Task")));
    assert!(record["log"]["id"].as_i64().unwrap() > 0);
    let issue = &record["issues"][0];
    assert_eq!((&issue["type"], &issue["message"]), (&json!("error"), &json!("bad")));
    assert_eq!((&issue["data"]["file"], &issue["data"]["line"]), (&json!("a.c"), &json!("3")));
    assert_eq!(self::record(&told, JOB)["result"], json!("succeeded"));
}

#[tokio::test]
async fn an_old_plan_ends_with_its_lock() {
    let (outcome, told) = tenant(steps(), 7).await;
    assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    assert_eq!(told.complete.as_ref().unwrap()["result"], json!("succeeded"));
    assert!(told.calls.iter().any(|call| call == "finish"), "{:?}", told.calls);
}

#[tokio::test]
async fn a_token_that_is_refused_costs_neither_the_lock_nor_the_end() {
    let fixture = Fixture::new().await;
    let go = fixture.root.path().join("go");
    let wait = format!("until test -e '{}'; do sleep 0.02; done", go.display());
    let mut job = steps();
    job.steps = vec![run("hello", &wait)];
    let mut message = job.message(&fixture.server);
    message["messageType"] = json!("PipelineAgentJobRequest");
    message["plan"]["version"] = json!(7);
    message["resources"]["endpoints"][0]["url"] = json!(format!("{}/tenant/", fixture.server.url));
    fixture.server.tenant.lock().unwrap().message = Some(json!({"messageId": 7,
        "messageType": "PipelineAgentJobRequest", "body": message.to_string()}));
    let refuse = || {
        fixture.server.errors.lock().unwrap().insert("lock/1/1", (401, json!({})));
    };
    refuse();
    let running = sekisho_runner::run(tenant_blob(&fixture.server.url), fixture.options());
    let later = async {
        fixture.server.until("delete message 7").await;
        // The renewal beside the job comes at once; what is refused next is the end.
        while fixture.server.told.lock().unwrap().calls.iter().filter(|c| *c == "lock").count() < 2
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        refuse();
        std::fs::write(&go, "").unwrap();
    };
    let (outcome, ()) = tokio::join!(running, later);
    assert_eq!(outcome.unwrap(), RunnerOutcome::Completed(Conclusion::Succeeded));
    let told = fixture.server.told.lock().unwrap();
    assert_eq!(told.complete.as_ref().unwrap()["result"], json!("succeeded"));
    let count = |name: &str| told.calls.iter().filter(|call| *call == name).count();
    assert_eq!(
        (count("401 to lock/1/1"), count("finish"), count("token")),
        (2, 1, 3),
        "{:?}",
        told.calls
    );
}

#[tokio::test]
async fn a_session_may_move_to_a_broker() {
    let fixture = Fixture::new().await;
    fixture.set_job(&steps());
    let broker = json!({"brokerBaseUrl": format!("{}/broker", fixture.server.url)});
    fixture.server.tenant.lock().unwrap().session = json!({"brokerMigrationMessage": broker});
    let jit = tenant_blob(&fixture.server.url);
    let outcome = sekisho_runner::run(jit, fixture.options()).await.unwrap();
    assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    let calls = fixture.server.told.lock().unwrap().calls.clone();
    let want = ["token", "tenant session", "session", "poll", "acknowledge", "acquire"];
    assert_eq!(calls[..6], want);
    assert_eq!(calls.last().map(String::as_str), Some("delete session"));
}

#[tokio::test]
async fn a_message_may_move_to_a_broker_and_the_queue_is_asked_first_each_time() {
    let fixture = Fixture::new().await;
    fixture.set_job(&steps());
    let broker = json!({"brokerBaseUrl": format!("{}/broker/", fixture.server.url)});
    fixture.server.tenant.lock().unwrap().message = Some(json!({"messageId": 1,
        "messageType": "BrokerMigration", "body": broker.to_string()}));
    let jit = tenant_blob(&fixture.server.url);
    let outcome = sekisho_runner::run(jit, fixture.options()).await.unwrap();
    assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    let calls = fixture.server.told.lock().unwrap().calls.clone();
    let want = ["token", "tenant session", "tenant poll Online", "poll", "acknowledge", "acquire"];
    assert_eq!(calls[..6], want);
    assert_eq!(calls.last().map(String::as_str), Some("delete tenant session"));
}
