//! Jobs of sets by table.

mod simulation;

use jiff::SignedDuration;
use sekisho_github::hub_api::Conclusion;
use sekisho_github::rest::RunnerGroupChange;
use sekisho_github::wire::scale_set::{JobResult, QueueMessage};
use uuid::Uuid;

use super::*;
use crate::state::tests::World;
use crate::state::{JobError, Message};

const OWNER: &str = "orgs/acme";

/// Three jobs, of which one waits for another; and one that no set wants.
const JOBS: &str = "\
on: push
jobs:
  a: { runs-on: gpu, steps: [{run: a}] }
  b: { runs-on: [gpu, Large], steps: [{run: a}] }
  c: { runs-on: gpu, needs: a, steps: [{run: a}] }
  d: { runs-on: other, steps: [{run: a}] }
";

fn definition(name: &str, labels: &[&str]) -> Definition {
    Definition {
        name: name.to_owned(),
        scope: OWNER.into(),
        group: 1,
        labels: labels.iter().map(|label| Label::new(*label)).collect(),
        disable_update: true,
        created_on: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

/// A listener that is told things one after the other.
struct Ear {
    set: u64,
    session: Uuid,
    after: i64,
}

impl Ear {
    fn new(world: &mut World, set: u64) -> Self {
        let session = Uuid::new_v4();
        let opened = world.state.open_set_session(&OWNER.into(), set, session, "me", world.now);
        opened.unwrap();
        Self { set, session, after: 0 }
    }

    fn poll(&mut self, world: &mut World, capacity: u64) -> Option<QueueMessage> {
        let at = (self.after, Order::Proper);
        let polled = world.state.poll_set(self.set, self.session, at, Some(capacity), world.now);
        let message = polled.unwrap()?;
        self.after = self.after.max(message.message_id);
        Some(message)
    }

    /// What a poll tells, in short.
    fn hear(&mut self, world: &mut World, capacity: u64) -> Vec<String> {
        let Some(message) = self.poll(world, capacity) else { return Vec::new() };
        let short = |job: &sekisho_github::wire::scale_set::JobMessage| {
            let result = job.result.as_ref().map(JobResult::as_str).unwrap_or_default();
            format!("{} {} {result}", job.kind.as_str(), job.job_display_name)
        };
        message.jobs().unwrap().messages.iter().map(short).collect()
    }
}

fn numbers(world: &World, set: u64) -> [i64; 4] {
    let all = world.state.set_statistics(set);
    [
        all.total_available_jobs,
        all.total_assigned_jobs,
        all.total_running_jobs,
        all.total_registered_runners,
    ]
}

#[test]
fn jobs_are_assigned_up_to_the_capacity_that_the_newest_poll_says() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    assert_eq!(world.state.queue().jobs.len(), 1, "the scheduler sees the others only");
    let mut ear = Ear::new(&mut world, set);
    assert_eq!(ear.hear(&mut world, 0), [""; 0]);
    assert_eq!(numbers(&world, set), [2, 0, 0, 0]);
    assert_eq!(ear.hear(&mut world, 1), ["JobAssigned a "]);
    assert_eq!(ear.hear(&mut world, 1), [""; 0]);
    assert_eq!(ear.hear(&mut world, 2), ["JobAssigned b "]);
    assert_eq!(numbers(&world, set), [0, 2, 0, 0]);

    // A runner of no set has the labels, and gets none of the set's jobs.
    let stranger = world.runner("r0", &["gpu", "large"]);
    assert_eq!(world.message(stranger), None);
    let runner = world.runner_of("r1", Some(set));
    let job = world.acquire(runner);
    assert_eq!(numbers(&world, set), [0, 2, 1, 1]);
    world.complete(job, Conclusion::Failure);
    // `c` needed `a`, which failed: nobody was told of it.
    assert_eq!(ear.hear(&mut world, 2), ["JobStarted a ", "JobCompleted a failed"]);
    assert_eq!(numbers(&world, set), [0, 1, 0, 0]);
}

#[test]
fn an_offer_that_nobody_took_is_of_the_set_that_came_meanwhile() {
    let mut world = World::new(JOBS);
    let runner = world.runner("r0", &["gpu", "large"]);
    assert!(world.message(runner).is_some());
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    assert_eq!(numbers(&world, set), [1, 0, 0, 0], "one is offered to the runner");
    world.state.close_session(runner.0, world.now);
    assert_eq!(numbers(&world, set), [2, 0, 0, 0]);
}

#[test]
fn jobs_are_announced_and_acquired_where_the_listener_decides() {
    let mut world = World::new(JOBS);
    world.state.scale_sets.assignment = Assignment::Explicit;
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    let mut ear = Ear::new(&mut world, set);
    assert_eq!(ear.hear(&mut world, 5), ["JobAvailable a ", "JobAvailable b "]);
    assert_eq!(numbers(&world, set), [2, 0, 0, 0]);
    let runner = world.runner_of("r1", Some(set));
    assert_eq!(world.message(runner), None, "it is not acquired yet");
    let session = ear.session;
    let acquire = |world: &mut World, jobs: &[i64]| {
        world.state.acquire_set_jobs(set, session, jobs, world.now).unwrap()
    };
    assert_eq!(acquire(&mut world, &[100_001, 77, -1]), [100_001]);
    assert_eq!(acquire(&mut world, &[100_001]), [100_001], "the answer may have been lost");
    assert_eq!(ear.hear(&mut world, 5), ["JobAssigned b "]);
    assert_eq!(world.acquire(runner).job, 100_001);
    assert_eq!(acquire(&mut world, &[100_001]), [0; 0]);
    let other = Uuid::nil();
    let stale = world.state.acquire_set_jobs(set, other, &[100_000], world.now);
    assert_eq!(stale, Err(SetError::SessionExpired));
    // A run that is cancelled ends what was announced too.
    world.state.cancel_run(1, world.now).unwrap();
    assert_eq!(ear.hear(&mut world, 5), ["JobStarted b ", "JobCompleted a canceled"]);
}

#[test]
fn the_log_outlives_sessions_and_the_process_until_messages_are_deleted() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    let mut ear = Ear::new(&mut world, set);
    let first = ear.poll(&mut world, 1).unwrap().message_id;
    let second = ear.poll(&mut world, 2).unwrap().message_id;
    assert_eq!((first, second), (100_000_001, 100_000_002));
    let owner = Owner::from(OWNER);
    let now = world.now;
    let conflict = world.state.open_set_session(&owner, set, Uuid::nil(), "you", now);
    assert_eq!(conflict, Err(SetError::SessionConflict));
    world.now += SignedDuration::from_secs(91);
    let mut other = Ear::new(&mut world, set);
    let stale = world.state.poll_set(set, ear.session, (0, Order::Proper), None, world.now);
    assert_eq!(stale, Err(SetError::SessionExpired));
    assert_eq!(other.poll(&mut world, 2).unwrap().message_id, first);
    world.state.delete_set_message(set, other.session, first, world.now).unwrap();
    world.state.delete_set_message(set, other.session, first, world.now).unwrap();

    // The process ends. What it wrote down is what the next one knows.
    let mut replay = Replay::default();
    world.state.scale_sets.take_journal().into_iter().for_each(|entry| replay.apply(entry));
    let mut again = Replay::default();
    replay.entries().into_iter().for_each(|entry| again.apply(entry));
    assert_eq!(again.entries(), replay.entries());
    let mut view = world.state.runs[&1].view.clone();
    crate::state::end_interrupted(&mut view, world.now);
    world.state = State::new(vec![view], 1, Default::default());
    world.state.scale_sets = ScaleSets::new(Assignment::Automatic, again);
    world.state.end_orphans(world.now);
    world.state.end_orphans(world.now);
    let mut ear = Ear::new(&mut world, set);
    assert_eq!(ear.poll(&mut world, 2).unwrap().message_id, second);
    let ended = ["JobCompleted a canceled", "JobCompleted b canceled"];
    assert_eq!(ear.hear(&mut world, 2), ended);
    assert_eq!(world.state.create_set(definition("new", &["x"])), Ok(set + 1));
}

