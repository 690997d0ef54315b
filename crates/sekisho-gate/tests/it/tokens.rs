//! The matrix of tokens: every way in which one can be wrong, each with the answer that it gets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sekisho_gate::{ClaimNames, Place, Reading, Workers};
use sekisho_policy::Identity;
use serde_json::{Value, json};

use crate::support::{NOW, Options, World, check_error, sign};

/// What becomes of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    /// It is exchanged, and its session may push to `acme/app`.
    Pushes,
    /// It is exchanged, and its session is refused by this rule.
    Denied(&'static str),
    /// It is not exchanged.
    Refused,
}

struct Case {
    what: String,
    header: Value,
    claims: Value,
    key: usize,
    want: Want,
}

fn rs256() -> Value {
    json!({"alg": "RS256", "kid": "k1"})
}

/// Cases that differ from a good token in one claim.
#[expect(clippy::too_many_lines, reason = "one table")]
fn claims(world: &World) -> Vec<(String, Value, Want)> {
    let mut cases: Vec<(&str, Vec<Value>, Want)> = vec![
        ("aud", audiences(world), Want::Refused),
        ("iss", issuers(world), Want::Refused),
        (
            "exp",
            [-30, -31, -60, -3600, 3601, 7200, 86_400].map(|by| json!(NOW + by)).into(),
            Want::Refused,
        ),
        (
            "exp",
            vec![
                json!(0),
                json!(-1),
                json!(i64::MIN),
                json!(i64::MAX),
                json!("soon"),
                json!(1.5e300),
            ],
            Want::Refused,
        ),
        ("exp", [-29, -1, 1, 300, 3600].map(|by| json!(NOW + by)).into(), Want::Pushes),
        ("nbf", [31, 60, 3600].map(|by| json!(NOW + by)).into(), Want::Refused),
        ("nbf", [30, 0, -600, -86_400].map(|by| json!(NOW + by)).into(), Want::Pushes),
        ("iat", [31, 60, 3600].map(|by| json!(NOW + by)).into(), Want::Refused),
        ("iat", [30, 0, -300].map(|by| json!(NOW + by)).into(), Want::Pushes),
        (
            "jti",
            vec![Value::Null, json!(""), json!("a\u{7f}"), json!("j".repeat(1025)), json!(7)],
            Want::Refused,
        ),
        // Events: what runs words of strangers, what GitHub does not know, what only looks alike.
        (
            "event_name",
            [
                "pull_request",
                "pull_request_target",
                "issue_comment",
                "workflow_run",
                "issues",
                "fork",
                "watch",
                "discussion",
                "pull_request_review",
                "check_run",
                "deployment",
                "repository_dispatch",
                "Push",
                "PUSH",
                "push ",
                " push",
                "push,push",
                "pushx",
                "workflow_call",
                "status",
            ]
            .map(|it| json!(it))
            .into(),
            Want::Denied("trusted-events"),
        ),
        (
            "event_name",
            ["push", "release", "workflow_dispatch", "schedule", "merge_group"]
                .map(|it| json!(it))
                .into(),
            Want::Pushes,
        ),
        (
            "event_name",
            vec![Value::Null, json!(""), json!("pu\u{0}sh"), json!(["push"])],
            Want::Refused,
        ),
        ("repository_id", ids(), Want::Refused),
        ("repository_owner_id", ids(), Want::Refused),
        ("run_id", ids(), Want::Refused),
        ("run_attempt", ids(), Want::Refused),
        // The name contradicts its owner, or is none.
        (
            "repository",
            [
                "acme",
                "acme/",
                "/app",
                "acme/app/",
                "acme/app/x",
                "evil/app",
                "ACME/app",
                "acme//app",
                "acme/a\npp",
                "",
            ]
            .map(|it| json!(it))
            .into(),
            Want::Refused,
        ),
        ("repository", vec![Value::Null, json!(["acme/app"])], Want::Refused),
        (
            "repository_owner",
            vec![Value::Null, json!(""), json!("evil"), json!("Acme"), json!("acme/app")],
            Want::Refused,
        ),
        // A sibling, a fork under a name of its own, a repository that was renamed.
        (
            "repository",
            [
                "acme/other",
                "acme/application",
                "acme/app-evil",
                "acme/ap",
                "acme/app.git",
                "acme/renamed",
            ]
            .map(|it| json!(it))
            .into(),
            Want::Denied("own-namespace"),
        ),
        ("ref", vec![Value::Null, json!(""), json!(7), json!("refs/heads/\u{0}")], Want::Refused),
        (
            "ref",
            ["refs/heads/main", "refs/tags/v1", "refs/pull/1/merge"].map(|it| json!(it)).into(),
            Want::Pushes,
        ),
        ("sha", vec![json!("a".repeat(1025)), json!("a\r\nb"), json!({})], Want::Refused),
        ("actor", vec![json!("a\u{0}"), json!("a".repeat(1025)), json!(7)], Want::Refused),
        ("environment", vec![json!("p\nq"), json!(["production"])], Want::Refused),
        (
            "job_workflow_ref",
            [
                "x",
                "acme/app/x.yml@main",
                "acme/app/.github/workflows/../x.yml@main",
                "acme/app/.github/workflows/x.yml",
                "acme@x/app/.github/workflows/x.yml@main",
            ]
            .map(|it| json!(it))
            .into(),
            Want::Refused,
        ),
        // The subject is for people: whatever it says changes nothing.
        (
            "sub",
            [
                "repo:acme/app:ref:refs/heads/main",
                "repo:acme@99/app@4711:ref:refs/heads/main",
                "repo:evil/app:pull_request",
                "repo:acme/*",
                "*",
                "x",
            ]
            .map(|it| json!(it))
            .into(),
            Want::Pushes,
        ),
    ];
    cases.push(("runner_environment", vec![json!("mine"), json!(1)], Want::Refused));
    let mut all = Vec::new();
    for (name, values, want) in cases {
        all.extend(values.into_iter().map(|value| (name.to_owned(), value, want)));
    }
    all
}

