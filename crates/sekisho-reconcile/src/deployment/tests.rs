//! How many runners, of which revision, and how it all goes away.

use sekisho_api::Reason;
use sekisho_api::condition::{READY, Truth};

use super::*;

fn at(seconds: u64) -> At {
    At::from_secs(10_000 + seconds)
}

fn counts(pending: u32, idle: u32, busy: u32) -> Counts {
    Counts { live: pending + idle + busy, pending, idle, busy, failed: 0 }
}

fn set(revision: &str, replicas: u32, runners: Counts) -> Set {
    Set {
        name: format!("d-{revision}"),
        uid: format!("u-{revision}"),
        revision: revision.to_owned(),
        created: at(u64::from(revision.as_bytes()[0])),
        deleting: false,
        stop_now: false,
        replicas,
        runners,
        all_runners: runners.live,
        problem: None,
    }
}

fn seen(sets: Vec<Set>, assigned: u32) -> Observed {
    let scale_down_delay = Duration::from_secs(60);
    Observed {
        now: at(500),
        deleting: None,
        finalizer: true,
        stop_now: false,
        namespace_terminating: false,
        size: Size::Scaled { min: 1, max: 10, idle: 1, scale_down_delay },
        revision: "b".to_owned(),
        rollout: Rollout { max_surge: Percent(25), max_unavailable: Percent(0), history_limit: 1 },
        sets,
        demand: Some(Demand { assigned, ..Demand::default() }),
        settled: Some(at(400)),
        desired_before: None,
        lower_since: None,
        session: Session::Polling,
        scale_set: ScaleSet::Known(4),
        dropped_labels: vec![],
        released_since: None,
        blocked: None,
        trouble: None,
    }
}

fn scaled(name: &str, replicas: u32) -> Effect {
    Effect::ScaleSet { name: format!("d-{name}"), replicas }
}

#[test]
fn as_many_as_there_are_jobs_and_some_between_bounds() {
    for (assigned, want) in [(0, 1), (1, 2), (9, 10), (50, 10)] {
        assert_eq!(decide(&seen(vec![], assigned)).status.desired, want, "{assigned}");
    }
    assert_eq!(decide(&Observed { size: Size::Fixed(3), ..seen(vec![], 50) }).status.desired, 3);
    let made = decide(&seen(vec![], 4)).effects;
    assert_eq!(made, [Effect::CreateSet { revision: "b".to_owned(), replicas: 5 }]);
    // Before GitHub has told anything, what was enough is kept, and no more is made.
    let unknown = Observed { demand: None, desired_before: Some(6), ..seen(vec![], 0) };
    let plan = decide(&unknown);
    assert_eq!((plan.status.desired, plan.growth), (6, 1));
    assert_eq!(decide(&Observed { desired_before: None, ..unknown }).status.desired, 1);
    let none = Observed { finalizer: false, ..seen(vec![], 1) };
    assert_eq!(decide(&none).effects, [Effect::AddFinalizer]);
}

#[test]
fn a_job_that_there_is_no_room_for_waits_too_and_wants_no_runner() {
    let demand = Demand { assigned: 10, running: 8, available: 5 };
    let status = decide(&Observed { demand: Some(demand), ..seen(vec![], 0) }).status;
    assert_eq!((status.desired, status.waiting, status.running), (10, 7, 8));
}

#[test]
fn fewer_only_after_a_while_and_no_new_ones_meanwhile() {
    let falls = Observed { desired_before: Some(6), ..seen(vec![], 1) };
    let plan = decide(&falls);
    assert_eq!((plan.status.desired, plan.growth), (6, 2));
    assert_eq!((plan.lower_since, plan.requeue_after), (Some(at(500)), Some(RELEASE_EVERY * 6)));
    let later = Observed { lower_since: Some(at(440)), ..falls.clone() };
    let plan = decide(&later);
    assert_eq!((plan.status.desired, plan.growth, plan.lower_since), (2, 2, None));
    // A job in between begins the wait anew.
    let demand = Some(Demand { assigned: 5, ..Demand::default() });
    assert_eq!(decide(&Observed { demand, ..later.clone() }).lower_since, None);
    // Numbers that fell are believed at once where runners are made, and when all is heard otherwise.
    for (settled, desired, again) in
        [(None, 6, None), (Some(at(502)), 6, Some(SETTLE)), (Some(at(500)), 2, None)]
    {
        let plan = decide(&Observed { settled, ..later.clone() });
        assert_eq!((plan.status.desired, plan.growth), (desired, 2), "{settled:?}");
        assert_eq!((plan.requeue_after, plan.lower_since.is_some()), (again, desired == 6));
    }
}

