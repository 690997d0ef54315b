//! What the runner says to the services, and when it does not even begin.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use secrecy::ExposeSecret as _;
use sekisho_github::wire::run_service::Conclusion;
use sekisho_runner::RunnerOutcome;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Job, blob, finish, id, run};

#[tokio::test]
async fn a_job_goes_its_whole_way() {
    let done = finish(Job::new([run("hello", "echo hello")])).await;
    assert_eq!(done.outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    let calls = &done.told.calls;
    let order =
        ["token", "session", "poll", "acknowledge", "acquire", "complete", "delete session"];
    let mut told = calls.iter();
    for call in order {
        assert!(told.any(|c| c == call), "`{call}` is not in its place: {calls:?}");
    }
    assert_eq!(calls.iter().filter(|call| *call == "token").count(), 1);
    assert!(calls.iter().any(|call| call == "renew"));
    assert_eq!(calls.last().map(String::as_str), Some("delete session"));
    assert_eq!(done.complete["planId"], json!("22222222-2222-2222-2222-222222222222"));
    assert_eq!(done.complete["jobId"], json!("44444444-4444-4444-4444-444444444444"));
    let step = done.step("hello");
    assert_eq!(step["number"], json!(2));
    assert_eq!(step["status"], json!("completed"));
    assert_eq!(step["conclusion"], json!("succeeded"));
    assert_eq!(step["name"], json!("Run echo hello"));
}

#[tokio::test]
async fn the_assertion_is_a_ps256_jwt_of_the_client() {
    let done = finish(Job::new([])).await;
    let form = &done.told.assertion;
    assert!(form.contains("grant_type=client_credentials"), "{form}");
    let jwt = form.split("client_assertion=").nth(1).unwrap().split('&').next().unwrap();
    let part = |n: usize| {
        let bytes = URL_SAFE_NO_PAD.decode(jwt.split('.').nth(n).unwrap()).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    };
    assert_eq!(part(0)["alg"], json!("PS256"));
    assert_eq!(part(1)["iss"], json!("client-1"));
    assert_eq!(part(1)["sub"], json!("client-1"));
    assert!(part(1)["aud"].as_str().unwrap().ends_with("/oauth/token"));
    assert!(part(1)["exp"].as_i64().unwrap() - part(1)["nbf"].as_i64().unwrap() <= 330);
}

#[tokio::test]
async fn logs_are_the_same_in_all_three_places() {
    let done = finish(Job::new([run("hello", "for i in 1 2 3; do echo \"line $i\"; done")])).await;
    let name = format!("log-{}", id("hello"));
    let uploaded = String::from_utf8(done.told.blobs[&name].clone()).unwrap();
    assert!(done.told.sealed.contains(&name));
    assert!(done.stdout.contains(&uploaded), "the output has the step's log in one piece");
    let line = uploaded.lines().next().unwrap();
    let (stamp, _) = line.split_once(' ').unwrap();
    assert_eq!((stamp.len(), stamp.as_bytes()[19], stamp.as_bytes()[27]), (28, b'.', b'Z'));
    let mut live = Vec::new();
    for frame in done.told.feed.iter().filter(|frame| frame["stepId"] == json!(id("hello"))) {
        let lines = frame["value"].as_array().unwrap();
        assert_eq!(frame["count"], json!(lines.len()));
        assert_eq!(frame["startLine"], json!(live.len() + 1));
        live.extend(lines.iter().map(|line| line.as_str().unwrap().to_owned()));
    }
    assert_eq!(live, uploaded.lines().collect::<Vec<_>>());
    let metadata = done.told.metadata.iter().find(|m| m["step_backend_id"] == json!(id("hello")));
    assert_eq!(metadata.unwrap()["line_count"], json!(live.len()));
}

#[tokio::test]
async fn the_timeline_shows_all_steps_and_ends_complete() {
    let done = finish(Job::new([run("a", "true"), run("b", "true")])).await;
    let orders: Vec<i64> =
        done.told.updates.iter().map(|u| u["change_order"].as_i64().unwrap()).collect();
    assert!(orders.is_sorted_by(|a, b| a < b), "{orders:?}");
    let last = done.told.updates.last().unwrap()["steps"].as_array().unwrap();
    let names: Vec<&str> = last.iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Set up job", "Run true", "Run true", "Complete job"]);
    assert!(last.iter().all(|s| s["status"] == json!(6) && s["conclusion"] == json!(2)));
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_before_anything_is_called() {
    let fixture = Fixture::new().await;
    let good = blob(&fixture.server.url);
    let json = STANDARD.decode(good.expose_secret()).unwrap();
    let mut files: Value = serde_json::from_slice(&json).unwrap();
    files["../evil"] = json!("eA==");
    let bad = STANDARD.encode(files.to_string());
    let error = sekisho_runner::run(bad.into(), fixture.options()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("unknown file `../evil`"), "{error}");
    assert!(fixture.server.told.lock().unwrap().calls.is_empty());
}

#[tokio::test]
async fn what_cannot_run_is_said_before_the_first_step() {
    let reference = json!({"type": "repository", "repositoryType": "GitHub", "name": "acme/setup",
        "ref": "v1"});
    let remote = crate::fixture::uses("setup", reference, &[]);
    let done = finish(Job::new([run("first", "echo ran"), remote])).await;
    done.assert_conclusion("failed");
    assert!(done.stdout.contains(
        "##[error]The service does not resolve actions of other repositories: `acme/setup@v1`"
    ));
    let skipped = |name: &str| (name.to_owned(), "skipped".to_owned());
    assert_eq!(done.conclusions(), [skipped("Run echo ran"), skipped("Run acme/setup@v1")]);
    let mut job = Job::new([run("first", "echo ran")]);
    job.extra = json!({"jobContainer": "debian"});
    let done = finish(job).await;
    assert!(done.stdout.contains("`container` and `services` are not supported"));
    assert!(!done.stdout.contains("ran\n"));
}

async fn with_error(call: &'static str, status: u16, body: Value) -> (RunnerOutcome, Vec<String>) {
    let fixture = Fixture::new().await;
    fixture.set_job(&Job::new([run("hello", "echo hello")]));
    fixture.server.errors.lock().unwrap().insert(call, (status, body));
    let outcome = sekisho_runner::run(blob(&fixture.server.url), fixture.options()).await.unwrap();
    let calls = fixture.server.told.lock().unwrap().calls.clone();
    (outcome, calls)
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let (outcome, calls) = with_error("message", 401, json!({})).await;
    assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    assert_eq!(calls[..5], ["token", "session", "401 to message", "token", "poll"]);
}

#[tokio::test]
async fn a_session_that_is_gone_is_opened_again() {
    let body = json!({"errorKind": "RunnerSessionInvalid", "statusCode": 404});
    let (outcome, calls) = with_error("message", 404, body).await;
    assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    assert_eq!(calls[..5], ["token", "session", "404 to message", "session", "poll"]);
}

#[tokio::test]
async fn what_fails_for_a_moment_is_tried_again() {
    for call in ["token", "session", "renewjob", "GetStepLogsSignedBlobURL"] {
        let (outcome, calls) = with_error(call, 503, json!({})).await;
        assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded), "{call}");
        assert!(calls.contains(&format!("503 to {call}")), "{calls:?}");
    }
}

