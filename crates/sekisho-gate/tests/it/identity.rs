//! Who may push, and what every bad token gets.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sekisho_gate::TokenPasswords;
use serde_json::{Value, json};

use crate::support::{ADMIN, NOW, Options, World, check_error, header, is_error, sign};

const UPLOADS: &str = "/v2/acme/app/blobs/uploads/";

/// Asks `/token` with Basic credentials; the access token, or the answer's status.
async fn access(world: &World, password: &str, query: &str) -> Result<String, u16> {
    let request = world.request("GET", &format!("/token?service=sekisho-gate&{query}"), "");
    let basic = BASE64_STANDARD.encode(format!("oidc:{password}"));
    let response = request.header("authorization", format!("Basic {basic}")).send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    body["token"].as_str().map(str::to_owned).ok_or(status)
}

#[tokio::test]
async fn a_token_is_exchanged_once() {
    let world = World::new().await;
    let jwt = world.jwt(&json!({}));
    let (status, body) = world.exchange(&jwt).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!((&body["repository"], &body["run_id"]), (&json!("acme/app"), &json!("12")));
    let (status, body) = world.exchange(&jwt).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")));
    assert_eq!(body["error_description"], "the token was exchanged already");
    // Nor is it a password any more.
    assert_eq!(access(&world, &jwt, "").await, Err(401));

    // As a form, as RFC 8693 has it.
    let jwt = world.jwt(&json!({}));
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={jwt}"
    );
    let request = world.request("POST", "/oidc/exchange", "");
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "cache-control"), "no-store");
    for body in ["", "{", "{}", "subject_token"] {
        let request = world.request("POST", "/oidc/exchange", "").body(body);
        assert_eq!(request.send().await.unwrap().status(), 400, "{body}");
    }
}

#[tokio::test]
async fn a_replay_is_refused_after_a_restart_too() {
    let mut world = World::new().await;
    let jwt = world.jwt(&json!({}));
    assert_eq!(world.exchange(&jwt).await.0, 200);
    let exchanged = world.dir.path().join("gate/exchanged");
    let names = || fs_err::read_dir(&exchanged).unwrap().map(|e| e.unwrap().file_name());
    assert_eq!(names().count(), 1);
    let dir = std::mem::replace(&mut world.dir, tempfile::tempdir().unwrap());
    drop(world);
    // Another port is another audience, so the old token is compared by what was written down.
    let world = World::on(dir, None).await;
    let jti = world.jwt(&json!({"jti": "x"}));
    assert_eq!(world.exchange(&jti).await.0, 200);
    assert_eq!(world.exchange(&world.jwt(&json!({"jti": "x"}))).await.0, 400, "the same jti");
}

