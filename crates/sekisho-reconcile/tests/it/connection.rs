//! A connection that two replicas look at: keys are changed, lost and revoked, GitHub is away or asks for
//! patience, replicas crash, read what is old and have wrong clocks, and what they write is refused.
//!
//! `SEKISHO_SEEDS` and `SEKISHO_SEED` as in `simulation`.

use std::time::Duration;

use sekisho_api::Reason;
use sekisho_api::condition::Truth;
use sekisho_reconcile::backoff::Jitter;
use sekisho_reconcile::connection::{CHECK_PERIOD, Observed, Plan, decide, found};
use sekisho_reconcile::failure::{CAP, CHANGE_PAUSE, Trouble};
use sekisho_reconcile::{At, Failure};

use crate::dice::Dice;
use crate::simulation::number;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;
const STEPS: u32 = 600;
/// How often a replica reads the secret, whatever was decided: see `sekisho-operator`.
const SECRET_EVERY: Duration = secs(10);
/// How long until all of it was seen again, whatever was missed.
const RELIST: Duration = secs(30);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Missing,
    Wrong,
    Good,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Well,
    Away,
    /// Until then nobody is heard.
    Busy(At),
    /// The key is good, and is not taken any more.
    Revoked,
}

/// What is written on the object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    version: u64,
    ready: Option<(Truth, Reason)>,
}

/// What a replica remembers.
#[derive(Clone, Default)]
struct Replica {
    content: Option<Key>,
    checked: Option<At>,
    trouble: Option<Trouble>,
    signed_in: bool,
    claimed: Option<Reason>,
    contrary: Option<(Reason, At)>,
    due: At,
    cache: Said,
    skew: i64,
}

