//! Each way in which a token can be wrong, and what becomes of it.

use serde_json::{Value, json};

use crate::support::{NOW, World};

/// What becomes of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// It is exchanged, and its session may push to `acme/app`.
    Pushes,
    /// It is exchanged, and its session is refused by this rule.
    Denied(&'static str),
    /// It is not exchanged.
    Refused,
}

pub(super) struct Case {
    pub(super) what: String,
    pub(super) header: Value,
    pub(super) claims: Value,
    pub(super) key: usize,
    pub(super) want: Want,
}

pub(super) fn rs256() -> Value {
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

pub(super) fn cases(world: &World) -> Vec<Case> {
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
