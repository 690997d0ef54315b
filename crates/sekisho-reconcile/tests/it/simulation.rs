//! Two replicas of the operator act on one world: between any two of their effects anything can
//! happen. They crash, read old caches, miss watches, have wrong clocks and both believe that they hold
//! the lease; answers get lost; pods and nodes die; users change and delete. Then it heals, and
//! everything must be well: see `invariants`.
//!
//! `SEKISHO_SEEDS=100000` plays more of it; `SEKISHO_SEED=17` plays one, and shows it.

use std::time::Duration;

use sekisho_reconcile::deployment::Size;

use crate::github::Wire;
use crate::invariants;
use crate::operator::{Key, Operator};
use crate::world::World;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 100;
/// Steps in which things go wrong.
const HOSTILE_STEPS: u32 = 1_500;
/// The rounds in which all must be well again, each of [`ROUND`].
const ROUNDS: u32 = 900;
const ROUND: Duration = Duration::from_secs(10);

pub(crate) struct Play {
    pub(crate) world: World,
    pub(crate) operators: [Operator; 2],
    pub(crate) holder: usize,
}

impl Play {
    pub(crate) fn new(seed: u64) -> Self {
        let wire = [Wire::Assigned, Wire::Acquired, Wire::Registered][(seed % 3) as usize];
        Self {
            world: World::new(seed, wire),
            operators: [Operator::new(0), Operator::new(1)],
            holder: 0,
        }
    }

    pub(crate) fn passes(&mut self, span: Duration) {
        let world = &mut self.world;
        world.now = world.now + span;
        world.beat();
        let keep = world.goes_wrong(3);
        world.github.time_passes(world.now, keep);
        world.collect_garbage();
    }

    pub(crate) fn pod_moves(&mut self) {
        let names: Vec<String> = self.world.objects.pods.keys().cloned().collect();
        if let Some(name) = names.get(self.world.dice.pick(names.len())) {
            self.world.pod_moves(name);
        }
    }

    fn hostile_step(&mut self) {
        match self.world.dice.roll(100) {
            0..18 => {
                let millis = match self.world.dice.roll(40) {
                    0 => 600_000,
                    1..4 => 30_000,
                    _ => 50 + self.world.dice.roll(3_000),
                };
                self.passes(Duration::from_millis(millis));
            }
            18..45 => self.pod_moves(),
            45..88 => self.operator_turn(),
            88..94 => {
                let runs_for = Duration::from_secs(1 + self.world.dice.roll(200));
                let now = self.world.now;
                self.world.github.queue(now, runs_for);
            }
            94..97 => self.world.disaster(),
            97 => self.crashes(),
            98 => self.clock_jumps(),
            _ => self.user_acts(),
        }
    }

    fn operator_turn(&mut self) {
        let index = self.world.dice.pick(2);
        let believes = index == self.holder || self.world.dice.one_in(5);
        let (operator, world) = (&mut self.operators[index], &mut self.world);
        operator.refresh(world);
        if !operator.flights.is_empty() && world.dice.roll(3) > 0 {
            let flight = world.dice.pick(operator.flights.len());
            operator.step(flight, world);
        } else if believes {
            let keys = operator.keys();
            if keys.is_empty() {
                return;
            }
            let key = keys[world.dice.pick(keys.len())].clone();
            operator.plan(&key, world);
        }
    }

    fn crashes(&mut self) {
        let index = self.world.dice.pick(2);
        self.world.say(|| format!("operator {index} crashes"));
        self.operators[index] = Operator::new(index);
        self.world.kills += 1;
        if self.world.dice.one_in(2) {
            self.holder = 1 - index;
        }
    }

    fn clock_jumps(&mut self) {
        let index = self.world.dice.pick(2);
        let span = if self.world.dice.one_in(10) { 7_200_000 } else { 240_000 };
        let skew = i64::try_from(self.world.dice.roll(2 * span)).unwrap() - span as i64;
        self.world.say(|| format!("the clock of operator {index} is off by {skew} ms"));
        self.operators[index].skew = skew;
    }

    fn user_acts(&mut self) {
        let now = self.world.now;
        match self.world.dice.roll(10) {
            0 => {
                let revision = ["aaaaaaaa", "bbbbbbbb", "cccccccc"][self.world.dice.pick(3)];
                self.world.change(|known| revision.clone_into(&mut known.revision));
            }
            1 => {
                let (min, idle) = (self.world.dice.roll(3) as u32, self.world.dice.roll(3) as u32);
                let scale_down_delay = Duration::from_secs(60);
                let size = Size::Scaled { min, max: 6, idle, scale_down_delay };
                self.world.change(|known| known.size = size);
            }
            2 => self.world.bad_image = !self.world.bad_image,
            3 => self.world.quota = if self.world.quota == 2 { 100 } else { 2 },
            4 | 5 => self.deletes_a_runner(now),
            6 => {
                let names: Vec<String> = self.world.objects.sets.keys().cloned().collect();
                if let Some(name) = names.get(self.world.dice.pick(names.len())) {
                    self.world.say(|| format!("a user deletes set {name}"));
                    self.world.objects.sets.remove(name);
                }
            }
            _ => self.cancels_a_job(),
        }
    }

