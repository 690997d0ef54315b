//! GitHub's REST, by the client that Sekisho asks GitHub with, and by raw requests.

mod credentials;
mod groups;
mod runs;

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

use crate::runner::{Runner, timestamp};
use crate::world::{ADMIN, Folder, WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";
const CLIENT_ID: &str = "Iv23test";

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

pub(crate) fn with_app(config: &mut Config) {
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
        for token in [client.registration_token().await, client.remove_token().await] {
            let left = token.unwrap().expires_at.duration_since(timestamp());
            assert!((3590..=3600).contains(&left.as_secs()), "{left:?}");
        }
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