#[test]
fn a_job_that_is_seen_to_be_over_counts_no_more() {
    let demand = Demand { assigned: 2, running: 1, available: 3 };
    assert_eq!(demand.less_one(), Demand { assigned: 1, running: 0, available: 3 });
    assert_eq!(demand.less_one().less_one().less_one().assigned, 0);
}

#[test]
fn a_new_revision_replaces_who_waits_and_lets_jobs_end() {
    let old = |replicas, runners| set("a", replicas, runners);
    let effects = |sets, assigned| decide(&seen(sets, assigned)).effects;
    // 4 wanted: 2 busy, 2 idle of the old one. One more than wanted may be made.
    assert_eq!(
        effects(vec![old(4, counts(0, 2, 2))], 3),
        [Effect::CreateSet { revision: "b".to_owned(), replicas: 1 }]
    );
    // It is online: one of the old idle ones may go, and the next is made.
    assert_eq!(
        effects(vec![old(4, counts(0, 2, 2)), set("b", 1, counts(0, 1, 0))], 3),
        [scaled("a", 3)]
    );
    assert_eq!(
        effects(vec![old(3, counts(0, 1, 2)), set("b", 1, counts(0, 1, 0))], 3),
        [scaled("b", 2)]
    );
    // Who only starts goes at once; who has a job never does.
    assert_eq!(
        effects(vec![old(4, counts(2, 0, 2)), set("b", 0, counts(0, 0, 0))], 3),
        [scaled("a", 2), scaled("b", 2)]
    );
    assert_eq!(effects(vec![old(2, counts(0, 0, 2)), set("b", 2, counts(0, 2, 0))], 3), []);
    assert_eq!(
        effects(vec![old(1, counts(0, 0, 1)), set("b", 2, counts(0, 2, 0))], 3),
        [scaled("b", 3)]
    );
    let rolling = seen(vec![old(4, counts(0, 2, 2)), set("b", 1, counts(0, 1, 0))], 3);
    assert_eq!(decide(&rolling).status.claim.reason, Reason::RollingOut);
}

#[test]
fn a_rollout_ends_with_the_new_ones_alone_and_never_with_fewer_than_may_be_missing() {
    for (surge, unavailable) in [(0, 0), (25, 0), (0, 50), (100, 100)] {
        let rollout = Rollout {
            max_surge: Percent(surge),
            max_unavailable: Percent(unavailable),
            history_limit: 0,
        };
        let (mut old, mut new) = (set("a", 8, counts(0, 8, 0)), set("b", 0, counts(0, 0, 0)));
        for _ in 0..40 {
            let sets = vec![old.clone(), new.clone()];
            for effect in decide(&Observed { rollout, ..seen(sets, 7) }).effects {
                match effect {
                    Effect::ScaleSet { name, replicas } if name == "d-a" => old.replicas = replicas,
                    Effect::ScaleSet { replicas, .. } => new.replicas = replicas,
                    _ => {}
                }
            }
            old.runners = counts(0, old.replicas.min(old.runners.idle), 0);
            let allowed = 8 - 8 * unavailable / 100;
            let available = old.runners.idle + new.runners.idle;
            assert!(available >= allowed, "{surge}/{unavailable}: {available}");
            new.runners = counts(0, new.replicas, 0);
            let most = 8 + (8 * surge).div_ceil(100).max(u32::from(unavailable == 0));
            assert!(old.runners.idle + new.runners.idle <= most, "{surge}/{unavailable}");
        }
        assert_eq!((old.replicas, new.replicas), (0, 8), "{surge}/{unavailable}");
    }
}

#[test]
fn old_revisions_are_forgotten_but_for_the_newest() {
    let empty = |revision| set(revision, 0, counts(0, 0, 0));
    let mut kept = empty("A");
    kept.all_runners = 1;
    let sets = vec![empty("C"), empty("B"), kept, set("b", 1, counts(0, 1, 0))];
    let effects = decide(&seen(sets, 0)).effects;
    assert_eq!(effects, [Effect::DeleteSet { name: "d-B".to_owned(), uid: "u-B".to_owned() }]);
}

