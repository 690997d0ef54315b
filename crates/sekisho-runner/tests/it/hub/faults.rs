//! Faults that are about registrations, sessions and messages, and limits that are reached.

use sekisho_hub::faults::Strike;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_reached() {
    let limit = || Fault::RateLimit { wait_s: 1 };
    let calls = [
        Call::RunnerToken,
        Call::RunnerSession,
        Call::RunnerPoll,
        Call::Acknowledge,
        Call::AcquireJob,
        Call::RenewJob,
        Call::CompleteJob,
    ];
    let mut rules: Vec<Rule> = calls.into_iter().map(|call| rule(call, limit())).collect();
    rules.push(Rule { times: 3, ..rule(Call::Results, limit()) });
    survives(rules).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_another_holds_and_one_that_is_forgotten() {
    survives(vec![
        rule(Call::RunnerSession, Fault::SessionConflict),
        rule(Call::RunnerPoll, Fault::SessionExpired),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_offered_again_and_a_cancellation_that_comes_twice() {
    // Polls: the offer, the offer again, a session that is gone, the cancellation, and it again.
    let rules = vec![
        Rule { skip: 1, ..rule(Call::RunnerPoll, Fault::ReplayedMessage) },
        Rule { skip: 1, ..rule(Call::RunnerPoll, Fault::SessionExpired) },
        Rule { skip: 2, ..rule(Call::RunnerPoll, Fault::DuplicateMessage) },
    ];
    let wanted: Vec<Strike> = rules
        .iter()
        .map(|rule| Strike { call: Call::RunnerPoll, fault: rule.fault.clone() })
        .collect();
    let long = "trap 'echo got INT; exit 1' INT; echo started; while true; do sleep 0.1; done";
    let last = "until [ -e ~/go ]; do sleep 0.1; done; echo cleaned up";
    let workflow = WORKFLOW.replace("SCRIPT", &json!(long).to_string())
        + &format!("      - if: always()\n        run: {}\n", json!(last));
    let Some(world) = World::with_workflow(None, &workflow, rules).await else { return };
    let struck = async |count: usize| {
        while world.struck() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let running = world.runner();
    let later = async {
        world.fixture.output.until("Z started\n").await;
        struck(2).await;
        let cancel = format!("/api/v3/repos/acme/app/actions/runs/{}/cancel", world.run);
        world.call(Method::POST, &cancel, &json!({})).await;
        struck(3).await;
        std::fs::write(world.fixture.root.path().join("go"), "").unwrap();
    };
    let (outcome, ()) = tokio::join!(running, later);
    assert_eq!(outcome.unwrap(), RunnerOutcome::Completed(Conclusion::Canceled));
    assert_eq!(world.hub.struck(), wanted);
    let text = world.fixture.output.text();
    // It ran once, was stopped once, and had its time to clean up.
    for line in ["Z started\n", "Z got INT\n", "Z cleaned up\n"] {
        assert_eq!(text.matches(line).count(), 1, "`{line}` in:\n{text}");
    }
    assert_eq!(world.job().await["conclusion"], json!("cancelled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_outlives_its_job() {
    let rules = vec![rule(Call::AcquireJob, Fault::Ghost { refusals: 1 })];
    let Some(world) = World::new("echo hello", rules).await else { return };
    let done = RunnerOutcome::Completed(Conclusion::Succeeded);
    assert_eq!(world.runner().await.unwrap(), done);
    assert_eq!(world.job().await["conclusion"], json!("success"));
    let runners = world.call(Method::GET, RUNNERS, &Value::Null).await;
    assert_eq!(runners["total_count"], json!(1), "{runners}");
    assert_eq!(runners["runners"][0]["busy"], json!(true), "{runners}");
    let path = format!("{}{RUNNERS}/{}", world.url, runners["runners"][0]["id"]);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let request = world.client.delete(&path).bearer_auth(ADMIN);
        statuses.push(request.send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [422, 204, 404]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_and_labels_that_are_dropped() {
    let Some(mut world) = World::new("echo hello", Vec::new()).await else { return };
    let rules = vec![rule(Call::Jit, Fault::JitConflict), rule(Call::Jit, Fault::LabelsDropped)];
    world.hub.arm(Plan { seed: 1, rules });
    let refused = world.ask_for_runner("second", &["default", "gpu"]).await;
    assert!(refused["message"].as_str().unwrap().starts_with("Already exists"), "{refused}");
    let made = world.ask_for_runner("second", &["default", "gpu"]).await;
    let labels = made["runner"]["labels"].as_array().unwrap();
    let names: Vec<&str> = labels.iter().map(|label| label["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["default"]);
    world.jit = made["encoded_jit_config"].as_str().unwrap().to_owned();
    let done = RunnerOutcome::Completed(Conclusion::Succeeded);
    assert_eq!(world.runner().await.unwrap(), done);
    assert_eq!(world.job().await["runner_name"], json!("second"));
    assert_eq!(world.struck(), 2);
}
