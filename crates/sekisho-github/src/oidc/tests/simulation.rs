//! Many tokens, keys that change, an issuer that fails, clocks that jump: what must always hold.

use std::collections::BTreeSet;

use super::*;

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The issuer, and the verifier's memory of it.
#[derive(Default)]
struct World {
    now: i64,
    published: BTreeSet<u64>,
    newest: u64,
    up: bool,
    cached: BTreeSet<u64>,
    fetched_at: Option<i64>,
    asked_at: Option<i64>,
    asked: Vec<i64>,
}

impl World {
    fn observed(&self, kid: u64) -> KeyObserved {
        KeyObserved {
            now: at(self.now),
            known: self.cached.contains(&kid),
            fetched_at: self.fetched_at.map(at),
            asked_at: self.asked_at.map(at),
        }
    }

    /// What the verifier does about one token.
    fn show(&mut self, kid: u64) -> KeyDecision {
        let decision = decide(&self.observed(kid));
        if decision != KeyDecision::Fetch {
            return decision;
        }
        self.asked.push(self.now);
        self.asked_at = Some(self.now);
        if self.up {
            self.cached = self.published.clone();
            self.fetched_at = Some(self.now);
        }
        let decision = decide(&self.observed(kid));
        assert_ne!(decision, KeyDecision::Fetch, "one question answers one token");
        decision
    }
}

fn run(seed: u64) -> String {
    let mut rng = Rng(seed);
    let mut world =
        World { now: NOW, published: BTreeSet::from([0]), up: true, ..World::default() };
    let mut trace = String::new();
    let mut down_since = None;
    for _ in 0..400 {
        match rng.below(20) {
            0 => {
                world.newest += 1;
                world.published.insert(world.newest);
                if world.published.len() > 2 {
                    world.published.pop_first();
                }
            }
            1 => {
                world.up = !world.up;
                down_since = (!world.up).then_some(world.now);
            }
            2 => world.now += rng.below(100_000).cast_signed(),
            _ => world.now += rng.below(40).cast_signed(),
        }
        // A key of the issuer, or one that somebody made up.
        let (kid, real) = match rng.below(3) {
            0 => (1_000 + rng.below(1_000), false),
            _ => (world.newest, true),
        };
        let decision = world.show(kid);
        trace.push_str(&format!("{} {kid} {decision:?}\n", world.now));
        let age = world.fetched_at.map(|fetched| world.now - fetched);
        match decision {
            KeyDecision::Use => {
                assert!(real && age.is_some_and(|age| age <= 86_400), "an old or foreign key");
            }
            KeyDecision::Refuse => {
                // A good token is refused only while its key is younger than the last question.
                assert!(!real || world.now - world.asked_at.unwrap() < 10, "refused: {trace}");
            }
            KeyDecision::Unavailable => {
                assert!(down_since.is_some() || world.now - world.asked_at.unwrap() < 10);
            }
            KeyDecision::Fetch => unreachable!(),
        }
    }
    let gaps = world.asked.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.min().is_none_or(|gap| gap >= 10), "the issuer was asked too often");
    // Once nothing fails any more, a good token passes.
    world.up = true;
    world.now += 10;
    assert_eq!(world.show(world.newest), KeyDecision::Use, "seed {seed}\n{trace}");
    trace
}

#[test]
fn keys_are_young_questions_are_rare_good_tokens_pass() {
    for seed in 0..300 {
        run(seed);
    }
    assert_eq!(run(7), run(7));
}
