//! Every body that a runner receives, damaged: refused or read, never a panic, never quoted.

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::http::Answer;
use crate::lenient;
use crate::wire::job::AgentJobRequestMessage;
use crate::wire::launch::{ResolveErrors, ResolvedActions};
use crate::wire::message::{JobCancellation, RunnerJobRequest, TaskAgentMessage};
use crate::wire::oauth::TokenResponse;
use crate::wire::results::{Ok as OkAnswer, SignedUrlResponse};
use crate::wire::run_service::RenewJobResponse;
use crate::wire::session::TaskAgentSession;
use crate::wire::tenant::{BrokerMigration, ConnectionData, LogReference};

const SECRET: &str = "s3cr3t-s3cr3t";

type Read = fn(&[u8]) -> Result<String, String>;

fn answered(status: u16, body: Vec<u8>) -> Answer {
    Answer { status, headers: reqwest::header::HeaderMap::new(), body }
}

/// Reads a body as its call does; both answers are what could end up in a log.
fn read<T: DeserializeOwned + std::fmt::Debug>(bytes: &[u8]) -> Result<String, String> {
    let answer = answered(200, bytes.to_vec());
    let read = answer.json::<T>("reading");
    read.map(|value| in_order(&format!("{value:?}"))).map_err(|error| format!("{error} {error:?}"))
}

/// Without the index of an object, whose order is different each time.
fn in_order(text: &str) -> String {
    let mut parts = text.split("index: {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('}').unwrap_or_default().1)
}

/// A good body of each kind.
fn bodies() -> Vec<(Read, Value)> {
    let guid = "00000000-0000-0000-0000-000000000001";
    let token = json!({"type": 2, "map": [{"Key": "script", "Value": {"type": 3, "expr": "a.b",
        "file": 1, "line": 2, "col": 3}}]});
    let job = json!({"messageType": "RunnerJobRequest", "plan": {"planId": guid, "version": 12},
        "timeline": {"id": guid}, "jobId": guid, "jobDisplayName": "build", "requestId": 7,
        "resources": {"endpoints": [{"name": "SystemVssConnection", "url": "http://127.0.0.1:1/",
            "authorization": {"scheme": "OAuth", "parameters": {"AccessToken": SECRET}},
            "data": {"FeedStreamUrl": "ws://127.0.0.1:1/"}}]},
        "contextData": {"github": {"t": 2, "d": [{"k": "repository", "v": "a/b"},
            {"k": "n", "v": {"t": 4, "n": 2.5}}, {"k": "l", "v": {"t": 1, "a": [true, null]}}]}},
        "mask": [{"type": "regex", "value": "x"}], "environmentVariables": [token.clone()],
        "defaults": [], "variables": {"a": {"value": "x", "isSecret": true}}, "fileTable": ["f"],
        "steps": [{"type": "action", "id": guid, "contextName": "x", "enabled": true,
            "condition": "success()", "reference": {"type": "script"}, "inputs": token,
            "timeoutInMinutes": {"type": 6, "num": 5}}]});
    vec![
        (read::<AgentJobRequestMessage>, job),
        (read::<TaskAgentMessage>, json!({"messageId": "7", "messageType": "x", "body": "{}"})),
        (
            read::<RunnerJobRequest>,
            json!({"id": "1", "runner_request_id": "r", "should_acknowledge": true,
                "run_service_url": "http://127.0.0.1:1/", "billing_owner_id": null}),
        ),
        (read::<JobCancellation>, json!({"jobId": guid, "timeout": "00:05:00"})),
        (
            read::<TaskAgentSession>,
            json!({"sessionId": guid, "ownerName": "o", "agent": {"id": 1, "name": "n"}}),
        ),
        (read::<TokenResponse>, json!({"access_token": SECRET, "expires_in": "3600"})),
        (read::<RenewJobResponse>, json!({"lockedUntil": "2030-01-01T00:00:00Z"})),
        (
            read::<SignedUrlResponse>,
            json!({"logs_url": format!("http://127.0.0.1:1/?sig={SECRET}"),
                "blob_storage_type": "BLOB_STORAGE_TYPE_AZURE"}),
        ),
        (read::<OkAnswer>, json!({"ok": true})),
        (
            read::<ResolvedActions>,
            json!({"actions": {"a/b@v1": {"name": "a/b", "resolved_name": "a/b",
                "resolved_sha": "0", "tar_url": "http://127.0.0.1:1/a.tar.gz",
                "authentication": {"token": SECRET}}}}),
        ),
        (read::<ResolveErrors>, json!({"errors": {"a/b@v1": {"message": "no"}}})),
        (
            read::<ConnectionData>,
            json!({"locationServiceData": {"serviceDefinitions": [
                {"identifier": guid, "relativePath": "/a/{poolId}"}]}}),
        ),
        (read::<BrokerMigration>, json!({"brokerBaseUrl": "http://127.0.0.1:1/"})),
        (read::<LogReference>, json!({"id": 7, "path": "logs\\7"})),
    ]
}

/// Paths of all values in a body.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let below: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in below {
        paths(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
    }
}

