//! One job, driven by the raw requests of a runner.

use std::time::Duration;

use futures_util::SinkExt as _;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use crate::runner::{Runner, now};
use crate::world::{ADMIN, WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";

async fn pushed_world() -> (World, u64) {
    let world = World::new().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = world.push(&folder, "acme/app").await;
    (world, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_from_registration_to_its_log() {
    let (world, id) = pushed_world().await;
    let mut runner = Runner::new(&world, "r1").await;
    let request = runner.acquire(&world).await;
    check_message(&world, &runner, id).await;
    assert_eq!(runner.try_acquire(&world, &request).await.status(), 409);

    let renewed = runner.run_service(&world, "renewjob", json!({})).await;
    let renewed: Value = renewed.json().await.unwrap();
    let until: jiff::Timestamp = renewed["lockedUntil"].as_str().unwrap().parse().unwrap();
    assert!((500..=600).contains(&(until.as_second() - now())), "{until}");

    runner.step(&world, 1, 3, 0).await;
    feed(&world, &runner).await;
    upload(&world, &runner).await;
    runner.step(&world, 2, 6, 2).await;
    // Too late: a newer one came before.
    runner.step(&world, 1, 3, 0).await;
    let run = world.run(id).await;
    assert_eq!(run["status"], "in_progress");
    assert_eq!(run["jobs"][0]["runner_name"], "r1");
    assert_eq!(run["jobs"][0]["steps"][0]["status"], "completed");

    assert_eq!(runner.complete(&world, "succeeded").await.status(), 200);
    assert_eq!(runner.complete(&world, "succeeded").await.status(), 404);
    let run = world.run(id).await;
    assert_eq!((&run["status"], &run["conclusion"]), (&json!("completed"), &json!("success")));
    let job = &run["jobs"][0];
    assert_eq!(job["outputs"], json!({"answer": "42"}));
    let annotation = json!({"level": "warning", "message": "odd", "path": "a.c", "line": 3});
    assert_eq!(job["annotations"], json!([annotation]));
    // Its registration ended with its job, and so did its credentials.
    assert_eq!(world.get("/_hub/v1/queue").await["runners"], json!([]));
    let refused = runner.exchange(&world, &runner.claims(), None).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "invalid_client");
    assert_eq!(runner.poll(&world).await.status(), 404);
    check_events(&world, id, &job["id"]).await;

    let path = format!("/api/v3/repos/acme/app/actions/jobs/{}", job["id"]);
    assert_eq!(world.get(&path).await["conclusion"], "success");
    let request = world.request(Method::GET, &format!("{path}/logs")).bearer_auth(ADMIN);
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "line 1\nline 2\n");
}

async fn check_message(world: &World, runner: &Runner, id: u64) {
    let job = &runner.job;
    assert_eq!(job["messageType"], "RunnerJobRequest");
    assert_eq!(job["jobDisplayName"], "hello");
    let step = &job["steps"][0];
    assert_eq!((&step["contextName"], &step["condition"]), (&json!("say"), &json!("success()")));
    assert_eq!(step["reference"]["type"], "script");
    let message: sekisho_github::wire::job::AgentJobRequestMessage =
        sekisho_github::lenient::from_value(job.clone()).unwrap();
    let github = |name: &str| message.context_data["github"].0.get(name).to_text();
    assert_eq!(github("run_id"), id.to_string());
    // The name by which GitHub's packages know a server that has artifacts and caches.
    assert_eq!(github("server_url"), world.url.replace("127.0.0.1", "hub.localhost"));
    assert_eq!(github("api_url"), format!("{}/api/v3", world.url));
    assert_eq!(github("ref_name"), "main");
    assert_eq!(github("workflow_ref"), format!("acme/app/{FILE}@refs/heads/main"));
    let event = message.context_data["github"].0.get("event");
    assert_eq!(event.get("head_commit").get("message").to_text(), "change");
    assert_eq!(message.context_data["vars"].0.get("COLOUR").to_text(), "blue");
    assert_eq!(message.environment_variables.len(), 1);
    assert_eq!(message.file_table, [FILE]);
    let endpoint = message.system_connection().unwrap();
    assert_eq!(
        endpoint.data("FeedStreamUrl").unwrap(),
        world.url.replace("http", "ws") + "/_run/feed"
    );
    let permissions = message.variable("system.github.token.permissions").unwrap();
    let want = r#"{"Contents":"read","IdToken":"write","Metadata":"read"}"#;
    assert_eq!(permissions.value.expose(), want);
    id_token(world, runner, endpoint.data("GenerateIdTokenUrl").unwrap(), id).await;
}

async fn id_token(world: &World, runner: &Runner, url: &str, id: u64) {
    let request = world.client.get(format!("{url}&audience=gate")).bearer_auth(runner.job_token());
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let issuer = format!("{}/_services/token", world.url);
    let discovery = format!("{issuer}/.well-known/openid-configuration");
    let discovery: Value = world.client.get(discovery).send().await.unwrap().json().await.unwrap();
    assert_eq!(discovery["issuer"], issuer);
    let jwks = world.client.get(discovery["jwks_uri"].as_str().unwrap()).send().await.unwrap();
    let jwks: Value = jwks.json().await.unwrap();
    let key = &jwks["keys"][0];
    let decoder =
        DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap());
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["gate"]);
    validation.set_issuer(&[&issuer]);
    let token = answer["value"].as_str().unwrap();
    assert_eq!(jsonwebtoken::decode_header(token).unwrap().kid.as_deref(), key["kid"].as_str());
    let token = jsonwebtoken::decode::<Value>(token, &decoder.unwrap(), &validation).unwrap();
    let claims = token.claims;
    assert_eq!(claims["sub"], "repo:acme/app:ref:refs/heads/main");
    assert_eq!(claims["repository"], "acme/app");
    assert_eq!(claims["job_workflow_ref"], format!("acme/app/{FILE}@refs/heads/main"));
    assert_eq!(claims["run_id"], id.to_string());
    assert_eq!(claims["runner_environment"], "self-hosted");
    assert!(claims["repository_id"].is_string());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
}