    fn deletes_a_runner(&mut self, now: sekisho_reconcile::At) {
        let names: Vec<String> = self.world.objects.runners.keys().cloned().collect();
        let Some(name) = names.get(self.world.dice.pick(names.len())) else { return };
        let stop_now = self.world.dice.one_in(3);
        let version = self.world.version();
        self.world.say(|| format!("a user deletes runner {name}, stop now: {stop_now}"));
        self.world.deleted.insert(name.clone());
        let runner = self.world.objects.runners.get_mut(name).unwrap();
        (runner.stop_now, runner.version) = (runner.stop_now || stop_now, version);
        if runner.finalizer {
            runner.deleting.get_or_insert(now);
        } else {
            self.world.objects.runners.remove(name);
        }
    }

    pub(crate) fn cancels_a_job(&mut self) {
        let waiting = self.world.github.jobs.iter();
        let waiting = waiting.filter(|(_, job)| job.runner.is_none() && job.result.is_none());
        if let Some(id) = waiting.map(|(id, _)| *id).next() {
            self.world.github.conclude(id, sekisho_api::JobResult::Cancelled, false, false);
        }
    }

    /// Everything that was broken is put right.
    pub(crate) fn heals(&mut self) {
        self.world.say(|| "all is well".to_owned());
        self.world.hostile = false;
        (self.world.bad_image, self.world.quota) = (false, 100);
        let nodes: Vec<String> = self.world.objects.nodes.keys().cloned().collect();
        nodes.iter().for_each(|node| self.world.comes_back(node));
        self.operators = [Operator::new(0), Operator::new(1)];
        self.holder = 0;
        let size =
            Size::Scaled { min: 0, max: 6, idle: 1, scale_down_delay: Duration::from_secs(60) };
        self.world.change(|known| known.size = size);
    }

    /// Some time in which nothing goes wrong, and every event arrives.
    pub(crate) fn round(&mut self, span: Duration) {
        self.passes(span);
        for _ in 0..2 {
            let names: Vec<String> = self.world.objects.pods.keys().cloned().collect();
            names.iter().for_each(|name| self.world.pod_moves(name));
            let (operator, world) = (&mut self.operators[self.holder], &mut self.world);
            operator.refresh(world);
            for key in operator.keys() {
                operator.refresh(world);
                while operator.plan(&key, world) {
                    while !operator.flights.is_empty() {
                        operator.step(0, world);
                    }
                    // The queue is emptied; everything else is looked at once a round.
                    if key != Key::Message {
                        break;
                    }
                    operator.refresh(world);
                }
            }
        }
    }

    /// Rounds until something holds.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..ROUNDS {
            if holds(self) {
                return;
            }
            self.round(ROUND);
        }
        panic!("{what}: not within {ROUNDS} rounds of {ROUND:?}");
    }
}

/// Plays one seed to its end.
fn play(seed: u64, traced: bool) -> World {
    /// What happened is shown when it goes wrong, too.
    struct Shown(Play);
    impl Drop for Shown {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.world.trace.iter().for_each(|line| println!("{line}"));
            }
        }
    }
    let mut shown = Shown(Play::new(seed));
    let play = &mut shown.0;
    play.world.traced = traced;
    for _ in 0..HOSTILE_STEPS {
        play.hostile_step();
    }
    play.heals();
    invariants::check(play);
    std::mem::replace(&mut play.world, World::new(0, Wire::Assigned))
}

/// Plays one seed, and says which one it was when something is wrong.
fn attempt(seed: u64) -> World {
    std::panic::catch_unwind(|| play(seed, false))
        .unwrap_or_else(|_| panic!("seed {seed}: SEKISHO_SEED={seed} shows what happened"))
}

#[expect(clippy::disallowed_methods, reason = "how much is played is given from outside")]
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

#[test]
fn whatever_goes_wrong_no_job_is_lost_silently_and_nothing_is_left() {
    if let Some(seed) = number("SEKISHO_SEED") {
        play(seed, true);
        return;
    }
    let (mut kills, mut losses, mut jobs, mut runners, mut writes) = (0, 0, 0, 0, 0);
    for seed in 0..number("SEKISHO_SEEDS").unwrap_or(SEEDS) {
        let world = attempt(seed);
        kills += world.kills;
        losses += world.github.jobs.values().filter(|job| job.lost).count();
        jobs += world.github.jobs.len();
        runners += world.names.len();
        writes = writes.max(world.writes.values().copied().max().unwrap_or(0));
    }
    println!(
        "{kills} kills, {jobs} jobs, {losses} of them lost and told, {runners} runners, at most {writes} writes each"
    );
    // A world in which nothing happens would prove nothing.
    assert!(kills > 500 && losses > 10 && jobs > 500 && runners > 500);
}

#[test]
fn one_seed_gives_the_same_trace_twice() {
    for seed in [3, 4, 5] {
        let (first, again) = (play(seed, true).trace, play(seed, true).trace);
        assert!(first.len() > 1_000);
        assert_eq!(first, again, "seed {seed}");
    }
}
