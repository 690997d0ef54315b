//! Who listens, with which capacity; what messages make to be written down; how the queue is read.

use sekisho_api::JobResult;

use super::message::{Event, Reading, Target, What, Write, read, record};
use super::queue::{QueuedJob, demand, is_for};
use super::*;
use crate::backoff::Jitter;
use crate::deployment::Demand;
use crate::name::Mark;
use crate::runner::{Job, Record};

fn at(seconds: u64) -> At {
    At::from_secs(100_000 + seconds)
}

fn seen(listener: Listener) -> Observed {
    Observed {
        now: at(0),
        wanted: true,
        lease: Lease::Held { until: at(15) },
        blocked: None,
        scale_set: Some(4),
        changed: false,
        previous: Some("old".to_owned()),
        listener,
        statistics: Some(at(0)),
        reckoned: None,
        replayed: Some(at(0)),
        trouble: None,
        max: 10,
        runners: Counts { live: 6, pending: 1, idle: 2, busy: 3, failed: 4 },
        gate: None,
    }
}

fn running(seconds: u64) -> Listener {
    let alive = At::from_secs(100_000 - seconds);
    Listener::Running { set: 4, alive, trouble: None }
}

fn listen() -> Effect {
    Effect::Listen { set: 4, previous: Some("old".to_owned()) }
}

#[test]
fn who_holds_the_lease_listens() {
    let effects = |seen: &Observed| decide(seen).effects;
    assert_eq!(effects(&seen(Listener::None)), [Effect::EnsureScaleSet, listen()]);
    let new = Observed { scale_set: None, ..seen(Listener::None) };
    assert_eq!(effects(&new), [Effect::EnsureScaleSet]);
    assert_eq!(effects(&seen(running(1))), []);
    for lease in [Lease::NotHeld, Lease::Held { until: at(0) }] {
        let lost = Observed { lease, ..seen(running(1)) };
        assert_eq!(effects(&lost), [Effect::StopListening], "a lease that is over is not held");
        assert_eq!(effects(&Observed { listener: Listener::None, ..lost }), []);
    }
    let deleted = Observed { wanted: false, ..seen(running(1)) };
    assert_eq!(
        (decide(&deleted).effects, decide(&deleted).capacity),
        (vec![Effect::StopListening], 0)
    );
    let other = Listener::Running { set: 5, alive: at(0), trouble: None };
    assert_eq!(effects(&seen(other)), [Effect::StopListening, listen()]);
}

#[test]
fn one_that_hangs_is_replaced_and_one_that_lives_is_asked_now_and_then() {
    assert_eq!(decide(&seen(running(149))).effects, []);
    assert_eq!(decide(&seen(running(150))).effects, [Effect::StopListening, listen()]);
    let old = Observed { statistics: Some(At::from_secs(99_940)), ..seen(running(1)) };
    assert_eq!(decide(&old).effects, [Effect::ReadStatistics { set: 4 }]);
    let old = Observed { replayed: Some(At::from_secs(98_200)), ..seen(running(1)) };
    assert_eq!(decide(&old).effects, [Effect::Replay]);
    let failure = Failure::Unreachable { detail: "503".to_owned() };
    let troubled = Listener::Running { set: 4, alive: at(0), trouble: Some(failure) };
    let plan = decide(&Observed { statistics: None, ..seen(troubled) });
    assert_eq!((plan.effects, plan.claim.unwrap().reason), (vec![], Reason::GitHubUnreachable));
}

#[test]
fn another_session_is_waited_for() {
    let failure = Failure::SessionHeld { set: "gpu".to_owned(), owner: "b/operator-1".to_owned() };
    let trouble = Some(Trouble { failure, failures: 1, next: at(9) });
    let held = Observed { trouble, ..seen(Listener::None) };
    let plan = decide(&held);
    assert_eq!((plan.effects, plan.requeue_after), (vec![], Some(secs(9))));
    let claim = plan.claim.unwrap();
    assert_eq!(claim.reason, Reason::SessionHeldByOther);
    assert!(
        claim.message.contains("`gpu` is held by b/operator-1; stop the other"),
        "{}",
        claim.message
    );
    assert_eq!(decide(&Observed { now: at(9), ..held }).effects.len(), 2);
}

