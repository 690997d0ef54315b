//! Jobs of sets by table, and a world in which a listener, runners and the hub meet everything.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use sekisho_github::scale_set::life::{self, Life, Seen, Step};
use sekisho_github::wire::scale_set::{JobMessageKind, JobResult, QueueMessage};
use uuid::Uuid;

use super::*;
use crate::state::Message;
use crate::state::tests::World;
use sekisho_github::hub_api::Conclusion;

const OWNER: &str = "orgs/acme";

/// Three jobs, of which one waits for another; and one that no set wants.
const JOBS: &str = "\
on: push
jobs:
  a: { runs-on: gpu, steps: [{run: a}] }
  b: { runs-on: [gpu, Large], steps: [{run: a}] }
  c: { runs-on: gpu, needs: a, steps: [{run: a}] }
  d: { runs-on: other, steps: [{run: a}] }
";

fn definition(name: &str, labels: &[&str]) -> Definition {
    Definition {
        name: name.to_owned(),
        scope: OWNER.into(),
        group: 1,
        labels: labels.iter().map(|label| Label::new(*label)).collect(),
        disable_update: true,
        created_on: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

/// A listener that is told things one after the other.
struct Ear {
    set: u64,
    session: Uuid,
    after: i64,
}

impl Ear {
    fn new(world: &mut World, set: u64) -> Self {
        let session = Uuid::new_v4();
        let opened = world.state.open_set_session(&OWNER.into(), set, session, "me", world.now);
        opened.unwrap();
        Self { set, session, after: 0 }
    }

    fn poll(&mut self, world: &mut World, capacity: u64) -> Option<QueueMessage> {
        let at = (self.after, Order::Proper);
        let polled = world.state.poll_set(self.set, self.session, at, Some(capacity), world.now);
        let message = polled.unwrap()?;
        self.after = self.after.max(message.message_id);
        Some(message)
    }

    /// What a poll tells, in short.
    fn hear(&mut self, world: &mut World, capacity: u64) -> Vec<String> {
        let Some(message) = self.poll(world, capacity) else { return Vec::new() };
        let short = |job: &sekisho_github::wire::scale_set::JobMessage| {
            let result = job.result.as_ref().map(JobResult::as_str).unwrap_or_default();
            format!("{} {} {result}", job.kind.as_str(), job.job_display_name)
        };
        message.jobs().unwrap().messages.iter().map(short).collect()
    }
}

fn numbers(world: &World, set: u64) -> [i64; 4] {
    let all = world.state.set_statistics(set);
    [
        all.total_available_jobs,
        all.total_assigned_jobs,
        all.total_running_jobs,
        all.total_registered_runners,
    ]
}

#[test]
fn jobs_are_assigned_up_to_the_capacity_that_the_newest_poll_says() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    assert_eq!(world.state.queue().jobs.len(), 1, "the scheduler sees the others only");
    let mut ear = Ear::new(&mut world, set);
    assert_eq!(ear.hear(&mut world, 0), [""; 0]);
    assert_eq!(numbers(&world, set), [2, 0, 0, 0]);
    assert_eq!(ear.hear(&mut world, 1), ["JobAssigned a "]);
    assert_eq!(ear.hear(&mut world, 1), [""; 0]);
    assert_eq!(ear.hear(&mut world, 2), ["JobAssigned b "]);
    assert_eq!(numbers(&world, set), [0, 2, 0, 0]);

    // A runner of no set has the labels, and gets none of the set's jobs.
    let stranger = world.runner("r0", &["gpu", "large"]);
    assert_eq!(world.message(stranger), None);
    let runner = world.runner_of("r1", Some(set));
    let job = world.acquire(runner);
    assert_eq!(numbers(&world, set), [0, 2, 1, 1]);
    world.complete(job, Conclusion::Failure);
    // `c` needed `a`, which failed: nobody was told of it.
    assert_eq!(ear.hear(&mut world, 2), ["JobStarted a ", "JobCompleted a failed"]);
    assert_eq!(numbers(&world, set), [0, 1, 0, 0]);
}

#[test]
fn jobs_are_announced_and_acquired_where_the_listener_decides() {
    let mut world = World::new(JOBS);
    world.state.scale_sets.assignment = Assignment::Explicit;
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    let mut ear = Ear::new(&mut world, set);
    assert_eq!(ear.hear(&mut world, 5), ["JobAvailable a ", "JobAvailable b "]);
    assert_eq!(numbers(&world, set), [2, 0, 0, 0]);
    let runner = world.runner_of("r1", Some(set));
    assert_eq!(world.message(runner), None, "it is not acquired yet");
    let session = ear.session;
    let acquire = |world: &mut World, jobs: &[i64]| {
        world.state.acquire_set_jobs(set, session, jobs, world.now).unwrap()
    };
    assert_eq!(acquire(&mut world, &[100_001, 77, -1]), [100_001]);
    assert_eq!(acquire(&mut world, &[100_001]), [100_001], "the answer may have been lost");
    assert_eq!(ear.hear(&mut world, 5), ["JobAssigned b "]);
    assert_eq!(world.acquire(runner).job, 100_001);
    assert_eq!(acquire(&mut world, &[100_001]), [0; 0]);
    let other = Uuid::nil();
    let stale = world.state.acquire_set_jobs(set, other, &[100_000], world.now);
    assert_eq!(stale, Err(SetError::SessionExpired));
    // A run that is cancelled ends what was announced too.
    world.state.cancel_run(1, world.now).unwrap();
    assert_eq!(ear.hear(&mut world, 5), ["JobStarted b ", "JobCompleted a canceled"]);
}

#[test]
fn the_log_outlives_sessions_and_the_process_until_messages_are_deleted() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    let mut ear = Ear::new(&mut world, set);
    let first = ear.poll(&mut world, 1).unwrap().message_id;
    let second = ear.poll(&mut world, 2).unwrap().message_id;
    assert_eq!((first, second), (100_000_001, 100_000_002));
    let owner = Owner::from(OWNER);
    let now = world.now;
    let conflict = world.state.open_set_session(&owner, set, Uuid::nil(), "you", now);
    assert_eq!(conflict, Err(SetError::SessionConflict));
    world.now += SignedDuration::from_secs(91);
    let mut other = Ear::new(&mut world, set);
    let stale = world.state.poll_set(set, ear.session, (0, Order::Proper), None, world.now);
    assert_eq!(stale, Err(SetError::SessionExpired));
    assert_eq!(other.poll(&mut world, 2).unwrap().message_id, first);
    world.state.delete_set_message(set, other.session, first, world.now).unwrap();
    world.state.delete_set_message(set, other.session, first, world.now).unwrap();

    // The process ends. What it wrote down is what the next one knows.
    let mut replay = Replay::default();
    world.state.scale_sets.take_journal().into_iter().for_each(|entry| replay.apply(entry));
    let mut again = Replay::default();
    replay.entries().into_iter().for_each(|entry| again.apply(entry));
    assert_eq!(again.entries(), replay.entries());
    let mut view = world.state.runs[&1].view.clone();
    crate::state::end_interrupted(&mut view, world.now);
    world.state = State::new(vec![view], 1, Default::default());
    world.state.scale_sets = ScaleSets::new(Assignment::Automatic, again);
    world.state.end_orphans(world.now);
    world.state.end_orphans(world.now);
    let mut ear = Ear::new(&mut world, set);
    assert_eq!(ear.poll(&mut world, 2).unwrap().message_id, second);
    let ended = ["JobCompleted a canceled", "JobCompleted b canceled"];
    assert_eq!(ear.hear(&mut world, 2), ended);
    assert_eq!(world.state.create_set(definition("new", &["x"])), Ok(set + 1));
}