fn ids() -> Vec<Value> {
    let mut bad: Vec<Value> =
        ["", "-1", "x", "1x", "0x10", "../1", "1 ", "99999999999999999999999"]
            .map(|it| json!(it))
            .into();
    bad.extend([Value::Null, json!(4711), json!([])]);
    bad
}

fn audiences(world: &World) -> Vec<Value> {
    let ours = &world.url;
    let mut bad: Vec<Value> = [
        "sts.amazonaws.com",
        "https://github.com/acme",
        "api://AzureADTokenExchange",
        "sigstore",
        "",
    ]
    .map(|it| json!(it))
    .into();
    bad.extend([
        json!(format!("{ours}/")),
        json!(format!("{ours}.evil")),
        json!(ours.to_uppercase()),
        json!(format!(" {ours}")),
        json!([ours, "sts.amazonaws.com"]),
        json!([ours, ours]),
        json!([]),
        json!([[ours]]),
        json!({ "aud": ours }),
        Value::Null,
        json!(7),
    ]);
    bad
}

fn issuers(world: &World) -> Vec<Value> {
    let ours = &world.issuer;
    vec![
        json!("https://token.actions.githubusercontent.com"),
        json!(format!("{ours}/")),
        json!(format!("{ours}.evil")),
        json!(format!("{ours}/acme")),
        json!(ours.replace("127.0.0.1", "localhost")),
        json!(ours.to_uppercase()),
        json!("http://169.254.169.254"),
        json!(""),
        Value::Null,
        json!([ours]),
    ]
}

fn headers() -> Vec<(String, Value, Want)> {
    let mut all: Vec<(String, Value, Want)> = [
        "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS384", "RS512", "PS256",
        "ES256", "EdDSA", "rs256", "RS256 ", "", "dir",
    ]
    .iter()
    .map(|alg| (format!("alg {alg:?}"), json!({"alg": alg, "kid": "k1"}), Want::Refused))
    .collect();
    for name in ["jku", "jwk", "x5u", "x5c", "crit"] {
        for value in [json!("http://127.0.0.1:1/keys"), json!({}), json!([])] {
            let mut header = rs256();
            header[name] = value.clone();
            all.push((format!("{name} {value}"), header, Want::Refused));
        }
    }
    for kid in [
        Value::Null,
        json!(""),
        json!("k2"),
        json!("../k1"),
        json!("K1"),
        json!("k".repeat(257)),
        json!(1),
    ] {
        all.push((format!("kid {kid:.20}"), json!({"alg": "RS256", "kid": kid}), Want::Refused));
    }
    all.push((
        "alg twice over".into(),
        json!({"alg": ["RS256", "none"], "kid": "k1"}),
        Want::Refused,
    ));
    all.push(("typ".into(), json!({"alg": "RS256", "kid": "k1", "typ": "at+jwt"}), Want::Pushes));
    all
}

fn cases(world: &World) -> Vec<Case> {
    let good = world.claims();
    let mut cases: Vec<Case> = Vec::new();
    for (number, (name, value, want)) in claims(world).into_iter().enumerate() {
        let mut claims = good.clone();
        claims["jti"] = format!("claims-{number}").into();
        claims[&name] = value.clone();
        let what = format!("{name} = {value:.60}");
        cases.push(Case { what, header: rs256(), claims, key: 0, want });
    }
    for (number, (what, header, want)) in headers().into_iter().enumerate() {
        let mut claims = good.clone();
        claims["jti"] = format!("header-{number}").into();
        // With each header, a signature of the issuer's and one of somebody else's.
        let (other, mut other_claims) = (header.clone(), claims.clone());
        other_claims["jti"] = format!("other-{number}").into();
        cases.push(Case { what: what.clone(), header, claims, key: 0, want });
        let what = format!("{what}, another key");
        let (claims, want) = (other_claims, Want::Refused);
        cases.push(Case { what, header: other, claims, key: 1, want });
    }
    // Reused names: the same name, and another id. It may push as itself, and sees nothing of the
    // first one's; that is `an_id_decides_and_not_a_name`.
    cases
}

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
