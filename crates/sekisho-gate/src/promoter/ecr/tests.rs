//! Hosts, answers, the cache.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

mod moto;
mod served;

use super::*;

const SECRET: &str = "secret-of-the-role";
const SESSION: &str = "session-of-the-role";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// 12 hours behind `at(0)`.
const LIFE: i64 = 12 * 3600;

fn token(password: &str, expires: f64) -> Value {
    let token = STANDARD.encode(format!("AWS:{password}"));
    json!({"authorizationData": [{"authorizationToken": token, "expiresAt": expires}]})
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn keys() -> Vec<(String, String)> {
    variables(&[("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", SECRET)])
}

/// A client needs one; another test may have installed it.
fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[test]
fn hosts_of_ecr_are_known() {
    for (host, expected) in [
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", Some("eu-central-1")),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ("123456789012.dkr-ecr.us-east-1.on.aws", Some("us-east-1")),
        ("123456789012.dkr-ecr-fips.us-east-1.on.aws", Some("us-east-1")),
        ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", Some("cn-north-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com", None),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.cn", None),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example", None),
        ("123456789012.dkr.ecr.eu-central-1.evil.example", None),
        ("123456789012.dkr.ecr.evil.example/.amazonaws.com", None),
        ("123456789012.dkr.ecr.eu-central-1.on.aws", None),
        ("123456789012.dkr-ecr.eu-central-1.amazonaws.com", None),
        ("123456789012.dkr.ecr.eu_central.amazonaws.com", None),
        ("123456789012.dkr.ecr..amazonaws.com", None),
        ("12345678901.dkr.ecr.eu-central-1.amazonaws.com", None),
        ("a23456789012.dkr.ecr.eu-central-1.amazonaws.com", None),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.com:443", None),
        ("public.ecr.aws", None),
        ("registry.example", None),
        ("", None),
    ] {
        assert_eq!(region(host), expected, "{host}");
    }
    assert_eq!(address("api.ecr", "eu-central-1"), "https://api.ecr.eu-central-1.amazonaws.com/");
    assert_eq!(address("api.ecr", "cn-north-1"), "https://api.ecr.cn-north-1.amazonaws.com.cn/");
}

