use std::collections::BTreeSet;

use sekisho_github::hub_api::{Conclusion, Status};
use sekisho_workflow::expr::{Contexts, Value};
use sekisho_workflow::model;
use sekisho_workflow::plan::{self, ResolveError, Resolved, WorkflowSource};

use jiff::SignedDuration;

use super::*;

const ONE: &str =
    "on: push\njobs:\n  a:\n    runs-on: x\n    timeout-minutes: 5\n    steps: [{run: a}]\n";
const TWO: &str = "\
on: push
jobs:
  a:
    runs-on: x
    steps: [{run: a}]
  b:
    needs: a
    runs-on: [x, Y]
    steps: [{run: b}]
  always:
    needs: [a, b]
    if: always()
    runs-on: x
    steps: [{run: c}]
";

/// A state, and a clock that only the test moves.
pub(super) struct World {
    pub(super) state: State,
    pub(super) now: Timestamp,
}

impl World {
    pub(super) fn new(workflow: &str) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut world = Self { state: State::new(Vec::new(), 0, Repositories::default()), now };
        world.start(workflow);
        world
    }

    pub(super) fn start(&mut self, workflow: &str) -> u64 {
        let (repository, _) = self.state.repositories.register(&"acme/app".parse().unwrap());
        let path = ".github/workflows/a.yml";
        let source = WorkflowSource {
            repository: "acme/app".to_owned(),
            path: path.to_owned(),
            git_ref: "refs/heads/main".to_owned(),
            sha: "0".repeat(40),
        };
        let workflow = model::parse(path, workflow).unwrap();
        let contexts = Contexts::new()
            .with("github", Value::object([("ref", "refs/heads/main".into())]))
            .with("vars", Value::object(Vec::<(String, Value)>::new()));
        let none = |_: &_, _: &_| Err(ResolveError::NotFound("none".to_owned()));
        let wants = workflow.concurrency.clone();
        let plan = plan::expand(&Resolved { workflow, source }, &none, &contexts).unwrap();
        let concurrency = wants.map(|token| Concurrency::read(&token, &contexts).unwrap());
        let (id, number) = self.state.reserve_run(&repository.name, path);
        let new = NewRun {
            id,
            number,
            git_ref: "refs/heads/main".to_owned(),
            sha: "0".repeat(40),
            event: "push".to_owned(),
            head: None,
            workflow_name: "a".to_owned(),
            workflow_path: path.to_owned(),
            plan_id: Uuid::from_u128(1),
            guids: (1..=plan.jobs.len()).map(|n| Uuid::from_u128((n as u128) << 64)).collect(),
            plan,
            contexts,
            concurrency,
            facts: RunFacts {
                repository,
                actor: "a".to_owned(),
                actor_id: 1,
                github: serde_json::Value::Null,
                vars: BTreeMap::new(),
            },
        };
        self.state.create_run(new, self.now)
    }

    pub(super) fn runner(&mut self, name: &str, labels: &[&str]) -> (u64, Uuid) {
        self.register(name, labels, None)
    }

    /// A runner of a scale set.
    pub(super) fn runner_of(&mut self, name: &str, set: Option<u64>) -> (u64, Uuid) {
        self.register(name, &[], set)
    }

    fn register(&mut self, name: &str, labels: &[&str], set: Option<u64>) -> (u64, Uuid) {
        let new = NewRunner {
            name: name.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            custom_labels: BTreeSet::new(),
            group: 1,
            set,
            scope: Owner::from("repos/acme/app"),
            life: Life::Jit,
            client_id: Uuid::nil(),
            public_key: (Vec::new(), Vec::new()),
        };
        let id = self.state.register(new).unwrap();
        let session = Uuid::from_u128(id.into());
        self.state.open_session(id, session, "Linux", self.now).unwrap();
        (id, session)
    }

    pub(super) fn message(&mut self, runner: (u64, Uuid)) -> Option<Message> {
        self.state.next_message(runner.0, runner.1, self.now).unwrap()
    }

    #[track_caller]
    pub(super) fn acquire(&mut self, runner: (u64, Uuid)) -> JobRef {
        let Some(Message::Offer { request, .. }) = self.message(runner) else { panic!("no offer") };
        self.state.acquire(runner.0, request, self.now).unwrap()
    }

    pub(super) fn complete(&mut self, at: JobRef, conclusion: Conclusion) {
        let done = Completion {
            conclusion,
            outputs: BTreeMap::new(),
            steps: Vec::new(),
            annotations: Vec::new(),
        };
        self.state.complete(at, done, self.now).unwrap();
    }

    /// Moves the clock in seconds, ticking once at the end.
    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.state.expire(self.now);
    }

    fn job(&self, index: usize) -> &hub_api::Job {
        &self.state.runs[&1].view.jobs[index]
    }

    #[track_caller]
    fn check_job(&self, index: usize, status: Status, conclusion: Option<Conclusion>, why: &str) {
        let job = self.job(index);
        assert_eq!((job.status, job.conclusion), (status, conclusion));
        let said = job.annotations.last().map_or("", |annotation| &annotation.message);
        assert!(said.contains(why), "{said:?}");
    }
}

