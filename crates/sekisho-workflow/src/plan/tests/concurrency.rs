//! Concurrency groups: tables, what a file says, and a seeded world of claims.

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::plan::ClaimState::{Ending, Holding, Waiting};
use crate::plan::GroupAction::{Begin, Drop, Stop};
use crate::plan::{Claim, ClaimState, Concurrency, GroupAction, GroupQueue, MAX_WAITING};

fn claim(state: ClaimState, cancel_in_progress: bool, queue: GroupQueue) -> Claim {
    Claim { state, cancel_in_progress, queue }
}

#[test]
fn one_has_the_group_and_the_newest_waits() {
    let single = |state| claim(state, false, GroupQueue::Single);
    let cancels = |state| claim(state, true, GroupQueue::Single);
    let max = |state| claim(state, false, GroupQueue::Max);
    let check = |claims: &[Claim], want: &[GroupAction]| {
        assert_eq!(decide_group(claims), want, "{claims:?}");
    };
    check(&[], &[]);
    check(&[single(Waiting)], &[Begin(0)]);
    check(&[single(Holding)], &[]);
    check(&[single(Holding), single(Waiting)], &[]);
    check(&[single(Ending), single(Waiting)], &[]);
    // A newer one takes the place of who waits.
    check(&[single(Holding), single(Waiting), single(Waiting)], &[Drop(1)]);
    check(&[single(Waiting), single(Waiting)], &[Begin(0)]);
    check(&[single(Waiting), single(Waiting), single(Waiting)], &[Begin(0), Drop(1)]);
    check(&[single(Waiting), cancels(Waiting)], &[Begin(0)]);
    // Who has it is stopped, once, and by who is left alone.
    check(&[single(Holding), cancels(Waiting)], &[Stop(0)]);
    check(&[single(Ending), cancels(Waiting)], &[]);
    check(&[cancels(Holding), single(Waiting)], &[]);
    check(&[single(Holding), cancels(Waiting), single(Waiting)], &[Drop(1)]);
    check(&[single(Holding), single(Waiting), cancels(Waiting)], &[Drop(1), Stop(0)]);
    // In a queue everybody waits, in the order in which they came.
    check(&[max(Holding), max(Waiting), max(Waiting)], &[]);
    check(&[max(Waiting), max(Waiting)], &[Begin(0)]);
    check(&[max(Holding), max(Waiting), single(Waiting), max(Waiting)], &[Drop(1)]);
    // Who comes to a full queue is not let in.
    let mut full = vec![max(Holding)];
    full.resize(MAX_WAITING + 2, max(Waiting));
    check(&full, &[Drop(MAX_WAITING + 1)]);
}

fn read(concurrency: &str) -> Result<Concurrency, String> {
    let text = format!(
        "on: push\nconcurrency: {concurrency}\njobs:\n  a: {{ runs-on: x, steps: [{{ run: x }}] }}\n"
    );
    let workflow = model::parse("main.yml", &text).expect("a workflow");
    Concurrency::read(&workflow.concurrency.expect("a group"), &contexts())
}

#[test]
fn what_a_file_says() {
    let check = |text: &str, group: &str, cancel_in_progress, queue| {
        let want = Concurrency { group: group.to_owned(), cancel_in_progress, queue };
        assert_eq!(read(text), Ok(want), "{text}");
    };
    check("deploy", "deploy", false, GroupQueue::Single);
    check("'ci-${{ github.ref_name }}'", "ci-main", false, GroupQueue::Single);
    check("{ group: 7, cancel-in-progress: true }", "7", true, GroupQueue::Single);
    check("{ group: A, queue: max }", "A", false, GroupQueue::Max);
    let waits = "{ group: g, cancel-in-progress: \"${{ github.ref_name != 'main' }}\" }";
    check(waits, "g", false, GroupQueue::Single);
    let refuses = |text: &str, words: &str| {
        let error = read(text).expect_err(text);
        assert!(error.contains(words), "{error}");
    };
    refuses("${{ github.none }}", "has 1 to 400 bytes");
    refuses(&"g".repeat(401), "has 1 to 400 bytes");
    refuses("${{ github }}", "expected a string");
    refuses("{ group: g, cancel-in-progress: '${{ github.ref_name }}' }", "expected a boolean");
    assert_eq!(read("Deploy").map(|one| one.key()), read("dEPLOY").map(|one| one.key()));
}