#[test]
fn a_set_that_is_deleted_gives_its_jobs_back_and_takes_its_idle_runners_along() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    let owner = Owner::from(OWNER);
    let taken = world.state.create_set(definition("GPU", &["x"]));
    assert_eq!(taken, Err(SetError::NameTaken));
    let mut ear = Ear::new(&mut world, set);
    ear.poll(&mut world, 1);
    let busy = world.runner_of("busy", Some(set));
    let job = world.acquire(busy);
    let idle = world.runner_of("idle", Some(set));
    let stranger: Owner = "orgs/else".into();
    assert_eq!(world.state.delete_set(&stranger, set, world.now), Err(SetError::NotFound));
    world.state.delete_set(&owner, set, world.now).unwrap();
    assert!(!world.state.runners.contains_key(&idle.0));
    let gone = world.state.poll_set(set, ear.session, (0, Order::Proper), None, world.now);
    assert_eq!(gone, Err(SetError::NotFound));
    assert_eq!(world.state.queue().jobs.len(), 2, "`b` and `d`");
    world.complete(job, Conclusion::Success);
    assert!(!world.state.runners.contains_key(&busy.0));
    // A runner of no set may have them now, and a new set takes what still waits.
    let runner = world.runner("r", &["gpu", "large"]);
    assert!(world.message(runner).is_some());
    let other = world.state.create_set(definition("gpu", &["gpu"])).unwrap();
    assert_eq!(numbers(&world, other), [1, 0, 0, 0], "`c`");
}

