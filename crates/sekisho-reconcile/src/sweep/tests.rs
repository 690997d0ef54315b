//! What belongs to nobody, from both sides.

use super::*;

fn at(seconds: u64) -> At {
    At::from_secs(10_000 + seconds)
}

fn mark() -> Mark {
    Mark::of_namespace("n")
}

fn name(number: u64) -> String {
    crate::name::runner(&mark(), "d", "s", number)
}

fn runner(number: u64) -> Runner {
    Runner {
        name: name(number),
        uid: format!("u{number}"),
        registered: true,
        finalizer: true,
        owner: Some("set".to_owned()),
        created: at(0),
        deleting: false,
    }
}

fn seen(seconds: u64) -> Observed {
    Observed {
        now: at(seconds),
        mark: mark(),
        registrations: vec![],
        runners: vec![],
        sets: BTreeSet::from(["set".to_owned()]),
        pods: vec![],
        secrets: vec![],
        memory: Memory::default(),
    }
}

fn registered(id: i64, name: String, busy: bool) -> Registered {
    Registered { id, name, busy }
}

#[test]
fn a_registration_without_a_runner_goes_after_a_while() {
    let ghost = registered(7, name(1), false);
    let seen = |seconds, memory| Observed {
        registrations: vec![ghost.clone(), registered(8, "somebody-elses".to_owned(), false)],
        memory,
        ..seen(seconds)
    };
    let first = decide(&seen(0, Memory::default()));
    assert_eq!((first.effects.len(), first.ghosts), (0, 1));
    let waits = decide(&seen(119, first.memory.clone()));
    assert_eq!(waits.effects, []);
    let goes = decide(&seen(120, waits.memory));
    assert_eq!(goes.effects, [Effect::Deregister { id: 7, name: name(1) }]);
    // It is remembered until it is gone, and then forgotten.
    assert_eq!(goes.memory.ghosts, BTreeMap::from([(7, at(0))]));
    let gone = decide(&Observed { registrations: vec![], ..seen(121, goes.memory) });
    assert_eq!(gone.memory, Memory::default());
}

#[test]
fn a_ghost_with_a_job_waits_and_is_told_of() {
    let memory = Memory { ghosts: BTreeMap::from([(7, at(0))]), ..Memory::default() };
    let registrations = vec![registered(7, name(1), true)];
    let seen = |seconds| Observed {
        registrations: registrations.clone(),
        memory: memory.clone(),
        ..seen(seconds)
    };
    let plan = decide(&seen(1_799));
    assert_eq!((plan.effects, plan.stuck), (vec![], vec![]));
    let plan = decide(&seen(1_800));
    let tried = vec![Effect::Deregister { id: 7, name: name(1) }];
    assert_eq!((plan.effects, plan.stuck), (tried, vec![name(1)]));
}

#[test]
fn a_runner_removes_its_own_registration_as_long_as_it_can() {
    let memory = Memory { ghosts: BTreeMap::from([(7, at(0))]), ..Memory::default() };
    let with = |runner| Observed {
        registrations: vec![registered(7, name(1), false)],
        runners: vec![runner],
        memory: memory.clone(),
        ..seen(600)
    };
    assert_eq!(decide(&with(runner(1))).ghosts, 0);
    let over = Runner { finalizer: false, registered: false, ..runner(1) };
    assert_eq!(decide(&with(over)).effects.len(), 1);
}

#[test]
fn a_runner_whose_registration_is_missing_is_counted() {
    let once = decide(&Observed { runners: vec![runner(1), runner(2)], ..seen(0) });
    assert_eq!(once.memory.absent, BTreeMap::from([(name(1), 1), (name(2), 1)]));
    let registrations = vec![registered(7, name(2), false)];
    let unregistered = Runner { registered: false, ..runner(3) };
    let runners = vec![runner(1), runner(2), unregistered];
    let twice = decide(&Observed { registrations, runners, memory: once.memory, ..seen(60) });
    assert_eq!(twice.memory.absent, BTreeMap::from([(name(1), 2)]));
}

#[test]
fn what_has_lost_its_owner_goes() {
    let object = |number: u64, owner: &str| Object {
        name: name(number),
        uid: format!("o{number}"),
        owner: Some(owner.to_owned()),
        created: at(0),
        deleting: false,
    };
    let foreign = Object { name: "web-1".to_owned(), ..object(9, "none") };
    let pods = vec![object(1, "u1"), object(2, "none"), foreign];
    let secrets = vec![object(3, "none"), Object { deleting: true, ..object(4, "none") }];
    let lost = Runner { owner: Some("old set".to_owned()), ..runner(5) };
    let seen = |seconds| Observed {
        pods: pods.clone(),
        secrets: secrets.clone(),
        runners: vec![runner(1), lost.clone()],
        ..seen(seconds)
    };
    assert_eq!(decide(&seen(119)).effects, []);
    assert_eq!(
        decide(&seen(120)).effects,
        [
            Effect::DeleteRunner { name: name(5), uid: "u5".to_owned() },
            Effect::DeletePod { name: name(2), uid: "o2".to_owned() },
            Effect::DeleteSecret { name: name(3), uid: "o3".to_owned() },
        ]
    );
}

#[test]
fn one_sweep_does_not_take_everything() {
    let ids = 0..250;
    let memory =
        Memory { ghosts: ids.clone().map(|id| (id, at(0))).collect(), ..Memory::default() };
    let registrations = ids.map(|id| registered(id, name(id.unsigned_abs()), false)).collect();
    let plan = decide(&Observed { registrations, memory, ..seen(600) });
    assert_eq!((plan.effects.len(), plan.ghosts), (REMOVED_MAX, 250));
}
