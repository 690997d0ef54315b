//! Runners that are registered with a token: the calls of `config.sh`, and of another runner's
//! `configure`, which has other credentials.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Method, Response};
use rsa::traits::PublicKeyParts as _;
use sekisho_github::jit::JitConfig;
use serde_json::{Value, json};

use crate::credentials;
use crate::runner::Runner;
use crate::world::{Folder, WORKFLOW, World};

const REGISTER: &str = "/api/v3/actions/runners/register";
const RUNNERS: &str = "/api/v3/repos/acme/app/actions/runners";
const PLACE: &str = "repos/acme/app";

async fn remove_token(world: &World) -> String {
    let made = world.post(&format!("{RUNNERS}/remove-token"), &json!({})).await;
    made.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
}

/// With `RemoteAuth`, or as the header says.
async fn ask(world: &World, method: Method, path: &str, header: &str, body: Value) -> Response {
    let request = world.request(method, path).header("authorization", header);
    let request = if body.is_null() { request } else { request.json(&body) };
    request.send().await.unwrap()
}

/// A configuration with a key of its own, as a runner has it that registers itself.
async fn fresh(world: &World) -> JitConfig {
    let spare = Runner::registered(world, "spare").await;
    let gone = world.request(Method::DELETE, &format!("{RUNNERS}/{}", spare.id));
    let gone = gone.bearer_auth(crate::world::ADMIN).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    spare.config
}

/// The body of a registration.
fn registration(world: &World, config: &JitConfig, name: &str, ephemeral: bool) -> Value {
    let key = config.private_key().unwrap();
    let text = |bytes: Vec<u8>| BASE64_STANDARD.encode(bytes);
    let (n, e) = (text(key.n().to_bytes_be()), text(key.e().to_bytes_be()));
    json!({
        "url": format!("{}/acme/app", world.url), "group_id": 1, "name": name, "version": "2.336.0",
        "updates_disabled": true, "ephemeral": ephemeral,
        "labels": [{"ID": 0, "Name": "Default", "Type": "system"},
                   {"id": 0, "name": "linux", "type": "system"},
                   {"id": 0, "name": "GPU", "type": "user"}],
        "public_key":
            format!("<RSAKeyValue><Modulus>{n}</Modulus><Exponent>{e}</Exponent></RSAKeyValue>"),
    })
}

/// The configuration with what the answer to the registration says.
fn configured(mut config: JitConfig, made: &Value) -> JitConfig {
    let text = |name: &str| made["authorization"][name].as_str().unwrap().to_owned();
    config.credentials.data.client_id = text("client_id");
    config.credentials.data.authorization_url = text("authorization_url");
    config.runner.server_url_v2 = text("server_url");
    config
}

