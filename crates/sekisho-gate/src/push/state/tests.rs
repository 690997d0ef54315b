//! Pushes by several replicas over one journal: any of them may die before any write, be asked
//! twice, or act on what it read long ago.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn digest(number: u32) -> Digest {
    Digest::sha256(&number.to_le_bytes())
}

fn basis(number: u32) -> Basis {
    Basis {
        identity: digest(0),
        policy: digest(number),
        exceptions: None,
        data: String::new(),
        said: None,
        same_owner: true,
        overwrites: false,
        day: String::new(),
    }
}

fn push(image: u32, rules: u32, state: State, now: Timestamp) -> Push {
    Push {
        repository: "acme/app".parse().unwrap(),
        tag: Some("v1".parse().unwrap()),
        digest: digest(image),
        media_type: "m".into(),
        identity: Identity::default(),
        basis: basis(rules),
        manifest: "{}".into(),
        at: now,
        state,
    }
}

#[test]
fn what_may_follow_what() {
    let now = at(0);
    let decision = || "1".to_owned();
    let held = State::Held { decision: decision(), until: at(10) };
    let promoting = State::Promoting { decision: decision() };
    let promoted = State::Promoted { decision: decision() };
    let failed = |attempts| State::PromoteFailed { decision: decision(), attempts };
    let denied = State::Denied { decision: decision() };
    let rejected = Event::Rejected { by: "ann".into(), reason: "no".into() };
    let superseded = State::Superseded { decision: decision(), by: digest(9) };
    for (state, event, want) in [
        (State::Staged, Event::Analysed, Some(State::Analysed)),
        (State::Staged, Event::Allowed(decision()), None),
        (State::Analysed, Event::Denied(decision()), Some(denied.clone())),
        (State::Analysed, Event::Promoted, None),
        (held.clone(), Event::Allowed("2".into()), Some(State::Promoting { decision: "2".into() })),
        (held.clone(), Event::Promoted, None),
        (held.clone(), Event::Held("2".into()), None),
        (held.clone(), Event::Superseded(digest(9)), Some(superseded.clone())),
        (promoting.clone(), Event::Promoted, Some(promoted.clone())),
        (promoting.clone(), Event::PromoteFailed, Some(failed(1))),
        (failed(1), Event::PromoteFailed, Some(failed(2))),
        (failed(2), Event::Promoted, Some(promoted.clone())),
        (promoted.clone(), Event::PromoteFailed, Some(promoted.clone())),
        (promoted.clone(), rejected.clone(), None),
        (denied.clone(), Event::Allowed("2".into()), None),
        (denied.clone(), Event::Staged, Some(State::Staged)),
        (promoting.clone(), rejected, None),
        (superseded, Event::Allowed("2".into()), None),
    ] {
        assert_eq!(step(&state, event.clone(), now).ok(), want, "{state:?} {event:?}");
    }
    assert_eq!(step(&held, Event::Tick, at(9)), Ok(held.clone()));
    let expired = State::Expired { decision: decision() };
    assert_eq!(step(&held, Event::Tick, at(10)), Ok(expired.clone()));
    assert!(step(&expired, Event::Allowed("2".into()), at(11)).is_err());
}

#[test]
fn a_repeat_is_answered_on_the_same_basis_only() {
    let decision = || "1".to_owned();
    let answer = |state: State, rules: u32, now: i64| -> &'static str {
        let known = push(1, 1, state, at(0));
        match on_put(Some(&known), &basis(rules), at(now)) {
            OnPut::Answer(_) => "answer",
            OnPut::Promote(_) => "promote",
            OnPut::Judge => "judge",
        }
    };
    let held = State::Held { decision: decision(), until: at(10) };
    for (state, want) in [
        (State::Staged, "judge"),
        (State::Analysed, "judge"),
        (State::Denied { decision: decision() }, "answer"),
        (held.clone(), "answer"),
        (State::Promoting { decision: decision() }, "promote"),
        (State::PromoteFailed { decision: decision(), attempts: 3 }, "promote"),
        (State::Promoted { decision: decision() }, "promote"),
        (State::Rejected { decision: decision(), by: "a".into(), reason: "r".into() }, "answer"),
        (State::Expired { decision: decision() }, "judge"),
        (State::Superseded { decision: decision(), by: digest(2) }, "judge"),
    ] {
        assert_eq!(answer(state.clone(), 1, 1), want, "{state:?}");
        assert_eq!(answer(state, 2, 1), "judge", "other rules, another question");
    }
    assert_eq!(answer(held, 1, 10), "judge", "its time is over");
    assert_eq!(on_put(None, &basis(1), at(0)), OnPut::Judge);
}

