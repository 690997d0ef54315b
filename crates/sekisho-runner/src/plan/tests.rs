//! A small seeded world that does what `decide` says, with cancellations at any moment.

use proptest::prelude::*;

use super::*;

/// What a step's `if:` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Success,
    Failure,
    Cancelled,
    Always,
    NotCancelled,
    Wrong,
}

impl Condition {
    fn holds(self, status: Status) -> Option<bool> {
        match self {
            Self::Success => Some(status == Status::Success),
            Self::Failure => Some(status == Status::Failure),
            Self::Cancelled => Some(status == Status::Cancelled),
            Self::Always => Some(true),
            Self::NotCancelled => Some(status != Status::Cancelled),
            Self::Wrong => None,
        }
    }
}

#[derive(Clone, Debug)]
struct Script {
    condition: Condition,
    /// Fails if it is not stopped.
    fails: bool,
    continue_on_error: bool,
    /// Registers a post step when it starts.
    has_post: bool,
    /// How many turns it runs.
    turns: u8,
}

struct World {
    seen: Observed,
    main: Vec<Script>,
    post: Vec<Script>,
    turns_left: u8,
    started: Vec<Place>,
    /// Status at which each step was started.
    under: Vec<Status>,
}

impl World {
    fn new(main: Vec<Script>, setup_failed: bool) -> Self {
        let slots = vec![Slot::Pending; main.len()];
        let seen = Observed { setup_failed, main: slots, ..Observed::default() };
        Self { seen, main, post: Vec::new(), turns_left: 0, started: Vec::new(), under: Vec::new() }
    }

    fn script(&self, place: Place) -> &Script {
        match place {
            Place::Main(i) => &self.main[i],
            Place::Post(i) => &self.post[i],
        }
    }

    fn slot(&mut self, place: Place) -> &mut Slot {
        match place {
            Place::Main(i) => &mut self.seen.main[i],
            Place::Post(i) => &mut self.seen.post[i],
        }
    }

    fn act(&mut self, action: Action) {
        let status = self.seen.status();
        match action {
            Action::Judge(place) => {
                let condition = self.script(place).condition;
                let verdict = match condition.holds(status) {
                    Some(true) => Verdict::Run {
                        also_if_cancelled: condition.holds(Status::Cancelled) == Some(true),
                    },
                    Some(false) => Verdict::Skip,
                    None => Verdict::Error,
                };
                *self.slot(place) = Slot::Judged { verdict, under: status };
            }
            Action::Start(place) => {
                let Slot::Judged { verdict: Verdict::Run { also_if_cancelled }, .. } =
                    *self.slot(place)
                else {
                    panic!("{place:?} was started without a verdict");
                };
                assert!(!self.started.contains(&place), "{place:?} was started twice");
                self.started.push(place);
                self.under.push(status);
                *self.slot(place) = Slot::Running { also_if_cancelled };
                self.turns_left = self.script(place).turns;
                if self.script(place).has_post {
                    let mut post = self.script(place).clone();
                    (post.condition, post.has_post) = (Condition::Always, false);
                    self.post.push(post);
                    self.seen.post.push(Slot::Pending);
                }
            }
            Action::Skip(place) => *self.slot(place) = Slot::Done(StepConclusion::Skipped),
            Action::Fail(place) => *self.slot(place) = Slot::Done(StepConclusion::Failure),
            Action::Wait(place) => {
                let Slot::Running { also_if_cancelled } = *self.slot(place) else {
                    panic!("{place:?} is waited for and does not run");
                };
                let (cancelled, out_of_time) = (self.seen.cancelled, self.seen.out_of_time);
                let stopped = must_stop(cancelled, out_of_time, also_if_cancelled);
                if self.turns_left > 0 && !stopped {
                    self.turns_left -= 1;
                    return;
                }
                let script = self.script(place);
                let conclusion = match (stopped, script.fails, script.continue_on_error) {
                    (true, ..) => StepConclusion::Cancelled,
                    (_, true, false) => StepConclusion::Failure,
                    _ => StepConclusion::Success,
                };
                *self.slot(place) = Slot::Done(conclusion);
            }
            Action::Finish(_) => {}
        }
    }
}