#[test]
fn an_offer_that_is_not_taken_goes_to_another_and_at_last_nowhere() {
    let mut world = World::new(ONE);
    let first = world.runner("r1", &["X"]);
    let Some(Message::Offer { request, .. }) = world.message(first) else { panic!() };
    assert!(world.state.acknowledge(first.0, request));
    assert_eq!(world.message(first), None, "told once");
    world.pass(20);
    assert!(matches!(world.message(first), Some(Message::Offer { id: 2, .. })), "told again");
    world.state.close_session(first.0, world.now);
    assert!(!world.state.acknowledge(first.0, request));
    assert_eq!(world.state.acquire(first.0, request, world.now), Err(JobError::NotFound));

    let second = world.runner("r2", &["x"]);
    for _ in 0..2 {
        assert!(matches!(world.message(second), Some(Message::Offer { .. })));
        world.pass(60);
        world.check_job(0, Status::Queued, None, "");
    }
    world.pass(60);
    world.check_job(0, Status::Completed, Some(Conclusion::Failure), "No runner took the job");
    assert_eq!(world.state.runs[&1].view.conclusion, Some(Conclusion::Failure));
}

#[test]
fn a_runner_without_the_labels_is_not_offered_the_job() {
    let mut world = World::new(ONE);
    let other = world.runner("r1", &["y"]);
    assert_eq!(world.message(other), None);
    world.pass(24 * 3600 + 1);
    world.check_job(0, Status::Completed, Some(Conclusion::Cancelled), "within 24 hours");
}

#[test]
fn a_runner_that_does_not_renew_loses_its_job() {
    let mut world = World::new(ONE);
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.pass(200);
    let until = world.state.renew(at, world.now).unwrap();
    assert_eq!(until, world.now + SignedDuration::from_mins(10));
    // The limit of the job comes first; the runner does not answer.
    world.pass(99);
    world.check_job(0, Status::InProgress, None, "");
    world.pass(1);
    world.check_job(
        0,
        Status::InProgress,
        None,
        "exceeded the maximum execution time of 5 minutes",
    );
    world.pass(359);
    world.check_job(0, Status::InProgress, None, "exceeded");
    world.pass(1);
    world.check_job(0, Status::Completed, Some(Conclusion::Cancelled), "did not stop");
    assert!(world.state.runners.is_empty());
    assert_eq!(world.state.renew(at, world.now), Err(JobError::NotFound));
}

#[test]
fn an_end_is_the_first_that_was_told_and_is_told_again_until_it_is_on_disk() {
    let mut world = World::new(ONE);
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.complete(at, Conclusion::Success);
    // The answer said that it could not be written down.
    world.complete(at, Conclusion::Failure);
    world.check_job(0, Status::Completed, Some(Conclusion::Success), "");
    world.state.settle(at);
    let done = || Completion {
        conclusion: Conclusion::Success,
        outputs: BTreeMap::new(),
        steps: Vec::new(),
        annotations: Vec::new(),
    };
    assert_eq!(world.state.complete(at, done(), world.now), Err(JobError::NotFound));

    // What was lost before it was told is lost.
    let mut world = World::new(ONE);
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.pass(24 * 3600);
    world.check_job(0, Status::Completed, Some(Conclusion::Failure), "");
    assert_eq!(world.state.complete(at, done(), world.now), Err(JobError::NotFound));
}

