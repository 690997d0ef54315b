//! Ctrl-C, a killed runner, a killed plane.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use crate::support::{World, eventually, finish, signal};

const LONG: &str = "on: push
jobs:
  a:
    runs-on: default
    steps:
      - run: |
          (setsid sleep 600 &)
          echo started
          sleep 600
      - if: always()
        run: echo cleaned up
";

fn in_progress(world: &World) -> bool {
    world.data().join("hub").exists()
        && world.runs().first().is_some_and(|run| run["status"] == "in_progress")
        && world
            .sekisho(&["logs", &world.runs()[0]["id"].to_string()])
            .stdout
            .lines()
            .any(|line| line.ends_with(" started"))
}

#[test]
fn ctrl_c_cancels_cleanly() {
    let world = World::new();
    let folder = world.project("app", &[(".github/workflows/ci.yml", LONG)]);
    let child = world.command(&["run", folder.to_str().unwrap()]).spawn().unwrap();
    eventually("the step runs", || in_progress(&world));
    signal(&child, "INT");
    let said = finish(child).exits(130);
    said.says(&["cancelling", "was cancelled"]);
    assert_eq!(world.runs()[0]["conclusion"], "cancelled");
    let log = world.sekisho(&["logs", "1"]).exits(0).stdout;
    assert!(log.lines().any(|line| line.ends_with(" cleaned up")), "always() ran:\n{log}");
    world.nothing_is_left();
}

#[test]
fn a_killed_runner_fails_its_job_and_keeps_its_log() {
    let world = World::new();
    let folder = world.project("app", &[(".github/workflows/ci.yml", LONG)]);
    let child = world.command(&["run", folder.to_str().unwrap()]).spawn().unwrap();
    eventually("the step runs", || in_progress(&world));
    let runner = format!("{}/.*runner run", world.data().join("runners").display());
    let killed = Command::new("pkill").args(["-9", "-f", &runner]).status().unwrap();
    assert!(killed.success(), "there is a runner to kill");
    let said = finish(child).exits(1);
    said.says(&["The runner was lost"]);
    let log = world.sekisho(&["logs", "1"]).exits(0).stdout;
    assert!(log.lines().any(|line| line.ends_with(" started")), "{log}");
    world.nothing_is_left();
}

#[test]
fn after_a_killed_plane_no_run_stays_running() {
    let world = World::new();
    let folder = world.project("app", &[(".github/workflows/ci.yml", LONG)]);
    let mut child = world.command(&["run", folder.to_str().unwrap()]).spawn().unwrap();
    eventually("the step runs", || in_progress(&world));
    child.kill().unwrap();
    child.wait().unwrap();

    let up = world.up();
    let run = &world.runs()[0];
    assert_eq!((&run["status"], &run["conclusion"]), (&"completed".into(), &"failure".into()));
    let log = world.sekisho(&["logs", "1"]).exits(0).stdout;
    assert!(log.lines().any(|line| line.ends_with(" started")), "{log}");
    assert_eq!(up.stop(), 0);
    world.nothing_is_left();
}

/// A step that does not listen, and somebody who does not want to wait for it.
#[test]
fn ctrl_c_twice_ends_at_once() {
    let world = World::new();
    let workflow = LONG.replace("echo started", "trap '' INT TERM; echo started");
    let folder = world.project("app", &[(".github/workflows/ci.yml", &workflow)]);
    let mut child = world.command(&["run", folder.to_str().unwrap()]).spawn().unwrap();
    eventually("the step runs", || in_progress(&world));
    signal(&child, "INT");
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(stderr.any(|line| line.unwrap().contains("once more to end at once")));
    signal(&child, "INT");
    let rest: Vec<String> = stderr.map(Result::unwrap).collect();
    finish(child).exits(130);
    assert!(!rest.iter().any(|line| line.contains("other run")), "{rest:#?}");
    let log = world.sekisho(&["logs", "1"]).exits(0).stdout;
    assert!(!log.contains(" cleaned up"), "nothing was waited for:\n{log}");
    world.nothing_is_left();
}

/// What closing the terminal does.
#[test]
fn a_hangup_cancels_cleanly() {
    let world = World::new();
    let folder = world.project("app", &[(".github/workflows/ci.yml", LONG)]);
    let child = world.command(&["run", folder.to_str().unwrap()]).spawn().unwrap();
    eventually("the step runs", || in_progress(&world));
    signal(&child, "HUP");
    finish(child).exits(130).says(&["cancelling", "was cancelled"]);
    world.nothing_is_left();
}
