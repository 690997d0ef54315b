//! Every switch of the hub's admin API, with the runner that meets it.
//!
//! What there is to drive is asked of the switches themselves: one that is new does not compile here,
//! or has nothing that drives it, and fails.

use std::pin::Pin;

use sekisho_hub::faults::SetClock;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::*;

type Drive = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is driven by a switch, and what must come of it. No arm for "all others": what is new needs
/// its own.
fn drive(fault: Fault) -> Drive {
    match fault {
        Fault::Status { .. }
        | Fault::Unauthorized { .. }
        | Fault::Slow { .. }
        | Fault::RateLimit { .. }
        | Fault::Cut { done: false } => Box::pin(strikes_every_call(fault)),
        Fault::Cut { done: true } => Box::pin(answers_are_lost(fault)),
        Fault::SessionConflict => Box::pin(survives(vec![rule(Call::RunnerSession, fault)])),
        Fault::SessionExpired => {
            Box::pin(survives(vec![Rule { times: 2, ..rule(Call::RunnerPoll, fault) }]))
        }
        Fault::DuplicateMessage | Fault::ReplayedMessage => Box::pin(told_again(fault)),
        Fault::ReorderedMessage => Box::pin(told_late(fault)),
        Fault::JitConflict | Fault::LabelsDropped => Box::pin(registration(fault)),
        Fault::Ghost { .. } => Box::pin(ghost(fault)),
        Fault::RunnerVanishes => Box::pin(registration_vanishes(fault)),
    }
}

/// Whether a runner makes the call; the others are those of listeners and of people.
fn is_of_runners(call: Call) -> bool {
    match call {
        Call::RunnerToken
        | Call::RunnerSession
        | Call::RunnerPoll
        | Call::Acknowledge
        | Call::AcquireJob
        | Call::RenewJob
        | Call::CompleteJob
        | Call::Results => true,
        Call::RegistrationToken
        | Call::Registration
        | Call::ScaleSet
        | Call::CreateSession
        | Call::RenewSession
        | Call::DeleteSession
        | Call::Poll
        | Call::DeleteMessage
        | Call::AcquireJobs
        | Call::Jit
        | Call::Runner
        | Call::Rest => false,
    }
}

