//! Three replicas and one lease: calls take their time, fail, or are answered and not heard; replicas stop,
//! crash and come back, and no two clocks agree. While they run at one rate nobody holds what another holds,
//! and somebody holds it within 15 s of the end of who did.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use sekisho_reconcile::At;

use super::{DURATION, RENEW_EVERY, Step, Watched, decide, released};

const SEEDS: u64 = 200;
/// Tenths of a second that are played.
const TICKS: u64 = 6_000;
const TICK: Duration = Duration::from_millis(100);
/// What is promised.
const TAKE_OVER: Duration = Duration::from_secs(15);
const REPLICAS: [&str; 3] = ["a", "b", "c"];

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

#[derive(Default)]
struct Replica {
    watched: Watched,
    /// By how much its clock is ahead.
    skew: Duration,
    /// When it looks next.
    due: u64,
    /// What it writes, when, and when its look began by its own clock.
    writes: Option<(Lease, u64, At)>,
    down: bool,
}

struct World {
    dice: Dice,
    tick: u64,
    version: u64,
    lease: Option<Lease>,
    replicas: [Replica; 3],
    /// What was on its way when who wrote it was killed.
    orphans: Vec<(Lease, u64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let replicas = std::array::from_fn(|_| Replica {
            skew: Duration::from_secs(dice.roll(100_000)),
            ..Replica::default()
        });
        Self { dice, tick: 0, version: 0, lease: None, replicas, orphans: Vec::new() }
    }

    fn now(&self, index: usize) -> At {
        let time = At::from_secs(1_000_000) + TICK * u32::try_from(self.tick).unwrap();
        time + self.replicas[index].skew
    }

    fn holders(&self) -> Vec<&'static str> {
        let holds = |index: &usize| {
            let replica = &self.replicas[*index];
            !replica.down && replica.watched.holds(self.now(*index))
        };
        (0..REPLICAS.len()).filter(holds).map(|index| REPLICAS[index]).collect()
    }

    fn version(&self) -> Option<String> {
        self.lease.as_ref()?.metadata.resource_version.clone()
    }

    fn keep(&mut self, mut lease: Lease) {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease);
    }

    /// One that looks: it reads now, and what it writes comes later.
    fn looks(&mut self, index: usize, hostile: bool) {
        let (now, found) = (self.now(index), self.lease.clone());
        let replica = &mut self.replicas[index];
        let name = ("sekisho-gpu", REPLICAS[index]);
        let lease = match decide(&mut replica.watched, name, found.as_ref(), now) {
            Step::Wait => None,
            Step::Create(lease) | Step::Replace(lease) => Some(*lease),
        };
        let slow = hostile && self.dice.roll(20) == 0;
        let takes = self.dice.roll(if slow { 40 } else { 3 });
        let replica = &mut self.replicas[index];
        replica.writes = lease.map(|lease| (lease, self.tick + takes, now));
        replica.due = self.tick + takes + 20;
    }

    /// What it wrote arrives, if nobody was faster; and its answer, mostly.
    fn writes(&mut self, index: usize, hostile: bool) {
        let Some((lease, _, begun)) = self.replicas[index].writes.take() else { return };
        let refused = hostile && self.dice.roll(10) == 0;
        if refused || lease.metadata.resource_version != self.version() {
            return;
        }
        self.keep(lease);
        let heard = !hostile || self.dice.roll(10) > 0;
        if heard {
            self.replicas[index].watched.held_until = Some(begun + DURATION);
        }
    }

    fn something_happens(&mut self) {
        let index = usize::try_from(self.dice.roll(3)).unwrap();
        match self.dice.roll(300) {
            0 => self.is_killed(index),
            // It stops as it should, and gives the lease back.
            1 if self.holders().contains(&REPLICAS[index]) => {
                if let Some(lease) = self.lease.clone() {
                    self.keep(released(lease));
                }
                let replica = &mut self.replicas[index];
                (replica.down, replica.writes) = (true, None);
                replica.watched = Watched::default();
            }
            2..8 => {
                let replica = &mut self.replicas[index];
                (replica.down, replica.due) = (false, self.tick);
            }
            _ => {}
        }
    }

    /// What it wrote last may arrive yet.
    fn is_killed(&mut self, index: usize) {
        let replica = &mut self.replicas[index];
        let orphan = replica.writes.take().map(|(lease, at, _)| (lease, at));
        (replica.down, replica.watched) = (true, Watched::default());
        self.orphans.extend(orphan);
    }

    fn turns(&mut self, hostile: bool) {
        self.tick += 1;
        if hostile {
            self.something_happens();
        }
        let tick = self.tick;
        for (lease, _) in self.orphans.extract_if(.., |(_, at)| *at <= tick).collect::<Vec<_>>() {
            if lease.metadata.resource_version == self.version() {
                self.keep(lease);
            }
        }
        for index in 0..REPLICAS.len() {
            let replica = &self.replicas[index];
            if replica.writes.as_ref().is_some_and(|(_, at, _)| *at <= self.tick) {
                self.writes(index, hostile);
            } else if !replica.down && replica.writes.is_none() && replica.due <= self.tick {
                self.looks(index, hostile);
            }
        }
    }
}

fn play(seed: u64) -> (usize, u64) {
    let mut world = World::new(seed);
    let mut changes = 0;
    let mut before: Vec<&str> = vec![];
    for _ in 0..TICKS {
        world.turns(true);
        let holders = world.holders();
        assert!(holders.len() <= 1, "seed {seed}, {}: {holders:?}", world.tick);
        changes += usize::from(!holders.is_empty() && holders != before);
        before = holders;
    }
    // What is on its way arrives, and all is well; then who holds it is killed.
    (0..60).for_each(|_| world.turns(false));
    for _ in 0..2 {
        world.replicas.iter_mut().for_each(|it| it.down = false);
        let begun = world.tick;
        while world.holders().is_empty() {
            world.turns(false);
            let waited = TICK * u32::try_from(world.tick - begun).unwrap();
            assert!(waited <= TAKE_OVER, "seed {seed}: nobody within {waited:?}");
        }
        let holder = world.holders()[0];
        let index = REPLICAS.iter().position(|it| *it == holder).unwrap();
        world.is_killed(index);
        let begun = world.tick;
        while world.holders().is_empty() {
            world.turns(false);
            let waited = TICK * u32::try_from(world.tick - begun).unwrap();
            assert!(waited <= TAKE_OVER, "seed {seed}: not taken over within {waited:?}");
        }
        assert_ne!(world.holders(), [holder], "seed {seed}");
    }
    (changes, world.version)
}

#[test]
fn nobody_holds_what_another_holds_and_somebody_holds_it_soon() {
    let (mut changes, mut writes) = (0, 0);
    for seed in 0..SEEDS {
        let (more, versions) = play(seed);
        changes += more;
        writes += versions;
    }
    // A world in which nothing happens would prove nothing.
    assert!(changes > 1_000 && writes > 10_000, "{changes} changes, {writes} writes");
    assert!(DURATION + 2 * RENEW_EVERY < TAKE_OVER);
}