fn project(world: &World) -> Folder {
    world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_with_a_token_takes_one_job_after_the_other_until_it_is_removed() {
    let world = World::new().await;
    let folder = project(&world);
    let token = format!("RemoteAuth {}", credentials::registration(&world, PLACE).await);
    let body = json!({"url": format!("{}/acme/app", world.url), "runner_event": "register"});
    let made = ask(&world, Method::POST, "/api/v3/actions/runner-registration", &token, body).await;
    let tenant: Value = made.json().await.unwrap();
    assert_eq!(tenant["use_v2_flow"], json!(true));
    let bearer = format!("Bearer {}", tenant["token"].as_str().unwrap());

    // Both credentials see groups and runners, before there is one.
    for header in [&token, &bearer] {
        let groups = "/api/v3/repos/acme/app/actions/runner-groups";
        let groups: Value =
            ask(&world, Method::GET, groups, header, Value::Null).await.json().await.unwrap();
        assert_eq!(groups["runner_groups"][0]["name"], json!("Default"));
        assert_eq!(groups["runner_groups"][0]["default"], json!(true));
        let found = format!("{RUNNERS}?name=r1");
        let found: Value =
            ask(&world, Method::GET, &found, header, Value::Null).await.json().await.unwrap();
        assert_eq!(found["total_count"], json!(0));
    }

    let config = fresh(&world).await;
    let body = registration(&world, &config, "r1", false);
    let first = ask(&world, Method::POST, REGISTER, &bearer, body.clone()).await;
    assert_eq!(first.status(), 201);
    let first: Value = first.json().await.unwrap();
    let again = ask(&world, Method::POST, REGISTER, &token, body.clone()).await;
    assert_eq!(again.status(), 409);
    let mut replacing = body;
    replacing["replace"] = json!(true);
    replacing["runner_id"] = first["id"].clone();
    let second = ask(&world, Method::POST, REGISTER, &token, replacing).await;
    assert_eq!(second.status(), 201);
    let second: Value = second.json().await.unwrap();
    assert_eq!(second["id"], first["id"]);
    let id = second["id"].as_u64().unwrap();
    // The key of before is nobody's now.
    let replaced = Runner::unconnected(id, configured(config.clone(), &first));
    let refused = replaced.exchange(&world, &replaced.claims(), None).await;
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "invalid_client");

    // Two jobs, with one session.
    let mut runner = Runner::of(&world, id, configured(config, &second)).await;
    for _ in 0..2 {
        folder.commit(&[]);
        let run = world.push(&folder, "acme/app").await;
        runner.acquire(&world).await;
        assert_eq!(world.get(&format!("{RUNNERS}/{id}")).await["busy"], json!(true));
        assert_eq!(runner.complete(&world, "succeeded").await.status(), 200);
        assert_eq!(world.run(run).await["conclusion"], "success");
    }
    let shown = world.get(&format!("{RUNNERS}/{id}")).await;
    assert_eq!(
        (&shown["busy"], &shown["ephemeral"], &shown["status"]),
        (&json!(false), &json!(false), &json!("online"))
    );
    let labels = shown["labels"].as_array().unwrap().iter();
    let labels: Vec<(&str, &str)> =
        labels.map(|l| (l["name"].as_str().unwrap(), l["type"].as_str().unwrap())).collect();
    assert_eq!(labels, [("default", "read-only"), ("linux", "read-only"), ("gpu", "custom")]);

    // Neither the token of the registration nor that of another place takes it away.
    let path = format!("{RUNNERS}/{id}");
    let other = format!("/api/v3/repos/acme/other/actions/runners/{id}");
    assert_eq!(ask(&world, Method::DELETE, &path, &token, Value::Null).await.status(), 403);
    let remove = format!("RemoteAuth {}", remove_token(&world).await);
    assert_eq!(ask(&world, Method::DELETE, &other, &remove, Value::Null).await.status(), 404);
    assert_eq!(ask(&world, Method::DELETE, &path, &remove, Value::Null).await.status(), 204);
    assert_eq!(runner.poll(&world).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_token_looks_and_removes_and_makes_nothing() {
    let world = World::new().await;
    project(&world);
    let spare = Runner::registered(&world, "spare").await;
    let mut tokens = Vec::new();
    for (event, token) in [
        ("register", credentials::registration(&world, PLACE).await),
        ("remove", remove_token(&world).await),
    ] {
        let body = json!({"url": format!("{}/acme/app", world.url), "runner_event": event});
        let header = format!("RemoteAuth {token}");
        let path = "/api/v3/actions/runner-registration";
        let made = ask(&world, Method::POST, path, &header, body).await;
        let made: Value = made.json().await.unwrap();
        tokens.push(format!("Bearer {}", made["token"].as_str().unwrap()));
    }
    let [register, remove] = [&tokens[0], &tokens[1]];
    let sets = "/_tenant/_apis/runtime/runnerscalesets";
    let set = json!({"name": "mine"});
    assert_eq!(ask(&world, Method::POST, sets, remove, set.clone()).await.status(), 401);
    let made = ask(&world, Method::POST, sets, register, set).await;
    assert_eq!(made.status(), 200);
    let set = format!("{sets}/{}", made.json::<Value>().await.unwrap()["id"]);
    let jit = json!({"name": "x", "workFolder": "_work"});
    for (path, body) in [("sessions", json!({"ownerName": "me"})), ("generatejitconfig", jit)] {
        let path = format!("{set}/{path}");
        assert_eq!(ask(&world, Method::POST, &path, remove, body.clone()).await.status(), 401);
        assert_eq!(ask(&world, Method::POST, &path, register, body).await.status(), 200);
    }
    assert_eq!(ask(&world, Method::DELETE, &set, remove, Value::Null).await.status(), 401);
    let agent = format!("/_tenant/_apis/distributedtask/pools/0/agents/{}", spare.id);
    assert_eq!(ask(&world, Method::GET, &agent, remove, Value::Null).await.status(), 200);
    assert_eq!(ask(&world, Method::DELETE, &agent, remove, Value::Null).await.status(), 204);
    assert_eq!(ask(&world, Method::GET, &agent, remove, Value::Null).await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_outlives_the_hub_and_one_for_a_job_ends_with_it() {
    let world = World::new().await;
    let folder = project(&world);
    let token = format!("RemoteAuth {}", credentials::registration(&world, PLACE).await);
    let config = fresh(&world).await;
    let mut made = Vec::new();
    for (name, ephemeral) in [("lasts", false), ("once", true)] {
        let body = registration(&world, &config, name, ephemeral);
        let answer = ask(&world, Method::POST, REGISTER, &token, body).await;
        assert_eq!(answer.status(), 201);
        made.push(answer.json::<Value>().await.unwrap());
    }
    let id = |made: &Value| made["id"].as_u64().unwrap();
    world.register("just in time", &["default"]).await;

    let world = World::on(world.kill()).await;
    let names = async |world: &World| -> Vec<String> {
        let all = world.get(RUNNERS).await["runners"].as_array().unwrap().clone();
        all.iter().map(|runner| runner["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&world).await, ["lasts", "once"]);
    let newer = world.register("newer", &["x"]).await;
    assert!(newer["runner"]["id"].as_u64().unwrap() > id(&made[1]), "{newer}");

    let mut config = configured(config, &made[1]);
    config.credentials.data.authorization_url = format!("{}/_oauth/token", world.url);
    let mut runner = Runner::of(&world, id(&made[1]), config).await;
    let run = world.push(&folder, "acme/app").await;
    runner.acquire(&world).await;
    assert_eq!(runner.complete(&world, "failed").await.status(), 200);
    assert_eq!(world.run(run).await["conclusion"], "failure");
    assert_eq!(runner.poll(&world).await.status(), 404);
    assert_eq!(names(&world).await, ["lasts", "newer"]);
    world.hub.shutdown().await;
    let world = World::on(world.kill()).await;
    assert_eq!(names(&world).await, ["lasts"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_take_its_job_is_not_asked_again() {
    let world = World::new().await;
    let folder = project(&world);
    let token = format!("RemoteAuth {}", credentials::registration(&world, PLACE).await);
    let config = fresh(&world).await;
    let body = registration(&world, &config, "dead", false);
    let made = ask(&world, Method::POST, REGISTER, &token, body).await;
    let made: Value = made.json().await.unwrap();
    let dead = Runner::of(&world, made["id"].as_u64().unwrap(), configured(config, &made)).await;
    let run = world.push(&folder, "acme/app").await;
    // It was offered the job, and nothing is heard of it. Another comes.
    let mut other = Runner::new(&world, "alive").await;
    world.hub.advance(jiff::SignedDuration::from_secs(61));
    other.acquire(&world).await;
    assert_eq!(other.complete(&world, "succeeded").await.status(), 200);
    assert_eq!(world.run(run).await["conclusion"], "success");
    // When it is heard of again, it needs a new session.
    assert_eq!(dead.poll(&world).await.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_registration_is_refused() {
    let world = World::new().await;
    project(&world);
    let token = format!("RemoteAuth {}", credentials::registration(&world, PLACE).await);
    let config = fresh(&world).await;
    let good = registration(&world, &config, "r", false);
    let check = async |header: &str, change: Value, want: u16| {
        let mut body = good.clone();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = ask(&world, Method::POST, REGISTER, header, body).await;
        assert_eq!(answer.status(), want, "{change}");
    };
    check(&token, json!({"url": format!("{}/acme/other", world.url)}), 404).await;
    check(&token, json!({"url": format!("{}/acme", world.url)}), 404).await;
    check(&token, json!({"url": "nowhere"}), 404).await;
    check(&token, json!({"group_id": 7}), 404).await;
    check(&token, json!({"name": "a/b"}), 422).await;
    check(&token, json!({"public_key": "<RSAKeyValue></RSAKeyValue>"}), 422).await;
    check(&token, json!({"labels": vec![json!({"name": "x"}); 101]}), 422).await;
    check(&token, json!({"replace": true, "runner_id": 99}), 404).await;
    let remove = format!("RemoteAuth {}", remove_token(&world).await);
    check(&remove, json!({}), 401).await;
    check("Bearer admin-token-of-the-test", json!({}), 401).await;
    check(&token, json!({}), 201).await;
}
