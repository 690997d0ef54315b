//! The matrix of tokens: every way in which one can be wrong, each with the answer that it gets.

mod cases;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sekisho_gate::{ClaimNames, Place, Reading, Workers};
use sekisho_policy::Identity;
use serde_json::{Value, json};

use self::cases::{Case, Want, cases, rs256};
use crate::support::{NOW, Options, World, check_error, sign};

#[tokio::test]
async fn every_wrong_token_gets_its_answer() {
    let world = World::new().await;
    let cases = cases(&world);
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let mut counts: BTreeMap<Want, usize> = BTreeMap::new();
    for Case { what, header, claims, key, want } in cases {
        let (status, body) = world.exchange(&sign(&header, &claims, key)).await;
        *counts.entry(want).or_default() += 1;
        if want == Want::Refused {
            assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")), "{what}: {body}");
            continue;
        }
        assert_eq!(status, 200, "{what}: {body}");
        let session = body["token"].as_str().unwrap();
        let response = world.send("POST", "/v2/acme/app/blobs/uploads/", session).await;
        match want {
            Want::Denied(rule) => {
                let message = check_error(response, 403, "DENIED").await;
                assert!(message.starts_with(rule), "{what}: {message}");
            }
            _ => assert_eq!(response.status(), 202, "{what}"),
        }
    }
    assert!(counts[&Want::Refused] >= 150 && counts[&Want::Pushes] >= 20, "{counts:?}");
    // However many tokens named unknown keys, the issuer was asked for its keys but once.
    assert_eq!(world.fetched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_id_decides_and_not_a_name() {
    let world = World::new().await;
    let first = world.session(json!({})).await;
    // The repository was deleted, and somebody registered its name anew.
    for change in [
        json!({"repository_id": "5000"}),
        json!({"repository_owner_id": "5000", "repository_id": "5001"}),
    ] {
        let second = world.session(change).await;
        let digest = world.push_blob("acme/app", &first, b"of the first").await;
        let path = format!("/v2/acme/app/blobs/{digest}");
        assert_eq!(world.send("GET", &path, &first).await.status(), 200);
        check_error(world.send("GET", &path, &second).await, 404, "BLOB_UNKNOWN").await;
        // Nor can it be mounted from where it cannot be seen.
        let mount = format!("/v2/acme/app/blobs/uploads/?mount={digest}&from=acme/app");
        assert_eq!(world.send("POST", &mount, &second).await.status(), 202);
    }
}

/// Knows one job: run 12, on one address.
struct OneJob {
    allowed: std::sync::Mutex<Option<Place>>,
}

impl Workers for OneJob {
    fn place(&self, identity: &Identity, peer: Option<SocketAddr>) -> Place {
        assert!(peer.is_some_and(|peer| peer.ip().is_loopback()));
        match (identity.run_id.as_str(), *self.allowed.lock().unwrap()) {
            ("12", Some(place)) => place,
            _ => Place::Unknown,
        }
    }
}

#[tokio::test]
async fn a_credential_works_on_its_own_worker_alone() {
    let workers = Arc::new(OneJob { allowed: std::sync::Mutex::new(Some(Place::Here)) });
    let world = World::open(Options { workers: Some(workers.clone()), ..Options::default() }).await;
    let session = world.session(json!({})).await;
    let uploads = "/v2/acme/app/blobs/uploads/";
    let query = "/token?service=sekisho-gate&scope=repository:acme/app:pull,push";
    let access: Value = world.send("GET", query, &session).await.json().await.unwrap();
    let access = access["token"].as_str().unwrap().to_owned();
    for token in [&session, &access] {
        assert_eq!(world.send("POST", uploads, token).await.status(), 202);
    }

    // The same tokens, from another machine.
    *workers.allowed.lock().unwrap() = Some(Place::Elsewhere);
    for token in [&session, &access] {
        check_error(world.send("POST", uploads, token).await, 403, "DENIED").await;
    }
    check_error(world.send("GET", query, &session).await, 403, "DENIED").await;
    let (status, body) = world.exchange(&world.jwt(&json!({}))).await;
    assert_eq!(status, 400);
    assert_eq!(body["error_description"], "the token was given to a job that runs elsewhere");
    check_error(world.send("GET", query, &world.jwt(&json!({}))).await, 401, "UNAUTHORIZED").await;

    // A job that the plane does not run.
    let hosted = world.session(json!({"run_id": "13"})).await;
    assert_eq!(world.send("POST", uploads, &hosted).await.status(), 202);
}

#[tokio::test]
async fn another_issuer_keeps_to_its_prefix() {
    let reading = Reading::Mapped { prefix: "gitlab".into(), claims: ClaimNames::gitlab() };
    let world = World::open(Options { reading: Some(reading), ..Options::default() }).await;
    let gitlab = json!({
        "iss": world.issuer, "aud": world.url, "jti": "g-1", "exp": NOW + 300, "iat": NOW,
        "project_id": "4711", "project_path": "acme/app", "namespace_id": "99",
        "namespace_path": "acme", "pipeline_id": "12", "pipeline_source": "push", "ref": "main",
        "ref_type": "branch", "user_login": "ann",
    });
    let (status, body) = world.exchange(&sign(&rs256(), &gitlab, 0)).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["repository"], "gitlab/acme/app");
    let session = body["token"].as_str().unwrap();
    let uploads = |name: &str| format!("/v2/{name}/blobs/uploads/");
    assert_eq!(world.send("POST", &uploads("gitlab/acme/app"), session).await.status(), 202);
    check_error(world.send("POST", &uploads("acme/app"), session).await, 403, "DENIED").await;
    for (name, value, what) in [
        ("pipeline_source", json!("merge_request_event"), "trusted-events"),
        ("pipeline_source", json!("external"), "trusted-events"),
    ] {
        let mut claims = gitlab.clone();
        claims["jti"] = value.clone();
        claims[name] = value;
        let (_, body) = world.exchange(&sign(&rs256(), &claims, 0)).await;
        let session = body["token"].as_str().unwrap();
        let response = world.send("POST", &uploads("gitlab/acme/app"), session).await;
        let message = check_error(response, 403, "DENIED").await;
        assert!(message.starts_with(what), "{message}");
    }
    for (name, value) in [
        ("project_path", json!("../acme/app")),
        ("aud", json!("other")),
        ("exp", json!(NOW - 60)),
        ("project_id", Value::Null),
    ] {
        let mut claims = gitlab.clone();
        claims["jti"] = name.into();
        claims[name] = value;
        assert_eq!(world.exchange(&sign(&rs256(), &claims, 0)).await.0, 400, "{name}");
    }
}

#[tokio::test]
async fn keys_outlive_an_issuer_that_is_away() {
    let world = World::new().await;
    world.session(json!({})).await;
    world.issuer_away.store(true, Ordering::SeqCst);
    // Known keys: good for a day, however often they would be fetched anew.
    for hours in [1, 10, 12] {
        world.pass(hours * 3600);
        world.session(json!({})).await;
    }
    // An unknown one: nobody can say, and a client may come again.
    let unknown = sign(&json!({"alg": "RS256", "kid": "k2"}), &world.claims(), 0);
    let (status, body) = world.exchange(&unknown).await;
    assert_eq!((status, &body["errors"][0]["code"]), (503, &json!("UNAVAILABLE")), "{body}");
    // And after the day nobody is let in.
    world.pass(2 * 3600);
    assert_eq!(world.exchange(&world.jwt(&json!({}))).await.0, 503);
}

#[tokio::test]
async fn a_wrong_clock_opens_nothing() {
    let world = World::new().await;
    let old = world.jwt(&json!({}));
    let session = world.session(json!({})).await;
    // Forward: all is over, and new tokens are good.
    world.pass(7200);
    assert_eq!(world.exchange(&old).await.0, 400);
    check_error(world.send("GET", "/v2/", &session).await, 401, "UNAUTHORIZED").await;
    let later = world.jwt(&json!({}));
    // Back: a token of the future is not valid yet, nor is a session longer than it was.
    world.pass(-7200);
    assert_eq!(world.exchange(&later).await.0, 400);
    assert_eq!(world.send("GET", "/v2/", &session).await.status(), 200);
    // Exchanged stays exchanged.
    assert_eq!(world.exchange(&old).await.0, 200);
    world.pass(-20);
    assert_eq!(world.exchange(&old).await.0, 400);
}
