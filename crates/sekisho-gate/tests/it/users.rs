//! Users with a password: real clients log in, strangers and guessers do not.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::OnceLock;

use axum::body::Body;
use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Request, StatusCode};
use sekisho_gate::{Gate, OpenError, User, new_user};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::clients::{GOOD, check_done, pulled, run};
use crate::docker::{dockerd, import};
use crate::skopeo::layout;
use crate::support::{Options, World, check_error, header};

const PASSWORD: &str = "correct horse battery";

/// The hash takes a second where nothing is optimised.
fn ann() -> User {
    static ANN: OnceLock<User> = OnceLock::new();
    ANN.get_or_init(|| new_user("ann", &PASSWORD.to_owned().into(), "acme/app").unwrap()).clone()
}

async fn world() -> World {
    World::open(Options { users: vec![ann()], ..Options::default() }).await
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

async fn token(world: &World, user: &str, password: &str) -> reqwest::Response {
    let path = "/token?service=sekisho-gate&scope=repository:acme/app:pull,push&offline_token=true";
    let request = world.request("GET", path, "");
    request.header("authorization", basic(user, password)).send().await.unwrap()
}

#[tokio::test]
async fn a_password_opens_a_session_for_ones_own_repositories() {
    let world = world().await;
    let answer: Value = token(&world, "ann", PASSWORD).await.json().await.unwrap();
    let (access, session) = (answer["token"].as_str().unwrap(), answer["refresh_token"].as_str());
    let fine = "LAYER\npkg express 4.21.2 fine";
    assert_eq!(world.push("acme/app:v1", access, &[fine]).await.status(), 201);
    let decisions = world.decisions("").await;
    assert_eq!(decisions[0]["identity"]["actor"], "ann");
    assert_eq!(decisions[0]["identity"]["event_name"], "local_user");
    // The rules hold for users too.
    let bad = "LAYER\npkg lodash 4.17.20 critical 4.17.21";
    check_error(world.push("acme/app:v2", session.unwrap(), &[bad]).await, 403, "DENIED").await;
    let elsewhere = world.send("POST", "/v2/acme/other/blobs/uploads/", session.unwrap()).await;
    assert_eq!(elsewhere.status(), 403);
    let refused: Value = elsewhere.json().await.unwrap();
    let error = &refused["errors"][0];
    assert!(error["message"].as_str().unwrap().starts_with("own-namespace"), "{error}");
    // Clients print the detail as it is: nothing in it is empty.
    let mut said: Vec<&String> = error["detail"].as_object().unwrap().keys().collect();
    said.sort();
    assert_eq!(said, ["docs", "fix", "rule"]);
    // The OAuth form that BuildKit sends.
    let form = [("grant_type", "password"), ("username", "ann"), ("password", PASSWORD)];
    let posted = world.request("POST", "/token", "").form(&form).send().await.unwrap();
    assert_eq!(posted.status(), 200);
    // Not in place of a token.
    let probe = world.request("GET", "/v2/", "").header("authorization", basic("ann", PASSWORD));
    let probe = probe.send().await.unwrap();
    assert!(header(&probe, "www-authenticate").starts_with("Bearer realm="));
    check_error(probe, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn wrong_passwords_are_refused_and_then_not_even_looked_at() {
    let world = world().await;
    check_error(token(&world, "eve", PASSWORD).await, 401, "UNAUTHORIZED").await;
    for _ in 0..5 {
        check_error(token(&world, "ann", "wrong").await, 401, "UNAUTHORIZED").await;
    }
    let refused = token(&world, "ann", PASSWORD).await;
    assert_eq!(header(&refused, "retry-after"), "1");
    check_error(refused, 429, "TOOMANYREQUESTS").await;
    world.pass(2);
    assert_eq!(token(&world, "ann", PASSWORD).await.status(), 200);
    // Nothing of it is written down.
    for entry in ["gate", "upstream"] {
        let mut grep = Command::new("grep");
        grep.args(["-r", PASSWORD]).arg(world.dir.path().join(entry));
        assert!(grep.output().unwrap().stdout.is_empty());
    }
}

#[tokio::test]
async fn a_password_is_taken_from_this_machine_alone() {
    let world = world().await;
    let ask = |path: &str, from: Option<&str>, authorization: String| {
        let mut request = Request::builder().uri(path).header("authorization", authorization);
        if let Some(peer) = from {
            request = request.extension(ConnectInfo::<SocketAddr>(peer.parse().unwrap()));
        }
        let router = world.gate.router();
        async { router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap() }
    };
    for (from, want) in [
        (Some("127.0.0.1:5"), StatusCode::OK),
        (Some("[::ffff:127.0.0.1]:5"), StatusCode::OK),
        (Some("192.0.2.7:5"), StatusCode::FORBIDDEN),
        (None, StatusCode::FORBIDDEN),
    ] {
        let path = "/token?service=sekisho-gate&offline_token=true";
        assert_eq!(ask(path, from, basic("ann", PASSWORD)).await.status(), want, "{from:?}");
    }
    // Nor does the session that it led to go further.
    let answer: Value = token(&world, "ann", PASSWORD).await.json().await.unwrap();
    let session = format!("Bearer {}", answer["refresh_token"].as_str().unwrap());
    assert_eq!(ask("/v2/", Some("127.0.0.1:5"), session.clone()).await.status(), StatusCode::OK);
    let far = ask("/v2/", Some("192.0.2.7:5"), session.clone()).await;
    assert_eq!(far.status(), StatusCode::FORBIDDEN);

    let mut config = world.config();
    config.base_url = "https://gate.example.org/".parse().unwrap();
    let refused = Gate::open(config).unwrap_err();
    assert!(matches!(refused, OpenError::Users(_)), "{refused}");
}

#[tokio::test]
async fn who_is_no_user_any_more_has_no_session() {
    let mut world = world().await;
    let answer: Value = token(&world, "ann", PASSWORD).await.json().await.unwrap();
    let session = answer["refresh_token"].as_str().unwrap();
    assert_eq!(world.send("GET", "/v2/", session).await.status(), 200);
    let config = sekisho_gate::Config { users: vec![], ..world.config() };
    // Of two gates on one folder the second waits until the first is gone.
    let _dir = std::mem::replace(&mut world.dir, tempfile::tempdir().unwrap());
    drop(world);
    let gate = tokio::task::spawn_blocking(|| Gate::open(config).unwrap()).await.unwrap();
    let request =
        Request::builder().uri("/v2/").header("authorization", format!("Bearer {session}"));
    let request = request.extension(ConnectInfo::<SocketAddr>("127.0.0.1:5".parse().unwrap()));
    let answer = gate.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}

/// With the password on its standard input.
async fn login(
    program: &str,
    args: &[&str],
    world: &World,
    password: &str,
) -> std::process::Output {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command.args(["login", "--username", "ann", "--password-stdin"]).args(args).arg(world.host());
    command.env("DOCKER_CONFIG", world.dir.path().join("docker"));
    command.env_remove("HTTP_PROXY").env_remove("http_proxy");
    let password = password.to_owned();
    let work = move || {
        let mut child = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_logs_in_and_pushes() {
    if !peers::is_installed("skopeo", "--version") {
        return;
    }
    let world = world().await;
    let authfile = world.dir.path().join("auth.json").display().to_string();
    let args = ["--tls-verify=false", "--authfile", &authfile];
    let refused = login("skopeo", &args, &world, "wrong").await;
    assert!(!refused.status.success());
    check_done(&login("skopeo", &args, &world, PASSWORD).await);
    let layout = layout(world.dir.path(), "pkg express 1 fine\n");
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--authfile", &authfile]);
    copy.arg(format!("oci:{}:v1", layout.display()));
    copy.arg(format!("docker://{}/acme/app:v1", world.host()));
    check_done(&run(copy).await);
    assert!(pulled(&world, "v1").await.starts_with("sha256:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_logs_in_and_pushes() {
    let dir = tempfile::tempdir().unwrap();
    let Some(daemon) = dockerd(dir.path()).await else { return };
    let world = world().await;
    let docker = |args: &[&str]| {
        let mut command = daemon.client();
        command.env("DOCKER_CONFIG", world.dir.path().join("docker")).args(args);
        command
    };
    use std::io::Write as _;
    for (password, is_right) in [("wrong", false), (PASSWORD, true)] {
        let mut command = docker(&["login", "--username", "ann", "--password-stdin", world.host()]);
        let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert_eq!(status.success(), is_right);
    }
    let name = format!("{}/acme/app:v1", world.host());
    check_done(&import(&daemon, dir.path(), GOOD, &name).await);
    check_done(&run(docker(&["push", &name])).await);
    assert!(pulled(&world, "v1").await.starts_with("sha256:"));
    // What docker keeps is a session, not the password.
    let kept = fs_err::read_to_string(world.dir.path().join("docker/config.json")).unwrap();
    let kept: Value = serde_json::from_str(&kept).unwrap();
    let entry = &kept["auths"][world.host()];
    assert!(entry["identitytoken"].as_str().unwrap().starts_with("skg1."), "{entry}");
}