#[test]
fn a_set_that_should_be_another_is_changed_while_it_listens() {
    let changed = Observed { changed: true, ..seen(running(1)) };
    assert_eq!(decide(&changed).effects, [Effect::EnsureScaleSet]);
    let failure = Failure::GroupNotFound { group: "x".to_owned() };
    let trouble = Some(Trouble { failure, failures: 1, next: at(9) });
    let held = Observed { trouble, ..changed };
    let plan = decide(&held);
    assert_eq!((plan.effects, plan.requeue_after), (vec![], Some(secs(9))));
    assert_eq!(plan.claim.unwrap().reason, Reason::GroupNotFound);
    assert_eq!(decide(&Observed { now: at(9), ..held }).effects, [Effect::EnsureScaleSet]);
}

#[test]
fn jobs_wait_at_github_when_there_is_no_room() {
    let capacity = |gate, max| {
        let plan = decide(&Observed { gate, max, ..seen(running(1)) });
        (plan.capacity, plan.gated_by)
    };
    assert_eq!(capacity(None, 10), (10, None));
    assert_eq!(capacity(Some(Gate::Quota), 10), (6, Some(Gate::Quota)));
    assert_eq!(capacity(Some(Gate::Backoff), 10), (6, Some(Gate::Backoff)));
    assert_eq!(capacity(Some(Gate::Quota), 4), (4, None));
    let blocked = Some(Failure::ClassNotFound { name: "x".to_owned() });
    let blocked = Observed { blocked, ..seen(running(1)) };
    assert_eq!(withheld(&blocked), Some((Gate::Blocked, 7)));
    assert_eq!(withheld(&Observed { wanted: false, ..blocked.clone() }), None);
    assert_eq!(decide(&blocked).capacity, 3);
    assert_eq!(decide(&blocked).claim.unwrap().reason, Reason::ClassNotFound);
}

fn job(result: Option<JobResult>) -> Job {
    Job { result, ..Job::example() }
}

#[test]
fn a_message_becomes_what_is_to_be_written_down() {
    let mark = Mark::of_namespace("n");
    let ours = format!("{}-d-s-000001", mark.as_str());
    let other = format!("{}-d-s-000002", mark.as_str());
    let started = |runner: &str| Event::Started {
        runner: runner.to_owned(),
        registration: 7,
        job: job(None),
    };
    let over = |runner: Option<&str>| Event::Completed {
        runner: runner.map(str::to_owned),
        job: job(Some(JobResult::Cancelled)),
    };
    let available = |request| Event::Available { request };
    let events = [
        available(1),
        available(1),
        available(2),
        available(3),
        Event::Assigned,
        started(&ours),
        over(Some(&ours)),
        started("somebody-elses"),
        over(None),
        started(&other),
        Event::Unreadable,
    ];
    let Reading { acquire, record, without_runner, foreign, unreadable } = read(&events, &mark);
    assert_eq!(acquire, [1, 2, 3], "each once; who is not acquired now is offered never again");
    let runners: Vec<&str> = record.iter().map(|known| known.runner.as_str()).collect();
    assert_eq!(runners, [&ours, &other], "what is over already is not said to begin");
    assert!(matches!(record[0].what, What::Completed { .. }));
    assert!(matches!(record[1].what, What::Started { registration: 7, .. }));
    assert_eq!((without_runner, foreign, unreadable), (vec![JobResult::Cancelled], 1, 1));
}

#[test]
fn a_replay_changes_nothing() {
    let target = |record| Some(Target { record, deleting: false, pod: None });
    let what = What::Started { registration: 7, job: job(None) };
    let record_of = Record::default();
    let Write::Status(started) = record(&what, target(&record_of), at(0)) else { panic!() };
    assert_eq!(record(&what, target(&started), at(1)), Write::Nothing);
    let over = What::Completed { job: job(Some(JobResult::Failed)) };
    assert_eq!(record(&over, target(&started), at(1)), Write::Delete);
    let gone = Some(Target { record: &started, deleting: true, pod: None });
    assert_eq!(record(&over, gone, at(1)), Write::Nothing);
    assert_eq!(record(&over, None, at(1)), Write::Nothing);
}

