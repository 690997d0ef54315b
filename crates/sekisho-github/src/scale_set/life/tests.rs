//! Tables of single decisions, and a world in which a listener meets everything at once.

use std::collections::{BTreeSet, VecDeque};

use super::*;

/// A small generator that is the same everywhere: xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

fn polling(cursor: i64) -> Life {
    let (life, _) = decide(&Life::new(false), &Seen::Created, 0.0);
    decide(&life, &Seen::Message { id: cursor }, 0.0).0
}

#[test]
fn what_is_done_next() {
    let life = polling(7);
    let poll = |cursor| Step::Poll { cursor, wait: Duration::ZERO };
    assert_eq!(life.resume(), poll(7));
    for (seen, want) in [
        (Seen::Message { id: 9 }, Step::Deliver),
        (Seen::Message { id: 3 }, Step::Deliver),
        (Seen::Nothing, Step::Idle),
        (Seen::Unauthorized, Step::Renew { wait: Duration::ZERO }),
        (Seen::Expired, Step::Create { wait: Duration::ZERO }),
        (Seen::SetGone, Step::End(Ended::SetGone)),
        (Seen::Refused { status: 403 }, Step::End(Ended::Refused { status: 403 })),
        (Seen::Trouble, Step::Poll { cursor: 7, wait: Duration::from_millis(500) }),
        (
            Seen::Throttled { wait: Some(Duration::from_secs(90)) },
            Step::Poll { cursor: 7, wait: Duration::from_secs(90) },
        ),
        (
            Seen::Throttled { wait: Some(Duration::MAX) },
            Step::Poll { cursor: 7, wait: Duration::from_secs(3600) },
        ),
    ] {
        assert_eq!(decide(&life, &seen, 1.0).1, want, "{seen:?}");
    }
    // A message that comes late does not turn the cursor back; a new session does.
    assert_eq!(decide(&life, &Seen::Message { id: 3 }, 0.0).0.cursor(), 7);
    let (created, step) = decide(&life, &Seen::Created, 0.0);
    assert_eq!((created.cursor(), step), (0, poll(0)));
    let mut life = life;
    life.replay();
    assert_eq!(life.resume(), poll(0));
}

#[test]
fn a_session_in_the_way_is_ours_or_is_waited_for_and_at_last_given_up() {
    let (life, step) = decide(&Life::new(true), &Seen::Conflict, 0.0);
    assert_eq!(step, Step::RemovePrevious { wait: Duration::ZERO });
    let (mut life, step) = decide(&life, &Seen::PreviousRemoved, 0.0);
    assert_eq!(step, Step::Create { wait: Duration::ZERO });
    let mut waited = Duration::ZERO;
    for _ in 1..MAX_CONFLICTS {
        let step;
        (life, step) = decide(&life, &Seen::Conflict, 0.0);
        let Step::Create { wait } = step else { panic!("{step:?}") };
        waited += wait;
    }
    assert!(waited > Duration::from_secs(200), "longer than a silent session lives: {waited:?}");
    let ended = Step::End(Ended::Conflict { tries: MAX_CONFLICTS });
    assert_eq!(decide(&life, &Seen::Conflict, 0.0).1, ended);
}

#[test]
fn tokens_that_are_refused_again_and_again_are_an_end() {
    let mut life = polling(1);
    for _ in 0..MAX_RENEWALS {
        let step;
        (life, step) = decide(&life, &Seen::Unauthorized, 0.0);
        assert_eq!(step, Step::Renew { wait: Duration::ZERO });
        (life, _) = decide(&life, &Seen::Renewed, 0.0);
    }
    let ended = Step::End(Ended::Unauthorized { tries: MAX_RENEWALS });
    assert_eq!(decide(&life, &Seen::Unauthorized, 0.0).1, ended);
    // A poll that is answered starts the count anew.
    let (life, _) = decide(&life, &Seen::Nothing, 0.0);
    assert_eq!(decide(&life, &Seen::Unauthorized, 0.0).1, Step::Renew { wait: Duration::ZERO });
}