#[test]
fn a_job_in_the_group_of_its_workflow_is_refused() {
    let file = |workflow: &str, job: &str| {
        format!(
            "on: push\nconcurrency: {workflow}\njobs:\n  a:\n    concurrency: {job}\n    runs-on: x\n    steps: [{{ run: x }}]\n"
        )
    };
    refuses(
        &one_file(&file("{ group: Deploy }", "deploy")),
        &[
            ".github/workflows/main.yml:5:18: job `a` and its workflow are in the same concurrency group `Deploy`: the job would wait for its own run",
        ],
    );
    plan_of(&one_file(&file("deploy", "'deploy-${{ github.ref_name }}'")));
    plan_of(&one_file(&file("deploy", "other")));
}

#[test]
fn a_ready_job_and_a_call_say_their_groups() {
    let main = "\
on: push
jobs:
  a: { runs-on: x, steps: [{ run: x }], outputs: { to: 'x' } }
  b:
    needs: a
    concurrency: { group: 'b-${{ needs.a.outputs.to }}', cancel-in-progress: true }
    runs-on: x
    steps: [{ run: x }]
  call:
    needs: a
    concurrency: own
    uses: ./.github/workflows/called.yml
    with: { to: '${{ needs.a.outputs.to }}' }
";
    let called = "\
on: { workflow_call: { inputs: { to: { type: string } } } }
concurrency: 'called-${{ inputs.to }}'
jobs:
  c: { runs-on: x, steps: [{ run: x }] }
";
    let files = Files(vec![
        (".github/workflows/main.yml", main.to_owned()),
        (".github/workflows/called.yml", called.to_owned()),
    ]);
    let mut hub = Hub::new(plan_of(&files));
    hub.settle();
    let outputs = BTreeMap::from([("to".to_owned(), "prod".to_owned())]);
    let ended = JobState::Completed { conclusion: Conclusion::Success, tolerated: false, outputs };
    hub.states.insert("a".to_owned(), ended);
    let mut groups = BTreeMap::new();
    for action in decide(&hub.observed()) {
        match action {
            JobAction::Queue(ready) => {
                groups.insert(ready.key, ready.concurrency.into_iter().collect::<Vec<_>>());
            }
            JobAction::Start { key, concurrency, .. } => drop(groups.insert(key, concurrency)),
            other => panic!("{other:?}"),
        }
    }
    let names = |key: &str| groups[key].iter().map(|one| one.group.as_str()).collect::<Vec<_>>();
    assert_eq!(names("b"), ["b-prod"]);
    assert_eq!(names("call"), ["own", "called-prod"]);
}

#[test]
fn a_call_that_is_stopped_stops_what_is_in_it() {
    let main = "\
on: push
jobs:
  call: { uses: ./.github/workflows/called.yml }
  other: { runs-on: x, steps: [{ run: x }] }
";
    let called = "\
on: workflow_call
jobs:
  a: { runs-on: x, steps: [{ run: x }] }
  next: { needs: a, runs-on: x, steps: [{ run: x }] }
  clean: { needs: a, if: always(), runs-on: x, steps: [{ run: x }] }
";
    let files = Files(vec![
        (".github/workflows/main.yml", main.to_owned()),
        (".github/workflows/called.yml", called.to_owned()),
    ]);
    let mut hub = Hub::new(plan_of(&files));
    hub.settle();
    hub.states.insert("call".to_owned(), JobState::Cancelling);
    hub.settle();
    hub.check(&[
        ("call", "cancelling"),
        ("call/a", "cancelled"),
        ("call/next", "skipped"),
        ("call/clean", "queued"),
        ("other", "queued"),
    ]);
    hub.end("call/clean", Conclusion::Success, &[]);
    hub.check(&[("call", "cancelled"), ("other", "queued")]);
    hub.end("other", Conclusion::Success, &[]);
    assert_eq!(hub.ended, Some(Conclusion::Cancelled));
}