/// One replica at work on one PUT or approval, a write at a time.
#[derive(Clone, Debug)]
struct Task {
    image: u32,
    rules: u32,
    /// What it read when it began; by the time it writes, that may be old.
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    Begin,
    Analyse,
    Decide { approved: bool },
    Allow(String),
    Promote(String),
    Note,
}

/// What the rules of a time say about an image.
fn verdict(image: u32, rules: u32) -> &'static str {
    ["allow", "deny", "held", "allow"][((image + rules) % 4) as usize]
}

#[derive(Default)]
struct World {
    journal: BTreeMap<u32, Push>,
    /// Every decision: about which image, and whether it lets it pass.
    decisions: Vec<(u32, bool)>,
    /// What the tag has named, in order, with the decision of each.
    tag: Vec<(u32, String)>,
    tasks: Vec<Task>,
    acknowledged: Vec<u32>,
    rejected: BTreeSet<u32>,
    expired: u32,
    rules: u32,
    now: i64,
    random: u64,
}

impl World {
    fn roll(&mut self, sides: u32) -> u32 {
        // SplitMix64: a seed gives the same world for ever.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(sides)).unwrap()
    }

    /// A write to the journal, as [`super::super::journal::Journal::happened`] does it.
    fn happened(&mut self, image: u32, rules: u32, event: Event) -> bool {
        let now = at(self.now);
        let state = match self.journal.get(&image) {
            Some(known) => step(&known.state, event, now),
            None if event == Event::Staged => Ok(State::Staged),
            None => step(&State::Analysed, event, now),
        };
        let Ok(state) = state else { return false };
        self.journal.insert(image, push(image, rules, state, now));
        true
    }

    fn decide(&mut self, image: u32, passes: bool) -> String {
        self.decisions.push((image, passes));
        (self.decisions.len() - 1).to_string()
    }

    fn passes(&self, id: &str) -> bool {
        self.decisions[id.parse::<usize>().unwrap()].1
    }

    /// The next write of a task; what is left of it.
    fn advance(&mut self, task: Task) -> Option<Task> {
        let Task { image, rules, step } = task;
        let next = |step| Some(Task { image, rules, step });
        match step {
            Step::Begin => {
                let known = self.journal.get(&image);
                match on_put(known, &basis(rules), at(self.now)) {
                    OnPut::Answer(_) => None,
                    OnPut::Promote(id) => next(Step::Promote(id.to_owned())),
                    OnPut::Judge => {
                        self.happened(image, rules, Event::Staged);
                        next(Step::Analyse)
                    }
                }
            }
            Step::Analyse => {
                self.happened(image, rules, Event::Analysed);
                next(Step::Decide { approved: false })
            }
            Step::Decide { approved } => {
                let answer = match (verdict(image, rules), approved) {
                    ("held", true) => "allow",
                    (answer, _) => answer,
                };
                let id = self.decide(image, answer == "allow");
                match answer {
                    "allow" => next(Step::Allow(id)),
                    "deny" => {
                        self.happened(image, rules, Event::Denied(id));
                        None
                    }
                    _ => {
                        self.happened(image, rules, Event::Held(id));
                        None
                    }
                }
            }
            Step::Allow(id) => {
                let allowed = self.happened(image, rules, Event::Allowed(id.clone()));
                if allowed { next(Step::Promote(id)) } else { None }
            }
            Step::Promote(id) => {
                assert!(self.passes(&id), "no permit");
                if self.roll(8) == 0 {
                    self.happened(image, rules, Event::PromoteFailed);
                    return None;
                }
                if self.tag.last().is_none_or(|(named, _)| *named != image) {
                    self.tag.push((image, id.clone()));
                }
                next(Step::Note)
            }
            Step::Note => {
                self.happened(image, rules, Event::Promoted);
                for other in self.journal.keys().copied().collect::<Vec<_>>() {
                    if other != image {
                        let of = self.journal[&other].clone();
                        let now = at(self.now);
                        if let Ok(state) =
                            super::step(&of.state, Event::Superseded(digest(image)), now)
                        {
                            self.journal.insert(other, Push { state, ..of });
                        }
                    }
                }
                self.acknowledged.push(image);
                None
            }
        }
    }

