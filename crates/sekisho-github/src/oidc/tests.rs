//! The table of tokens, each field wrong in each way; the life of keys, simulated.

mod keys;
mod simulation;
mod verify;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

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
        "repository_visibility": "private",
        "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "sha": "abc",
        "base_ref": "", "head_ref": "",
        "event_name": "push", "run_id": "12", "run_number": "3", "run_attempt": "1",
        "check_run_id": "12000", "workflow": "image",
        "workflow_ref": "acme/app/.github/workflows/ci.yml@refs/heads/main", "workflow_sha": "abc",
        "job_workflow_ref": "sekisho/pipeline/.github/workflows/image.yml@v1",
        "job_workflow_sha": "def",
        "runner_environment": "self-hosted", "actor": "ann", "actor_id": "7",
        "enterprise": "big", "enterprise_id": "5", "repo_property_tier": "gold", "new": [1, 2],
    })
}

fn token(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), BASE64_URL_SAFE_NO_PAD.encode("signature"))
}

fn judge(token: &str) -> Result<Claims, TokenError> {
    Unverified::parse(token)?.judge(&issuer(), at(NOW))
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
fn every_claim_has_its_type() {
    let claims = judge(&token(&header(), &claims())).unwrap();
    let subject = Subject::Repository {
        owner: "acme".into(),
        name: "app".into(),
        ids: Some((99, 4711)),
        context: SubjectContext::Ref("refs/heads/main".into()),
    };
    let want = Claims {
        issuer: "https://issuer.example".into(),
        audience: "https://gate.example".into(),
        subject: Some(subject),
        token_id: "8f3c".into(),
        issued_at: Some(at(NOW)),
        not_before: Some(at(NOW - 600)),
        expires_at: at(NOW + 300),
        repository: "acme/app".into(),
        repository_id: 4711,
        repository_owner: "acme".into(),
        repository_owner_id: 99,
        repository_visibility: Some(Visibility::Private),
        git_ref: "refs/heads/main".into(),
        ref_type: Some(RefType::Branch),
        ref_protected: Some(true),
        sha: Some("abc".into()),
        base_ref: None,
        head_ref: None,
        event_name: "push".into(),
        actor: Some("ann".into()),
        actor_id: Some(7),
        workflow: Some("image".into()),
        workflow_ref: WorkflowRef::parse("acme/app/.github/workflows/ci.yml@refs/heads/main"),
        workflow_sha: Some("abc".into()),
        job_workflow_ref: WorkflowRef::parse("sekisho/pipeline/.github/workflows/image.yml@v1"),
        job_workflow_sha: Some("def".into()),
        run_id: 12,
        run_number: Some(3),
        run_attempt: 1,
        check_run_id: Some(12_000),
        environment: None,
        runner_environment: Some(RunnerEnvironment::SelfHosted),
        enterprise: Some("big".into()),
        enterprise_id: Some(5),
        properties: [("tier".to_owned(), "gold".to_owned())].into(),
    };
    assert_eq!(claims, want);
}

#[test]
fn headers_that_could_confuse_are_refused() {
    let check = |change: Value, want: TokenError| {
        let mut header = header();
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        assert_eq!(judge(&token(&header, &claims())), Err(want), "{change}");
    };
    for alg in ["none", "None", "HS256", "ES256", "PS256", "RS384", "rs256", ""] {
        check(json!({"alg": alg}), TokenError::Algorithm(alg.into()));
    }
    for name in ["jku", "jwk", "x5u", "x5c", "crit"] {
        check(json!({name: "https://evil.example/keys"}), TokenError::ForeignKey(name));
    }
    check(json!({"kid": null}), TokenError::NoKey);
    check(json!({"kid": ""}), TokenError::NoKey);
    check(json!({"kid": "k".repeat(257)}), TokenError::NoKey);
    check(json!({"alg": 1}), TokenError::Malformed);
}

#[test]
fn claims_that_do_not_fit_are_refused() {
    let late = |what: &str, by: i64| with(json!({what: NOW + by}));
    let both = json!({"aud": ["https://gate.example", "https://other.example"]});
    for (claims, want) in [
        (with(json!({"iss": "https://issuer.example.evil"})), TokenError::Issuer),
        (with(json!({"iss": "https://issuer.example/"})), TokenError::Issuer),
        (with(json!({"aud": "https://other.example"})), TokenError::Audience),
        (with(json!({"aud": "https://gate.example/"})), TokenError::Audience),
        (with(json!({"aud": "HTTPS://GATE.EXAMPLE"})), TokenError::Audience),
        (with(json!({"aud": []})), TokenError::Audience),
        (with(json!({"aud": 7})), TokenError::Audience),
        (with(both), TokenError::Audience),
        (late("exp", -30), TokenError::Expired),
        (with(json!({"exp": i64::MIN})), TokenError::Expired),
        (late("exp", 3601), TokenError::LivesTooLong),
        (with(json!({"exp": i64::MAX})), TokenError::LivesTooLong),
        (late("nbf", 31), TokenError::NotYet),
        (late("iat", 31), TokenError::NotYet),
        (with(json!({"nbf": i64::MIN})), TokenError::Claim("nbf")),
        (with(json!({"jti": null})), TokenError::Claim("jti")),
        (with(json!({"repository": null})), TokenError::Claim("repository")),
        (with(json!({"repository": "acme/app/x"})), TokenError::Claim("repository")),
        (with(json!({"repository": "acme/"})), TokenError::Claim("repository")),
        (with(json!({"repository": "evil/app"})), TokenError::Claim("repository")),
        (with(json!({"repository": "acme/a\np"})), TokenError::Claim("repository")),
        (with(json!({"repository_id": "4711x"})), TokenError::Claim("repository_id")),
        (with(json!({"repository_id": "04711"})), TokenError::Claim("repository_id")),
        (with(json!({"repository_id": "+4711"})), TokenError::Claim("repository_id")),
        (with(json!({"repository_id": ""})), TokenError::Claim("repository_id")),
        (with(json!({"repository_owner_id": null})), TokenError::Claim("repository_owner_id")),
        (
            with(json!({"repository_visibility": "secret"})),
            TokenError::Claim("repository_visibility"),
        ),
        (with(json!({"run_id": "../1"})), TokenError::Claim("run_id")),
        (with(json!({"run_id": "1".repeat(21)})), TokenError::Claim("run_id")),
        (with(json!({"run_attempt": null})), TokenError::Claim("run_attempt")),
        (with(json!({"ref": null})), TokenError::Claim("ref")),
        (with(json!({"ref_type": "Branch"})), TokenError::Claim("ref_type")),
        (with(json!({"ref_protected": "yes"})), TokenError::Claim("ref_protected")),
        (with(json!({"event_name": ""})), TokenError::Claim("event_name")),
        (with(json!({"actor": "a\u{0}"})), TokenError::Claim("actor")),
        (with(json!({"sha": "a".repeat(1025)})), TokenError::Claim("sha")),
        (with(json!({"runner_environment": "mine"})), TokenError::Claim("runner_environment")),
        (with(json!({"job_workflow_ref": "a/b/x.yml@v1"})), TokenError::Claim("job_workflow_ref")),
        (with(json!({"repository_id": 4711})), TokenError::Malformed),
        (with(json!({"exp": "soon"})), TokenError::Malformed),
        (with(json!({"exp": null})), TokenError::Malformed),
    ] {
        assert_eq!(judge(&token(&header(), &claims)), Err(want), "{claims}");
    }
}

#[test]
fn a_claim_that_is_there_twice_is_refused() {
    let text = claims().to_string();
    let twice = text.replacen('{', "{\"repository_id\":\"1\",", 1);
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let token = format!("{}.{}.AAAA", part(&header().to_string()), part(&twice));
    assert_eq!(judge(&token), Err(TokenError::Malformed));
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
    let huge = token(&header(), &with(json!({"pad": "x".repeat(8192)})));
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let deep = format!("{{\"aud\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let deep = format!("{}.{}.AAAA", part(&header().to_string()), part(&deep));
    let padded = format!("{good}=");
    let four = format!("{good}.x");
    for text in ["", "a", "a.b", "a.b.c", "..", "e30.e30.", &huge, &deep, &padded, &four] {
        assert_eq!(judge(text), Err(TokenError::Malformed), "{text:.40}");
    }
}

#[test]
fn workflow_refs() {
    let check = |text: &str, want: Option<(&str, &str, &str)>| {
        let got = WorkflowRef::parse(text);
        let got = got.as_ref().map(|it| (it.repository(), it.path(), it.git_ref()));
        assert_eq!(got, want, "{text}");
    };
    let file = ".github/workflows/a.yml";
    check("o/r/.github/workflows/a.yml@v1", Some(("o/r", file, "v1")));
    check("o/r/.github/workflows/a.yml@refs/heads/x@y", Some(("o/r", file, "refs/heads/x@y")));
    check("o/r/.github/workflows/a@b.yml@v1", Some(("o/r", ".github/workflows/a@b.yml", "v1")));
    // Either a.yml at `b.yml@v1`, or `a.yml@b.yml` at v1.
    check("o/r/.github/workflows/a.yml@b.yml@v1", None);
    for bad in [
        "",
        "o/r",
        "o/r/.github/workflows/a.yml",
        "o/r/.github/workflows/a.yml@",
        "//@",
        "o/r/a.yml@v1",
        "o/r/.github/workflows/x/a.yml@v1",
        "o//.github/workflows/a.yml@v1",
        "/r/.github/workflows/a.yml@v1",
        "o@x/r/.github/workflows/a.yml@v1",
    ] {
        check(bad, None);
    }
}

#[test]
fn subjects() {
    let check = |text: &str, want: Option<(Option<(u64, u64)>, SubjectContext)>| {
        let want = want.map_or_else(
            || Subject::Custom(text.to_owned()),
            |(ids, context)| Subject::Repository {
                owner: "o".into(),
                name: "r".into(),
                ids,
                context,
            },
        );
        assert_eq!(Subject::parse(text), want);
    };
    let main = || SubjectContext::Ref("refs/heads/main".into());
    check("repo:o/r:ref:refs/heads/main", Some((None, main())));
    check("repo:o@1/r@2:ref:refs/heads/main", Some((Some((1, 2)), main())));
    check("repo:o/r:pull_request", Some((None, SubjectContext::PullRequest)));
    let environment = SubjectContext::Environment("a:b".into());
    check("repo:o/r:environment:a%3Ab", Some((None, environment)));
    for custom in [
        "",
        "repo:o/r",
        "repo:o@1/r:pull_request",
        "repo:o@x/r@1:pull_request",
        "repo:/r:ref:x",
        "repo:o/r:ref:",
        "repo:o/r:ref:a:job_workflow_ref:b",
        "repository_id:7",
        "repo:o/r/x:pull_request",
    ] {
        check(custom, None);
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,80}") {
        let _ = judge(&text);
        let _ = Subject::parse(&text);
        if let Some(it) = WorkflowRef::parse(&text) {
            assert_eq!(format!("{}/{}@{}", it.repository(), it.path(), it.git_ref()), text);
        }
    }

    #[test]
    fn any_document_is_a_key_set_or_refused(bytes in proptest::collection::vec(0u8.., 0..200)) {
        let _ = KeySet::parse(&bytes);
    }
}
