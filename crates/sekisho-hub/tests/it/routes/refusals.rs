//! Credentials that are not a route's own: of another kind, forged, too old.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::Who::{
    App, Assertion, Broker, Git, Issuer, JobOfLaunch, JobOfResults, JobOfRun, Own, Public, Queue,
    Registrar, Rest, RunnerOfRun, Signed, SignedRest, Tenant,
};
use super::{Plane, Who, needs, table};
use crate::world::ADMIN;

/// How a route refuses a credential: its status, and its form.
async fn check_refusal(who: Who, answer: Response, about: &str, secret: &str) {
    let status = answer.status();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    assert!(answer.headers().contains_key("x-github-request-id"), "{about}");
    let text = answer.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(secret.is_empty() || !text.contains(secret), "{about}: {text}");
    let (want, has): (&[u16], bool) = match who {
        Rest | App | Registrar | Issuer => (&[401], body["message"].is_string()),
        Own => (&[401], body["code"] == "unauthorized" && body["request_id"].is_string()),
        Tenant | Queue => (&[401], body["typeKey"].is_string() && body["message"].is_string()),
        Broker | RunnerOfRun | JobOfRun if about.contains("/feed") => (&[401], text.is_empty()),
        Broker | RunnerOfRun | JobOfRun => (&[401], body["errorMessage"].is_string()),
        JobOfLaunch => (&[401], body.is_object()),
        JobOfResults => (&[401], body["code"] == "unauthenticated" && body["msg"].is_string()),
        Signed => (&[403], text.contains("<Code>AuthenticationFailed</Code>")),
        SignedRest => (&[403], body["message"].is_string()),
        Assertion | Git | Public => unreachable!("{about}"),
    };
    assert!(want.contains(&status.as_u16()), "{about}: {status} {text}");
    assert!(has, "{about}: {kind:?} {text}");
}

/// A token's claims under no key, and under another.
fn forged(token: &str) -> Vec<(&'static str, String)> {
    use base64::Engine as _;
    let encode = |text: &[u8]| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    let token = token.strip_prefix("ghs_").unwrap_or(token);
    let Some(claims) = token.split('.').nth(1) else { return Vec::new() };
    let none = encode(br#"{"typ":"JWT","alg":"none"}"#);
    let signed = format!("{}.{claims}", token.split('.').next().unwrap());
    let decoded = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let decoded: Value = serde_json::from_slice(&decoded).unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(b"another key of the same length..");
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let other = jsonwebtoken::encode(&header, &decoded, &key).unwrap();
    vec![
        ("alg none", format!("{none}.{claims}.")),
        ("alg none, with a signature", format!("{none}.{}", token.split_once('.').unwrap().1)),
        ("no signature", format!("{signed}.")),
        ("another key", other),
        ("cut off", token[..token.len() - 4].to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_takes_a_credential_that_is_not_its_own() {
    let plane = Plane::new().await;
    for (method, path, who) in table() {
        if matches!(who, Assertion | Git | Public) {
            continue;
        }
        let method = if method.as_str() == "ANY" { Method::GET } else { method };
        let filled = format!("{}{}", plane.fill(&path), needs(&path));
        let ask = async |what: &str, header: Option<String>, secret: &str| {
            let mut request = plane.request(&method, &filled).json(&json!({}));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let about = format!("{method} {path} with {what}");
            check_refusal(who, request.send().await.unwrap(), &about, secret).await;
        };
        ask("nothing", None, "").await;
        ask("garbage", Some("Bearer a.b.c".to_owned()), "").await;
        ask("a password", Some("Basic YWRtaW46YWRtaW4=".to_owned()), "").await;
        ask("half a header", Some("Bearer".to_owned()), "").await;
        let good = plane.good(who);
        // One runner's `configure` asks these with the tenant's token.
        let configures = ["/runners", "/runners/{id}", "/runner-groups", "/runners/register"];
        let configures = configures.iter().any(|end| path.ends_with(&format!("/actions{end}")));
        for (name, token) in plane.tokens.all() {
            let own = good == Some(token);
            // A job reads the REST of its repository; who registers looks at runners.
            let also = matches!((who, name), (Rest | App, "github" | "admin"))
                || (configures && name == "tenant");
            if !own && !also {
                ask(&format!("a token of kind {name}"), Some(format!("Bearer {token}")), token)
                    .await;
            }
            let scheme = if who == Registrar { "RemoteAuth" } else { "Bearer" };
            for (what, token) in forged(token) {
                let about = format!("a token of kind {name}: {what}");
                ask(&about, Some(format!("{scheme} {token}")), &token).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_and_its_job() {
    let plane = Plane::new().await;
    let ask = async |method: &Method, path: &str, who: Who, token: &str| {
        let filled = format!("{}{}", plane.fill(path), needs(path));
        let request = plane.request(method, &filled).bearer_auth(token).json(&json!({}));
        check_refusal(who, request.send().await.unwrap(), &format!("{method} {path}"), token).await;
    };
    // Longer than any token lives.
    plane.world.hub.advance(jiff::SignedDuration::from_hours(25));
    for (method, path, who) in table() {
        let Some(token) = plane.good(who).filter(|token| *token != ADMIN) else { continue };
        let method = if method.as_str() == "ANY" { Method::GET } else { method };
        ask(&method, &path, who, token).await;
    }
    let runs = "/api/v3/repos/{owner}/{name}/actions/runs";
    ask(&Method::GET, runs, Rest, &plane.tokens.github).await;
    ask(&Method::GET, runs, Rest, &format!("ghs_{}", plane.tokens.job)).await;
}
