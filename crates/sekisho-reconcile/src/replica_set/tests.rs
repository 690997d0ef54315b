//! Which runners are made, which are stopped, and what failures do to that.

use super::*;

fn at(seconds: u64) -> At {
    At::from_secs(10_000 + seconds)
}

fn runner(number: u64, phase: Phase) -> Runner {
    Runner {
        name: format!("m-d-s-{number:06}"),
        uid: format!("u{number}"),
        created: at(number),
        deleting: false,
        finalizer: false,
        stop_now: false,
        phase,
        over: false,
        online: matches!(phase, Phase::Idle | Phase::Busy).then(|| at(0)),
    }
}

fn failed(number: u64, seconds: u64) -> Runner {
    let reason = Reason::ImagePullFailed;
    runner(number, Phase::Failed { at: at(seconds), reason, open_job: false })
}

fn seen(desired: u32, runners: Vec<Runner>) -> Observed {
    Observed {
        now: at(100),
        deleting: false,
        namespace_terminating: false,
        stop_now: false,
        desired,
        growth: desired,
        next_number: 20,
        last_success: None,
        failed_ttl: secs(900),
        runners,
        expected: BTreeSet::new(),
        blocked: None,
        refused: None,
        trouble: None,
    }
}

fn made(plan: &Plan) -> Vec<u64> {
    let numbers = plan.effects.iter().filter_map(|effect| match effect {
        Effect::CreateRunners { numbers } => Some(numbers.clone()),
        _ => None,
    });
    numbers.flatten().collect()
}

fn stopped(plan: &Plan) -> Vec<&str> {
    let names = plan.effects.iter().filter_map(|effect| match effect {
        Effect::DeleteRunner { uid, .. } => Some(uid.as_str()),
        _ => None,
    });
    names.collect()
}

const PENDING: Phase = Phase::Pending { placed: false };
const PLACED: Phase = Phase::Pending { placed: true };

#[test]
fn numbers_are_reserved_before_runners_are_made() {
    let plan = decide(&seen(3, vec![runner(1, Phase::Busy)]));
    let [Effect::WriteStatus(status), Effect::CreateRunners { numbers }] = &plan.effects[..] else {
        panic!("{plan:?}")
    };
    assert_eq!((status.next_number, numbers.as_slice()), (22, [20, 21].as_slice()));
    // A status that was restored from an old backup does not make a name come twice.
    let old = Observed { next_number: 0, ..seen(3, vec![runner(7, Phase::Busy)]) };
    assert_eq!(made(&decide(&old)), [8, 9]);
    // What this process made and the cache does not show yet counts.
    let expected = BTreeSet::from([20, 1]);
    let plan = decide(&Observed { expected, ..seen(3, vec![runner(1, Phase::Busy)]) });
    assert_eq!((made(&plan).len(), plan.counts.pending), (1, 1));
    assert_eq!(made(&decide(&seen(1_000, vec![]))).len(), BATCH);
}

#[test]
fn the_least_useful_are_stopped_first_and_never_one_with_a_job() {
    let runners = || {
        vec![
            runner(1, Phase::Idle),
            runner(2, Phase::Busy),
            runner(3, PLACED),
            runner(4, PENDING),
            runner(5, Phase::Idle),
        ]
    };
    for (desired, want) in [
        (5, vec![]),
        (4, vec!["u4"]),
        (3, vec!["u4", "u3"]),
        (2, vec!["u4", "u3", "u1"]),
        (0, vec!["u4", "u3", "u1", "u5"]),
    ] {
        assert_eq!(stopped(&decide(&seen(desired, runners()))), want, "{desired}");
    }
    // A runner with a job that is being deleted takes part until its job is over; others do not.
    let leaving = |phase| Runner { deleting: true, ..runner(9, phase) };
    assert_eq!(made(&decide(&seen(1, vec![leaving(Phase::Busy)]))), [] as [u64; 0]);
    assert_eq!(made(&decide(&seen(1, vec![leaving(Phase::Idle)]))), [20]);
}

#[test]
fn who_is_done_takes_no_place_of_one_that_is_needed() {
    // Two jobs are over and one waits: GitHub counts one, and its runner starts.
    let over = |number, phase| Runner { over: true, ..runner(number, phase) };
    let leaving = |number| Runner { deleting: true, ..over(number, Phase::Busy) };
    let rest = [PENDING, PLACED, Phase::Idle];
    for done in [
        [over(1, Phase::Busy), over(2, Phase::Busy)],
        [leaving(1), leaving(2)],
        // Nobody has written down yet that they had a job.
        [over(1, PLACED), over(2, Phase::Idle)],
    ] {
        for phase in rest {
            let runners = [done.to_vec(), vec![runner(3, phase)]].concat();
            let plan = decide(&Observed { growth: 1, ..seen(1, runners) });
            assert_eq!((made(&plan).len(), stopped(&plan).len()), (0, 0), "{done:?} {phase:?}");
            assert_eq!((plan.counts.live, plan.counts.busy), (1, 0));
        }
        let plan = decide(&Observed { growth: 1, ..seen(1, done.to_vec()) });
        assert_eq!((made(&plan), stopped(&plan).len()), (vec![20], 0), "{done:?}");
    }
}