#[test]
fn a_silent_runner_is_lost_after_ten_minutes() {
    let mut world = World::new(TWO);
    let runner = world.runner("r1", &["x"]);
    world.acquire(runner);
    world.pass(599);
    world.check_job(0, Status::InProgress, None, "");
    world.pass(1);
    world.check_job(0, Status::Completed, Some(Conclusion::Failure), "lost communication");
    world.check_job(1, Status::Completed, Some(Conclusion::Skipped), "");
    world.check_job(2, Status::Queued, None, "");
}

#[test]
fn a_job_over_its_time_is_cancelled_whatever_its_runner_says() {
    let mut world = World::new(ONE);
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.pass(300);
    let within = SignedDuration::from_mins(5);
    let job = Uuid::from_u128(1 << 64);
    assert_eq!(world.message(runner), Some(Message::Cancellation { id: 2, job, within }));
    world.complete(at, Conclusion::Success);
    world.check_job(0, Status::Completed, Some(Conclusion::Cancelled), "5 minutes");
}

#[test]
fn needs_are_followed_to_the_end() {
    let mut world = World::new(TWO);
    world.check_job(1, Status::Pending, None, "");
    let first = world.runner("r1", &["x"]);
    let second = world.runner("r2", &["x", "y"]);
    let at = world.acquire(first);
    assert_eq!(world.message(second), None);
    world.complete(at, Conclusion::Success);
    assert_eq!(world.job(1).labels, ["x", "y"]);
    let at = world.acquire(second);
    world.complete(at, Conclusion::Failure);
    let third = world.runner("r3", &["x"]);
    let at = world.acquire(third);
    assert_eq!(at.job, 100_002);
    world.complete(at, Conclusion::Success);
    let run = &world.state.runs[&1].view;
    assert_eq!((run.status, run.conclusion), (Status::Completed, Some(Conclusion::Failure)));
    assert!(world.state.runners.is_empty());
}

#[test]
fn a_cancelled_run_keeps_what_always_runs() {
    let mut world = World::new(TWO);
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.state.cancel_run(1, world.now).unwrap();
    assert!(matches!(world.message(runner), Some(Message::Cancellation { .. })));
    world.complete(at, Conclusion::Cancelled);
    world.check_job(2, Status::Queued, None, "");
    world.state.force_cancel_run(1, world.now).unwrap();
    let runner = world.runner("r2", &["x"]);
    let at = world.acquire(runner);
    world.complete(at, Conclusion::Success);
    assert_eq!(world.state.runs[&1].view.conclusion, Some(Conclusion::Cancelled));
    assert_eq!(world.state.cancel_run(1, world.now), Err(CancelError::Completed));
}

#[test]
fn completed_runs_leave_the_memory() {
    let mut world = World::new(ONE);
    for _ in 0..MAX_COMPLETED_IN_MEMORY + 1 {
        let id = world.start(ONE);
        world.state.cancel_run(id, world.now).unwrap();
    }
    assert_eq!(world.state.trim(), [2]);
    assert!(world.state.runs.contains_key(&1), "not over");
    assert!(world.state.queue().jobs.iter().all(|job| job.run_id == 1));
}

#[test]
fn every_change_of_the_queue_is_counted() {
    let mut world = World::new(ONE);
    let mut last = world.state.seq();
    let mut moved = |world: &World, what: &str| {
        assert!(world.state.seq() > last, "{what}");
        last = world.state.seq();
    };
    let runner = world.runner("r1", &["x"]);
    moved(&world, "registered, listens, is offered a job");
    let at = world.acquire(runner);
    moved(&world, "has it");
    assert!(world.state.queue().jobs.is_empty());
    world.complete(at, Conclusion::Success);
    moved(&world, "gone");
}