/// Who shows the same token from another address has it from somebody, as far as the gate can see.
#[tokio::test]
async fn a_token_as_a_password_is_bound_to_its_address_or_refused_where_that_is_said() {
    let of = async |token_passwords| {
        let gate = sekisho_gate::Options { token_passwords, ..sekisho_gate::Options::default() };
        World::open(Options { gate, ..Options::default() }).await
    };
    let from = async |world: &World, last: u8, jwt: &str, more: &str| {
        let client =
            reqwest::Client::builder().no_proxy().local_address(IpAddr::from([127, 0, 0, last]));
        let url = format!("{}/token?service=sekisho-gate{more}", world.url);
        let asked = client.build().unwrap().get(url).basic_auth("oidc", Some(jwt));
        let answer = asked.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let why = |body: &Value| body["errors"][0]["message"].as_str().unwrap().to_owned();
    let world = of(TokenPasswords::OneAddress).await;
    let (jwt, other) = (world.jwt(&json!({})), world.jwt(&json!({})));
    for (last, jwt, want) in [(2, &jwt, 200), (2, &jwt, 200), (3, &jwt, 401), (3, &other, 200)] {
        let (status, body) = from(&world, last, jwt, "").await;
        assert_eq!(status, want, "{body}");
        assert!(status == 200 || why(&body) == "the token was shown from another address first");
    }
    assert_eq!(from(&world, 2, &jwt, "").await.0, 200, "it is its owner's still");

    let world = of(TokenPasswords::Never).await;
    let jwt = world.jwt(&json!({}));
    let (status, body) = from(&world, 2, &jwt, "").await;
    assert_eq!(status, 401);
    assert!(why(&body).starts_with("the token is no password here: exchange it"), "{body}");
    // docker's `login` exchanges it.
    let (status, body) = from(&world, 2, &jwt, "&offline_token=true").await;
    assert_eq!(status, 200);
    assert_eq!(from(&world, 2, body["refresh_token"].as_str().unwrap(), "").await.0, 200);
    assert_eq!(from(&world, 2, &jwt, "&offline_token=true").await.0, 401, "once");

    let world = of(TokenPasswords::Anywhere).await;
    let jwt = world.jwt(&json!({}));
    for last in [2, 3] {
        assert_eq!(from(&world, last, &jwt, "").await.0, 200);
    }
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let world = World::new().await;
    let good = world.claims();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let rs256 = json!({"alg": "RS256", "kid": "k1"});
    let header = |name: &str, value: &str| {
        let mut header = rs256.clone();
        header[name] = value.into();
        header
    };
    for (what, jwt) in [
        ("wrong audience", sign(&rs256, &with("aud", json!("sts.amazonaws.com")), 0)),
        ("wrong issuer", sign(&rs256, &with("iss", json!("http://127.0.0.1:1")), 0)),
        (
            "issuer's evil twin",
            sign(&rs256, &with("iss", json!(format!("{}.evil", world.issuer))), 0),
        ),
        ("expired", sign(&rs256, &with("exp", json!(NOW - 60)), 0)),
        ("not yet", sign(&rs256, &with("nbf", json!(NOW + 60)), 0)),
        ("somebody else's key", sign(&rs256, &good, 1)),
        ("unknown key", sign(&header("kid", "k2"), &good, 0)),
        ("alg none", sign(&header("alg", "none"), &good, 0)),
        ("alg HS256", sign(&header("alg", "HS256"), &good, 0)),
        ("jku", sign(&header("jku", "http://127.0.0.1:1/keys"), &good, 0)),
        ("jwk", sign(&header("jwk", "{}"), &good, 1)),
        ("no repository id", sign(&rs256, &with("repository_id", Value::Null), 0)),
        ("path in the run", sign(&rs256, &with("run_id", json!("../../x")), 0)),
        ("changed claims", {
            let token = sign(&rs256, &good, 0);
            let other = sign(&rs256, &with("repository", json!("acme/other")), 0);
            let claims = other.split('.').nth(1).unwrap();
            let mut parts: Vec<&str> = token.split('.').collect();
            parts[1] = claims;
            parts.join(".")
        }),
        ("no signature", format!("{}.", sign(&rs256, &good, 0).rsplit_once('.').unwrap().0)),
        ("huge", sign(&rs256, &with("pad", json!("x".repeat(20_000))), 0)),
        ("nothing", "x".to_owned()),
    ] {
        let (status, body) = world.exchange(&jwt).await;
        assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")), "{what}: {body}");
        let text = body.to_string();
        assert!(!text.contains(&jwt) || jwt.len() < 2, "{what}: the token came back");
        assert!(matches!(access(&world, &jwt, "").await, Err(401 | 431)), "{what}");
        let response = world.send("POST", UPLOADS, &jwt).await;
        assert!(matches!(response.status().as_u16(), 401 | 431), "{what}");
    }
}

#[tokio::test]
async fn an_issuer_is_not_asked_for_every_unknown_key() {
    let world = World::new().await;
    let unknown = sign(&json!({"alg": "RS256", "kid": "k9"}), &world.claims(), 0);
    for _ in 0..20 {
        assert_eq!(world.exchange(&unknown).await.0, 400);
    }
    assert_eq!(world.fetched.load(Ordering::SeqCst), 1);
    world.pass(11);
    assert_eq!(world.exchange(&unknown).await.0, 400);
    assert_eq!(world.fetched.load(Ordering::SeqCst), 2);
    // Good tokens use what is known.
    world.session(json!({})).await;
    assert_eq!(world.fetched.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn clients_get_access_tokens() {
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let scope = "scope=repository:acme/app:pull,push";
    let check = |token: String| {
        let request = world.request("POST", UPLOADS, &token);
        async move { assert_eq!(request.send().await.unwrap().status(), 202) }
    };
    // Basic: the session, or the OIDC token itself as often as the client likes.
    check(access(&world, &session, scope).await.unwrap()).await;
    let jwt = world.jwt(&json!({}));
    check(access(&world, &jwt, scope).await.unwrap()).await;
    check(access(&world, &jwt, scope).await.unwrap()).await;
    // `identitytoken` in docker's config.json; and OAuth's password.
    for (grant, field, secret) in
        [("refresh_token", "refresh_token", &session), ("password", "password", &jwt)]
    {
        let form = format!(
            "grant_type={grant}&{field}={secret}&service=sekisho-gate&client_id=x\
             &scope=repository:acme/app:pull,push"
        );
        let request = world.request("POST", "/token", "").body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let body: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(body["expires_in"], 300, "{body}");
        check(body["access_token"].as_str().unwrap().to_owned()).await;
    }
    // A token that ends soon opens nothing for longer.
    let ends = world.claims()["exp"].as_i64().unwrap() - 200;
    let short = world.jwt(&json!({"exp": ends}));
    let basic = BASE64_STANDARD.encode(format!("x:{short}"));
    let request = world.request("GET", &format!("/token?{scope}"), "");
    let response = request.header("authorization", format!("Basic {basic}")).send().await.unwrap();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["expires_in"], 100, "{body}");
    // docker login asks for something to keep.
    let query = format!("offline_token=true&{scope}");
    let basic = BASE64_STANDARD.encode(format!("x:{jwt}"));
    let request = world.request("GET", &format!("/token?{query}"), "");
    let request = request.header("authorization", format!("Basic {basic}"));
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    assert!(access(&world, body["refresh_token"].as_str().unwrap(), scope).await.is_ok());

    for (form, why) in [
        ("grant_type=refresh_token&refresh_token=nonsense", "nonsense"),
        ("grant_type=refresh_token", "nothing"),
        ("grant_type=other&password=x", "another grant"),
        ("", "empty"),
    ] {
        let request = world.request("POST", "/token", "").body(form);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401, "{why}");
    }
}

#[tokio::test]
async fn an_access_token_opens_only_what_it_was_made_for() {
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let pull = access(&world, &session, "scope=repository:acme/app:pull").await.unwrap();
    let response = world.send("POST", UPLOADS, &pull).await;
    assert!(header(&response, "www-authenticate").contains("repository:acme/app:pull,push"));
    check_error(response, 401, "UNAUTHORIZED").await;
    // It is no session: it cannot be turned into more.
    let query = "scope=repository:acme/app:pull,push";
    assert_eq!(access(&world, &pull, query).await, Err(401));
    // And it ends.
    let push = access(&world, &session, query).await.unwrap();
    world.pass(299);
    assert_eq!(world.send("POST", UPLOADS, &push).await.status(), 202);
    world.pass(1);
    check_error(world.send("POST", UPLOADS, &push).await, 401, "UNAUTHORIZED").await;
    // An access token ends with the session that it came from.
    world.pass(3600 - 300 - 60);
    let late = access(&world, &session, query).await.unwrap();
    world.pass(60);
    check_error(world.send("POST", UPLOADS, &late).await, 401, "UNAUTHORIZED").await;
    assert_eq!(access(&world, &session, query).await, Err(401), "the session is over");
}

#[tokio::test]
async fn a_push_needs_an_identity_that_may() {
    let world = World::new().await;
    // Nobody, and anybody.
    let request = world.send("GET", "/token?scope=repository:acme/app:pull,push", "").await;
    let body: Value = request.json().await.unwrap();
    let anybody = body["token"].as_str().unwrap();
    assert_eq!(world.send("GET", "/v2/", anybody).await.status(), 200);
    for token in ["", anybody] {
        let response = world.send("POST", UPLOADS, token).await;
        let challenge = header(&response, "www-authenticate");
        assert!(challenge.ends_with(",scope=\"repository:acme/app:pull,push\""), "{challenge}");
        check_error(response, 401, "UNAUTHORIZED").await;
    }
    // Known, but not here, or not now.
    for (claims, repository, rule) in [
        (json!({}), "acme/other", "own-namespace"),
        (json!({}), "acme/app-evil", "own-namespace"),
        (json!({}), "acme", "own-namespace"),
        (json!({}), "app", "own-namespace"),
        (json!({"event_name": "pull_request_target"}), "acme/app", "trusted-events"),
        (json!({"event_name": "pull_request"}), "acme/app", "trusted-events"),
        (json!({"event_name": "workflow_run"}), "acme/app", "trusted-events"),
        (json!({"event_name": "issue_comment"}), "acme/app", "trusted-events"),
    ] {
        let session = world.session(claims.clone()).await;
        let scope = format!("scope=repository:{repository}:pull,push");
        // Less than asked for is granted without an error; the refusal has the reason.
        let narrow = access(&world, &session, &scope).await.unwrap();
        for token in [&session, &narrow] {
            let path = format!("/v2/{repository}/blobs/uploads/");
            let response = world.send("POST", &path, token).await;
            let message = check_error(response, 403, "DENIED").await;
            assert!(message.starts_with(rule), "{repository} {claims}: {message}");
            let path = format!("{repository}/manifests/v1");
            let response = world.put_manifest(&path, token, b"{}").await;
            check_error(response, 403, "DENIED").await;
        }
    }
    // Below the own name, and the bare name of a local repository.
    for (claims, repository) in [
        (json!({}), "acme/app/web"),
        (json!({"repository": "local/hello", "repository_owner": "local"}), "hello"),
        (json!({"repository": "Acme/App", "repository_owner": "Acme"}), "acme/app"),
    ] {
        let session = world.session(claims).await;
        let path = format!("/v2/{repository}/blobs/uploads/");
        assert_eq!(world.send("POST", &path, &session).await.status(), 202, "{repository}");
    }
}

#[tokio::test]
async fn an_upload_belongs_to_its_run() {
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let response = world.send("POST", UPLOADS, &session).await;
    let location = header(&response, "location");
    let other_run = world.session(json!({"run_id": "13"})).await;
    let other_id = world.session(json!({"repository_id": "4712"})).await;
    for token in [&other_run, &other_id] {
        for method in ["PATCH", "PUT", "GET", "DELETE"] {
            let path = format!("{location}?digest=sha256:{:064}", 0);
            let response = world.send(method, &path, token).await;
            check_error(response, 404, "BLOB_UPLOAD_UNKNOWN").await;
        }
    }
    // Another attempt of the same run may go on.
    let again = world.session(json!({"run_attempt": "2"})).await;
    assert_eq!(world.send("GET", &location, &again).await.status(), 204);
    // Not under another name.
    let elsewhere = location.replace("acme/app/", "acme/app/web/");
    check_error(world.send("GET", &elsewhere, &session).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
}

#[tokio::test]
async fn malformed_credentials_are_no_identity() {
    let world = World::new().await;
    for value in ["Basic", "Basic %%%", "Basic eA==", "Digest x", "Bearer", "Bearer ", "x"] {
        let request = world.request("GET", "/v2/", "").header("authorization", value);
        check_error(request.send().await.unwrap(), 401, "UNAUTHORIZED").await;
    }
}

#[tokio::test]
async fn decisions_need_the_admin_token() {
    let world = World::new().await;
    let session = world.session(json!({})).await;
    for token in ["", &session, "admin-token-of-a-tesT"] {
        for path in ["/_gate/v1/decisions", "/_gate/v1/decisions/1"] {
            let response = world.send("GET", path, token).await;
            let status = response.status().as_u16();
            is_error(status, &response.json().await.unwrap(), (401, "UNAUTHORIZED"));
        }
    }
    assert_eq!(world.decisions("").await, Vec::<Value>::new());
    assert_eq!(world.send("GET", "/_gate/v1/decisions/1", ADMIN).await.status(), 404);
}