#[test]
fn a_spec_that_is_behind_the_jobs_stops_nobody() {
    let three = || vec![runner(1, Phase::Busy), runner(2, PENDING), runner(3, PENDING)];
    let plan = decide(&Observed { growth: 3, ..seen(1, three()) });
    assert!(stopped(&plan).is_empty() && made(&plan).is_empty(), "{plan:?}");
    let plan = decide(&Observed { growth: 2, ..seen(1, three()) });
    assert_eq!(stopped(&plan), ["u2"]);
    // Numbers that are older than what the runners are counted by make nobody.
    let plan = decide(&Observed { growth: 0, ..seen(5, three()) });
    assert!(stopped(&plan).is_empty() && made(&plan).is_empty(), "{plan:?}");
    // Nor does a spec of before the lease was somebody else's.
    assert_eq!(decide(&Observed { growth: 0, ..seen(5, vec![]) }).effects, []);
}

#[test]
fn one_that_is_finished_is_not_replaced_before_the_jobs_say_so() {
    let one = || vec![runner(1, Phase::Busy)];
    let plan = decide(&Observed { growth: 1, ..seen(3, one()) });
    assert_eq!((made(&plan).len(), stopped(&plan).len()), (0, 0));
    assert_eq!(made(&decide(&Observed { growth: 2, ..seen(3, one()) })), [20]);
    assert_eq!(made(&decide(&Observed { growth: 9, ..seen(3, one()) })), [20, 21]);
}

#[test]
fn failed_runners_hold_no_place_and_a_streak_holds_back() {
    // One failure: ten seconds; then one runner is tried, not all.
    let plan = decide(&seen(5, vec![failed(1, 95)]));
    assert_eq!((made(&plan).len(), plan.counts.failed, plan.counts.live), (0, 1, 0));
    let backoff = plan.backoff.unwrap();
    assert_eq!((backoff.next, backoff.failures), (at(105), 1));
    assert_eq!(plan.requeue_after, Some(secs(5)));
    assert_eq!(plan.status.claim.reason, Reason::BackingOff);
    let later = |now, runners| decide(&Observed { now: at(now), ..seen(5, runners) });
    assert_eq!(made(&later(105, vec![failed(1, 95)])).len(), 1);
    assert_eq!(made(&later(105, vec![failed(1, 95), runner(2, PENDING)])).len(), 0);
    // As long as it has lasted: it doubles, up to five minutes.
    for (second, next) in [(97, 107), (120, 145), (300, 505), (695, 995)] {
        let plan = later(second, vec![failed(1, 95), failed(2, second)]);
        assert_eq!(plan.backoff.unwrap().next, at(next), "{second}");
    }
    // One that reaches GitHub ends it.
    let online = Runner { online: Some(at(99)), ..runner(3, Phase::Idle) };
    let plan = later(100, vec![failed(1, 95), online]);
    assert_eq!((made(&plan).len(), plan.backoff), (4, None));
    assert_eq!(plan.status.last_success, Some(at(99)));
    let told = Observed { last_success: Some(at(99)), ..seen(5, vec![failed(1, 95)]) };
    assert_eq!(made(&decide(&told)).len(), 5);
    // One that failed after GitHub saw it is no reason; nor is one of a clock that was wrong.
    let seen_before = Runner { online: Some(at(90)), ..failed(1, 95) };
    assert_eq!(later(100, vec![seen_before]).backoff, None);
    assert_eq!(later(100, vec![failed(1, 7_000)]).backoff, None);
}

#[test]
fn a_burst_that_fails_at_once_is_one_failure() {
    let burst: Vec<Runner> = (0..500).map(|number| failed(number, 95)).collect();
    let plan = decide(&Observed { now: at(105), ..seen(500, burst) });
    assert_eq!((made(&plan).len(), plan.backoff.unwrap().next), (1, at(105)));
    // They are not all kept.
    assert_eq!(stopped(&plan).len(), 500 - STREAK_KEPT - FAILED_KEPT);
}