/// All field names in another case. Keys of maps are data: they stay.
fn shout(value: &Value, is_data: bool) -> Value {
    match value {
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| {
                let maps = ["variables", "parameters", "data", "contextData", "actions", "errors"];
                let data = maps.contains(&&**key);
                // Of tokens and context data, which only a service writes.
                let encoded = [
                    "t", "d", "k", "v", "a", "n", "type", "map", "Key", "Value", "expr", "file",
                    "line", "col", "num",
                ];
                let name = match is_data || encoded.contains(&&**key) {
                    true => key.clone(),
                    false => key.to_ascii_uppercase(),
                };
                (name, shout(value, data))
            };
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Array(items) => items.iter().map(|item| shout(item, false)).collect(),
        other => other.clone(),
    }
}

#[test]
fn good_bodies_are_read_in_any_letter_case_and_with_more_than_they_need() {
    for (read, body) in bodies() {
        let want = read(body.to_string().as_bytes()).unwrap();
        let loud = shout(&body, false).to_string();
        assert_eq!(read(loud.as_bytes()), Ok(want.clone()), "{loud}");
        let mut more = body.clone();
        more["aFieldFromTheFuture"] = json!([{"x": 1}]);
        assert_eq!(read(more.to_string().as_bytes()), Ok(want.clone()));
        assert!(!want.contains(SECRET), "{want}");
    }
}

#[test]
fn depth_has_a_budget() {
    for (read, _) in bodies() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            assert!(read(deep.as_bytes()).is_err());
            let wrapped = format!("{{\"steps\":{deep}}}");
            assert!(read(wrapped.as_bytes()).is_err());
        }
    }
    let inner = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(lenient::from_str::<RunnerJobRequest>(&inner).is_err());
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!([[], {}])),
        Just(json!({"type": 99, "t": 99, "map": [[]], "d": [{}]})),
    ]
}

proptest! {
    #[test]
    fn damaged_bodies_do_not_panic_and_are_not_quoted(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), value(), any::<bool>()), 0..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut all = bodies();
        let (read, mut body) = all.swap_remove(which.index(all.len()));
        for (at, value, remove) in changes {
            let mut all = Vec::new();
            paths(&body, "", &mut all);
            let path = at.get(&all).clone();
            let parent = path.rsplit_once('/').map(|(parent, key)| (parent.to_owned(), key.to_owned()));
            match (remove, parent) {
                (true, Some((parent, key))) => {
                    if let Some(Value::Object(map)) = body.pointer_mut(&parent) {
                        map.remove(&key);
                    }
                }
                _ => *body.pointer_mut(&path).unwrap() = value,
            }
        }
        let mut bytes = body.to_string().into_bytes();
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        let shown = match read(&bytes) { Ok(shown) | Err(shown) => shown };
        // A secret that was moved to another field by nobody must not be shown from its own.
        prop_assert!(!shown.contains(SECRET), "{}", shown);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        for (read, _) in bodies() {
            let _ = read(&bytes);
        }
        let _ = answered(400, bytes).success("reading");
    }
}