#[test]
fn which_jobs_are_a_sets() {
    let takes = |definition: &Definition, repository: &str, labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        definition.takes(repository, &labels)
    };
    let set = definition("Pool", &["gpu", "large"]);
    assert!(takes(&set, "Acme/app", &["GPU"]));
    assert!(takes(&set, "acme/app", &["gpu", "large"]));
    assert!(takes(&set, "acme/app", &["pool"]), "its name is enough");
    assert!(!takes(&set, "acme/app", &["gpu", "arm"]));
    assert!(takes(&set, "acme/app", &[]), "a job that names a group alone");
    assert!(!takes(&set, "other/app", &["gpu"]));
    let own = Definition { scope: "repos/acme/app".into(), ..set.clone() };
    assert!(takes(&own, "acme/App", &["gpu"]) && !takes(&own, "acme/b", &["gpu"]));
    let all = Definition { scope: "enterprises/e".into(), ..set };
    assert!(takes(&all, "any/one", &["gpu"]));
}

#[test]
fn a_ghost_is_busy_until_it_was_asked_often_enough() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu"])).unwrap();
    Ear::new(&mut world, set).poll(&mut world, 1);
    let runner = world.runner_of("r1", Some(set));
    let job = world.acquire(runner);
    world.state.haunt(runner.0, 2);
    world.complete(job, Conclusion::Success);
    assert_eq!(world.state.set_statistics(set).total_busy_runners, 1);
    let mut remove = || world.state.remove_runner(runner.0, world.now);
    assert_eq!(remove(), Err(crate::state::RegisterError::Busy));
    assert_eq!(remove(), Err(crate::state::RegisterError::Busy));
    assert_eq!(remove(), Ok(()));
}

/// A small generator that is the same everywhere: xorshift64*.
struct Dice(u64);

impl Dice {
    fn one_in(&mut self, sides: u64) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).is_multiple_of(sides)
    }
}

