//! Bodies that no call can mean.

use reqwest::Method;

use super::Who::{Git, Registrar, Signed};
use super::{Plane, needs, table};

/// Bodies that no call can mean, by name.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str, n: usize| [open.repeat(n), close.repeat(n)].concat();
    let texts = [
        ("nothing", String::new()),
        ("cut off", r#"{"name": "x", "labels": ["#.to_owned()),
        ("no JSON", "\u{0}\u{1}{{{".to_owned()),
        ("a list", "[]".to_owned()),
        ("a list of lists", "[[],[[]]]".to_owned()),
        ("text", "\"x\"".to_owned()),
        ("a number", "1e400".to_owned()),
        ("null", "null".to_owned()),
        (
            "wrong types",
            r#"{"name":7,"labels":{"a":1},"ref":[],"inputs":"x","id":{},"runnerRequestId":{},
            "sessionId":[],"url":[],"runner_event":9,"planId":{},"jobId":[],"key":[],"version":{},
            "runner_group_id":"x","RunnerSetting":7,"actions":{"a":0},"rules":"x","advance_s":"x"}"#
                .to_owned(),
        ),
        (
            "the same key twice",
            r#"{"name":"a","name":"b","NAME":"c","labels":["x"],"labels":["y"]}"#.to_owned(),
        ),
        ("deep lists", deep("[", "]", 100_000)),
        ("deep objects", format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        ("a key a mebibyte long", format!("{{\"{}\":1}}", "k".repeat(900_000))),
    ];
    let mut all: Vec<(&str, Vec<u8>)> =
        texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    all.push(("no UTF-8", b"{\"name\":\"\xff\xfe\"}".to_vec()));
    all.push(("larger than any body", vec![b' '; 9 * 1024 * 1024]));
    all
}

/// Calls that do not read a body: what comes in one changes nothing.
fn is_bodiless(path: &str) -> bool {
    let ends = [
        "-token",
        "/cancel",
        "/force-cancel",
        "/pings",
        "/attempts",
        "/sessions/{session}",
        "/pending_deployments",
        "/runners/{runner}",
        "/repositories/{repository}",
    ];
    ends.iter().any(|end| path.ends_with(end))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_breaks_a_route() {
    let plane = Plane::new().await;
    for (method, path, who) in table() {
        let writes = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        // Blobs and packs may hold any bytes; they have tests of their own.
        if !writes || matches!(who, Signed | Git) {
            continue;
        }
        let filled = format!("{}{}", plane.fill(&path), needs(&path));
        for (what, body) in bodies() {
            let size = body.len();
            let mut request = plane.request(&method, &filled);
            request = match (who, plane.good(who)) {
                (Registrar, _) => {
                    let token = &plane.tokens.registration;
                    request.header("authorization", format!("RemoteAuth {token}"))
                }
                (_, Some(token)) => request.bearer_auth(token),
                (_, None) => request,
            };
            let request = request.header("content-type", "application/json").body(body);
            let about = format!("{method} {path} with {what}");
            let answer = match request.send().await {
                Ok(answer) => answer,
                // It was refused before it was sent: the connection is closed on the rest of it.
                Err(_) if size > 512 * 1024 => continue,
                Err(error) => panic!("{about}: {error}"),
            };
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            assert!(!status.is_server_error(), "{about}: {status} {text}");
            assert!(text.len() < 4096, "{about}: an answer of {} bytes", text.len());
            let broken = ["cut off", "no JSON", "no UTF-8", "deep lists", "deep objects"];
            if broken.contains(&what) && !is_bodiless(&path) {
                assert!(status.is_client_error(), "{about}: {status} {text}");
            }
            if size > 8 * 1024 * 1024 && !is_bodiless(&path) {
                assert_eq!(status, 413, "{about}: {text}");
            }
        }
    }
    // It is all as it was: the job goes on.
    assert_eq!(plane.runner.complete(&plane.world, "succeeded").await.status(), 200);
}