#[test]
fn trouble_is_waited_out_at_the_same_place_with_longer_and_longer_pauses() {
    let (mut life, _) = decide(&polling(5), &Seen::Unauthorized, 1.0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let step;
        (life, step) = decide(&life, &Seen::Trouble, 1.0);
        let Step::Renew { wait } = step else { panic!("{step:?}") };
        waits.push(wait.as_millis());
    }
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    assert_eq!(life.failures(), 9);
    assert_eq!(decide(&life, &Seen::Renewed, 0.0).0.failures(), 0);
}

/// A service with one set, a listener, and all that goes wrong between them.
struct World {
    dice: Dice,
    now: Duration,
    /// The set's log: what was not deleted.
    log: VecDeque<i64>,
    written: i64,
    /// Whose session it is, and when it was heard of last. Ours have even numbers.
    session: Option<(u64, Duration)>,
    sessions: u64,
    token_good: bool,
    /// What can go wrong does.
    hostile: bool,
    ours: Option<u64>,
    recorded: BTreeSet<i64>,
    trace: Vec<String>,
}

/// How long a session may be silent.
const SILENCE: Duration = Duration::from_secs(120);

impl World {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed.wrapping_mul(2).wrapping_add(1)),
            now: Duration::ZERO,
            log: VecDeque::new(),
            written: 0,
            session: None,
            sessions: 0,
            token_good: true,
            hostile: true,
            ours: None,
            recorded: BTreeSet::new(),
            trace: Vec::new(),
        }
    }

    fn goes_wrong(&mut self, one_in: u64) -> bool {
        self.hostile && self.dice.roll(one_in) == 0
    }

    /// The world moves on, whatever the listener does.
    fn happen(&mut self) {
        if self.hostile && self.dice.roll(3) == 0 {
            self.written += 1;
            self.log.push_back(self.written);
        }
        if self.goes_wrong(15) {
            self.token_good = false;
        }
        let silent = self.session.is_some_and(|(_, seen)| self.now - seen > SILENCE);
        if silent || self.goes_wrong(40) {
            self.session = None;
        }
        if self.session.is_none() && self.goes_wrong(8) {
            self.sessions += 1;
            self.session = Some((self.sessions * 2 + 1, self.now));
        }
    }

    fn act(&mut self, step: &Step) -> Seen {
        self.happen();
        let known = self.ours.is_some() && self.session.map(|(id, _)| id) == self.ours;
        match step {
            Step::Create { wait } => {
                self.now += *wait + Duration::from_millis(10);
                if self.goes_wrong(6) {
                    return Seen::Trouble;
                }
                match self.session {
                    Some((_, seen)) if self.now - seen <= SILENCE => Seen::Conflict,
                    _ => {
                        self.sessions += 1;
                        self.session = Some((self.sessions * 2, self.now));
                        // The answer may be lost: our own session is then in our way.
                        if self.goes_wrong(10) {
                            return Seen::Trouble;
                        }
                        self.ours = Some(self.sessions * 2);
                        self.token_good = true;
                        Seen::Created
                    }
                }
            }
            Step::RemovePrevious { wait } => {
                self.now += *wait;
                if self.session.is_some_and(|(id, _)| id % 2 == 0) {
                    self.session = None;
                }
                Seen::PreviousRemoved
            }
            Step::Renew { wait } => {
                self.now += *wait;
                if !known {
                    return Seen::Expired;
                }
                if self.goes_wrong(4) {
                    return Seen::Trouble;
                }
                self.token_good = true;
                Seen::Renewed
            }
            Step::Poll { cursor, wait } => {
                self.now += *wait;
                self.poll(*cursor, known)
            }
            other => panic!("not a step of the service: {other:?}"),
        }
    }

    fn poll(&mut self, cursor: i64, known: bool) -> Seen {
        if self.goes_wrong(8) {
            return Seen::Trouble;
        }
        if self.goes_wrong(30) {
            return Seen::Throttled { wait: Some(Duration::from_secs(5)) };
        }
        if !self.token_good {
            return Seen::Unauthorized;
        }
        if !known {
            return Seen::Expired;
        }
        if let Some((_, seen)) = &mut self.session {
            *seen = self.now;
        }
        // Out of order, or sent before, at times.
        let any = self.log.iter().copied().nth(self.log.len() / 2);
        let next = self.log.iter().copied().find(|id| *id > cursor);
        let message = if self.goes_wrong(10) { any } else { next };
        match message {
            Some(id) => Seen::Message { id },
            None => {
                self.now += Duration::from_secs(50);
                Seen::Nothing
            }
        }
    }

    /// What the caller does with a message. False: it crashed.
    fn handle(&mut self, id: i64) -> bool {
        if self.goes_wrong(10) {
            return false;
        }
        self.recorded.insert(id);
        if self.goes_wrong(10) {
            return false;
        }
        let known = self.ours.is_some() && self.session.map(|(id, _)| id) == self.ours;
        if known && self.token_good {
            self.log.retain(|logged| *logged != id);
        }
        true
    }

    /// Runs a listener until it ends, or `steps` are over.
    fn listen(&mut self, mut life: Life, steps: usize) -> Option<Ended> {
        let (mut seen, mut last_id) = (None, 0);
        for _ in 0..steps {
            let jitter = f64::from(u32::try_from(self.dice.roll(100)).unwrap()) / 100.0;
            let (next, step) = match &seen {
                Some(seen) => decide(&life, seen, jitter),
                None => (life.clone(), life.resume()),
            };
            life = next;
            self.trace.push(format!("{seen:?} -> {step:?}"));
            seen = match step {
                Step::End(ended) => return Some(ended),
                Step::Deliver => {
                    if !self.handle(last_id) {
                        self.ours = None;
                        life = Life::new(self.dice.roll(2) == 0);
                        self.trace.push("crash".to_owned());
                    }
                    None
                }
                Step::Idle => {
                    // What could not be deleted is asked for again.
                    life.replay();
                    None
                }
                step => Some(self.act(&step)),
            };
            if let Some(Seen::Message { id }) = seen {
                last_id = id;
            }
        }
        None
    }
}