#[test]
fn a_list_of_jobs_becomes_a_demand() {
    let labels = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let has = labels(&["image-build", "Linux"]);
    assert!(is_for(&labels(&["self-hosted", "linux"]), &has));
    assert!(!is_for(&labels(&["linux", "gpu"]), &has) && !is_for(&[], &has));
    let queued = |id, names: &[&str], hours: u64, runner: Option<&str>| QueuedJob {
        id,
        labels: labels(names),
        queued: At::from_secs(100_000 - hours * 3_600),
        runner: runner.map(str::to_owned),
    };
    let jobs = [
        queued(1, &["linux"], 0, None),
        queued(1, &["linux"], 0, None),
        queued(2, &["gpu"], 0, None),
        queued(3, &["linux"], 24, None),
        queued(4, &["linux"], 1, Some("ours-1")),
        queued(5, &["linux"], 1, Some("theirs")),
    ];
    let ours = |name: &str| name.starts_with("ours");
    assert_eq!(demand(&jobs, &has, ours, at(0)), Demand { assigned: 2, running: 1, available: 0 });
}

#[test]
fn the_queue_is_read_on_a_webhook_and_now_and_then() {
    use queue::Look::{After, All, Told};
    let first = queue::Observed {
        now: at(10),
        polled: None,
        requests: 2,
        webhook: None,
        told: None,
        trouble: None,
        jitter: Jitter::FULL,
    };
    assert_eq!(queue::decide(&first), All);
    let next = |polled, webhook: Option<u64>, told: Option<u64>| {
        let (polled, webhook, told) = (Some(at(polled)), webhook.map(at), told.map(at));
        queue::decide(&queue::Observed { polled, webhook, told, ..first.clone() })
    };
    assert_eq!(next(0, None, None), After(secs(20)));
    assert_eq!(next(0, Some(10), Some(10)), After(secs(1)), "several come together");
    assert_eq!(next(0, Some(9), Some(9)), Told);
    assert_eq!(next(9, Some(5), None), After(secs(119)), "they arrive: the poll only makes sure");
    // A large organization is not read faster than GitHub allows.
    let large = |now| {
        let (now, polled) = (at(now), Some(at(0)));
        queue::decide(&queue::Observed { now, polled, requests: 200, ..first.clone() })
    };
    assert_eq!((large(50), large(200)), (After(secs(150)), All));
    let failure = Failure::Conflict { detail: String::new() };
    let trouble = Some(Trouble { failure, failures: 1, next: at(17) });
    let troubled = queue::Observed { trouble, ..first.clone() };
    assert_eq!(queue::decide(&troubled), After(secs(7)));
    assert_eq!(queue::decide(&queue::Observed { now: at(17), ..troubled }), All);
}

#[test]
fn numbers_that_were_reckoned_are_read_again_soon() {
    let read = [Effect::ReadStatistics { set: 4 }];
    let seen = Observed { reckoned: Some(at(0)), now: at(4), ..seen(running(0)) };
    let plan = decide(&seen);
    assert_eq!((plan.effects, plan.requeue_after), (vec![], Some(secs(1))));
    assert_eq!(decide(&Observed { now: at(5), ..seen.clone() }).effects, read);
    // Once: whoever could not read them does not ask all the time.
    let asked = Observed { now: at(6), statistics: Some(at(5)), ..seen.clone() };
    assert_eq!(decide(&asked).effects, []);
    // Another job that was seen to be over: again.
    let again = Observed { reckoned: Some(at(3)), now: at(8), ..asked };
    assert_eq!(decide(&again).effects, read);
}

#[test]
fn a_poll_is_given_up_when_the_capacity_is_another() {
    let [none, some, long] = [0, 1, 59].map(secs);
    assert_eq!(poll_again(4, 4, long, none), None, "GitHub knows it");
    assert_eq!(poll_again(4, 0, none, none), Some(POLL_MIN));
    assert_eq!(poll_again(0, 4, some, long), Some(secs(1)));
    assert_eq!(poll_again(0, 4, long, none), Some(none));
    // Where all were given up for a minute, the next one is heard to its end, and in time.
    assert_eq!(poll_again(0, 4, long, secs(60)), None);
    assert!(secs(60) + POLL_MIN + secs(65) < SILENCE_MAX);
}
