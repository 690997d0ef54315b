//! Cancelling: by message, from outside, and what still runs.

use serde_json::json;

use crate::fixture::{Fixture, Job, blob, run, run_if};

const TRAPPING: &str = "
    trap 'echo got INT; exit 130' INT
    echo started
    while true; do sleep 0.1; done";

fn job() -> Job {
    Job::new([
        run("long", TRAPPING),
        run("normal", "echo no"),
        run_if("always", "always()", "echo cleaned up"),
        run_if("cancelled", "cancelled()", "echo status is cancelled"),
        run_if("not-cancelled", "!cancelled()", "echo no"),
    ])
}

async fn cancelled(by: impl AsyncFnOnce(&Fixture)) {
    let fixture = Fixture::new().await;
    fixture.set_job(&job());
    let running = sekisho_runner::run(blob(&fixture.server.url), fixture.options());
    let running = tokio::spawn(running);
    fixture.output.until("Z started\n").await;
    by(&fixture).await;
    let outcome = running.await.unwrap().unwrap();
    let done = fixture.finish(outcome);
    done.assert_conclusion("canceled");
    done.assert_logged("long", "got INT");
    done.assert_logged("long", "##[error]The operation was canceled.");
    done.assert_logged("always", "cleaned up");
    done.assert_logged("cancelled", "status is cancelled");
    let conclusions: Vec<String> = done.conclusions().into_iter().map(|(_, c)| c).collect();
    assert_eq!(conclusions, ["canceled", "skipped", "succeeded", "succeeded", "skipped"]);
    assert_eq!(done.told.calls.last().map(String::as_str), Some("delete session"));
}

#[tokio::test]
async fn a_message_cancels_the_job() {
    cancelled(async |fixture| {
        let other = json!({"jobId": "99999999-9999-9999-9999-999999999999", "timeout": "00:05:00"});
        fixture.server.send("JobCancellation", &other);
        let body = json!({"jobId": "44444444-4444-4444-4444-444444444444", "timeout": "00:05:00"});
        fixture.server.send("jobcancellation", &body);
    })
    .await;
}

#[tokio::test]
async fn a_stop_from_outside_cancels_the_job() {
    cancelled(async |fixture| fixture.stop.cancel()).await;
}

#[tokio::test]
async fn a_step_that_ignores_signals_is_killed() {
    let fixture = Fixture::new().await;
    let script = "trap '' INT TERM; echo started; while true; do sleep 0.1; done";
    fixture.set_job(&Job::new([run("stubborn", script)]));
    let running = tokio::spawn(sekisho_runner::run(blob(&fixture.server.url), fixture.options()));
    fixture.output.until("Z started\n").await;
    fixture.stop.cancel();
    let outcome = running.await.unwrap().unwrap();
    let done = fixture.finish(outcome);
    done.assert_conclusion("canceled");
    assert_eq!(done.step("stubborn")["conclusion"], json!("canceled"));
}

#[tokio::test]
async fn an_always_step_goes_on_until_there_is_no_time_left() {
    let fixture = Fixture::new().await;
    fixture.set_job(&Job::new([
        run_if("always", "always()", "echo started; sleep 300"),
        run_if("next", "always()", "echo no"),
    ]));
    let running = tokio::spawn(sekisho_runner::run(blob(&fixture.server.url), fixture.options()));
    fixture.output.until("Z started\n").await;
    fixture.stop.cancel();
    tokio::task::yield_now().await;
    assert!(!running.is_finished());
    fixture.stop.cancel();
    let outcome = running.await.unwrap().unwrap();
    let done = fixture.finish(outcome);
    done.assert_conclusion("canceled");
    let conclusions: Vec<String> = done.conclusions().into_iter().map(|(_, c)| c).collect();
    assert_eq!(conclusions, ["canceled", "skipped"]);
}