struct World {
    dice: Dice,
    now: At,
    hostile: bool,
    key: Key,
    service: Service,
    leaving: bool,
    said: Said,
    replicas: [Replica; 2],
    asks: u64,
    writes: u64,
    /// After which it may be asked at once: a change, a crash, a recovery.
    resets: u64,
    begun: At,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = At::from_secs(1_000_000);
        Self {
            dice: Dice::new(seed),
            now,
            hostile: true,
            key: Key::Good,
            service: Service::Well,
            leaving: false,
            said: Said::default(),
            replicas: [Replica::default(), Replica::default()],
            asks: 0,
            writes: 0,
            resets: 2,
            begun: now,
            trace: Vec::new(),
        }
    }

    fn goes_wrong(&mut self, one_in: u64) -> bool {
        self.hostile && self.dice.one_in(one_in)
    }

    /// GitHub is asked whether it takes the key.
    fn ask(&mut self) -> Option<Failure> {
        self.asks += 1;
        if self.goes_wrong(10) {
            return Some(Failure::Unreachable { detail: "the answer was lost".to_owned() });
        }
        match (self.service, self.key) {
            (Service::Busy(until), _) if self.now < until => {
                Some(Failure::RateLimited { until: Some(until) })
            }
            (Service::Away, _) => Some(Failure::Unreachable { detail: String::new() }),
            (Service::Revoked, _) | (_, Key::Wrong) => {
                Some(Failure::CredentialsRefused { detail: String::new() })
            }
            _ => None,
        }
    }

    /// As `sekisho-operator` looks at a connection.
    fn look(&mut self, index: usize) {
        let jitter = Jitter::of(self.dice.roll(1_001));
        let key = self.key;
        let missing =
            || Failure::SecretNotFound { secret: "github".to_owned(), key: "key".to_owned() };
        let known = self.replicas[index].clone();
        let now = At::from_millis(self.now.as_millis().saturating_add_signed(known.skew));
        let said = known.cache.ready.map(|it| it.1);
        let contrary = |claimed: Option<Reason>| {
            let other = said.filter(|said| claimed.is_some_and(|it| it != *said))?;
            Some(known.contrary.filter(|it| it.0 == other).unwrap_or((other, now)))
        };
        let mut seen = Observed {
            now,
            changed: known.content != Some(key),
            checked: known.checked,
            trouble: known.trouble.clone(),
            contrary: contrary(known.claimed).map(|it| it.1),
            leaving: known.signed_in && self.leaving,
            jitter,
            account: Some("acme".to_owned()),
        };
        let mut plan = decide(&seen);
        if plan.check {
            let failure = match key {
                Key::Missing => Some(missing()),
                _ => self.ask(),
            };
            if self.goes_wrong(20) {
                // Killed before it remembered anything.
                self.crash(index);
                return;
            }
            seen.trouble = found(&seen, failure);
            (seen.checked, seen.changed) = (Some(now), false);
            let replica = &mut self.replicas[index];
            replica.signed_in = match seen.trouble.as_ref().map(|it| &it.failure) {
                None => true,
                // What an outage says of a key is nothing.
                Some(Failure::Unreachable { .. } | Failure::RateLimited { .. }) => {
                    replica.signed_in && replica.content == Some(key)
                }
                Some(_) => false,
            };
            (replica.content, replica.checked) = (Some(key), seen.checked);
            replica.trouble.clone_from(&seen.trouble);
            plan = decide(&seen);
        }
        let claimed = plan.claim.as_ref().map(|it| it.reason).or(known.claimed);
        (self.replicas[index].claimed, self.replicas[index].contrary) =
            (claimed, contrary(claimed));
        self.write(index, &plan);
        let wait = plan.requeue_after.unwrap_or(SECRET_EVERY).min(SECRET_EVERY);
        self.replicas[index].due = self.now + wait;
    }

    fn write(&mut self, index: usize, plan: &Plan) {
        let Some(claim) = &plan.claim else { return };
        let ready = Some((claim.truth, claim.reason));
        if self.replicas[index].cache.ready == ready {
            return;
        }
        self.writes += 1;
        let stale = self.replicas[index].cache.version != self.said.version;
        if stale || self.goes_wrong(10) {
            self.replicas[index].cache = self.said.clone();
            return;
        }
        self.said = Said { version: self.said.version + 1, ready };
        // What is said otherwise from now on is news.
        self.replicas[index].contrary = None;
        self.trace.push(format!("{} {index} says {ready:?}", self.now.as_millis()));
        if !self.goes_wrong(2) {
            // The other hears of it, and looks.
            let other = &mut self.replicas[1 - index];
            (other.cache, other.due) = (self.said.clone(), self.now);
        }
        if !self.goes_wrong(3) {
            self.replicas[index].cache = self.said.clone();
        }
    }

    fn crash(&mut self, index: usize) {
        self.resets += 1;
        let skew = self.replicas[index].skew;
        let due = self.now;
        self.replicas[index] =
            Replica { skew, due, cache: self.said.clone(), ..Default::default() };
    }

    fn passes(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + secs(1);
            if !self.hostile || self.dice.one_in(RELIST.as_secs()) {
                for replica in &mut self.replicas {
                    replica.cache = self.said.clone();
                }
            }
            for index in 0..2 {
                if self.now >= self.replicas[index].due {
                    self.look(index);
                }
            }
        }
    }

    fn changes(&mut self, key: Key, service: Service) {
        self.resets += 2;
        (self.key, self.service) = (key, service);
        self.trace.push(format!("{} {key:?} {service:?}", self.now.as_millis()));
    }

    fn hostile_step(&mut self) {
        let longest = if self.dice.one_in(8) { 400 } else { 15 };
        let span = secs(1 + self.dice.roll(longest));
        match self.dice.roll(20) {
            0..13 => self.passes(span),
            13 => {
                let key = [Key::Missing, Key::Wrong, Key::Good][self.dice.pick(3)];
                self.changes(key, self.service);
            }
            14 | 15 => {
                let until = self.now + secs(self.dice.roll(4_000));
                let all = [Service::Well, Service::Away, Service::Busy(until), Service::Revoked];
                let service = all[self.dice.pick(4)];
                self.changes(self.key, service);
            }
            16 => {
                let index = self.dice.pick(2);
                self.crash(index);
            }
            17 => {
                // A clock that is put back makes what was due wait, and one put forward makes it due.
                let index = self.dice.pick(2);
                self.resets += 1;
                self.replicas[index].skew =
                    i64::try_from(self.dice.roll(240_000)).unwrap() - 120_000;
            }
            _ => {
                // Somebody else has it looked at.
                let index = self.dice.pick(2);
                self.look(index);
            }
        }
    }

    /// Waits until it says so, and so much longer that it would say something else.
    #[track_caller]
    fn comes_to(&mut self, reason: Reason, within: Duration) {
        let begin = self.now;
        while self.said.ready.map(|it| it.1) != Some(reason) {
            self.passes(secs(1));
            let last = self.trace.iter().rev().take(20).rev().cloned().collect::<Vec<_>>();
            assert!(
                self.now.since(begin) <= within,
                "{reason}: not within {within:?}, but {:?}; {last:#?}",
                self.said
            );
        }
        let writes = self.writes;
        self.passes(secs(600));
        assert_eq!(self.said.ready.map(|it| it.1), Some(reason));
        // The second replica may have waited longer for its own look, and says the same.
        assert!(self.writes <= writes + 2, "{} writes of nothing new", self.writes - writes);
    }

    /// Nobody is asked all the time: after each reset at most the doubling of a pause up to a minute, for
    /// each replica; and then once in half a minute.
    fn was_no_hot_loop(&self) {
        let seconds = self.now.since(self.begun).as_secs();
        let most = 2 * (8 * self.resets + seconds / (CAP.as_secs() / 2));
        assert!(
            self.asks <= most,
            "{} questions, {} resets in {seconds} s",
            self.asks,
            self.resets
        );
    }
}

