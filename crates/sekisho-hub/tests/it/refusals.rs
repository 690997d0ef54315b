//! What the hub refuses, and how it says so.

use std::path::Path;
use std::process::{Command, Output};

use reqwest::{Method, StatusCode};
use rsa::RsaPrivateKey;
use serde_json::{Value, json};

use crate::runner::{Runner, now};
use crate::world::{ADMIN, WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";

#[tokio::test(flavor = "multi_thread")]
async fn assertions_that_are_not_the_runners() {
    let world = World::new().await;
    let runner = Runner::registered(&world, "r1").await;
    let check =
        |claims: Value, key: Option<RsaPrivateKey>, code: &'static str, words: &'static str| {
            let (world, runner) = (&world, &runner);
            async move {
                let answer = runner.exchange(world, &claims, key).await;
                assert_eq!(answer.status(), 400);
                assert!(answer.headers().contains_key("content-length"));
                let answer: Value = answer.json().await.unwrap();
                assert_eq!(answer["error"], code, "{answer}");
                let text = answer["error_description"].as_str().unwrap();
                assert!(text.contains(words), "{text}");
            }
        };
    let other = Runner::registered(&world, "r2").await.config.private_key().unwrap();
    check(runner.claims(), Some(other), "invalid_request", "signature").await;
    let mut claims = runner.claims();
    claims["aud"] = json!("https://elsewhere.example/token");
    check(claims, None, "invalid_request", "InvalidAudience").await;
    let mut claims = runner.claims();
    claims["exp"] = json!(now() - 120);
    check(claims, None, "invalid_request", "Current server time is").await;
    let mut claims = runner.claims();
    claims["exp"] = json!(now() + 4000);
    check(claims, None, "invalid_request", "longer than").await;
    let mut claims = runner.claims();
    claims["iss"] = json!(uuid::Uuid::new_v4());
    check(claims, None, "invalid_client", "gone").await;
    let claims = runner.claims();
    assert_eq!(runner.exchange(&world, &claims, None).await.status(), 200);
    check(claims, None, "invalid_request", "used before").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_that_cannot_be() {
    let world = World::new().await;
    world.register_at("orgs/acme", "r1", &["a"]).await;
    // Another place has names of its own.
    world.register("r1", &["a"]).await;
    let path = "/api/v3/orgs/acme/actions/runners/generate-jitconfig";
    let check = |body: Value, want: u16| {
        let world = &world;
        async move {
            let answer = world.post(path, &body).await;
            assert_eq!(answer.status(), want, "{body}");
            assert!(answer.headers().contains_key("x-github-request-id"));
            let answer: Value = answer.json().await.unwrap();
            assert_eq!(answer["status"], want.to_string());
            assert!(answer["message"].is_string() && answer["documentation_url"].is_string());
        }
    };
    check(json!({"name": "R1", "runner_group_id": 1, "labels": ["a"]}), 409).await;
    check(json!({"name": "r2", "labels": ["a"]}), 422).await;
    check(json!({"name": "r2", "runner_group_id": 1, "labels": []}), 422).await;
    check(json!({"name": "r2", "runner_group_id": 7, "labels": ["a"]}), 404).await;
    let folder =
        json!({"name": "r2", "runner_group_id": 1, "labels": ["a"], "work_folder": "../x"});
    check(folder, 422).await;
    let listed = world.get("/api/v3/repos/o/r/actions/runners?name=r1").await;
    assert_eq!(listed["total_count"], 0);
    let listed = world.get("/api/v3/orgs/acme/actions/runners?name=r1").await;
    assert_eq!(listed["total_count"], 1);
    assert_eq!(listed["runners"][0]["status"], "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another() {
    let world = World::new().await;
    let workflow = WORKFLOW.replace("  id-token: write\n", "");
    let folder = world.folder("work", &[(FILE, &workflow)]);
    world.push(&folder, "acme/app").await;
    let mut first = Runner::new(&world, "r1").await;
    assert_eq!(first.open_session(&world).await.status(), 409);
    first.acquire(&world).await;
    folder.commit(&[]);
    world.push(&folder, "acme/app").await;
    let mut second = Runner::new(&world, "r2").await;
    let request = second.acquire(&world).await;
    let taken = first.try_acquire(&world, &request).await;
    assert_eq!(taken.status(), 409);
    assert_eq!(taken.json::<Value>().await.unwrap()["source"], "actions-run-service");
    let unknown = json!(uuid::Uuid::new_v4());
    assert_eq!(first.try_acquire(&world, &unknown).await.status(), 404);
    assert_eq!(first.try_acquire(&world, &json!("no id")).await.status(), 422);

    // A token of one job, the ids of another.
    let stolen = std::mem::replace(&mut second.job, first.job.clone());
    let ids = json!({"planId": stolen["plan"]["planId"], "jobId": stolen["jobId"]});
    let renewed = second.call(&world, "/_run/renewjob", ids, json!({})).await;
    assert_eq!(renewed.status(), 403);
    let ids = json!({"workflow_run_backend_id": stolen["plan"]["planId"],
        "workflow_job_run_backend_id": stolen["jobId"]});
    let path = "/twirp/results.services.receiver.Receiver/GetJobLogsSignedBlobURL";
    let url = second.call(&world, path, ids, json!({})).await;
    assert_eq!(url.status(), 404);
    assert_eq!(url.json::<Value>().await.unwrap()["code"], "not_found");

    // No `id-token: write`: no URL in the message, and no token for who guesses it.
    let data = &first.job["resources"]["endpoints"][0]["data"];
    assert!(data.get("GenerateIdTokenUrl").is_none());
    let id = world.request(Method::GET, "/_services/token/id?api-version=2.0");
    assert_eq!(id.bearer_auth(first.job_token()).send().await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask() {
    let world = World::new().await;
    let get = |path: &'static str| world.request(Method::GET, path);
    for (request, want) in [
        (get("/_hub/v1/queue"), 401),
        (get("/_hub/v1/queue").bearer_auth("wrong"), 401),
        (get("/api/v3/repos/a/b/actions/runs").bearer_auth("wrong"), 401),
        (get("/_hub/v1/queue").bearer_auth(ADMIN).header("host", "evil.example"), 403),
        (get("/_hub/v1/queue").bearer_auth(ADMIN).header("origin", "http://evil.example"), 403),
        (
            get("/a/b/info/refs?service=git-receive-pack").header("sec-fetch-site", "cross-site"),
            403,
        ),
        (get("/a/b/info/refs?service=git-upload-pack"), 404),
        (get("/a/b/info/refs"), 403),
        (get("/a/..%2f..%2fb/info/refs?service=git-receive-pack"), 404),
        (get("/_broker/message?sessionId=x").bearer_auth("wrong"), 400),
        (get("/_hub/v1/runs/77").bearer_auth(ADMIN), 404),
        (get("/_hub/v1/nothing").bearer_auth(ADMIN), 404),
        (get("/_hub/v1/runs/abc").bearer_auth(ADMIN), 400),
    ] {
        let request = request.build().unwrap();
        let shown = format!("{} {:?}", request.url(), request.headers());
        let answer = world.client.execute(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::from_u16(want).unwrap(), "{shown}");
    }
    let problem = get("/_hub/v1/runs/77").bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(problem.headers()["content-type"], "application/problem+json");
    let problem: Value = problem.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("not_found"), &json!(404)));
    assert_eq!(problem["request_id"].as_str().unwrap().len(), 32);
    // The folder of a repository is made by a push, not by looking.
    assert!(!world.dir.path().join("hub/repos/a").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large() {
    let world = World::new().await;
    let large = vec![b' '; 2 * 1024 * 1024];
    let path = "/api/v3/repos/a/b/actions/runners/generate-jitconfig";
    let post = world.request(Method::POST, path).bearer_auth(ADMIN).body(large);
    assert_eq!(post.send().await.unwrap().status(), 413);
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    world.push(&folder, "acme/app").await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    let step = json!({"step_backend_id": runner.job["steps"][0]["id"]});
    let answer = runner.results(&world, "GetStepSummarySignedBlobURL", step).await;
    let answer: Value = answer.json().await.unwrap();
    let put = world.client.put(answer["summary_url"].as_str().unwrap());
    let put = put.header("x-ms-blob-type", "BlockBlob").body(vec![b'x'; 1024 * 1024 + 1]);
    let refused = put.send().await.unwrap();
    assert_eq!(refused.status(), 413);
    assert_eq!(refused.headers()["x-ms-error-code"], "RequestBodyTooLarge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_file_that_is_too_large_or_no_text() {
    let world = World::new().await;
    let large = format!("# {}\n", "x".repeat(1024 * 1024));
    let folder = world.folder("work", &[(".github/workflows/large.yml", &large)]);
    std::fs::write(folder.path.join(".github/workflows/bytes.yml"), b"on: push\n# \xff\n").unwrap();
    folder.commit(&[]);
    let (remote, pushing) = (world.remote("acme/app"), folder.clone());
    let work = move || pushing.git(&["push", "--quiet", &remote, "main"]);
    tokio::task::spawn_blocking(work).await.unwrap();
    let path = format!("/_hub/v1/pushes?repository=acme/app&sha={}", folder.sha());
    let pushed = world.get(&path).await;
    assert_eq!(pushed["runs"], json!([]));
    let error = |index: usize, key: &str| pushed["errors"][index][key].clone();
    assert_eq!(error(0, "path"), ".github/workflows/bytes.yml");
    assert_eq!(error(0, "line"), 2);
    assert_eq!(error(1, "path"), ".github/workflows/large.yml");
    let message = error(1, "message");
    assert!(message.as_str().unwrap().contains("larger than 1048576 bytes"), "{message}");
}

/// Runs git under another program; `None`, and says so, where that program cannot do its part.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn git_under(wrapper: &[&str], folder: &Path, args: &[&str]) -> Option<Output> {
    let under = |program: &str| {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program).current_dir(folder);
        command
    };
    if !under("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `{}` does not work here", wrapper.join(" "));
        return None;
    }
    let mut git = under("git");
    git.args(args).env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_GLOBAL", "/dev/null");
    Some(git.output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_and_another_user_may_neither_fetch_nor_push() {
    let world = World::new().await;
    let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
    world.push(&folder, "acme/app").await;
    let with_token = world.url.replace("://", &format!("://admin:{ADMIN}@"));
    let (own, with_token) = (world.remote("acme/app"), format!("{with_token}/acme/app"));
    let new = world.remote("acme/new");
    let path = folder.path.clone();
    tokio::task::spawn_blocking(move || {
        let sandbox = ["unshare", "--user", "--map-root-user", "--pid", "--fork"];
        let user = ["setpriv", "--reuid=65534", "--clear-groups"];
        let check = |wrapper: &[&str], folder: &Path, args: &[&str], want: bool| {
            let Some(output) = git_under(wrapper, folder, args) else { return };
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), want, "{wrapper:?} {args:?}: {said}");
        };
        check(&["env"], &path, &["ls-remote", &own], true);
        check(&sandbox, &path, &["ls-remote", &own], false);
        check(&sandbox, &path, &["push", &new, "main"], false);
        check(&sandbox, &path, &["ls-remote", &with_token], true);
        check(&user, Path::new("/"), &["ls-remote", &own], false);
        check(&user, Path::new("/"), &["ls-remote", &with_token], true);
    })
    .await
    .unwrap();
    assert!(!world.dir.path().join("hub/repos/acme/new.git").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_beside_the_hub_is_closed_to_web_pages_too() {
    let world = World::new().await;
    let answer = axum::routing::get(|| async { "here" });
    let router = world.hub.guard(axum::Router::new().route("/beside", answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/beside", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for (name, value, want) in [
        ("host", "127.0.0.1", StatusCode::OK),
        ("host", "evil.example", StatusCode::FORBIDDEN),
        ("origin", "http://evil.example", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
    ] {
        let answer = world.client.get(&url).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), want, "{name}: {value}");
    }
    server.abort();
}
