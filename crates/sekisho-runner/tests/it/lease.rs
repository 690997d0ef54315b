//! The service goes away in the middle of a job, or takes the job away.

use std::time::Duration;

use serde_json::json;

use crate::fixture::{Fixture, Job, blob, id, run, run_if};
use sekisho_github::wire::run_service::Conclusion;
use sekisho_runner::RunnerOutcome;

/// Waits for a file of the test, so that the test decides when the step goes on.
fn until(root: &std::path::Path, name: &str) -> String {
    format!("until test -e '{}'; do sleep 0.02; done", root.join(name).display())
}

#[tokio::test]
async fn a_job_outlives_a_service_that_is_away() {
    let (fixture, cable) = Fixture::with_cable().await;
    let root = fixture.root.path().to_owned();
    fixture.set_job(&Job::new([
        run("long", &format!("echo started; {}; seq 1 5000", until(&root, "away"))),
        run(
            "next",
            &format!("echo 'sum' >> $GITHUB_STEP_SUMMARY; echo ended; {}", until(&root, "end")),
        ),
    ]));
    let running = tokio::spawn(sekisho_runner::run(blob(&fixture.server.url), fixture.options()));
    fixture.output.until("Z started\n").await;
    cable.cut().await;
    std::fs::write(root.join("away"), "").unwrap();
    fixture.output.until("Z ended\n").await;
    std::fs::write(root.join("end"), "").unwrap();
    // The job is over but for what the services must hear.
    fixture.output.until("Cleaning up orphan processes").await;
    cable.join().await;
    let outcome = running.await.unwrap().unwrap();
    assert_eq!(outcome, RunnerOutcome::Completed(Conclusion::Succeeded));
    let done = fixture.finish(outcome);
    let log = done.log("long");
    assert_eq!(log.last().map(String::as_str), Some("5000"));
    assert!(done.told.blobs.contains_key(&format!("summary-{}", id("next"))));
    let all: usize =
        done.told.feed.iter().map(|frame| frame["value"].as_array().unwrap().len()).sum();
    // What was on its way when the cable was cut may be missing, and what was not is there.
    let missing = done.stdout.lines().count() - all;
    assert!(missing <= 200, "{missing} lines were not shown live");
    assert_eq!(done.complete["annotations"], json!([]), "nothing failed to be uploaded");
}

#[tokio::test]
async fn a_job_that_the_service_gives_up_is_stopped() {
    let fixture = Fixture::new().await;
    let gone = json!({"source": "actions-run-service", "statusCode": 404, "errorMessage": "gone"});
    fixture.server.errors.lock().unwrap().insert("renewjob", (404, gone));
    fixture.set_job(&Job::new([
        run(
            "long",
            "trap 'echo got INT; exit 1' INT; echo started; while true; do sleep 0.1; done",
        ),
        run_if("normal", "success()", "echo no"),
    ]));
    let running = sekisho_runner::run(blob(&fixture.server.url), fixture.options());
    let outcome = tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap();
    assert_eq!((outcome, outcome.exit_code()), (RunnerOutcome::LockLost, 1));
    let told = fixture.server.told.lock().unwrap();
    assert!(told.complete.is_none(), "the result would be another runner's");
    assert!(!fixture.output.text().contains("Z no\n"));
    assert_eq!(told.calls.last().map(String::as_str), Some("delete session"));
}

#[tokio::test]
async fn a_result_that_comes_too_late_is_told_so() {
    let fixture = Fixture::new().await;
    let gone = json!({"source": "actions-run-service", "statusCode": 404, "errorMessage": "gone"});
    fixture.server.errors.lock().unwrap().insert("completejob", (404, gone));
    fixture.set_job(&Job::new([run("short", "echo short")]));
    let outcome = sekisho_runner::run(blob(&fixture.server.url), fixture.options()).await.unwrap();
    assert_eq!(outcome, RunnerOutcome::LockLost);
}