fn play(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.hostile_step();
    }
    world.was_no_hot_loop();
    world.hostile = false;
    for replica in &mut world.replicas {
        replica.skew = 0;
    }
    // What was asked by a clock that was ahead seems to be the newest until then.
    world.passes(secs(240));
    // Of its rate limit GitHub said when it ends; all else is found out by itself.
    let longest = CHECK_PERIOD.max(CHANGE_PAUSE) + SECRET_EVERY * 2 + secs(4_000 + 120);
    world.changes(Key::Good, Service::Well);
    world.comes_to(Reason::Connected, longest);
    world.changes(Key::Good, Service::Revoked);
    world.comes_to(Reason::CredentialsRefused, CHECK_PERIOD + SECRET_EVERY);
    world.changes(Key::Good, Service::Well);
    world.comes_to(Reason::Connected, CHANGE_PAUSE + SECRET_EVERY);
    for (key, reason) in [
        (Key::Missing, Reason::SecretNotFound),
        (Key::Wrong, Reason::CredentialsRefused),
        (Key::Good, Reason::Connected),
    ] {
        world.changes(key, Service::Well);
        world.comes_to(reason, SECRET_EVERY * 2);
    }
    world.changes(Key::Good, Service::Away);
    world.comes_to(Reason::GitHubUnreachable, CHECK_PERIOD + SECRET_EVERY);
    world.changes(Key::Good, Service::Well);
    world.comes_to(Reason::Connected, CAP + SECRET_EVERY);
    // Its namespace goes, and takes the secret first: who was signed in stays so, and asks no more.
    world.leaving = true;
    world.changes(Key::Missing, Service::Revoked);
    let asked = world.asks;
    world.passes(secs(1_200));
    assert_eq!(world.asks, asked);
    assert!(world.replicas.iter().all(|it| it.signed_in));
    assert_eq!(world.said.ready.map(|it| it.1), Some(Reason::Connected));
    world.was_no_hot_loop();
    world
}

#[test]
fn whatever_becomes_of_its_key_a_connection_says_how_it_is() {
    if let Some(seed) = number("SEKISHO_SEED") {
        let world = play(seed);
        world.trace.iter().for_each(|line| println!("{line}"));
        return;
    }
    let (mut asks, mut writes, mut resets) = (0, 0, 0);
    for seed in 0..number("SEKISHO_SEEDS").unwrap_or(SEEDS).min(SEEDS * 10) {
        let world = std::panic::catch_unwind(|| play(seed))
            .unwrap_or_else(|_| panic!("seed {seed}: SEKISHO_SEED={seed} shows what happened"));
        asks += world.asks;
        writes += world.writes;
        resets += world.resets;
    }
    println!("{resets} changes and crashes, {asks} questions, {writes} writes");
    assert!(resets > 1_000 && asks > 1_000 && writes > 1_000);
}

#[test]
fn one_seed_of_a_connection_gives_the_same_trace_twice() {
    for seed in [3, 4, 5] {
        let (first, again) = (play(seed).trace, play(seed).trace);
        assert!(first.len() > 20);
        assert_eq!(first, again, "seed {seed}");
    }
}