/// Our listener's decisions against the hub's state, with everything that may go wrong between.
struct Simulation {
    world: World,
    dice: Dice,
    set: u64,
    life: Life,
    ours: Option<Uuid>,
    sessions: u128,
    /// By `runner_request_id`: what was recorded of the job.
    recorded: BTreeMap<i64, BTreeSet<JobMessageKind>>,
    trace: Vec<String>,
    hostile: bool,
    runners: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut world = World::new(JOBS);
        let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
        Self {
            world,
            dice: Dice(seed * 2 + 1),
            set,
            life: Life::new(false),
            ours: None,
            sessions: 0,
            recorded: BTreeMap::new(),
            trace: Vec::new(),
            hostile: true,
            runners: 0,
        }
    }

    fn goes_wrong(&mut self, sides: u64) -> bool {
        self.hostile && self.dice.one_in(sides)
    }

    fn act(&mut self, step: &Step) -> (Seen, Option<QueueMessage>) {
        let owner = Owner::from(OWNER);
        let now = self.world.now;
        let session = self.ours.unwrap_or_default();
        let seen = match step {
            _ if self.goes_wrong(10) => Seen::Trouble,
            Step::Create { .. } => {
                self.sessions += 1;
                let new = Uuid::from_u128(self.sessions);
                match self.world.state.open_set_session(&owner, self.set, new, "me", now) {
                    Ok(()) if self.goes_wrong(6) => Seen::Trouble,
                    Ok(()) => {
                        self.ours = Some(new);
                        Seen::Created
                    }
                    Err(error) => seen(error),
                }
            }
            Step::RemovePrevious { .. } => {
                let _ = self.world.state.end_set_session(self.set, None);
                Seen::PreviousRemoved
            }
            Step::Renew { .. } => {
                let state = &mut self.world.state;
                let renewed = state.touch_set_session(&owner, self.set, session, now);
                renewed.map_or_else(seen, |_| Seen::Renewed)
            }
            Step::Poll { .. } if self.goes_wrong(15) => Seen::Unauthorized,
            Step::Poll { cursor, .. } => {
                let order = match () {
                    () if self.goes_wrong(9) => Order::Repeat,
                    () if self.goes_wrong(9) => Order::Newest,
                    () if self.goes_wrong(9) => Order::Replay,
                    () => Order::Proper,
                };
                let state = &mut self.world.state;
                match state.poll_set(self.set, session, (*cursor, order), Some(2), now) {
                    Ok(Some(message)) => {
                        return (Seen::Message { id: message.message_id }, Some(message));
                    }
                    Ok(None) => Seen::Nothing,
                    Err(error) => seen(error),
                }
            }
            other => panic!("not a step of the service: {other:?}"),
        };
        (seen, None)
    }

    fn handle(&mut self, message: &QueueMessage) {
        if self.goes_wrong(8) {
            self.trace.push("crash".to_owned());
            (self.life, self.ours) = (Life::new(self.dice.one_in(2)), None);
            return;
        }
        for job in message.jobs().unwrap().messages {
            let of_job = self.recorded.entry(job.runner_request_id).or_default();
            if of_job.insert(job.kind.clone()) && job.kind == JobMessageKind::Assigned {
                self.runners += 1;
            }
        }
        let (id, now) = (message.message_id, self.world.now);
        if let Some(session) = self.ours.filter(|_| !self.goes_wrong(8)) {
            // A session that is gone leaves the message where it is.
            let _ = self.world.state.delete_set_message(self.set, session, id, now);
        }
    }

    /// Runners come for what was recorded, do the job, and at times vanish.
    fn work(&mut self) {
        if self.runners == 0 || self.dice.one_in(2) {
            return;
        }
        self.runners -= 1;
        let name = format!("r{}", self.world.state.seq());
        let runner = self.world.runner_of(&name, Some(self.set));
        let Some(Message::Offer { request, .. }) = self.world.message(runner) else {
            let _ = self.world.state.remove_runner(runner.0, self.world.now);
            return;
        };
        let job = self.world.state.acquire(runner.0, request, self.world.now).unwrap();
        self.trace.push(format!("job {}", job.job));
        if self.goes_wrong(3) {
            self.world.state.runner_gone(runner.0, "vanished", self.world.now);
        } else {
            self.world.complete(job, Conclusion::Success);
        }
    }

    fn run(&mut self, steps: usize) {
        let (mut seen, mut message) = (None, None);
        for _ in 0..steps {
            let (next, step) = match &seen {
                Some(seen) => life::decide(&self.life, seen, 0.5),
                None => (self.life.clone(), self.life.resume()),
            };
            self.life = next;
            self.trace.push(format!("{seen:?} -> {step:?}"));
            match step {
                Step::Deliver => {
                    if let Some(message) = message.take() {
                        self.handle(&message);
                    }
                    seen = None;
                }
                Step::Idle => {
                    self.life.replay();
                    seen = None;
                }
                // Whoever runs the listener starts it again.
                Step::End(ended) => {
                    assert!(self.hostile, "{ended}");
                    (self.life, seen) = (Life::new(false), None);
                }
                step => {
                    let (Step::Create { wait }
                    | Step::RemovePrevious { wait }
                    | Step::Renew { wait }
                    | Step::Poll { wait, .. }) = &step
                    else {
                        unreachable!()
                    };
                    self.world.now +=
                        SignedDuration::try_from(*wait).unwrap() + SignedDuration::from_secs(1);
                    let (now, new) = self.act(&step);
                    (seen, message) = (Some(now), new);
                }
            }
            self.work();
        }
    }
}

fn seen(error: SetError) -> Seen {
    match error {
        SetError::SessionConflict => Seen::Conflict,
        SetError::SessionExpired => Seen::Expired,
        other => panic!("{other:?}"),
    }
}

fn simulate(seed: u64) -> Simulation {
    let mut simulation = Simulation::new(seed);
    for _ in 0..4 {
        simulation.run(60);
        simulation.world.start(JOBS);
    }
    simulation.hostile = false;
    // Whoever crashed before it started a runner looks at what it recorded.
    simulation.runners = 100;
    simulation.run(400);
    simulation
}

#[test]
fn whatever_happens_every_job_is_assigned_once_and_ends_once_recorded() {
    for seed in 0..60 {
        let simulation = simulate(seed);
        let numbers = numbers(&simulation.world, simulation.set);
        assert_eq!(numbers[..3], [0, 0, 0], "seed {seed}");
        let of_set = |labels: &Vec<String>| labels.iter().any(|label| label == "gpu");
        for run in simulation.world.state.runs.values() {
            for job in run.view.jobs.iter().filter(|job| of_set(&job.labels)) {
                let recorded = &simulation.recorded.get(&i64::try_from(job.id).unwrap());
                let kinds = recorded
                    .map(|kinds| kinds.iter().map(|k| k.as_str().to_owned()).collect::<Vec<_>>());
                let want = ["JobAssigned", "JobStarted", "JobCompleted"].map(str::to_owned);
                assert_eq!(kinds, Some(want.to_vec()), "seed {seed}, job {}", job.id);
            }
        }
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [0, 3, 9] {
        assert_eq!(simulate(seed).trace, simulate(seed).trace);
    }
    assert_ne!(simulate(0).trace, simulate(1).trace);
}