fn scripts() -> impl Strategy<Value = Vec<Script>> {
    let condition = prop_oneof![
        4 => Just(Condition::Success),
        1 => Just(Condition::Failure),
        1 => Just(Condition::Cancelled),
        1 => Just(Condition::Always),
        1 => Just(Condition::NotCancelled),
        1 => Just(Condition::Wrong),
    ];
    let script = (condition, any::<bool>(), any::<bool>(), any::<bool>(), 0..4_u8).prop_map(
        |(condition, fails, continue_on_error, has_post, turns)| Script {
            condition,
            fails,
            continue_on_error,
            has_post,
            turns,
        },
    );
    proptest::collection::vec(script, 0..8)
}

/// Whether `order` is main steps upwards, then post steps downwards.
fn is_in_order(order: &[Place]) -> bool {
    order.windows(2).all(|pair| match (pair[0], pair[1]) {
        (Place::Main(a), Place::Main(b)) => a < b,
        (Place::Main(_), Place::Post(_)) => true,
        (Place::Post(a), Place::Post(b)) => a > b,
        (Place::Post(_), Place::Main(_)) => false,
    })
}

proptest! {
    #[test]
    fn a_job_runs_to_its_end(
        main in scripts(),
        setup_failed in proptest::bool::weighted(0.1),
        cancel_at in proptest::option::of(0..60_usize),
        out_of_time_at in proptest::option::weighted(0.2, 0..80_usize),
    ) {
        let steps = main.len();
        let mut world = World::new(main, setup_failed);
        let mut finished = None;
        // Judge twice, start, four turns, stop, end: for each main step and each post step.
        for turn in 0..=200 {
            world.seen.cancelled |= cancel_at.is_some_and(|at| turn >= at);
            world.seen.out_of_time |= out_of_time_at.is_some_and(|at| turn >= at);
            let action = decide(&world.seen);
            let running = |slot: &&Slot| matches!(slot, Slot::Running { .. });
            if let Action::Start(_) = action {
                let all = world.seen.main.iter().chain(&world.seen.post);
                prop_assert_eq!(all.filter(running).count(), 0, "two steps at once");
                prop_assert!(!world.seen.out_of_time);
            }
            if let Action::Finish(status) = action {
                finished = Some(status);
                break;
            }
            world.act(action);
        }
        let status = finished.expect("the job ends");
        prop_assert!(is_in_order(&world.started), "{:?}", world.started);
        for (place, under) in world.started.iter().zip(&world.under) {
            prop_assert_eq!(world.script(*place).condition.holds(*under), Some(true));
        }
        let started = |place| world.started.contains(&place);
        for index in 0..steps {
            let always = world.main[index].condition == Condition::Always;
            if always && !setup_failed && out_of_time_at.is_none() {
                prop_assert!(started(Place::Main(index)), "an always() step did not run");
            }
            prop_assert!(!(setup_failed && started(Place::Main(index))));
        }
        for index in 0..world.post.len() {
            prop_assert!(started(Place::Post(index)) || out_of_time_at.is_some());
        }
        let failed = world.seen.main.iter().chain(&world.seen.post)
            .any(|slot| *slot == Slot::Done(StepConclusion::Failure));
        let want = if world.seen.cancelled || world.seen.out_of_time {
            Status::Cancelled
        } else if failed || setup_failed {
            Status::Failure
        } else {
            Status::Success
        };
        prop_assert_eq!(status, want);
    }
}

#[test]
fn a_verdict_from_before_the_cancellation_is_not_acted_on() {
    let verdict = Verdict::Run { also_if_cancelled: false };
    let seen = Observed {
        cancelled: true,
        main: vec![Slot::Judged { verdict, under: Status::Success }],
        ..Observed::default()
    };
    assert_eq!(decide(&seen), Action::Judge(Place::Main(0)));
}

#[test]
fn a_running_always_step_is_left_alone_until_there_is_no_time() {
    let seen = Observed {
        cancelled: true,
        main: vec![Slot::Running { also_if_cancelled: true }],
        ..Observed::default()
    };
    assert_eq!(decide(&seen), Action::Wait(Place::Main(0)));
    assert!(!must_stop(true, false, true));
    assert!(must_stop(true, true, true) && must_stop(true, false, false));
}
