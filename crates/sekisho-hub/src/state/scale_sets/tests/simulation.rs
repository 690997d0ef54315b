//! A world in which a listener, runners and the hub meet everything.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use sekisho_github::hub_api::Conclusion;
use sekisho_github::scale_set::life::{self, Life, Seen, Step};
use sekisho_github::wire::scale_set::{JobMessageKind, QueueMessage};
use uuid::Uuid;

use super::super::{Order, Owner, SetError};
use super::{JOBS, OWNER, definition, numbers};
use crate::state::Message;
use crate::state::tests::World;

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