#[test]
fn answers_are_read() {
    let read = |status, body: &str| answer::read(status, body.as_bytes(), at(5));
    let fine = read(200, &token("pass:word", 43_200.25).to_string()).unwrap();
    assert_eq!(fine.secret.expose_secret(), "pass:word");
    assert_eq!((fine.asked, fine.expires.as_millisecond()), (at(5), 43_200_250));
    let of = |token: &str, expires: Value| {
        let text = STANDARD.encode(token);
        json!({"authorizationData": [{"authorizationToken": text, "expiresAt": expires}]})
            .to_string()
    };
    let hidden = format!(r#"{{"authorizationData": "{SECRET}"}}"#);
    for (body, says) in [
        ("", "line 1, column 0"),
        ("<html>", "line 1, column 1"),
        (hidden.as_str(), "line 1, column"),
        (r#"{"authorizationData": []}"#, "no `authorizationData`"),
        (r#"{"authorizationData": [{"authorizationToken": "?", "expiresAt": 1}]}"#, "base64"),
        (&of("password", json!(1)), "not `AWS` and a password"),
        (&of("AWS:", json!(1)), "not `AWS` and a password"),
        (&of("root:password", json!(1)), "not `AWS` and a password"),
        (&of("AWS:password", json!(1e300)), "no time"),
        (&of("AWS:password", json!("soon")), "another form"),
    ] {
        let Err(Problem::Unreadable(problem)) = read(200, body) else { panic!("{body}") };
        assert!(problem.contains(says) && !problem.contains(SECRET), "{problem}");
    }
}

#[test]
fn refusals_are_read() {
    let read = |status, body: &str| answer::read(status, body.as_bytes(), at(0)).unwrap_err();
    let denied = |message: &str| Problem::Denied(message.to_owned());
    let busy = |status, kind: &str| Problem::Busy { status, kind: kind.to_owned() };
    let refused = |status, kind: &str| Problem::Refused { status, kind: kind.to_owned() };
    for (status, body, expected) in [
        (400, r#"{"__type": "AccessDeniedException", "Message": "x\ny"}"#, denied("x y")),
        (403, r#"{"__type": "a.b#AccessDeniedException"}"#, denied("the role may not")),
        (
            400,
            r#"{"__type": "ThrottlingException", "message": "Rate exceeded"}"#,
            busy(400, "ThrottlingException"),
        ),
        (429, "", busy(429, "without a reason")),
        (500, r#"{"__type": "com.amazonaws.ecr#ServerException"}"#, busy(500, "ServerException")),
        (503, "<html>", busy(503, "without a reason")),
        (
            400,
            r#"{"__type": "InvalidParameterException"}"#,
            refused(400, "InvalidParameterException"),
        ),
        (404, "[]", refused(404, "without a reason")),
        (302, "", refused(302, "without a reason")),
    ] {
        let problem = read(status, body);
        assert_eq!(problem, expected, "{body}");
        assert_eq!(problem.is_temporary(), matches!(expected, Problem::Busy { .. }), "{body}");
    }
    // As AWS says it: with the request as it should have been.
    let canonical = format!("POST\n/\n\nx-amz-security-token:{SESSION}");
    let body = json!({"__type": "InvalidSignatureException", "message": canonical}).to_string();
    let problem = read(403, &body).to_string();
    assert!(
        problem.contains("InvalidSignatureException") && !problem.contains(SESSION),
        "{problem}"
    );
    let long = json!({"__type": "AccessDeniedException", "message": "é".repeat(5000)}).to_string();
    assert!(read(400, &long).to_string().chars().count() < 500);
}

#[test]
fn a_password_is_kept_for_four_fifths_of_its_life() {
    let of =
        |asked, expires| Password { secret: "x".into(), asked: at(asked), expires: at(expires) };
    let fine = of(0, LIFE);
    for (now, fresh) in [(0, true), (34_559, true), (34_560, false), (LIFE, false), (-1, false)] {
        assert_eq!(fine.is_fresh(at(now)), fresh, "{now}");
    }
    // Whatever is said, it lives no longer than ECR's passwords do.
    assert!(of(0, 10 * LIFE).is_fresh(at(34_559)) && !of(0, 10 * LIFE).is_fresh(at(34_560)));
    assert!(!of(0, 0).is_fresh(at(0)) && !of(100, 50).is_fresh(at(100)));
    assert!(!format!("{:?}", Password { secret: SECRET.into(), ..fine }).contains(SECRET));
}

#[test]
fn who_waited_is_told_what_came_of_it() {
    let fine = Password { secret: "x".into(), asked: at(0), expires: at(LIFE) };
    let dead = Password { expires: at(-5), ..fine.clone() };
    let error = EcrError::Credentials("none".into());
    let told = |last: &Last, before| known(Some(last), before, at(1)).map(|it| it.is_ok());
    assert!(known(None, 0, at(1)).is_none());
    assert_eq!(told(&(3, Ok(fine)), 3), Some(true));
    assert_eq!(told(&(3, Ok(dead.clone())), 3), None);
    assert_eq!(told(&(3, Ok(dead)), 2), Some(true));
    assert_eq!(told(&(3, Err(error.clone())), 3), None);
    assert_eq!(told(&(3, Err(error)), 2), Some(false));
}

#[test]
fn an_identity_is_whole_and_no_static_key() {
    let of = |pairs: &[(&str, &str)], allow| {
        identity::settings(variables(pairs), allow).map(|settings| settings.len())
    };
    let (id, secret) = (("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", SECRET));
    assert_eq!(of(&[], false), Ok(0));
    assert_eq!(of(&[("PATH", "/bin"), ("AWS_ACCESS_KEY_ID", "")], false), Ok(0));
    assert_eq!(of(&[id, secret], true), Ok(2));
    assert_eq!(of(&[id, secret], false), Err(EcrError::StaticKeys("AWS_ACCESS_KEY_ID")));
    assert_eq!(of(&[secret], false), Err(EcrError::StaticKeys("AWS_SECRET_ACCESS_KEY")));
    assert_eq!(
        of(&[("aws_session_token", "x")], false),
        Err(EcrError::StaticKeys("AWS_SESSION_TOKEN"))
    );
    for (named, lacks) in [
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ] {
        assert_eq!(of(&[(named, SECRET)], true), Err(EcrError::Half { named, lacks }));
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    provider();
    let new = |region: &str, endpoint: Option<&str>| {
        let endpoint = endpoint.map(|url| Url::parse(url).unwrap());
        Ecr::new(region, endpoint, keys(), true)
    };
    assert_eq!(
        format!("{:?}", new("eu-west-1", None).unwrap()),
        "Ecr(https://api.ecr.eu-west-1.amazonaws.com/)"
    );
    for bad in
        ["", "eu", "EU-WEST-1", "eu-west-1.evil.example", "eu-west-1/", "-a", &"a-".repeat(30)]
    {
        assert_eq!(new(bad, None).unwrap_err(), EcrError::Region(bad.to_owned()));
    }
    assert!(new("eu-west-1", Some("https://vpce-1.api.ecr.eu-west-1.vpce.amazonaws.com")).is_ok());
    assert!(new("eu-west-1", Some("http://[::1]:5000")).is_ok());
    for bad in [
        "http://ecr.example",
        "ftp://localhost",
        "https://a:secret-of-the-role@ecr.example",
        "https://e.example/?a",
    ] {
        let error = new("eu-west-1", Some(bad)).unwrap_err();
        assert!(
            matches!(error, EcrError::Endpoint(_)) && !error.to_string().contains(SECRET),
            "{error}"
        );
    }
}