#[test]
fn a_set_that_is_deleted_gives_its_jobs_back_and_takes_its_idle_runners_along() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu", "large"])).unwrap();
    let owner = Owner::from(OWNER);
    let taken = world.state.create_set(definition("GPU", &["x"]));
    assert_eq!(taken, Err(SetError::NameTaken));
    let mut ear = Ear::new(&mut world, set);
    ear.poll(&mut world, 1);
    let busy = world.runner_of("busy", Some(set));
    let job = world.acquire(busy);
    let idle = world.runner_of("idle", Some(set));
    let stranger: Owner = "orgs/else".into();
    assert_eq!(world.state.delete_set(&stranger, set, world.now), Err(SetError::NotFound));
    world.state.delete_set(&owner, set, world.now).unwrap();
    assert!(!world.state.runners.contains_key(&idle.0));
    let gone = world.state.poll_set(set, ear.session, (0, Order::Proper), None, world.now);
    assert_eq!(gone, Err(SetError::NotFound));
    assert_eq!(world.state.queue().jobs.len(), 2, "`b` and `d`");
    world.complete(job, Conclusion::Success);
    assert!(!world.state.runners.contains_key(&busy.0));
    // A runner of no set may have them now, and a new set takes what still waits.
    let runner = world.runner("r", &["gpu", "large"]);
    assert!(world.message(runner).is_some());
    let other = world.state.create_set(definition("gpu", &["gpu"])).unwrap();
    assert_eq!(numbers(&world, other), [1, 0, 0, 0], "`c`");
}

