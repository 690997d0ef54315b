//! The table of tokens: each field wrong in each way.

use base64::Engine as _;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

fn issuer() -> Issuer {
    Issuer { url: "https://issuer.example".into(), audience: "https://gate.example".into() }
}

fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": "k1"})
}

/// As GitHub makes them.
fn claims() -> Value {
    json!({
        "iss": "https://issuer.example",
        "aud": "https://gate.example",
        "sub": "repo:acme@99/app@4711:ref:refs/heads/main",
        "jti": "8f3c",
        "iat": NOW, "nbf": NOW - 600, "exp": NOW + 300,
        "repository": "acme/app", "repository_id": "4711",
        "repository_owner": "acme", "repository_owner_id": "99",
        "ref": "refs/heads/main", "ref_type": "branch", "sha": "abc",
        "event_name": "push", "run_id": "12", "run_attempt": "1",
        "job_workflow_ref": "sekisho/pipeline/.github/workflows/image.yml@v1",
        "runner_environment": "self-hosted", "actor": "ann",
    })
}

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), BASE64_URL_SAFE_NO_PAD.encode("signature"))
}

fn judge(token: &str) -> Result<Verified, ClaimsError> {
    Unverified::parse(token)?.judge(&issuer(), Timestamp::from_second(NOW).unwrap())
}

fn with(changes: Value) -> Value {
    let mut all = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
            value => all[name] = value.clone(),
        }
    }
    all
}

#[test]
fn a_good_token_is_an_identity() {
    let verified = judge(&token(&header(), &claims())).unwrap();
    assert_eq!((verified.jti.as_str(), verified.expires), ("8f3c", NOW + 300));
    let identity = verified.identity;
    assert_eq!(identity.repository, "acme/app");
    assert_eq!(identity.repository_id, "4711");
    assert_eq!(identity.event_name, "push");
    assert_eq!(identity.git_ref, "refs/heads/main");
    assert_eq!(identity.job_workflow_ref, "sekisho/pipeline/.github/workflows/image.yml@v1");
    assert_eq!(identity.environment, "");
}

#[test]
fn headers_that_could_confuse_are_refused() {
    let check = |change: Value, want: ClaimsError| {
        let mut header = header();
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        assert_eq!(judge(&token(&header, &claims())), Err(want), "{change}");
    };
    for alg in ["none", "None", "HS256", "ES256", "PS256", "rs256", ""] {
        check(json!({"alg": alg}), ClaimsError::Algorithm(alg.into()));
    }
    for name in ["jku", "jwk", "x5u", "x5c", "crit"] {
        check(json!({name: "https://evil.example/keys"}), ClaimsError::ForeignKey(name));
    }
    check(json!({"kid": null}), ClaimsError::NoKey);
    check(json!({"kid": "k".repeat(257)}), ClaimsError::NoKey);
    check(json!({"alg": 1}), ClaimsError::Malformed);
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let late = |what: &str, by: i64| with(json!({what: NOW + by}));
    for (claims, want) in [
        (with(json!({"iss": "https://issuer.example.evil"})), ClaimsError::Issuer),
        (with(json!({"iss": "https://issuer.example/"})), ClaimsError::Issuer),
        (with(json!({"aud": "https://other.example"})), ClaimsError::Audience),
        (with(json!({"aud": "https://gate.example/"})), ClaimsError::Audience),
        (with(json!({"aud": "HTTPS://GATE.EXAMPLE"})), ClaimsError::Audience),
        (with(json!({"aud": []})), ClaimsError::Audience),
        (with(json!({"aud": 7})), ClaimsError::Audience),
        (
            with(json!({"aud": ["https://gate.example", "https://other.example"]})),
            ClaimsError::Audience,
        ),
        (late("exp", -30), ClaimsError::Expired),
        (late("exp", -100_000), ClaimsError::Expired),
        (with(json!({"exp": i64::MIN})), ClaimsError::Expired),
        (late("exp", 3601), ClaimsError::LivesTooLong),
        (with(json!({"exp": i64::MAX})), ClaimsError::LivesTooLong),
        (late("nbf", 31), ClaimsError::NotYet),
        (late("iat", 31), ClaimsError::NotYet),
        (with(json!({"jti": null})), ClaimsError::Claim("jti")),
        (with(json!({"repository": null})), ClaimsError::Claim("repository")),
        (with(json!({"repository": "acme/app/x"})), ClaimsError::Claim("repository")),
        (with(json!({"repository": "acme/"})), ClaimsError::Claim("repository")),
        (with(json!({"repository": "evil/app"})), ClaimsError::Claim("repository")),
        (with(json!({"repository": "acme/a\np"})), ClaimsError::Claim("repository")),
        (with(json!({"repository_id": "4711x"})), ClaimsError::Claim("repository_id")),
        (with(json!({"repository_id": ""})), ClaimsError::Claim("repository_id")),
        (with(json!({"repository_owner_id": null})), ClaimsError::Claim("repository_owner_id")),
        (with(json!({"run_id": "../1"})), ClaimsError::Claim("run_id")),
        (with(json!({"run_id": "1".repeat(21)})), ClaimsError::Claim("run_id")),
        (with(json!({"run_attempt": null})), ClaimsError::Claim("run_attempt")),
        (with(json!({"ref": null})), ClaimsError::Claim("ref")),
        (with(json!({"event_name": ""})), ClaimsError::Claim("event_name")),
        (with(json!({"actor": "a\u{0}"})), ClaimsError::Claim("actor")),
        (with(json!({"sha": "a".repeat(1025)})), ClaimsError::Claim("sha")),
        (with(json!({"repository_id": 4711})), ClaimsError::Malformed),
        (with(json!({"exp": "soon"})), ClaimsError::Malformed),
        (with(json!({"exp": null})), ClaimsError::Malformed),
    ] {
        assert_eq!(judge(&token(&header(), &claims)), Err(want), "{claims}");
    }
}

#[test]
fn clocks_may_be_thirty_seconds_apart() {
    for claims in [
        with(json!({"exp": NOW - 29})),
        with(json!({"nbf": NOW + 30, "iat": NOW + 30})),
        with(json!({"nbf": null, "iat": null})),
        with(json!({"aud": ["https://gate.example"]})),
        with(json!({"sub": null})),
    ] {
        assert!(judge(&token(&header(), &claims)).is_ok(), "{claims}");
    }
}

#[test]
fn what_is_no_token_is_refused_before_any_key_is_touched() {
    let good = token(&header(), &claims());
    let huge = token(&header(), &with(json!({"pad": "x".repeat(9000)})));
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    let deep = with(json!({"aud": deep})).to_string().replace("\"[", "[").replace("]\"", "]");
    let deep = format!(
        "{}.{}.AAAA",
        BASE64_URL_SAFE_NO_PAD.encode(header().to_string()),
        BASE64_URL_SAFE_NO_PAD.encode(deep)
    );
    for text in ["", "a", "a.b", "a.b.c", "..", "e30.e30.", &huge, &deep, &format!("{good}=")] {
        assert_eq!(judge(text), Err(ClaimsError::Malformed), "{:.40}", text);
    }
    let four_parts = format!("{good}.x");
    assert_eq!(judge(&four_parts), Err(ClaimsError::Malformed));
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,80}") {
        let _ = judge(&text);
    }
}
