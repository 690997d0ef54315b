//! GitHub's own example, every header wrong in each way, and bytes that nobody sends.

use proptest::prelude::*;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::*;
use crate::rest::{RunConclusion, RunStatus};

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}

/// As in GitHub's documentation, "Validating webhook deliveries".
#[test]
fn the_documented_example() {
    let key = secret("It's a Secret to Everybody");
    let want = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(sign(&key, b"Hello, World!"), want);
    assert!(is_signed(std::slice::from_ref(&key), want, b"Hello, World!"));
    let upper = format!("sha256={}", want[7..].to_uppercase());
    assert!(is_signed(&[secret("new"), key.clone()], &upper, b"Hello, World!"));
    let good = std::slice::from_ref(&key);
    for bad in ["", "sha256=", &want[..70], &want[7..], &want.replace('7', "8"), "sha1=7571"] {
        assert!(!is_signed(good, bad, b"Hello, World!"), "{bad}");
    }
    assert!(!is_signed(good, want, b"Hello, World"));
    assert!(!is_signed(&[], want, b"Hello, World!"));
    assert!(!is_signed(&[secret("")], &sign(&secret(""), b"x"), b"x"), "no secret signs nothing");
}

fn payload() -> Value {
    json!({
        "action": "completed",
        "workflow_job": {
            "id": 7, "run_id": 3, "run_attempt": 2, "status": "completed", "conclusion": "timed_out",
            "created_at": "2026-01-02T03:04:05Z", "started_at": "2026-01-02T03:04:05Z",
            "completed_at": null, "name": "build", "steps": [], "labels": ["default"],
            "runner_id": null, "runner_name": null, "runner_group_id": null,
            "runner_group_name": null, "head_branch": "main", "head_sha": "abc", "new": [1],
        },
        "repository": {"id": 9, "name": "app", "full_name": "acme/app", "private": true,
            "owner": {"login": "acme", "id": 4, "type": "Organization"}},
        "sender": {"login": "ann", "id": 5, "type": "User"},
        "installation": {"id": 11, "node_id": "x"},
    })
}

fn headers(event: &str, body: &[u8]) -> HeaderMap {
    let signature = sign(&secret("s"), body);
    let list = [
        ("x-github-event", event),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        ("x-github-hook-id", "12"),
        ("x-hub-signature-256", &signature),
    ];
    let pairs = list.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    pairs.into_iter().collect()
}

fn receive(headers: &HeaderMap, body: &[u8]) -> Result<Delivery, WebhookError> {
    Delivery::receive(&[secret("s")], headers, body)
}

#[test]
fn a_job_is_read_with_what_this_version_does_not_know() {
    let mut payload = payload();
    payload["workflow_job"]["status"] = "dreaming".into();
    let body = payload.to_string();
    let delivery = receive(&headers("workflow_job", body.as_bytes()), body.as_bytes()).unwrap();
    assert_eq!(delivery.hook_id, Some(12));
    let WebhookEvent::WorkflowJob(event) = delivery.event else { panic!("{delivery:?}") };
    assert_eq!(event.action, JobActionKind::Completed);
    let job = &event.workflow_job;
    assert_eq!((job.id, job.run_attempt, job.status), (7, 2, RunStatus::Unknown));
    assert_eq!(job.conclusion, Some(RunConclusion::TimedOut));
    assert_eq!((event.repository.id, event.installation), (9, Some(InstallationRef { id: 11 })));
}

#[test]
fn other_forms_and_events() {
    let form =
        format!("payload={}", json!({"zen": "a b", "hook_id": 5}).to_string().replace('"', "%22"));
    let mut form_headers = headers("ping", form.as_bytes());
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    form_headers.insert(CONTENT_TYPE, kind.parse().unwrap());
    let got = receive(&form_headers, form.as_bytes()).unwrap().event;
    assert_eq!(got, WebhookEvent::Ping(PingEvent { zen: "a b".into(), hook_id: 5 }));
    let got = receive(&headers("star", b"no json"), b"no json").unwrap().event;
    assert_eq!(got, WebhookEvent::Other("star".into()));
}

#[test]
fn what_is_not_taken() {
    let body = payload().to_string();
    let good = headers("workflow_job", body.as_bytes());
    let check = |name: &'static str, value: Option<&str>, want: WebhookError| {
        let mut headers = good.clone();
        match value {
            Some(value) => drop(headers.insert(name, value.parse().unwrap())),
            None => drop(headers.remove(name)),
        }
        assert_eq!(receive(&headers, body.as_bytes()), Err(want), "{name}: {value:?}");
    };
    let id = || WebhookError::Header("X-GitHub-Delivery");
    let event = || WebhookError::Header("X-GitHub-Event");
    check("x-hub-signature-256", None, WebhookError::Signature);
    check("x-hub-signature-256", Some("sha256=00"), WebhookError::Signature);
    check("x-github-delivery", None, id());
    check("x-github-delivery", Some("7"), id());
    check("x-github-event", None, event());
    check("x-github-event", Some("a b"), event());
    check("x-github-event", Some(&"e".repeat(65)), event());
    for (event, kind) in [("workflow_run", "workflow_run"), ("push", "push"), ("ping", "ping")] {
        let got = receive(&headers(event, b"{} "), b"{} ");
        assert!(
            matches!(got, Err(WebhookError::Payload { event, .. }) if event == kind),
            "{got:?}"
        );
    }
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let got = receive(&headers("ping", deep.as_bytes()), deep.as_bytes());
    assert_eq!(got, Err(WebhookError::TooDeep));
    // The size counts before the signature, which costs time.
    let large = vec![b' '; MAX_BODY_BYTES + 1];
    assert_eq!(receive(&good, &large), Err(WebhookError::TooLarge));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200), signature in "(sha256=)?\\PC{0,70}",
        event in prop::sample::select(vec!["workflow_job", "workflow_run", "push", "ping", "x"]),
    ) {
        let mut headers = headers(event, &bytes);
        let _ = receive(&headers, &bytes);
        prop_assert!(!is_signed(&[secret("s")], &signature, &bytes));
        if let Ok(value) = HeaderValue::from_bytes(signature.as_bytes()) {
            headers.insert("x-hub-signature-256", value);
            prop_assert_eq!(receive(&headers, &bytes), Err(WebhookError::Signature));
        }
    }

    #[test]
    fn a_changed_byte_is_noticed(bytes in prop::collection::vec(any::<u8>(), 1..100), at in any::<prop::sample::Index>()) {
        let signature = sign(&secret("s"), &bytes);
        prop_assert!(is_signed(&[secret("s")], &signature, &bytes));
        let mut other = bytes.clone();
        *at.get_mut(&mut other) ^= 1;
        prop_assert!(!is_signed(&[secret("s")], &signature, &other));
    }

    /// A payload with any one field taken out or of another type is read or refused.
    #[test]
    fn damaged_payloads(index in any::<prop::sample::Index>(), value in prop::sample::select(vec![json!(null), json!(-1), json!("x"), json!([]), json!({})])) {
        let mut payload = payload();
        let keys: Vec<String> = payload["workflow_job"].as_object().unwrap().keys().cloned().collect();
        let key = index.get(&keys);
        payload["workflow_job"][key] = value;
        let _ = WebhookEvent::parse("workflow_job", payload.to_string().as_bytes());
        payload["workflow_job"].as_object_mut().unwrap().remove(key);
        let _ = WebhookEvent::parse("workflow_job", payload.to_string().as_bytes());
    }
}
