//! GitHub's REST, by the client that Sekisho asks GitHub with, and by raw requests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, Response};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use sekisho_github::http::ClientOptions;
use sekisho_github::rest::{
    Address, Clock, Credential, GenerateJitConfig, GithubClient, KeySigner, Repository, RestError,
    RunConclusion, RunFilter, RunJobs, RunStatus, RunnerGroupChange,
};
use sekisho_hub::{App, Config};
use serde_json::{Value, json};

use crate::job::{Runner, timestamp};
use crate::world::{ADMIN, Folder, WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";
const CLIENT_ID: &str = "Iv23test";

/// The App's key, and another.
fn keys() -> &'static [RsaPrivateKey; 2] {
    static KEYS: OnceLock<[RsaPrivateKey; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [0, 1].map(|_| RsaPrivateKey::new(&mut rand(), 2048).unwrap()))
}

fn rand() -> rsa::rand_core::OsRng {
    rsa::rand_core::OsRng
}

fn pem(key: usize) -> String {
    keys()[key].to_pkcs8_pem(LineEnding::LF).unwrap().to_string()
}

fn with_app(config: &mut Config) {
    let permissions = [
        ("administration", "write"),
        ("organization_self_hosted_runners", "write"),
        ("actions", "write"),
        ("contents", "read"),
    ];
    config.app = Some(App {
        id: 77,
        client_id: CLIENT_ID.to_owned(),
        public_key: keys()[0].to_public_key().to_public_key_pem(LineEnding::LF).unwrap(),
        permissions: permissions.map(|(name, it)| (name.to_owned(), it.to_owned())).into(),
        installations: BTreeMap::from([(5, "acme".to_owned()), (6, "other".to_owned())]),
    });
}

async fn world() -> World {
    World::with(tempfile::tempdir().unwrap(), with_app).await
}

/// A client whose clock goes ahead by so many seconds.
fn client_ahead(
    world: &World,
    of: &str,
    credential: Credential,
    ahead: Arc<AtomicI64>,
) -> GithubClient {
    let address = Address::parse(&format!("{}/{of}", world.url), false).unwrap();
    let clock =
        Clock::new(move || timestamp() + SignedDuration::from_secs(ahead.load(Ordering::Relaxed)));
    GithubClient::new(address, credential, &ClientOptions::default(), clock).unwrap()
}

fn client(world: &World, of: &str, credential: Credential) -> GithubClient {
    client_ahead(world, of, credential, Arc::default())
}

fn app(issuer: &str, installation: Option<u64>) -> Credential {
    let signer = Arc::new(KeySigner::from_pem(&pem(0)).unwrap());
    Credential::App { issuer: issuer.to_owned(), installation, signer }
}

fn admin() -> Credential {
    Credential::Token(ADMIN.to_owned().into())
}

fn repository() -> Repository {
    Repository::new("acme", "app").unwrap()
}

fn jit(name: &str, group: u64) -> GenerateJitConfig {
    let labels = vec!["Default".to_owned(), "linux".to_owned()];
    GenerateJitConfig { name: name.to_owned(), runner_group_id: group, labels, work_folder: None }
}