#[test]
fn failed_runners_are_kept_for_a_while() {
    let over = |runner| decide(&Observed { now: at(2_000), ..seen(0, vec![runner]) });
    assert_eq!(stopped(&over(failed(1, 1_000))), ["u1"]);
    assert_eq!(stopped(&over(failed(1, 1_101))), [] as [&str; 0]);
    // Not before it is cleaned up, nor while its job may get a result.
    assert!(stopped(&over(Runner { finalizer: true, ..failed(1, 500) })).is_empty());
    let open = |seconds| {
        let at = at(seconds);
        runner(1, Phase::Failed { at, reason: Reason::PodLost, open_job: true })
    };
    assert!(stopped(&over(open(801))).is_empty());
    assert_eq!(stopped(&over(open(800))), ["u1"]);
    // Without a time to live the streak is remembered all the same.
    let brief = Observed { failed_ttl: secs(0), ..seen(1, vec![failed(1, 95)]) };
    assert!(stopped(&decide(&brief)).is_empty());
    let old = Observed { now: at(995), failed_ttl: secs(0), ..seen(1, vec![failed(1, 95)]) };
    assert_eq!(stopped(&decide(&old)), ["u1"]);
}

#[test]
fn nothing_is_made_where_nothing_can_be() {
    let blocked = Some(Failure::ClassNotFound { name: "gpu".to_owned() });
    let plan = decide(&Observed { blocked, ..seen(3, vec![]) });
    assert!(plan.effects.is_empty());
    assert_eq!(
        plan.status.claim.message,
        "there is no RunnerClass `gpu`; create the RunnerClass that `spec.classRef` names"
    );
    assert!(
        decide(&Observed { namespace_terminating: true, ..seen(3, vec![]) }).effects.is_empty()
    );
}

#[test]
fn a_set_that_goes_lets_jobs_end_unless_it_is_told_not_to() {
    let runners = vec![runner(1, Phase::Busy), failed(2, 99)];
    let plan = decide(&Observed { deleting: true, ..seen(5, runners.clone()) });
    assert_eq!(stopped(&plan), ["u1", "u2"]);
    assert!(!plan.effects.iter().any(|effect| matches!(effect, Effect::MarkStopNow { .. })));
    let plan = decide(&Observed { deleting: true, stop_now: true, ..seen(5, runners) });
    assert_eq!(plan.effects[0], Effect::MarkStopNow { name: "m-d-s-000001".to_owned() });
}

#[test]
fn the_phase_follows_the_record() {
    let record = |state| Record { state, ..Record::default() };
    for (state, want) in [
        (Reason::Pending, PLACED),
        (Reason::Starting, PLACED),
        (Reason::Idle, Phase::Idle),
        (Reason::Busy, Phase::Busy),
        (Reason::Interrupted, Phase::Completing),
    ] {
        assert_eq!(Phase::of(&record(state), true), want);
    }
    let ended = |reason, registration| {
        let record = Record { ended: Some(at(1)), registration, ..record(reason) };
        match Phase::of(&record, false) {
            Phase::Failed { open_job, .. } => open_job,
            other => panic!("{other:?}"),
        }
    };
    assert!(ended(Reason::PodLost, Some(7)), "a message about its job may still come");
    assert!(!ended(Reason::PodLost, None) && !ended(Reason::PendingTimeout, Some(7)));
}

#[test]
fn a_quota_without_room_is_said_at_once_and_holds_nothing_back() {
    let refused = Some(Failure::Quota { detail: "exceeded quota: q".to_owned() });
    let seen = Observed { refused, ..seen(2, vec![runner(1, PENDING)]) };
    let plan = decide(&seen);
    assert_eq!(plan.status.claim.reason, Reason::QuotaExceeded);
    assert!(plan.status.claim.message.contains("exceeded quota: q"), "{:?}", plan.status.claim);
    assert_eq!(made(&plan).len(), 1, "GitHub is told to send no more, which is enough");
    // What cannot be made is more pressing than what failed before.
    let failed = Observed { runners: vec![failed(3, 90)], ..seen };
    assert_eq!(decide(&failed).status.claim.reason, Reason::QuotaExceeded);
}

#[test]
fn a_runner_that_is_refused_is_said_and_tried_later() {
    let failure = Failure::Forbidden { detail: "denied by rule x".to_owned() };
    let trouble = Some(Trouble { failure, failures: 1, next: at(130) });
    let seen = Observed { trouble, ..seen(2, vec![runner(1, Phase::Idle)]) };
    let plan = decide(&seen);
    assert_eq!(plan.status.claim.reason, Reason::Forbidden);
    assert!(plan.status.claim.message.contains("denied by rule x"), "{:?}", plan.status.claim);
    assert_eq!((made(&plan), plan.requeue_after), (vec![], Some(secs(30))));
    let later = Observed { now: at(130), ..seen.clone() };
    assert_eq!(made(&decide(&later)), [20]);
    let enough = Observed { desired: 1, ..seen };
    assert_eq!(decide(&enough).status.claim.reason, Reason::AllRunnersReady);
}