#[test]
fn which_jobs_are_a_sets() {
    let takes = |definition: &Definition, repository: &str, labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        definition.takes(repository, &labels)
    };
    let set = definition("Pool", &["gpu", "large"]);
    assert!(takes(&set, "Acme/app", &["GPU"]));
    assert!(takes(&set, "acme/app", &["gpu", "large"]));
    assert!(takes(&set, "acme/app", &["pool"]), "its name is enough");
    assert!(!takes(&set, "acme/app", &["gpu", "arm"]));
    assert!(takes(&set, "acme/app", &[]), "a job that names a group alone");
    assert!(!takes(&set, "other/app", &["gpu"]));
    let own = Definition { scope: "repos/acme/app".into(), ..set.clone() };
    assert!(takes(&own, "acme/App", &["gpu"]) && !takes(&own, "acme/b", &["gpu"]));
    let all = Definition { scope: "enterprises/e".into(), ..set };
    assert!(takes(&all, "any/one", &["gpu"]));
}

#[test]
fn a_ghost_is_busy_until_it_was_asked_often_enough() {
    let mut world = World::new(JOBS);
    let set = world.state.create_set(definition("gpu", &["gpu"])).unwrap();
    Ear::new(&mut world, set).poll(&mut world, 1);
    let runner = world.runner_of("r1", Some(set));
    let job = world.acquire(runner);
    world.state.haunt(runner.0, 2);
    world.complete(job, Conclusion::Success);
    assert_eq!(world.state.set_statistics(set).total_busy_runners, 1);
    let mut remove = || world.state.remove_runner(runner.0, world.now);
    assert_eq!(remove(), Err(crate::state::RegisterError::Busy));
    assert_eq!(remove(), Err(crate::state::RegisterError::Busy));
    assert_eq!(remove(), Ok(()));
}

#[test]
fn a_set_loses_the_jobs_that_its_group_does_not_allow_any_more() {
    let mut world = World::new("on: push\njobs: { a: { runs-on: gpu, steps: [{run: a}] } }\n");
    let owner = Owner::from(OWNER);
    let group = RunnerGroupChange { name: Some("g".to_owned()), ..Default::default() };
    let group = world.state.create_group(&owner, group).unwrap().id;
    let closing = Definition { group, ..definition("closing", &["gpu"]) };
    let closing = world.state.create_set(closing).unwrap();
    let mut ear = Ear::new(&mut world, closing);
    assert_eq!(ear.hear(&mut world, 1), ["JobAssigned a "]);
    let runner = world.runner_of("r1", Some(closing));
    let here = Owner::from("repos/acme/app");
    assert!(world.state.move_runner(&here, runner.0, group, world.now));
    let Some(Message::Offer { request, .. }) = world.message(runner) else { panic!("no offer") };
    let selected =
        RunnerGroupChange { visibility: Some("selected".to_owned()), ..Default::default() };
    world.state.update_group((&owner, group), selected, world.now).unwrap();
    // Its listener is told that it is over there, its runner does not get it, and another set has it.
    assert_eq!(ear.hear(&mut world, 1), ["JobCompleted a canceled"]);
    assert_eq!(numbers(&world, closing), [0, 0, 0, 1]);
    assert_eq!(world.state.acquire(runner.0, request, world.now), Err(JobError::NotFound));
    let open = world.state.create_set(definition("open", &["gpu"])).unwrap();
    assert_eq!(Ear::new(&mut world, open).hear(&mut world, 1), ["JobAssigned a "]);
    let other = world.runner_of("r2", Some(open));
    assert_eq!(world.acquire(other).run, 1);
    // What a runner is at goes on, whatever becomes of the group.
    let closed =
        RunnerGroupChange { visibility: Some("selected".to_owned()), ..Default::default() };
    world.state.update_group((&here.account(), 1), closed, world.now).unwrap();
    assert_eq!(numbers(&world, open)[2], 1);
}
