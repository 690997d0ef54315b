//! Each fault switch, and the client that meets it: it recovers, or says what is wrong.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use sekisho_github::scale_set::jit::NameTaken;
use sekisho_github::scale_set::{Event, Listener, ListenerOptions};
use sekisho_github::scale_set::{ScaleSetError, life};
use sekisho_hub::faults::{Call, Fault, Plan, Rule};
use serde_json::{Value, json};

use crate::scale_set::{Pool, done, message, tenant, told, wanted};
use crate::world::{ADMIN, World};

fn rule(call: Call, fault: Fault) -> Rule {
    Rule { fault, call: Some(call), skip: 0, times: 1, percent: 100 }
}

async fn pool(rules: Vec<Rule>) -> Pool {
    let pool = Pool::new(|config| config.fault_switches = true).await;
    pool.world.hub.arm(Plan { seed: 1, rules });
    pool
}

/// How many strikes there were.
fn struck(pool: &Pool) -> usize {
    pool.world.hub.struck().len()
}

/// Hears both jobs of the pool, whatever comes between, and deletes what it heard.
async fn hears_both(pool: &Pool) -> Vec<String> {
    let mut listener = pool.listener("me");
    let mut heard = Vec::new();
    for _ in 0..20 {
        let delivery = message(&mut listener, 2).await;
        for job in told(&delivery) {
            if !heard.contains(&job) {
                heard.push(job);
            }
        }
        done(&mut listener, delivery).await;
        if heard.len() == 2 {
            break;
        }
    }
    heard
}

const BOTH: [&str; 2] = ["JobAssigned one", "JobAssigned two"];

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_somebody_elses_is_waited_for() {
    let pool = pool(vec![rule(Call::CreateSession, Fault::SessionConflict)]).await;
    // Our own of before is removed at once; any other is waited for.
    let previous = Some(uuid::Uuid::nil());
    let options = ListenerOptions { owner: "me".to_owned(), previous };
    let mut listener = Listener::new(Arc::clone(&pool.tenant), pool.set, options);
    assert!(matches!(listener.next(0).await, Ok(Event::Opened { .. })));
    assert_eq!(struck(&pool), 1);
}