/// The names that an enum is read by: it tells them when it is given another.
fn names<T: DeserializeOwned + std::fmt::Debug>(wrong: Value) -> Vec<String> {
    let error = serde_json::from_value::<T>(wrong).unwrap_err().to_string();
    let (_, known) = error.split_once("expected one of ").expect(&error);
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Every kind of fault, with what belongs to it; a connection is cut before and after the deed.
fn faults() -> Vec<Fault> {
    let fields = [
        json!({"status": 503}),
        json!({"after_ms": 700}),
        json!({"wait_s": 1}),
        json!({"refusals": 1}),
        json!({}),
    ];
    let made = |kind: &String| {
        let with = |fields: &Value| {
            let mut fault = fields.clone();
            fault["kind"] = json!(kind);
            serde_json::from_value::<Fault>(fault).ok()
        };
        fields.iter().find_map(with).unwrap_or_else(|| panic!("how is a `{kind}` made?"))
    };
    let mut all: Vec<Fault> = names::<Fault>(json!({"kind": "?"})).iter().map(made).collect();
    all.push(Fault::Cut { done: true });
    all
}

fn calls_of_runners() -> Vec<Call> {
    let calls = names::<Call>(json!("?")).into_iter();
    calls
        .map(|name| serde_json::from_value(json!(name)).unwrap())
        .filter(|c| is_of_runners(*c))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_switch_drives_the_runner() {
    let mut driven = JoinSet::new();
    for fault in faults() {
        driven.spawn(async move {
            let name = format!("{fault:?}");
            (name, tokio::spawn(drive(fault)).await)
        });
    }
    // Another switch of time does not compile here: it needs a drive below.
    let SetClock { advance_s: _, skew_s: _ } = SetClock::default();
    let clock: [(&str, Drive); 2] =
        [("advance_s", Box::pin(lease_runs_out())), ("skew_s", Box::pin(clock_goes_wrong()))];
    for (name, drive) in clock {
        driven.spawn(async move { (name.to_owned(), tokio::spawn(drive).await) });
    }
    let all = driven.join_all().await;
    let failed: Vec<&String> =
        all.iter().filter(|(_, ended)| ended.is_err()).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "of {} switches these failed, see above: {failed:?}", all.len());
}

/// What is done to any call is done to each call of a runner, once: it comes through.
async fn strikes_every_call(fault: Fault) {
    let mut calls = calls_of_runners();
    if matches!(fault, Fault::Unauthorized { .. }) {
        // There is no better token to be had for these two.
        calls.retain(|call| !matches!(call, Call::RunnerToken | Call::CompleteJob));
        credentials_are_no_good(fault.clone()).await;
    }
    survives(calls.into_iter().map(|call| rule(call, fault.clone())).collect()).await;
}

/// Who is not let in with what he has says so, and does not go on.
async fn credentials_are_no_good(fault: Fault) {
    let rules = vec![rule(Call::RunnerToken, fault.clone())];
    let Some(world) = World::new("echo no", rules).await else { return };
    assert_eq!(world.runner().await.unwrap(), RunnerOutcome::Refused);
    assert!(!world.fixture.output.text().contains("Z no\n"));

    let rules = vec![rule(Call::CompleteJob, fault)];
    let Some(world) = World::new("echo done", rules).await else { return };
    let error = format!("{:#}", world.runner().await.unwrap_err());
    assert!(error.contains("reporting the job's result"), "{error}");
}

/// What was asked for was done, and nobody knows.
async fn answers_are_lost(fault: Fault) {
    let alone = [Call::RunnerSession, Call::AcquireJob];
    let calls = calls_of_runners().into_iter().filter(|call| !alone.contains(call));
    survives(calls.map(|call| rule(call, fault.clone())).collect()).await;

    // A job is given once.
    let rules = vec![rule(Call::AcquireJob, fault.clone())];
    let Some(world) = World::new("echo no", rules).await else { return };
    let error = format!("{:#}", world.runner().await.unwrap_err());
    assert!(error.contains("409 after an answer that was lost"), "{error}");
    assert!(!world.fixture.output.text().contains("Z no\n"));

    // A session is had once, until nobody has been heard of for some minutes.
    let Some(world) = World::new("echo yes", vec![rule(Call::RunnerSession, fault)]).await else {
        return;
    };
    let later = async {
        world.until_struck(1).await;
        world.clock(SetClock { advance_s: 5 * 60, skew_s: None }).await;
    };
    let (outcome, ()) = tokio::join!(world.runner(), later);
    assert_eq!(outcome.unwrap(), SUCCEEDED);
}

/// A job that is offered again, a session that is gone, and what comes again after a cancellation.
async fn told_again(fault: Fault) {
    // Polls: the offer, it again, a session that is gone, the cancellation, and one of both again.
    let rules = vec![
        Rule { skip: 1, ..rule(Call::RunnerPoll, fault.clone()) },
        Rule { skip: 1, ..rule(Call::RunnerPoll, Fault::SessionExpired) },
        Rule { skip: 2, ..rule(Call::RunnerPoll, fault) },
    ];
    let wanted: Vec<Fault> = rules.iter().map(|rule| rule.fault.clone()).collect();
    let Some(world) = World::with_workflow(None, &stoppable(), rules).await else { return };
    let later = async {
        world.fixture.output.until("Z started\n").await;
        world.until_struck(2).await;
        world.cancel().await;
        world.until_struck(3).await;
        world.let_go();
    };
    let (outcome, ()) = tokio::join!(world.runner(), later);
    assert_eq!(outcome.unwrap(), RunnerOutcome::Completed(Conclusion::Canceled));
    assert_eq!(world.struck().await, wanted);
    ran_and_was_stopped_once(&world).await;
}

/// An offer that comes when the job runs already, and a cancellation behind a newer one.
async fn told_late(fault: Fault) {
    let seen = Fault::Slow { after_ms: 0 };
    let rules = vec![
        rule(Call::RunnerPoll, fault.clone()),
        Rule { skip: 1, ..rule(Call::RunnerPoll, fault.clone()) },
        // No harm: it counts the polls.
        Rule { times: 1000, ..rule(Call::RunnerPoll, seen.clone()) },
    ];
    let Some(world) = World::with_workflow(None, &stoppable(), rules).await else { return };
    let count = async |what: &Fault| world.struck().await.iter().filter(|f| *f == what).count();
    // The newer message is there when the older one was long enough without effect.
    let newer = async |line: &str| {
        let wait = Duration::from_secs(5);
        let heard = || tokio::time::timeout(wait, world.fixture.output.until(line));
        world.clock(SetClock { advance_s: 16, skew_s: None }).await;
        while heard().await.is_err() {
            world.clock(SetClock { advance_s: 16, skew_s: None }).await;
        }
    };
    let later = async {
        world.until_struck(2).await;
        newer("Z started\n").await;
        // The second poll of the job: the first was told of the offer that came late.
        while count(&fault).await < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.cancel().await;
        newer("Z got INT\n").await;
        let polls = count(&seen).await;
        while count(&seen).await < polls + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.let_go();
    };
    let (outcome, ()) = tokio::join!(world.runner(), later);
    assert_eq!(outcome.unwrap(), RunnerOutcome::Completed(Conclusion::Canceled));
    assert_eq!(count(&fault).await, 2);
    ran_and_was_stopped_once(&world).await;
}

/// A job that runs until it is told to stop, and then until [`World::let_go`].
fn stoppable() -> String {
    let long = "trap 'echo got INT; exit 1' INT; echo started; while true; do sleep 0.1; done";
    let last = "until [ -e ~/go ]; do sleep 0.1; done; echo cleaned up";
    WORKFLOW.replace("SCRIPT", &json!(long).to_string())
        + &format!("      - if: always()\n        run: {}\n", json!(last))
}

async fn ran_and_was_stopped_once(world: &World) {
    let text = world.fixture.output.text();
    for line in ["Z started\n", "Z got INT\n", "Z cleaned up\n"] {
        assert_eq!(text.matches(line).count(), 1, "`{line}` in:\n{text}");
    }
    assert_eq!(world.job().await["conclusion"], json!("cancelled"));
}

/// A registration outlives its job.
async fn ghost(fault: Fault) {
    let Some(world) = World::new("echo hello", vec![rule(Call::AcquireJob, fault)]).await else {
        return;
    };
    assert_eq!(world.runner().await.unwrap(), SUCCEEDED);
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

async fn registration_vanishes(fault: Fault) {
    let Some(world) = World::new("echo no", vec![rule(Call::RunnerPoll, fault)]).await else {
        return;
    };
    assert_eq!(world.runner().await.unwrap(), RunnerOutcome::Refused);
    assert!(!world.fixture.output.text().contains("Z no\n"));
}

/// A name that is taken, and labels that are dropped: what is registered then runs the job.
async fn registration(fault: Fault) {
    let Some(mut world) = World::new("echo hello", Vec::new()).await else { return };
    world.arm(vec![rule(Call::Jit, fault.clone())]).await;
    let labels = ["default", "gpu"];
    let mut made = world.ask_for_runner("second", &labels).await;
    if fault == Fault::JitConflict {
        assert!(made["message"].as_str().unwrap().starts_with("Already exists"), "{made}");
        made = world.ask_for_runner("second", &labels).await;
    }
    let given = made["runner"]["labels"].as_array().unwrap().iter();
    let given: Vec<&str> = given.map(|label| label["name"].as_str().unwrap()).collect();
    let want = if fault == Fault::LabelsDropped { &labels[..1] } else { &labels };
    assert_eq!(given, want);
    world.jit = made["encoded_jit_config"].as_str().unwrap().to_owned();
    assert_eq!(world.runner().await.unwrap(), SUCCEEDED);
    assert_eq!(world.job().await["runner_name"], json!("second"));
    assert_eq!(world.struck().await, [fault]);
}

/// The lock on the job ends, in virtual time.
async fn lease_runs_out() {
    // The first renewal fails, so that the next one comes a second later.
    let rules = vec![rule(Call::RenewJob, Fault::Status { status: 503, after_ms: 0 })];
    let script = "trap 'echo got INT; exit 1' INT; echo started; while true; do sleep 0.1; done";
    let Some(world) = World::new(script, rules).await else { return };
    let later = async {
        world.fixture.output.until("Z started\n").await;
        world.clock(SetClock { advance_s: 11 * 60, skew_s: None }).await;
    };
    let (outcome, ()) = tokio::join!(world.runner(), later);
    assert_eq!(outcome.unwrap(), RunnerOutcome::LockLost);
    let job = world.job().await;
    assert_eq!(job["conclusion"], json!("failure"), "{job}");
    assert!(job["annotations"].to_string().contains("lost communication"), "{job}");
}

/// More than a lock is long: to the runner the next ones end far ahead.
async fn clock_goes_wrong() {
    let Some(world) = World::new("echo started; sleep 2", Vec::new()).await else { return };
    let later = async {
        world.fixture.output.until("Z started\n").await;
        world.clock(SetClock { advance_s: 0, skew_s: Some(20 * 60) }).await;
    };
    let (outcome, ()) = tokio::join!(world.runner(), later);
    assert_eq!(outcome.unwrap(), SUCCEEDED);
    assert_eq!(world.job().await["conclusion"], json!("success"));
}