async fn feed(world: &World, runner: &Runner) {
    let url = world.url.replace("http", "ws") + "/_run/feed";
    let mut request = url.into_client_request().unwrap();
    let bearer = format!("Bearer {}", runner.job_token());
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let step = &runner.job["steps"][0]["id"];
    let frame = json!({"count": 1, "value": ["live line"], "stepId": step, "startLine": 1});
    socket.send(Message::text(frame.to_string())).await.unwrap();
    // The stream of events shows it while the job runs.
    let path = format!("/_hub/v1/runs/{}/events", 1);
    let mut events = world.request(Method::GET, &path).bearer_auth(ADMIN).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("live line") {
        let chunk = tokio::time::timeout(Duration::from_secs(10), events.chunk()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    socket.close(None).await.unwrap();
}

async fn upload(world: &World, runner: &Runner) {
    let step = json!({"step_backend_id": runner.job["steps"][0]["id"]});
    let answer = runner.results(world, "GetStepLogsSignedBlobURL", step).await;
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["blob_storage_type"], "BLOB_STORAGE_TYPE_AZURE");
    let url = answer["logs_url"].as_str().unwrap();
    let put = |url: String, body: &'static str| {
        let put = world.client.put(url).header("x-ms-blob-type", "AppendBlob").body(body);
        async move { put.send().await.unwrap() }
    };
    let created = put(url.to_owned(), "").await;
    assert_eq!(created.status(), 201);
    assert!(created.headers().contains_key("x-ms-request-id"));
    assert_eq!(put(format!("{url}&comp=appendblock"), "line 1\n").await.status(), 201);
    assert_eq!(put(format!("{url}&comp=appendblock&seal=true"), "line 2\n").await.status(), 201);
    // The signature is for one file.
    let other = url.replace(".log?", ".md?");
    assert_eq!(put(other, "x").await.status(), 403);
    let metadata = json!({"step_backend_id": runner.job["steps"][0]["id"], "line_count": "2",
        "uploaded_at": "2026-01-01T00:00:00Z"});
    assert_eq!(runner.results(world, "CreateStepLogsMetadata", metadata).await.status(), 200);
}

async fn check_events(world: &World, id: u64, job: &Value) {
    let events = world.events(id).await;
    let shown: Vec<String> = events
        .iter()
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text("type"), text("status"), text("conclusion"))
        })
        .collect();
    let want = [
        "run queued -",
        "job queued -",
        "job in_progress -",
        "run in_progress -",
        "step in_progress -",
        "log - -",
        "step completed success",
        "annotation - -",
        "job completed success",
        "run completed success",
    ];
    assert_eq!(shown, want);
    assert!(events[1..9].iter().filter(|e| e["type"] != "run").all(|e| e["job_id"] == *job));
    assert_eq!(events[5]["lines"], json!(["live line"]));
    let path = format!("/_hub/v1/runs/{id}/events?after=9");
    let rest = world.request(Method::GET, &path).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(rest.text().await.unwrap().lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_runner_is_told_at_once() {
    let world = World::new().await;
    let runner = Runner::new(&world, "r1").await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let pushing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.push(&folder, "acme/app").await
    };
    let (offer, id) = tokio::join!(runner.message(&world, "RunnerJobRequest"), pushing);
    assert_eq!(offer["should_acknowledge"], true);
    let queue = world.get("/_hub/v1/queue").await;
    assert_eq!(queue["runners"][0]["status"], "online");
    assert_eq!(queue["runners"][0]["busy"], true);
    assert_eq!(queue["runners"][0]["job_id"], queue["jobs"][0]["job_id"]);
    assert_eq!(queue["jobs"][0]["run_id"], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_stops_its_runner() {
    let (world, id) = pushed_world().await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    let path = format!("/api/v3/repos/acme/app/actions/runs/{id}/cancel");
    let cancel = async { world.post(&path, &json!({})).await.status() };
    let (message, status) = tokio::join!(runner.message(&world, "JobCancellation"), cancel);
    assert_eq!(status, 202);
    assert_eq!(message, json!({"jobId": runner.job["jobId"], "timeout": "00:05:00"}));
    assert_eq!(runner.complete(&world, "canceled").await.status(), 200);
    assert_eq!(world.run(id).await["conclusion"], "cancelled");
    assert_eq!(world.post(&path, &json!({})).await.status(), 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_process_ended_fails_its_job() {
    let (world, id) = pushed_world().await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    runner.step(&world, 1, 3, 0).await;
    let path = format!("/api/v3/repos/acme/app/actions/runners/{}", runner.id);
    let busy = world.request(Method::DELETE, &path).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(busy.status(), 422);
    let gone = format!("/_hub/v1/runners/{}/gone", runner.id);
    let reason = json!({"reason": "killed by signal 9"});
    assert_eq!(world.post(&gone, &reason).await.status(), 204);
    assert_eq!(world.post(&gone, &reason).await.status(), 404);
    let run = world.run(id).await;
    assert_eq!(run["conclusion"], "failure");
    let job = &run["jobs"][0];
    assert_eq!(job["steps"][0]["conclusion"], "cancelled");
    assert_eq!(job["annotations"][0]["message"], "The runner was lost: killed by signal 9");
    assert_eq!(runner.run_service(&world, "renewjob", json!({})).await.status(), 404);
}