    /// A gate starts, or tidies up.
    fn tidy(&mut self, begins: bool) {
        for (image, found) in self.journal.clone() {
            match on_find(&found, begins, at(self.now)) {
                OnFind::Leave => {}
                OnFind::Forget => drop(self.journal.remove(&image)),
                OnFind::Expire => {
                    assert!(self.happened(image, self.rules, Event::Tick));
                    self.expired += 1;
                }
                OnFind::Promote => {
                    let id = found.state.decision().unwrap().to_owned();
                    self.tasks.push(Task { image, rules: self.rules, step: Step::Promote(id) });
                }
            }
        }
    }

    fn turn(&mut self) {
        match self.roll(24) {
            0..6 => {
                let (image, rules) = (self.roll(4), self.rules);
                self.tasks.push(Task { image, rules, step: Step::Begin });
            }
            6..18 => {
                if !self.tasks.is_empty() {
                    let which = self.roll(u32::try_from(self.tasks.len()).unwrap());
                    let task = self.tasks.swap_remove(which as usize);
                    let left = self.advance(task);
                    self.tasks.extend(left);
                }
            }
            // Killed, with some of the others, and started again.
            18 => {
                self.tasks.clear();
                self.tidy(true);
            }
            19 => self.tidy(false),
            20 => self.rules = self.roll(3),
            21 => self.now += i64::from(self.roll(400_000)),
            choice => {
                let image = self.roll(4);
                let held = self.journal.get(&image).map(|push| push.state.clone());
                let Some(State::Held { until, .. }) = held else { return };
                if until <= at(self.now) {
                    return;
                }
                if choice == 22 {
                    let rules = self.rules;
                    self.tasks.push(Task { image, rules, step: Step::Decide { approved: true } });
                } else {
                    let event = Event::Rejected { by: "ann".into(), reason: "no".into() };
                    assert!(self.happened(image, self.rules, event));
                    self.rejected.insert(image);
                }
            }
        }
    }

    fn check(&self) {
        for (image, id) in &self.tag {
            let (about, passes) = self.decisions[id.parse::<usize>().unwrap()];
            assert!(passes && about == *image, "the tag names what was not let pass");
        }
        for (image, push) in &self.journal {
            if let State::Promoted { .. } = push.state {
                assert!(self.tag.iter().any(|(named, _)| named == image), "promoted, but nowhere");
            }
        }
        for image in &self.acknowledged {
            assert!(self.tag.iter().any(|(named, _)| named == image), "told, but nowhere");
        }
    }
}

#[test]
fn whatever_happens_no_tag_names_what_was_not_let_pass_and_every_put_is_answered() {
    let (mut promoted, mut rejected, mut expired) = (0, 0, 0);
    for seed in 0..400 {
        let mut world = World { random: seed, ..World::default() };
        for _ in 0..300 {
            world.turn();
            world.check();
        }
        // Nothing dies any more: what may ship arrives, and every PUT comes to its end.
        world.tasks.clear();
        world.tidy(true);
        for image in 0..4 {
            let rules = world.rules;
            world.tasks.push(Task { image, rules, step: Step::Begin });
        }
        for _ in 0..1000 {
            let Some(task) = world.tasks.pop() else { break };
            let left = world.advance(task);
            world.tasks.extend(left);
            world.check();
        }
        assert!(world.tasks.is_empty());
        promoted += world.acknowledged.len();
        rejected += world.rejected.len();
        expired += world.expired;
        let stuck = |push: &Push| matches!(push.state, State::Staged | State::Analysed);
        assert!(!world.journal.values().any(stuck), "seed {seed}: {:?}", world.journal);
    }
    assert!(promoted > 1000 && rejected > 50 && expired > 0, "{promoted} {rejected} {expired}");
}