/// Gives up waiting for a session that is under way.
async fn cut_while_creating(pool: &Pool, listener: &mut Listener) {
    let struck_before = struck(pool);
    let under_way = async {
        while struck(pool) == struck_before {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        event = listener.next(0) => panic!("{event:?}"),
        () = under_way => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_asked_for_is_not_lost_with_who_waited_for_it() {
    let slow = Rule { times: 9, ..rule(Call::CreateSession, Fault::Slow { after_ms: 300 }) };
    let pool = pool(vec![slow]).await;
    let mut listener = pool.listener("me");
    cut_while_creating(&pool, &mut listener).await;
    assert!(matches!(listener.next(0).await, Ok(Event::Opened { .. })));
    assert_eq!(struck(&pool), 1, "it was asked for once");
    listener.close().await.unwrap();
    // Who closes meanwhile leaves none behind that turns others away.
    let mut listener = pool.listener("me");
    cut_while_creating(&pool, &mut listener).await;
    listener.close().await.unwrap();
    assert!(matches!(pool.listener("other").next(0).await, Ok(Event::Opened { .. })));
    assert_eq!(struck(&pool), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_refused_in_its_middle_goes_on_with_a_new_token() {
    let late = Fault::Unauthorized { after_ms: 30 };
    let rules = vec![
        rule(Call::Poll, late),
        rule(Call::DeleteMessage, Fault::Unauthorized { after_ms: 0 }),
    ];
    let pool = pool(rules).await;
    assert_eq!(hears_both(&pool).await, BOTH);
    assert_eq!(struck(&pool), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_never_good_are_an_end_that_is_told() {
    let never = Rule { times: 100, ..rule(Call::Poll, Fault::Unauthorized { after_ms: 0 }) };
    let pool = pool(vec![never]).await;
    let mut listener = pool.listener("me");
    assert!(matches!(listener.next(0).await, Ok(Event::Opened { .. })));
    let ended = listener.next(0).await.unwrap_err();
    assert_eq!(ended, life::Ended::Unauthorized { tries: life::MAX_RENEWALS });
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_cuts_and_slow_answers_are_outlived() {
    let rules = vec![
        rule(Call::RegistrationToken, Fault::Status { status: 503, after_ms: 0 }),
        rule(Call::Registration, Fault::Unauthorized { after_ms: 0 }),
        rule(Call::CreateSession, Fault::Status { status: 502, after_ms: 5 }),
        rule(Call::Poll, Fault::Cut { done: false }),
        rule(Call::Poll, Fault::Cut { done: true }),
        rule(Call::Poll, Fault::Slow { after_ms: 50 }),
    ];
    let pool = pool(rules).await;
    // A client that has no token yet.
    let fresh = Pool { tenant: tenant(&pool.world, "acme"), ..pool };
    fresh.tenant.connect().await.unwrap();
    assert_eq!(hears_both(&fresh).await, BOTH);
    assert_eq!(struck(&fresh), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_twice_out_of_order_and_again_lose_nothing() {
    let rules = vec![
        Rule { skip: 1, ..rule(Call::Poll, Fault::DuplicateMessage) },
        Rule { skip: 1, ..rule(Call::Poll, Fault::ReplayedMessage) },
        Rule { skip: 1, ..rule(Call::Poll, Fault::SessionExpired) },
    ];
    let pool = pool(rules).await;
    assert_eq!(hears_both(&pool).await, BOTH);

    let world = &pool.world;
    let mut listener = pool.listener("me");
    world.hub.arm(Plan { seed: 1, rules: vec![rule(Call::Poll, Fault::DuplicateMessage)] });
    let again = message_of_new_session(&pool, &mut listener).await;
    assert!(BOTH.contains(&again[0].as_str()), "deleted, yet sent again: {again:?}");
}

async fn message_of_new_session(pool: &Pool, listener: &mut Listener) -> Vec<String> {
    pool.world.hub.advance(SignedDuration::from_mins(2));
    told(&message(listener, 2).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_overtakes_others_does_not_hide_them() {
    let newest = Rule { skip: 1, ..rule(Call::Poll, Fault::ReorderedMessage) };
    let pool = pool(vec![newest]).await;
    let mut listener = pool.listener("me");
    let mut heard = vec![told(&message(&mut listener, 1).await)];
    // Another message is written behind the one that is not deleted.
    listener.replay();
    let overtaking = message(&mut listener, 2).await;
    heard.push(told(&overtaking));
    done(&mut listener, overtaking).await;
    listener.replay();
    let late = message(&mut listener, 2).await;
    assert_eq!(told(&late), ["JobAssigned one"]);
    assert_eq!(heard, [["JobAssigned one"], ["JobAssigned two"]]);
    assert_eq!(struck(&pool), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_freed_if_it_is_ours() {
    // The answer of the first registration is lost: the runner is there, and nobody knows.
    let pool = pool(vec![rule(Call::Jit, Fault::Cut { done: true })]).await;
    let made = pool.tenant.jit_config(pool.set, "r1", "_work").await.unwrap();
    let known = pool.tenant.runner_by_name("r1").await.unwrap().unwrap();
    assert_eq!(known.id, made.runner.id);
    assert_eq!(struck(&pool), 1);

    // The service says so, and there is nobody: it is asked again, and not for ever.
    let twice = Rule { times: 2, ..rule(Call::Jit, Fault::JitConflict) };
    pool.world.hub.arm(Plan { seed: 1, rules: vec![twice] });
    pool.tenant.jit_config(pool.set, "r2", "_work").await.unwrap();
    let always = Rule { times: 99, ..rule(Call::Jit, Fault::JitConflict) };
    pool.world.hub.arm(Plan { seed: 1, rules: vec![always] });
    let taken = pool.tenant.jit_config(pool.set, "r3", "_work").await.unwrap_err();
    let ScaleSetError::NameTaken { source: NameTaken::Again { removals: 3 }, .. } = taken else {
        panic!("{taken}")
    };

    // A runner of nobody's set has the name: it is left alone.
    pool.world.hub.arm(Plan::default());
    pool.world.register_at("orgs/acme", "r4", &["x"]).await;
    let taken = pool.tenant.jit_config(pool.set, "r4", "_work").await.unwrap_err();
    assert!(matches!(
        taken,
        ScaleSetError::NameTaken { source: NameTaken::Foreign { set: 0, .. }, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ghost_is_busy_for_a_while_and_then_removed() {
    let pool = pool(vec![rule(Call::AcquireJob, Fault::Ghost { refusals: 2 })]).await;
    let _ = message(&mut pool.listener("me"), 1).await;
    let mut runner = pool.runner("r1").await;
    runner.acquire(&pool.world).await;
    assert_eq!(runner.complete(&pool.world, "succeeded").await.status(), 200);
    let id = runner.id.try_into().unwrap();
    let set = pool.tenant.set(pool.set).await.unwrap().unwrap();
    assert_eq!(set.statistics.unwrap().total_busy_runners, 1);
    for _ in 0..2 {
        assert!(pool.tenant.remove_runner(id).await.unwrap_err().is_busy());
    }
    assert!(pool.tenant.remove_runner(id).await.unwrap());
    assert!(!pool.tenant.remove_runner(id).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_vanishes_fails_its_job_and_is_told_that_it_is_gone() {
    let pool = pool(vec![Rule { skip: 1, ..rule(Call::RunnerPoll, Fault::RunnerVanishes) }]).await;
    let mut listener = pool.listener("me");
    let assigned = message(&mut listener, 1).await;
    done(&mut listener, assigned).await;
    let mut runner = pool.runner("r1").await;
    runner.acquire(&pool.world).await;
    let gone = runner.poll(&pool.world).await;
    assert_eq!(gone.status(), 404);
    let gone: Value = gone.json().await.unwrap();
    assert_eq!(gone["errorKind"], "RunnerNotFound");
    assert_eq!(pool.tenant.runner(runner.id.try_into().unwrap()).await.unwrap(), None);
    assert_eq!(runner.complete(&pool.world, "succeeded").await.status(), 404);
    let mut heard = Vec::new();
    while heard.len() < 2 {
        heard.extend(told(&message(&mut listener, 1).await));
    }
    assert_eq!(heard[..2], ["JobStarted one", "JobCompleted one"]);
    let run = pool.world.run(pool.run).await;
    assert_eq!(run["jobs"][0]["conclusion"], "failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_not_renewed_runs_out_in_virtual_time() {
    let pool = pool(Vec::new()).await;
    let mut listener = pool.listener("me");
    let _ = message(&mut listener, 1).await;
    let mut runner = pool.runner("r1").await;
    runner.acquire(&pool.world).await;
    let pass = json!({"advance_s": 9 * 60});
    assert_eq!(pool.world.post("/_hub/v1/clock", &pass).await.status(), 204);
    assert_eq!(runner.run_service(&pool.world, "renewjob", json!({})).await.status(), 200);
    assert_eq!(pool.world.post("/_hub/v1/clock", &pass).await.status(), 204);
    assert_eq!(pool.world.run(pool.run).await["jobs"][0]["status"], "in_progress");
    assert_eq!(pool.world.post("/_hub/v1/clock", &pass).await.status(), 204);
    let run = pool.world.run(pool.run).await;
    assert_eq!(run["jobs"][0]["conclusion"], "failure");
    let why = &run["jobs"][0]["annotations"][0]["message"];
    assert_eq!(why, "The runner has lost communication with the server.");
    assert_eq!(runner.run_service(&pool.world, "renewjob", json!({})).await.status(), 404);
    // Half an hour later the admin token and the session are old: the listener gets new ones.
    let heard = told(&message(&mut listener, 1).await);
    assert!(heard.iter().any(|job| job.ends_with(" one")), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_are_dropped_are_told() {
    let pool = pool(vec![rule(Call::ScaleSet, Fault::LabelsDropped)]).await;
    let mut other = wanted(&["tpu", "large", "arm"]);
    other.name = "tpu".to_owned();
    let made = pool.tenant.ensure_set(&other, None).await.unwrap();
    assert_eq!(made.dropped_labels, ["large", "arm"]);
    assert_eq!(made.set.labels.len(), 1);
    // The service takes them now: what is there is put right.
    let made = pool.tenant.ensure_set(&other, None).await.unwrap();
    assert_eq!((made.dropped_labels.len(), made.set.labels.len()), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_reached_is_waited_out() {
    let rules = vec![
        rule(Call::Poll, Fault::RateLimit { wait_s: 0 }),
        rule(Call::Rest, Fault::RateLimit { wait_s: 7 }),
    ];
    let pool = pool(rules).await;
    let mut listener = pool.listener("me");
    assert!(matches!(listener.next(2).await, Ok(Event::Opened { .. })));
    let Event::Trouble { failures: 1, error: Some(error) } = listener.next(2).await.unwrap() else {
        panic!()
    };
    assert_eq!(error.throttled(), Some(Some(Duration::ZERO)));
    assert_eq!(told(&message(&mut listener, 2).await), BOTH);

    let path = "/api/v3/repos/acme/app/actions/runs";
    let limited = pool.world.request(Method::GET, path).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers()["retry-after"], "7");
    assert_eq!(limited.headers()["x-ratelimit-remaining"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_no_matter_to_the_listener_and_told_to_the_runner() {
    let pool = pool(Vec::new()).await;
    for hours in [-3, 3] {
        let skew = json!({"skew_s": hours * 3600});
        assert_eq!(pool.world.post("/_hub/v1/clock", &skew).await.status(), 204);
        let fresh = tenant(&pool.world, "acme");
        assert!(fresh.set(pool.set).await.unwrap().is_some());
        let options = ListenerOptions { owner: "me".to_owned(), previous: None };
        let mut listener = Listener::new(fresh, pool.set, options);
        assert!(matches!(listener.next(0).await, Ok(Event::Opened { .. })));
        listener.close().await.unwrap();
        let runner = crate::runner::Runner::registered(&pool.world, &format!("r{hours}")).await;
        let refused = runner.exchange(&pool.world, &runner.claims(), None).await;
        assert_eq!(refused.status(), 400);
        let refused: Value = refused.json().await.unwrap();
        let text = refused["error_description"].as_str().unwrap();
        assert!(text.contains("Current server time is"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_nothing_can_be_switched() {
    let world = World::new().await;
    let plan = json!({"rules": [{"fault": {"kind": "session_conflict"}}]});
    let put = world.request(Method::PUT, "/_hub/v1/faults").bearer_auth(ADMIN).json(&plan);
    assert_eq!(put.send().await.unwrap().status(), 404);
    assert_eq!(world.post("/_hub/v1/clock", &json!({"advance_s": 1})).await.status(), 404);

    let pool = pool(Vec::new()).await;
    let put = |token: &'static str, plan: Value| {
        let put = pool.world.request(Method::PUT, "/_hub/v1/faults").bearer_auth(token);
        async move { put.json(&plan).send().await.unwrap().status() }
    };
    assert_eq!(put("else", plan.clone()).await, 401);
    assert_eq!(put(ADMIN, json!({"rules": [{"fault": {"kind": "no such"}}]})).await, 422);
    assert_eq!(put(ADMIN, plan).await, 204);
    let _ = pool.listener("me").next(0).await;
    let told = pool.world.get("/_hub/v1/faults").await;
    let want =
        json!({"struck": [{"call": "create_session", "fault": {"kind": "session_conflict"}}]});
    assert_eq!(told, want);
    let clear = pool.world.request(Method::DELETE, "/_hub/v1/faults").bearer_auth(ADMIN);
    assert_eq!(clear.send().await.unwrap().status(), 204);
    assert_eq!(pool.world.get("/_hub/v1/faults").await, json!({"struck": []}));
}