#[test]
fn what_is_wrong_is_said_before_what_passes() {
    let reason = |seen: &Observed| decide(seen).status.claim.reason;
    let ready = seen(vec![set("b", 2, counts(0, 1, 1))], 1);
    assert_eq!(reason(&ready), Reason::AllRunnersReady);
    assert_eq!(reason(&seen(vec![set("b", 2, counts(1, 1, 0))], 1)), Reason::Scaling);
    let held = Failure::SessionHeld { set: "s".to_owned(), owner: "other".to_owned() };
    let held = Observed { session: Session::Troubled(held), ..ready.clone() };
    assert_eq!(reason(&held), Reason::SessionHeldByOther);
    let blocked = Some(Failure::ConnectionNotFound { name: "c".to_owned() });
    let blocked = Observed { blocked, ..held };
    assert_eq!(reason(&blocked), Reason::ConnectionNotFound);
    assert_eq!(reason(&Observed { deleting: Some(at(1)), ..blocked }), Reason::Deleting);
    let mut backing = set("b", 2, counts(0, 1, 1));
    let message = String::new();
    let claim = Claim { kind: READY, truth: Truth::False, reason: Reason::BackingOff, message };
    backing.problem = Some(claim);
    assert_eq!(reason(&Observed { sets: vec![backing], ..ready }), Reason::BackingOff);
}

#[test]
fn it_goes_step_by_step() {
    let goes = |seen: Observed| Observed { deleting: Some(at(400)), ..seen };
    let busy = goes(seen(vec![set("b", 1, counts(0, 0, 1))], 1));
    assert_eq!(decide(&busy).effects, [Effect::StopSession]);
    let waits = Observed { session: Session::None, ..busy };
    assert_eq!(decide(&waits).effects, []);
    let now = Observed { stop_now: true, ..waits.clone() };
    assert_eq!(decide(&now).effects, [Effect::MarkStopNow { name: "d-b".to_owned() }]);
    let empty = Observed { sets: vec![set("b", 1, counts(0, 0, 0))], ..waits.clone() };
    let delete = Effect::DeleteSet { name: "d-b".to_owned(), uid: "u-b".to_owned() };
    assert_eq!(decide(&empty).effects, [delete]);
    let last = Observed { sets: vec![], ..waits };
    let plan = decide(&last);
    assert_eq!(plan.effects, [Effect::DeleteScaleSet { id: Some(4) }, Effect::RemoveFinalizer]);
    assert_eq!(plan.released_since, Some(at(500)));
    // GitHub does not let it go: it is tried again, but not for ever.
    let failure = Failure::Unreachable { detail: String::new() };
    let trouble = Some(Trouble { failure: failure.clone(), failures: 3, next: at(505) });
    let why = Some(failure);
    let refused = Observed { trouble, released_since: Some(at(450)), ..last };
    assert_eq!(
        (decide(&refused).effects, decide(&refused).released_since),
        (vec![], Some(at(450)))
    );
    let given_up = Observed { now: at(750), released_since: Some(at(450)), ..refused };
    let told = Effect::LeaveScaleSet { id: Some(4), why };
    assert_eq!(decide(&given_up).effects, [told, Effect::RemoveFinalizer]);
    assert_eq!(decide(&Observed { finalizer: false, ..given_up }).effects, []);
}

#[test]
fn a_namespace_that_goes_is_what_is_said_of_all_in_it() {
    let seen = seen(vec![set("b", 2, counts(0, 1, 1))], 2);
    for deleting in [None, Some(at(400))] {
        let seen = Observed { namespace_terminating: true, deleting, ..seen.clone() };
        let claim = decide(&seen).status.claim;
        assert_eq!(claim.reason, Reason::NamespaceTerminating);
        assert_eq!(claim.message, "the namespace goes: 1 runners with a job are stopped");
    }
}

#[test]
fn a_set_whose_number_is_not_known_is_looked_for_at_the_end() {
    let deleting = Some(at(400));
    let seen = Observed { deleting, scale_set: ScaleSet::Claimed, ..seen(vec![], 0) };
    let effects = decide(&Observed { session: Session::None, ..seen.clone() }).effects;
    assert_eq!(effects, [Effect::DeleteScaleSet { id: None }, Effect::RemoveFinalizer]);
    let none = Observed { scale_set: ScaleSet::None, session: Session::None, ..seen };
    assert_eq!(decide(&none).effects, [Effect::RemoveFinalizer]);
}

#[test]
fn labels_that_are_not_taken_are_said_though_all_runners_are_there() {
    let seen = seen(vec![set("b", 2, counts(0, 1, 1))], 1);
    assert_eq!(decide(&seen).status.claim.reason, Reason::AllRunnersReady);
    let dropped_labels = vec!["large".to_owned(), "arm".to_owned()];
    let plan = decide(&Observed { dropped_labels, ..seen });
    let claim = plan.status.claim;
    assert_eq!((claim.truth, claim.reason), (Truth::False, Reason::LabelsDropped));
    assert!(claim.message.starts_with("GitHub did not take the labels `large`, `arm`; use one"));
    assert_eq!(plan.effects, [], "it goes on");
}
