use sekisho_github::hub_api::Conclusion;

use super::super::tests::World;
use super::*;

fn workflow(concurrency: &str, jobs: &str) -> String {
    format!("on: push\n{concurrency}jobs:\n{jobs}")
}

const ONE: &str = "  a: { runs-on: x, steps: [{ run: a }] }\n";

#[track_caller]
fn check(world: &World, want: &[(u64, Status, Option<Conclusion>)]) {
    let all = world.state.runs.values();
    let got: Vec<_> = all.map(|run| (run.view.id, run.view.status, run.view.conclusion)).collect();
    assert_eq!(got, want);
}

/// What was said about the first job of a run.
fn said(world: &World, run: u64) -> &str {
    let job = &world.state.runs[&run].view.jobs[0];
    job.annotations.last().map_or("", |annotation| &annotation.message)
}

fn groups(world: &World) -> Vec<(String, usize)> {
    world.state.concurrency.of(2).map(|(name, members)| (name.to_owned(), members.len())).collect()
}

use Status::{Completed, InProgress, Pending, Queued};
const DONE: Option<Conclusion> = Some(Conclusion::Success);
const STOPPED: Option<Conclusion> = Some(Conclusion::Cancelled);

#[test]
fn one_run_has_the_group_one_waits_and_a_newer_takes_its_place() {
    let mut world = World::new(&workflow("concurrency: Deploy\n", ONE));
    world.start(&workflow("concurrency: deploy\n", ONE));
    check(&world, &[(1, Queued, None), (2, Pending, None)]);
    assert_eq!(groups(&world), [("Deploy".to_owned(), 2)]);
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    assert_eq!(at.run, 1);
    world.start(&workflow("concurrency: DEPLOY\n", ONE));
    check(&world, &[(1, InProgress, None), (2, Completed, STOPPED), (3, Pending, None)]);
    let why = "Canceling since a higher priority waiting request for 'deploy' exists";
    assert_eq!(said(&world, 2), why);
    // Nobody is offered what waits for its group.
    let other = world.runner("r2", &["x"]);
    assert_eq!(world.message(other), None);
    world.complete(at, Conclusion::Success);
    check(&world, &[(1, Completed, DONE), (2, Completed, STOPPED), (3, Queued, None)]);
    let at = world.acquire(other);
    assert_eq!(at.run, 3);
    world.complete(at, Conclusion::Success);
    assert_eq!(groups(&world), []);
}

#[test]
fn whoever_is_in_progress_is_stopped_if_that_is_wanted() {
    let cancels = "concurrency: { group: ci, cancel-in-progress: true }\n";
    let mut world = World::new(&workflow(cancels, ONE));
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.start(&workflow(cancels, ONE));
    // Its runner is told, and has its time for it.
    check(&world, &[(1, InProgress, None), (2, Pending, None)]);
    assert!(said(&world, 1).contains("'ci'"));
    world.complete(at, Conclusion::Cancelled);
    check(&world, &[(1, Completed, STOPPED), (2, Queued, None)]);
    // One that nobody has yet is over at once.
    world.start(&workflow(cancels, ONE));
    check(&world, &[(1, Completed, STOPPED), (2, Completed, STOPPED), (3, Queued, None)]);
}

#[test]
fn in_a_queue_all_wait_and_a_cancelled_one_leaves_it() {
    let queue = "concurrency: { group: g, queue: max }\n";
    let always = "  a: { if: always(), runs-on: x, steps: [{ run: a }] }\n";
    let mut world = World::new(&workflow(queue, always));
    for _ in 0..3 {
        world.start(&workflow(queue, always));
    }
    world.state.cancel_run(2, world.now).unwrap();
    // It never began: not even what runs always.
    check(
        &world,
        &[(1, Queued, None), (2, Completed, STOPPED), (3, Pending, None), (4, Pending, None)],
    );
    world.state.cancel_run(1, world.now).unwrap();
    world.state.force_cancel_run(4, world.now).unwrap();
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.complete(at, Conclusion::Success);
    let last = &world.state.runs[&3].view;
    assert_eq!((at.run, last.status), (1, Queued));
}

#[test]
fn jobs_have_groups_of_their_own() {
    let in_group = |id: &str, group: &str| {
        format!("  {id}: {{ concurrency: {group}, runs-on: x, steps: [{{ run: a }}] }}\n")
    };
    let jobs = in_group("a", "g") + &in_group("b", "G") + &ONE.replace("a:", "c:");
    let mut world = World::new(&workflow("", &jobs));
    let status = |world: &World| {
        let jobs = &world.state.runs[&1].view.jobs;
        jobs.iter().map(|job| (job.status, job.conclusion)).collect::<Vec<_>>()
    };
    assert_eq!(status(&world), [(Queued, None), (Pending, None), (Queued, None)]);
    // The scheduler sees none that waits for a group.
    assert_eq!(world.state.queue().jobs.len(), 2);
    let runner = world.runner("r1", &["x"]);
    let at = world.acquire(runner);
    world.complete(at, Conclusion::Failure);
    assert_eq!(status(&world)[1], (Queued, None));
    // A run that ends leaves no claim behind.
    world.state.cancel_run(1, world.now).unwrap();
    check(&world, &[(1, Completed, Some(Conclusion::Failure))]);
    assert_eq!(groups(&world), []);
}

#[test]
fn a_job_in_the_group_of_its_own_run_would_wait_for_ever() {
    let jobs = "  a: { concurrency: '${{ github.ref }}', runs-on: x, steps: [{ run: a }] }\n";
    let world = World::new(&workflow("concurrency: REFS/heads/main\n", jobs));
    check(&world, &[(1, Completed, STOPPED)]);
    assert!(said(&world, 1).contains("deadlock was detected"), "{}", said(&world, 1));
    assert_eq!(groups(&world), []);
}

#[test]
fn another_attempt_claims_anew() {
    let mut world = World::new(&workflow("concurrency: g\n", ONE));
    world.state.cancel_run(1, world.now).unwrap();
    world.start(&workflow("concurrency: g\n", ONE));
    let guids = vec![uuid::Uuid::from_u128(9)];
    world.state.rerun(1, super::super::RerunOf::All, guids, world.now).unwrap();
    check(&world, &[(1, Pending, None), (2, Queued, None)]);
    world.state.cancel_run(2, world.now).unwrap();
    check(&world, &[(1, Queued, None), (2, Completed, STOPPED)]);
    world.state.interrupt(1, world.now);
    assert_eq!(groups(&world), []);
}
