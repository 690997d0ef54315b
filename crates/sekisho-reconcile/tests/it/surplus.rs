//! No runner is one too many. Nothing goes wrong here, but nothing waits for anything either: between any
//! two effects of the operator watches, pods, messages and jobs go on, each at its own pace. GitHub's
//! numbers are of the moment in which they are asked for; its messages, and the watches, are late.

use std::time::Duration;

use sekisho_reconcile::deployment::Size;
use sekisho_reconcile::session::queue::POLL_EVERY;

use crate::github::Wire;
use crate::operator::Operator;
use crate::simulation::Play;
use crate::world::World;

/// Worlds of each kind.
const SEEDS: u64 = 40;
/// Jobs of one world.
const JOBS: usize = 60;
/// Steps after which all jobs must be over.
const STEPS: u32 = 60_000;
const MAX: u32 = 6;

impl World {
    /// How many runners could take a job, and how many jobs wait for one; how many have a job.
    fn needs(&self) -> (usize, usize, usize) {
        let jobs = || self.github.jobs.values();
        let had_one = |name: &String| jobs().any(|job| job.runner.as_ref() == Some(name));
        let runners = self.objects.runners.iter();
        let free = runners.filter(|(name, it)| {
            it.deleting.is_none() && it.record.ended.is_none() && !had_one(name)
        });
        let open = || jobs().filter(|job| job.assigned && job.result.is_none());
        let waiting = open().filter(|job| job.runner.is_none());
        let running = open().filter(|job| job.runner.is_some());
        (free.count(), waiting.count(), running.count())
    }

    /// In a world without faults: a runner is made only for a job, or to wait for one.
    pub(crate) fn may_create_runner(&self, name: &str) {
        let Some(Size::Scaled { idle, max, .. }) =
            self.objects.deployment.as_ref().map(|it| it.size).filter(|_| self.late)
        else {
            return;
        };
        let (free, waiting, running) = self.needs();
        assert!(
            free + running < max as usize,
            "{name} is made beyond the maximum: {free} free, {running} busy"
        );
        // A cancelled job may be taken out between the numbers and this.
        assert!(
            free < waiting + idle as usize + self.github.cancelled(),
            "{name} is one too many: {free} are free, {waiting} jobs wait"
        );
    }
}

impl Play {
    fn late_step(&mut self) {
        match self.world.dice.roll(100) {
            0..15 => {
                let millis = 20 + self.world.dice.roll(1_000);
                self.passes(Duration::from_millis(millis));
            }
            15..50 => self.pod_moves(),
            _ => self.late_turn(),
        }
    }

    fn late_turn(&mut self) {
        let (operator, world) = (&mut self.operators[0], &mut self.world);
        operator.refresh(world);
        if !operator.flights.is_empty() && world.dice.roll(3) > 0 {
            let flight = world.dice.pick(operator.flights.len());
            operator.step(flight, world);
            return;
        }
        let keys = operator.keys();
        if !keys.is_empty() {
            let key = keys[world.dice.pick(keys.len())].clone();
            operator.plan(&key, world);
        }
    }
}

/// A world in which jobs come by themselves and in heaps, most of them short, until all are over.
#[derive(Clone, Copy, Debug)]
struct Kind {
    wire: Wire,
    idle: u32,
    cancels: bool,
}

/// Plays one. Gives how many runners were made, and who was told to go before it had a job.
fn play(seed: u64, kind: Kind, traced: bool) -> (usize, Vec<String>) {
    let Kind { wire, idle, cancels } = kind;
    let mut world = World::new(seed, wire);
    (world.hostile, world.late, world.traced) = (false, true, traced);
    // Where the queue is polled, the delay is what covers the time in between.
    let scale_down_delay =
        if wire == Wire::Registered { 2 * POLL_EVERY } else { Duration::default() };
    world.change(|known| known.size = Size::Scaled { min: 0, max: MAX, idle, scale_down_delay });
    let mut play = Play { world, operators: [Operator::new(0), Operator::new(1)], holder: 0 };
    let mut queued = 0;
    for _ in 0..STEPS {
        play.late_step();
        let heap = if play.world.dice.one_in(60) { 1 + play.world.dice.pick(5) } else { 0 };
        for _ in 0..heap.min(JOBS - queued) {
            let long = play.world.dice.one_in(4);
            let runs_for = play.world.dice.roll(if long { 30_000 } else { 400 });
            let now = play.world.now;
            play.world.github.queue(now, Duration::from_millis(runs_for));
            queued += 1;
        }
        if cancels && play.world.dice.one_in(400) {
            play.cancels_a_job();
        }
        let over = play.world.github.jobs.values().all(|job| job.result.is_some());
        if queued == JOBS && over {
            break;
        }
    }
    let jobs = &play.world.github.jobs;
    assert!(queued == JOBS && jobs.values().all(|job| job.result.is_some()), "jobs are left");
    let world = &play.world;
    let had_one = |name: &String| jobs.values().any(|job| job.runner.as_ref() == Some(name));
    let idle_ones: Vec<String> =
        world.deleted.iter().filter(|name| !had_one(name)).cloned().collect();
    world.trace.iter().for_each(|line| println!("{line}"));
    (world.names.len(), idle_ones)
}

#[track_caller]
fn check(wire: Wire, idle: u32, cancels: bool) {
    let kind = Kind { wire, idle, cancels };
    for seed in 0..SEEDS {
        let played = std::panic::catch_unwind(|| play(seed, kind, false));
        let (made, idle_ones) = played.unwrap_or_else(|_| panic!("{kind:?}, seed {seed}"));
        let most = JOBS + idle as usize;
        let well = made <= most && (cancels || made >= JOBS && idle_ones.is_empty());
        if !well {
            play(seed, kind, true);
        }
        assert!(
            well,
            "{made} runners for {JOBS} jobs, {idle_ones:?} had none: {kind:?}, seed {seed}"
        );
    }
}

#[test]
fn every_runner_that_is_made_gets_a_job() {
    for wire in [Wire::Assigned, Wire::Acquired, Wire::Registered] {
        check(wire, 0, false);
    }
}

#[test]
fn beside_the_jobs_there_are_as_many_as_are_to_wait() {
    for wire in [Wire::Assigned, Wire::Acquired] {
        check(wire, 2, false);
    }
}

#[test]
fn a_job_that_is_cancelled_leaves_at_most_the_runner_that_was_made_for_it() {
    for wire in [Wire::Assigned, Wire::Acquired] {
        check(wire, 0, true);
    }
}