/// A hostile time, in which a listener that ended is started again; then a quiet one.
fn simulate(seed: u64) -> (World, Option<Ended>) {
    let mut world = World::new(seed);
    for _ in 0..4 {
        let ended = world.listen(Life::new(false), 150);
        world.trace.push(format!("{ended:?}"));
        world.ours = None;
    }
    let left: BTreeSet<i64> = world.log.iter().copied().collect();
    for deleted in (1..=world.written).filter(|id| !left.contains(id)) {
        assert!(world.recorded.contains(&deleted), "deleted, yet never recorded: {deleted}");
    }
    world.hostile = false;
    world.now += SILENCE * 2;
    let ended = world.listen(Life::new(false), 1_200);
    (world, ended)
}

#[test]
fn whatever_happens_every_message_is_recorded_and_then_deleted() {
    let mut messages = 0;
    for seed in 0..100 {
        let (world, ended) = simulate(seed);
        assert_eq!(ended, None, "seed {seed}");
        assert!(world.log.is_empty(), "seed {seed}: left in the log: {:?}", world.log);
        assert_eq!(world.recorded.len() as i64, world.written, "seed {seed}");
        messages += world.written;
    }
    assert!(messages > 5_000, "the world is too quiet: {messages}");
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [1, 7, 42] {
        assert_eq!(simulate(seed).0.trace, simulate(seed).0.trace);
    }
    assert_ne!(simulate(1).0.trace, simulate(2).0.trace);
}