#[derive(Clone, Debug)]
enum Event {
    Comes {
        cancels: bool,
        max: bool,
    },
    Ends(prop::sample::Index),
    /// The hub decides, and crashes after so many of the actions.
    Decide(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (any::<bool>(), any::<bool>()).prop_map(|(cancels, max)| Event::Comes { cancels, max }),
        3 => any::<prop::sample::Index>().prop_map(Event::Ends),
        6 => (0..4_usize).prop_map(Event::Decide),
    ]
}

/// One group, and what happened to everybody who ever wanted it.
#[derive(Debug, Default)]
struct World {
    claims: Vec<(usize, Claim)>,
    came: usize,
    begun: Vec<usize>,
    dropped: Vec<usize>,
}

impl World {
    fn decide(&mut self, most: usize) -> Result<usize, TestCaseError> {
        let claims: Vec<Claim> = self.claims.iter().map(|(_, claim)| *claim).collect();
        let actions = decide_group(&claims);
        prop_assert_eq!(&actions, &decide_group(&claims));
        let ids: Vec<usize> = self.claims.iter().map(|(id, _)| *id).collect();
        for action in actions.iter().take(most) {
            match *action {
                GroupAction::Begin(at) => {
                    let none = self.claims.iter().all(|(_, claim)| claim.state == Waiting);
                    prop_assert!(none, "two have the group");
                    self.set(ids[at], Holding);
                    self.begun.push(ids[at]);
                }
                GroupAction::Stop(at) => self.set(ids[at], Ending),
                GroupAction::Drop(at) => {
                    self.claims.retain(|(id, _)| *id != ids[at]);
                    self.dropped.push(ids[at]);
                }
            }
        }
        Ok(actions.len())
    }

    fn set(&mut self, id: usize, state: ClaimState) {
        for (_, claim) in self.claims.iter_mut().filter(|(known, _)| *known == id) {
            claim.state = state;
        }
    }

    fn step(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Comes { cancels, max } => {
                let queue = if *max { GroupQueue::Max } else { GroupQueue::Single };
                self.claims.push((self.came, claim(Waiting, *cancels, queue)));
                self.came += 1;
            }
            Event::Ends(index) => {
                let busy = |(_, claim): &&(usize, Claim)| claim.state != Waiting;
                let busy: Vec<usize> = self.claims.iter().filter(busy).map(|(id, _)| *id).collect();
                if !busy.is_empty() {
                    let id = *index.get(&busy);
                    self.claims.retain(|(known, _)| *known != id);
                }
            }
            Event::Decide(most) => drop(self.decide(*most)?),
        }
        Ok(())
    }

    /// Nothing fails any more: whoever has the group ends, and the hub decides.
    fn drain(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..2 * self.came + 2 {
            while self.decide(usize::MAX)? > 0 {}
            let waiting = self.claims.iter().filter(|(_, claim)| claim.state == Waiting);
            let single = waiting.filter(|(_, claim)| claim.queue == GroupQueue::Single).count();
            prop_assert!(single <= 1, "{single} wait alone");
            self.claims.retain(|(_, claim)| claim.state == Waiting);
        }
        prop_assert!(self.claims.is_empty(), "{:?} never begin", self.claims);
        let mut all = [&self.begun[..], &self.dropped].concat();
        all.sort_unstable();
        prop_assert_eq!(all, (0..self.came).collect::<Vec<_>>(), "each begins or is dropped, once");
        // The newest has nobody who takes its place.
        prop_assert!(self.came == 0 || self.begun.contains(&(self.came - 1)));
        prop_assert!(self.begun.is_sorted(), "{:?}: nobody overtakes", self.begun);
        Ok(())
    }
}

/// What happened in worlds of one seed.
fn trace(seed: [u8; 32]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let config = ProptestConfig { failure_persistence: None, cases: 400, ..Default::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let seen = std::cell::RefCell::new(Vec::new());
    let worlds = proptest::collection::vec(event(), 0..60);
    runner
        .run(&worlds, |events| {
            let mut world = World::default();
            for event in &events {
                world.step(event)?;
            }
            world.drain()?;
            seen.borrow_mut().push((world.begun, world.dropped));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    seen.into_inner()
}

#[test]
fn one_at_a_time_has_the_group_and_nobody_is_forgotten() {
    let (one, other) = (trace([1; 32]), trace([2; 32]));
    assert_eq!(one.len(), 400);
    assert_eq!(one, trace([1; 32]), "one seed, two traces");
    assert_ne!(one, other);
}