#[tokio::test]
async fn outcomes_without_a_job_have_their_exit_codes() {
    let kind = |kind: &str| json!({"errorKind": kind, "statusCode": 400, "errorMessage": "m"});
    let client = json!({"error": "invalid_client", "error_description": "gone"});
    for (call, status, body, want, code) in [
        ("token", 400, client, RunnerOutcome::Refused, 1),
        ("session", 403, kind("AccessDenied"), RunnerOutcome::Refused, 1),
        ("message", 404, kind("RunnerNotFound"), RunnerOutcome::Refused, 1),
        ("message", 403, kind("RunnerVersionTooOld"), RunnerOutcome::VersionTooOld, 7),
        ("acknowledge", 404, kind("AcknowledgeJobNotFound"), RunnerOutcome::NoJob, 0),
    ] {
        let (outcome, calls) = with_error(call, status, body).await;
        assert_eq!((outcome, outcome.exit_code()), (want, code), "{call}");
        assert!(!calls.contains(&"acquire".to_owned()), "{calls:?}");
    }
}

#[tokio::test]
async fn a_runner_that_is_stopped_before_it_has_a_job_just_goes() {
    let fixture = Fixture::new().await;
    fixture.stop.cancel();
    let outcome = sekisho_runner::run(blob(&fixture.server.url), fixture.options()).await.unwrap();
    assert_eq!(outcome, RunnerOutcome::NoJob);
}

#[tokio::test]
async fn a_feed_that_breaks_is_joined_again_and_goes_on_where_it_was() {
    const BREAKS: u32 = 3;
    let fixture = Fixture::new().await;
    fixture.server.feed_breaks.store(BREAKS, std::sync::atomic::Ordering::SeqCst);
    let end = fixture.root.path().join("end");
    let script = format!(
        "n=0; until test -e '{}'; do n=$((n+1)); echo \"line $n\"; sleep 0.02; done; echo last",
        end.display()
    );
    fixture.set_job(&Job::new([run("slow", &script)]));
    let server = std::sync::Arc::clone(&fixture.server);
    let running = sekisho_runner::run(blob(&fixture.server.url), fixture.options());
    let watching = async {
        let connections = || {
            let told = server.told.lock().unwrap();
            told.calls.iter().filter(|call| *call == "feed connection").count()
        };
        while connections() <= BREAKS as usize {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        std::fs::write(&end, "").unwrap();
    };
    let both = async { tokio::join!(running, watching) };
    let both = tokio::time::timeout(std::time::Duration::from_secs(120), both);
    let (outcome, ()) = both.await.expect("the feed is joined again");
    let done = fixture.finish(outcome.unwrap());
    done.assert_conclusion("succeeded");
    let of_step = done.told.feed.iter().filter(|frame| frame["stepId"] == json!(id("slow")));
    let mut next = 1;
    let mut lines = Vec::new();
    for frame in of_step {
        let (start, count) = (frame["startLine"].as_u64().unwrap(), frame["count"].as_u64());
        assert!(start >= next, "a line comes once: {start} after {next}");
        next = start + count.unwrap();
        lines.extend(frame["value"].as_array().unwrap().iter().cloned());
    }
    let log = done.log("slow");
    assert_eq!(next, log.len() as u64 + 1, "the last line of the log is the last of the feed");
    assert!(lines.last().unwrap().as_str().unwrap().ends_with("Z last"));
}