async fn push(world: &World, folder: &Folder) -> u64 {
    world.push(folder, "acme/app").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_looks_after_runners() {
    let world = world().await;
    for issuer in [CLIENT_ID, "77"] {
        let client = client(&world, "acme/app", app(issuer, None));
        assert_eq!(client.installation().await.unwrap().id, 5);
        let name = format!("r{issuer}");
        let made = client.generate_jit_config(&jit(&name, 1)).await.unwrap();
        assert_eq!(made.runner.name, name);
        assert!(made.encoded_jit_config.len() > 1000);
        let error = client.generate_jit_config(&jit(&name, 1)).await.unwrap_err();
        assert_eq!(error.status(), Some(409));
        let found = client.runners(Some(&name)).await.unwrap();
        assert_eq!(found, [client.runner(made.runner.id).await.unwrap()]);
        labels(&client, made.runner.id).await;
        assert!(client.delete_runner(made.runner.id).await.unwrap());
        assert!(!client.delete_runner(made.runner.id).await.unwrap());
        let token = client.registration_token().await.unwrap();
        let left = token.expires_at.duration_since(timestamp());
        assert!((3590..=3600).contains(&left.as_secs()), "{left:?}");
    }
}

async fn labels(client: &GithubClient, id: u64) {
    let names = |labels: Vec<sekisho_github::rest::Label>| -> Vec<(String, String)> {
        labels.into_iter().map(|label| (label.name, label.kind.unwrap())).collect()
    };
    let all = |custom: &[&str]| -> Vec<(String, String)> {
        let own = ["default", "linux"].map(|name| (name.to_owned(), "read-only".to_owned()));
        let custom = custom.iter().map(|name| ((*name).to_owned(), "custom".to_owned()));
        own.into_iter().chain(custom).collect()
    };
    let new = |list: &[&str]| -> Vec<String> { list.iter().map(|l| (*l).to_owned()).collect() };
    assert_eq!(names(client.runner_labels(id).await.unwrap()), all(&[]));
    let added = client.add_runner_labels(id, &new(&["GPU", "linux"])).await.unwrap();
    assert_eq!(names(added), all(&["gpu"]));
    let set = client.set_runner_labels(id, &new(&["a b/c"])).await.unwrap();
    assert_eq!(names(set), all(&["a b/c"]));
    let status = |error: RestError| error.status();
    let refused = client.remove_runner_label(id, "linux").await.map_err(status);
    assert_eq!(refused.unwrap_err(), Some(422));
    let refused = client.remove_runner_label(id, "gpu").await.map_err(status);
    assert_eq!(refused.unwrap_err(), Some(404));
    assert_eq!(names(client.remove_runner_label(id, "a b/c").await.unwrap()), all(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_of_an_organization() {
    let world = world().await;
    let client = client(&world, "acme", app(CLIENT_ID, Some(5)));
    let named =
        |name: &str| RunnerGroupChange { name: Some(name.to_owned()), ..Default::default() };
    let made = client.create_runner_group(&named("big")).await.unwrap();
    assert_eq!((made.name.as_str(), made.is_default), ("big", false));
    assert_eq!(client.create_runner_group(&named("BIG")).await.unwrap_err().status(), Some(409));
    let names: Vec<String> =
        client.runner_groups().await.unwrap().into_iter().map(|group| group.name).collect();
    assert_eq!(names, ["Default", "big"]);
    let change = RunnerGroupChange { visibility: Some("private".into()), ..named("huge") };
    let changed = client.update_runner_group(made.id, &change).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.visibility.as_str()), ("huge", "private"));
    assert_eq!(client.runner_group(made.id).await.unwrap(), changed);
    // 2 is the hosted runners' group, which nobody has here.
    assert_eq!(client.generate_jit_config(&jit("r", 2)).await.unwrap_err().status(), Some(404));
    let in_group = client.generate_jit_config(&jit("r1", made.id)).await.unwrap().runner;
    let other = client.generate_jit_config(&jit("r2", 1)).await.unwrap().runner;
    client.add_group_runner(made.id, other.id).await.unwrap();
    let ids: Vec<u64> =
        client.group_runners(made.id).await.unwrap().iter().map(|runner| runner.id).collect();
    assert_eq!(ids, [in_group.id, other.id]);
    // Not while something is in it.
    assert_eq!(client.delete_runner_group(made.id).await.unwrap_err().status(), Some(409));
    assert!(client.remove_group_runner(made.id, in_group.id).await.unwrap());
    assert!(!client.remove_group_runner(made.id, in_group.id).await.unwrap());
    assert_eq!(client.runner(in_group.id).await.unwrap().runner_group_id, Some(1));
    assert!(client.delete_runner(other.id).await.unwrap());
    assert!(client.delete_runner_group(made.id).await.unwrap());
    assert!(!client.delete_runner_group(made.id).await.unwrap());
    assert_eq!(client.delete_runner_group(1).await.unwrap_err().status(), Some(422));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_for_selected_repositories() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    push(&world, &folder).await;
    let client = client(&world, "acme", app(CLIENT_ID, Some(5)));
    let id = world.get("/api/v3/repos/acme/app/actions/runs").await;
    let id = id["workflow_runs"][0]["repository"]["id"].clone();
    let group = RunnerGroupChange {
        name: Some("few".into()),
        visibility: Some("selected".into()),
        ..Default::default()
    };
    let group = client.create_runner_group(&group).await.unwrap().id;
    let path = format!("/api/v3/orgs/acme/actions/runner-groups/{group}/repositories");
    let put = async |path: String, body: serde_json::Value| {
        let put = world.request(Method::PUT, &path).bearer_auth(ADMIN).json(&body);
        put.send().await.unwrap().status().as_u16()
    };
    let listed = async || {
        let list = world.get(&path).await;
        let all = list["repositories"].as_array().unwrap().clone();
        assert_eq!(list["total_count"], all.len());
        all.into_iter().map(|one| one["full_name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, [serde_json::Value::Null; 0]);
    assert_eq!(put(path.clone(), json!({"selected_repository_ids": [id]})).await, 204);
    assert_eq!(listed().await, ["acme/app"]);
    assert_eq!(put(path.clone(), json!({"selected_repository_ids": [999]})).await, 422);
    let one = format!("{path}/{id}");
    let gone = world.request(Method::DELETE, &one).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(listed().await, [serde_json::Value::Null; 0]);
    assert_eq!(put(one, json!({})).await, 204);
    assert_eq!(put(format!("{path}/999"), json!({})).await, 404);
    // Groups outlive the process, as the scale sets in them do.
    world.hub.shutdown().await;
    let world = World::on(world.kill()).await;
    assert_eq!(world.get(&path).await["repositories"][0]["full_name"], "acme/app");
}

/// Two jobs, the second of which needs the first, and one for itself.
const THREE: &str = "\
name: three
on:
  push:
  workflow_dispatch:
    inputs:
      size: { type: choice, options: [small, large], default: small }
jobs:
  a: { runs-on: default, steps: [{ run: x }] }
  b: { needs: a, runs-on: default, steps: [{ run: x }] }
  c: { runs-on: default, steps: [{ run: x }] }
";

/// Runs the next job of the queue.
async fn work(world: &World, name: &str, conclusion: &str) -> Runner {
    let mut runner = Runner::new(world, name).await;
    runner.acquire(world).await;
    assert_eq!(runner.complete(world, conclusion).await.status(), 200);
    runner
}

fn shown(jobs: &[sekisho_github::rest::WorkflowJob]) -> Vec<(&str, u64, Option<RunConclusion>)> {
    jobs.iter().map(|job| (job.name.as_str(), job.run_attempt, job.conclusion)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_run_again() {
    use RunConclusion::{Failure, Skipped, Success};
    let world = world().await;
    let folder = world.folder("work", &[(FILE, THREE)]);
    let id = push(&world, &folder).await;
    let (client, repository) = (client(&world, "acme/app", app(CLIENT_ID, None)), repository());
    let status = |error: RestError| error.status();
    let early = client.rerun(&repository, id).await.map_err(status);
    assert_eq!(early, Err(Some(403)), "it is not over");
    work(&world, "r1", "failed").await;
    work(&world, "r2", "succeeded").await;
    let run = client.run(&repository, id).await.unwrap();
    assert_eq!((run.status, run.conclusion), (RunStatus::Completed, Some(Failure)));
    assert_eq!((run.run_attempt, run.event.as_str(), run.path.as_str()), (1, "push", FILE));
    let first = client.jobs(&repository, id, RunJobs::Latest).await.unwrap();
    let ends = [("a", 1, Some(Failure)), ("b", 1, Some(Skipped)), ("c", 1, Some(Success))];
    assert_eq!(shown(&first), ends);
    assert_eq!(first[0].runner_name.as_deref(), Some("r1"));

    client.rerun_failed_jobs(&repository, id).await.unwrap();
    let run = client.run(&repository, id).await.unwrap();
    assert_eq!((run.status, run.conclusion, run.run_attempt), (RunStatus::Queued, None, 2));
    let second = work(&world, "r3", "succeeded").await;
    let message = second.message_of_job();
    let attempt = message.context_data["github"].0.get("run_attempt").to_text();
    assert_eq!(&*attempt, "2");
    work(&world, "r4", "succeeded").await;
    let jobs = client.jobs(&repository, id, RunJobs::Latest).await.unwrap();
    let ends = [("a", 2, Some(Success)), ("b", 2, Some(Success)), ("c", 1, Some(Success))];
    assert_eq!(shown(&jobs), ends);
    assert_eq!(jobs[2].id, first[2].id, "what was kept is the same job");
    assert!(jobs[0].id > first[2].id && jobs[1].id > jobs[0].id);
    world.hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_attempts_are_still_there() {
    use RunConclusion::{Failure, Success};
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = push(&world, &folder).await;
    let (client, repository) = (client(&world, "acme/app", admin()), repository());
    work(&world, "r1", "failed").await;
    let job = client.jobs(&repository, id, RunJobs::Latest).await.unwrap()[0].id;
    client.rerun_job(&repository, job).await.unwrap();
    work(&world, "r2", "succeeded").await;
    client.rerun(&repository, id).await.unwrap();
    assert_eq!(client.cancel(&repository, id).await.map_err(|e| e.status()), Ok(()));
    let attempts = async |n| client.run_attempt(&repository, id, n).await;
    // Written on a thread of its own, each attempt when the next began.
    let first = loop {
        match attempts(1).await {
            Ok(run) => break run,
            Err(error) => assert_eq!(error.status(), Some(404)),
        }
    };
    assert_eq!((first.run_attempt, first.conclusion), (1, Some(Failure)));
    assert_eq!(attempts(3).await.unwrap().conclusion, Some(RunConclusion::Cancelled));
    assert_eq!(attempts(4).await.unwrap_err().status(), Some(404));
    while attempts(2).await.is_err() {}
    let jobs = client.jobs(&repository, id, RunJobs::Attempt(2)).await.unwrap();
    assert_eq!(shown(&jobs), [("hello", 2, Some(Success))]);
    let all = client.jobs(&repository, id, RunJobs::All).await.unwrap();
    let attempts: Vec<u64> = all.iter().map(|job| job.run_attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!(client.job(&repository, job).await.unwrap().conclusion, Some(Failure));
    let over = client.cancel(&repository, id).await.unwrap_err();
    assert_eq!(over.status(), Some(409));
    assert!(over.to_string().contains("cancelling a run was answered 409: Cannot cancel"));
    let failed = client.rerun_job(&repository, 99).await.unwrap_err();
    assert_eq!(failed.status(), Some(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_read_and_started_by_hand() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, THREE), (".github/workflows/x.txt", "no")]);
    let first = push(&world, &folder).await;
    let (client, repository) = (client(&world, "acme/app", app(CLIENT_ID, None)), repository());
    let files = client.workflow_files(&repository, "main").await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].path.as_str(), files[0].content.as_slice()), (FILE, THREE.as_bytes()));
    let nowhere = client.workflow_files(&repository, "nothing").await.unwrap();
    assert_eq!(nowhere, []);
    let run = client.run(&repository, first).await.unwrap();
    for workflow in ["build.yml", &run.workflow_id.to_string()] {
        let inputs = json!({"size": "large"});
        let started = client.dispatch(&repository, workflow, "main", &inputs).await.unwrap();
        let run = client.run(&repository, started.workflow_run_id).await.unwrap();
        assert_eq!((run.event.as_str(), run.url), ("workflow_dispatch", started.run_url));
        assert_eq!(run.head_sha, folder.sha());
        client.force_cancel(&repository, run.id).await.unwrap();
    }
    client.cancel(&repository, first).await.unwrap();
    let filter = RunFilter { event: Some("workflow_dispatch".into()), ..Default::default() };
    assert_eq!(client.runs(&repository, &filter).await.unwrap().len(), 2);
    let refused = async |workflow: &str, git_ref: &str, inputs: Value| {
        let error = client.dispatch(&repository, workflow, git_ref, &inputs).await.unwrap_err();
        (error.status(), error.to_string())
    };
    assert_eq!(refused("none.yml", "main", json!({})).await.0, Some(404));
    let (status, text) = refused("build.yml", "nothing", json!({})).await;
    assert_eq!(status, Some(422));
    assert!(text.ends_with("No ref found for: nothing"), "{text}");
    let (status, text) = refused("build.yml", "main", json!({"size": "huge"})).await;
    assert_eq!(status, Some(422), "{text}");
    let (status, text) = refused("build.yml", "main", json!({"other": "x"})).await;
    assert_eq!(status, Some(422), "{text}");
    folder.commit(&[(FILE, WORKFLOW)]);
    push(&world, &folder).await;
    let (status, text) = refused("build.yml", "main", json!({})).await;
    assert_eq!(status, Some(422));
    assert!(text.ends_with("Workflow does not have 'workflow_dispatch' trigger"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_what_has_not_changed() {
    let limit = |config: &mut Config| config.rest_requests_per_hour = Some(100);
    let world = World::with(tempfile::tempdir().unwrap(), limit).await;
    for n in 0..5 {
        world.register(&format!("r{n}"), &["x"]).await;
    }
    let get = |path: &str| world.request(Method::GET, path).bearer_auth(ADMIN);
    let path = "/api/v3/repos/acme/app/actions/runners?per_page=2&page=2";
    let answer = get(path).send().await.unwrap();
    let link = answer.headers()["link"].to_str().unwrap().to_owned();
    for (page, rel) in [(1, "prev"), (3, "next"), (3, "last"), (1, "first")] {
        let base = format!("{}/api/v3/repos/acme/app/actions/runners", world.url);
        let want = format!("<{base}?per_page=2&page={page}>; rel=\"{rel}\"");
        assert!(link.contains(&want), "{link}");
    }
    let number = |answer: &Response, name: &str| -> u64 {
        answer.headers()[name].to_str().unwrap().parse().unwrap()
    };
    assert_eq!(number(&answer, "x-ratelimit-limit"), 100);
    assert_eq!(number(&answer, "x-ratelimit-remaining"), 94);
    assert_eq!(answer.headers()["x-ratelimit-resource"], "core");
    assert!(answer.headers().contains_key("x-github-request-id"));
    let tag = answer.headers()["etag"].clone();
    // What has not changed costs nothing.
    let same = get(path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(
        (same.status(), number(&same, "x-ratelimit-remaining")),
        (304.try_into().unwrap(), 94)
    );
    assert_eq!(same.text().await.unwrap(), "");
    world.register("new", &["x"]).await;
    let path = "/api/v3/repos/acme/app/actions/runners?per_page=100";
    let changed = get(path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert!(!changed.headers().contains_key("link"));
    let rate = world.get("/api/v3/rate_limit").await;
    assert_eq!(rate["resources"]["core"]["used"], 8);

    // The client pages, keeps what has not changed, and leaves a tenth for what must not fail.
    let client = client(&world, "acme/app", admin());
    for _ in 0..3 {
        assert_eq!(client.runners(None).await.unwrap().len(), 6);
    }
    let rate = world.get("/api/v3/rate_limit").await;
    assert_eq!(rate["resources"]["core"]["used"], 9);
    let mut limited = None;
    for _ in 0..100 {
        // A list that is another each time.
        match client.runners(Some(&uuid::Uuid::new_v4().to_string())).await {
            Ok(found) => assert_eq!(found, []),
            Err(error) => {
                limited = Some(error);
                break;
            }
        }
    }
    let limited = limited.unwrap();
    assert!(matches!(limited, RestError::Limited { secondary: false, .. }), "{limited}");
    assert!(limited.retry_at().unwrap() > timestamp());
    assert!(client.delete_runner(1).await.unwrap(), "the reserve");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_reached_is_said() {
    let limit = |config: &mut Config| config.rest_requests_per_hour = Some(3);
    let world = World::with(tempfile::tempdir().unwrap(), limit).await;
    let get = || world.request(Method::GET, "/api/v3/repos/a/b/actions/runners").bearer_auth(ADMIN);
    for _ in 0..3 {
        assert_eq!(get().send().await.unwrap().status(), 200);
    }
    let refused = get().send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "0");
    let body: Value = refused.json().await.unwrap();
    assert!(body["message"].as_str().unwrap().starts_with("API rate limit exceeded"), "{body}");
    let client = client(&world, "acme/app", admin());
    let error = client.runners(None).await.unwrap_err();
    assert!(error.retry_at().is_some(), "{error}");
}

fn jwt(key: usize, algorithm: Algorithm, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(pem(key).as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn unsigned(claims: &Value) -> String {
    use base64::Engine as _;
    let part = |value: &Value| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_none() {
    let world = world().await;
    let now = timestamp().as_second();
    let claims =
        |iss: Value, iat: i64, exp: i64| json!({"iss": iss, "iat": now + iat, "exp": now + exp});
    let good = claims(json!(CLIENT_ID), -60, 480);
    let rs256 = Algorithm::RS256;
    let token = "/api/v3/app/installations/5/access_tokens";
    let check = async |token: Option<String>, path: &str, want: u16, words: &str| {
        let method = if path.ends_with("access_tokens") { Method::POST } else { Method::GET };
        let mut request = world.request(method, path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), want, "{path} {words}");
        assert!(answer.headers().contains_key("x-github-request-id"));
        let body: Value = answer.json().await.unwrap();
        let said = body["message"].as_str().unwrap_or_default();
        assert!(said.contains(words), "{said}");
        if want >= 400 {
            assert_eq!(body["status"], want.to_string());
        }
    };
    let runs = "/api/v3/repos/acme/app/actions/runs";
    check(None, runs, 401, "Requires authentication").await;
    check(Some("ghs_x.y.z".into()), runs, 401, "Bad credentials").await;
    check(Some("ghp_nobody".into()), runs, 401, "Bad credentials").await;
    check(Some(jwt(0, rs256, &good)), token, 201, "").await;
    check(Some(jwt(0, rs256, &claims(json!(77), -60, 480))), token, 201, "").await;
    let undecodable = "could not be decoded";
    check(Some(jwt(1, rs256, &good)), token, 401, undecodable).await;
    check(Some(jwt(0, Algorithm::RS384, &good)), token, 401, undecodable).await;
    check(Some(unsigned(&good)), token, 401, undecodable).await;
    check(Some(jwt(0, rs256, &claims(json!("other"), -60, 480))), token, 401, "'Issuer'").await;
    check(Some(jwt(0, rs256, &claims(json!(CLIENT_ID), -600, -1))), token, 401, "in the past")
        .await;
    check(Some(jwt(0, rs256, &claims(json!(CLIENT_ID), 0, 700))), token, 401, "too far").await;
    check(Some(jwt(0, rs256, &claims(json!(CLIENT_ID), 300, 480))), token, 401, "'Issued at'")
        .await;
    check(Some(jwt(0, rs256, &good)), "/api/v3/app", 200, "").await;
    check(Some(jwt(0, rs256, &good)), runs, 401, "installation token").await;
    let unknown = "/api/v3/app/installations/9/access_tokens";
    check(Some(jwt(0, rs256, &good)), unknown, 404, "Not Found").await;
    // Without a User-Agent nobody is heard.
    let plain = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let silent = plain.get(format!("{}{runs}", world.url)).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(silent.status(), 403);
    let text = silent.text().await.unwrap();
    assert!(text.contains("User-Agent"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_what_it_was_made_for() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    push(&world, &folder).await;
    let now = timestamp().as_second();
    let app = jwt(0, Algorithm::RS256, &json!({"iss": 77, "iat": now, "exp": now + 300}));
    let make = async |installation: u64, body: Value| {
        let path = format!("/api/v3/app/installations/{installation}/access_tokens");
        let post = world.request(Method::POST, &path).bearer_auth(&app).json(&body);
        let answer = post.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["token"].as_str().unwrap_or_default().to_owned(), body)
    };
    let status = async |token: &str, path: &str| {
        let request = world.request(Method::GET, path).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    let runs = "/api/v3/repos/acme/app/actions/runs";
    let (made, all, body) = make(5, json!({})).await;
    assert_eq!((made, &body["repository_selection"]), (201, &json!("all")));
    assert!(all.starts_with("ghs_"));
    let until: Timestamp = body["expires_at"].as_str().unwrap().parse().unwrap();
    assert!((3595..=3600).contains(&(until.as_second() - now)));
    assert_eq!(status(&all, runs).await, 200);
    let wanted = json!({"repositories": ["app"], "permissions": {"contents": "read"}});
    let (_, narrow, body) = make(5, wanted).await;
    assert_eq!(body["permissions"], json!({"contents": "read"}));
    assert_eq!(status(&narrow, runs).await, 403);
    let contents = "/api/v3/repos/acme/app/contents/.github/workflows/build.yml";
    assert_eq!(status(&narrow, contents).await, 200);
    assert_eq!(status(&narrow, "/api/v3/repos/acme/other/contents/x").await, 404);
    let (_, other, _) = make(6, json!({})).await;
    assert_eq!(status(&other, runs).await, 404, "of another account");
    for bad in [
        json!({"permissions": {"contents": "write"}}),
        json!({"permissions": {"secrets": "read"}}),
        json!({"repositories": ["nothing"]}),
        json!({"repository_ids": [999]}),
    ] {
        assert_eq!(make(5, bad.clone()).await.0, 422, "{bad}");
    }
    // A registration token registers and removes, in its own scope, and nothing else.
    let token = async |kind: &str| {
        let path = format!("/api/v3/repos/acme/app/actions/runners/{kind}");
        let made: Value = world.post(&path, &json!({})).await.json().await.unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let remote = async |method: Method, token: &str, path: &str| {
        let request = world.request(method, path);
        let request = request.header("authorization", format!("RemoteAuth {token}"));
        request.send().await.unwrap().status().as_u16()
    };
    let (register, remove) = (token("registration-token").await, token("remove-token").await);
    let runner = world.register("r1", &["x"]).await["runner"]["id"].as_u64().unwrap();
    let path = format!("/api/v3/repos/acme/app/actions/runners/{runner}");
    let list = "/api/v3/repos/acme/app/actions/runners?name=r1";
    assert_eq!(remote(Method::GET, &register, list).await, 200);
    assert_eq!(remote(Method::GET, &register, runs).await, 401);
    assert_eq!(remote(Method::GET, "x", list).await, 401);
    assert_eq!(status(&register, list).await, 401, "it is no bearer");
    assert_eq!(remote(Method::DELETE, &register, &path).await, 403);
    let elsewhere = path.replace("acme/app", "acme/other");
    assert_eq!(remote(Method::DELETE, &remove, &elsewhere).await, 404);
    assert_eq!(remote(Method::DELETE, &remove, &path).await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_token_reads_its_repository_while_the_job_runs() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    push(&world, &folder).await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    let message = runner.message_of_job();
    let token = message.variable("system.github.token").unwrap().value.expose().to_owned();
    let client = client(&world, "acme/app", Credential::Token(token.into()));
    let repository = repository();
    assert_eq!(client.runs(&repository, &RunFilter::default()).await.unwrap().len(), 1);
    let refused = client.cancel(&repository, 1).await.unwrap_err();
    assert_eq!(refused.status(), Some(403));
    assert!(refused.to_string().ends_with("Resource not accessible by integration"), "{refused}");
    let hint = "give the credential the permission `actions: write`";
    assert_eq!(refused.hint().as_deref(), Some(hint));
    let other = Repository::new("acme", "other").unwrap();
    assert_eq!(client.run(&other, 1).await.unwrap_err().status(), Some(404));
    runner.complete(&world, "succeeded").await;
    let over = client.run(&repository, 1).await.unwrap_err();
    assert_eq!(over.status(), Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_made_for_many_and_renewed_before_it_ends() {
    let world = World::with(tempfile::tempdir().unwrap(), |config| {
        with_app(config);
        config.rest_requests_per_hour = Some(1000);
    })
    .await;
    let ahead = Arc::new(AtomicI64::new(0));
    let credential = app(CLIENT_ID, Some(5));
    let client = Arc::new(client_ahead(&world, "acme/app", credential, Arc::clone(&ahead)));
    let mut all = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = Arc::clone(&client);
        all.spawn(async move { client.runners(Some(&n.to_string())).await.unwrap() });
    }
    all.join_all().await;
    // Every token is a credential of its own, so the hub counted twenty requests for one.
    let window = |client: &GithubClient| format!("{:?}", client.budget());
    assert!(window(&client).contains("remaining: 980"), "{}", window(&client));
    // Five minutes before its end, a new one is made: its window is a new one too.
    ahead.store(3600 - 299, Ordering::Relaxed);
    client.runner(1).await.unwrap_err();
    let made = world.get("/api/v3/rate_limit").await;
    assert_eq!(made["rate"]["used"], 0, "the administrator's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_behind_a_signed_url() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = push(&world, &folder).await;
    let (client, repository) = (client(&world, "acme/app", app(CLIENT_ID, None)), repository());
    let job = client.jobs(&repository, id, RunJobs::Latest).await.unwrap()[0].id;
    let none = client.job_log(&repository, job, 1000).await.unwrap_err();
    assert_eq!(none.status(), Some(404));
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    let url = runner.results(&world, "GetJobLogsSignedBlobURL", json!({})).await;
    let url: Value = url.json().await.unwrap();
    let put = world.client.put(url["logs_url"].as_str().unwrap());
    let put = put.header("x-ms-blob-type", "BlockBlob").body("one\ntwo\n");
    assert_eq!(put.send().await.unwrap().status(), 201);
    runner.complete(&world, "succeeded").await;
    assert_eq!(client.job_log(&repository, job, 1000).await.unwrap(), b"one\ntwo\n");
    let long = client.job_log(&repository, job, 7).await.unwrap_err();
    assert!(long.to_string().contains("reading a job's log failed"), "{long}");
    let open = format!("{}/_blobs/{id}/{job}/job.log?sig=x", world.url);
    assert_eq!(world.client.get(open).send().await.unwrap().status(), 403);
    let path = format!("/api/v3/repos/acme/app/actions/runs/{id}/pending_deployments");
    assert_eq!(world.get(&path).await, json!([]));
}

/// Names and texts of a run's packed logs.
async fn packed(world: &World, path: &str) -> Vec<(String, String)> {
    use std::io::Read as _;
    let get = world.request(Method::GET, path).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(get.headers()["content-type"], "application/zip");
    let bytes = get.bytes().await.unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let count = zip.len();
    let read = |place: usize| {
        let mut file = zip.by_index(place).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        (file.name().unwrap().into_owned(), text)
    };
    (0..count).map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_a_run_in_one_archive() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = push(&world, &folder).await;
    let path = format!("/api/v3/repos/acme/app/actions/runs/{id}");
    let logs = format!("{path}/logs");
    let none = world.request(Method::GET, &logs).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(none.status(), 404);
    let run = async |name: &str, text: &str| {
        let mut runner = Runner::new(&world, name).await;
        runner.acquire(&world).await;
        let step = json!({"step_backend_id": runner.job["steps"][0]["id"]});
        for (method, field, extra) in [
            ("GetJobLogsSignedBlobURL", "logs_url", json!({})),
            ("GetStepLogsSignedBlobURL", "logs_url", step),
        ] {
            let url: Value = runner.results(&world, method, extra).await.json().await.unwrap();
            let put = world.client.put(url[field].as_str().unwrap());
            let put = put.header("x-ms-blob-type", "BlockBlob").body(format!("{text} {method}\n"));
            assert_eq!(put.send().await.unwrap().status(), 201);
        }
        assert_eq!(runner.complete(&world, "succeeded").await.status(), 200);
    };
    run("r1", "first").await;
    let texts = |text: &str| {
        vec![
            ("0_hello.txt".to_owned(), format!("{text} GetJobLogsSignedBlobURL\n")),
            ("hello/1_Say it.txt".to_owned(), format!("{text} GetStepLogsSignedBlobURL\n")),
        ]
    };
    assert_eq!(packed(&world, &logs).await, texts("first"));
    assert_eq!(world.post(&format!("{path}/rerun"), &json!({})).await.status(), 201);
    run("r2", "second").await;
    assert_eq!(packed(&world, &logs).await, texts("second"));
    // Written on a thread of its own.
    let earlier = format!("{path}/attempts/1");
    let get = async || world.request(Method::GET, &earlier).bearer_auth(ADMIN).send().await;
    while get().await.unwrap().status() == 404 {}
    assert_eq!(packed(&world, &format!("{earlier}/logs")).await, texts("first"));
    let forged = format!("{}/_blobs/{id}/attempts/1/logs.zip?sig=x", world.url);
    assert_eq!(world.client.get(forged).send().await.unwrap().status(), 403);
}
