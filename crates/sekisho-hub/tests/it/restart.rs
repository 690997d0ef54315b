//! A hub that was killed leaves no run open.

use serde_json::json;

use crate::runner::Runner;
use crate::world::{WORKFLOW, World};

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_process_left_open_is_ended() {
    let world = World::new().await;
    let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
    let running = world.push(&folder, "acme/app").await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    folder.commit(&[]);
    let queued = world.push(&folder, "acme/app").await;
    let written = world.dir.path().join("hub/runs").join(running.to_string()).join("run.json");
    while !std::fs::read_to_string(&written).unwrap_or_default().contains("in_progress") {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let world = World::on(world.kill()).await;

    let run = world.run(running).await;
    assert_eq!((&run["status"], &run["conclusion"]), (&json!("completed"), &json!("failure")));
    let job = &run["jobs"][0];
    assert_eq!(job["conclusion"], "failure");
    assert_eq!(job["annotations"][0]["message"], "The plane stopped while this job ran.");
    let run = world.run(queued).await;
    assert_eq!(run["conclusion"], "cancelled");
    assert_eq!(run["jobs"][0]["conclusion"], "cancelled");

    let events = world.events(running).await;
    let numbers: Vec<u64> = events.iter().map(|event| event["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["conclusion"]), (&json!("run"), &json!("failure")));

    // Ids go on where they were; the old runner's token is worth nothing.
    folder.commit(&[]);
    assert_eq!(world.push(&folder, "acme/app").await, queued + 1);
    assert_eq!(world.run(queued + 1).await["run_number"], 3);
    world.hub.shutdown().await;
    let runs = sekisho_hub::read_runs(&world.dir.path().join("hub")).unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [3, 2, 1]);
}

/// A job that others need, a call that does, and one that has no runner yet.
const CHAIN: &str = "\
name: chain
on: push
jobs:
  a:
    runs-on: default
    outputs: { answer: '${{ steps.x.outputs.x }}' }
    steps: [{ id: x, run: x }]
  call:
    needs: a
    uses: ./.github/workflows/called.yml
    with: { from: '${{ needs.a.outputs.answer }}' }
  last:
    needs: call
    runs-on: default
    steps: [{ run: x }]
";
const CALLED: &str = "\
on: { workflow_call: { inputs: { from: { type: string } } } }
jobs:
  one: { runs-on: default, steps: [{ run: x }] }
  two: { needs: one, runs-on: default, steps: [{ run: x }] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_cut_off_is_run_again_from_where_it_was() {
    let world = World::new().await;
    let files = [(".github/workflows/chain.yml", CHAIN), (".github/workflows/called.yml", CALLED)];
    let folder = world.folder("work", &files);
    let id = world.push(&folder, "acme/app").await;
    let work = async |world: &World, name: &str| {
        let mut runner = Runner::new(world, name).await;
        runner.acquire(world).await;
        assert_eq!(runner.complete(world, "succeeded").await.status(), 200);
        runner.job["jobDisplayName"].as_str().unwrap().to_owned()
    };
    assert_eq!(work(&world, "r1").await, "a");
    assert_eq!(work(&world, "r2").await, "call / one");
    let mut runner = Runner::new(&world, "r3").await;
    runner.acquire(&world).await;
    let written = world.dir.path().join(format!("hub/runs/{id}/run.json"));
    let reached = || std::fs::read_to_string(&written).unwrap_or_default().contains("\"r3\"");
    while !reached() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let world = World::on(world.kill()).await;
    let ends = async |world: &World| {
        let run = world.run(id).await;
        let jobs = run["jobs"].as_array().unwrap().clone();
        let ends = jobs.iter().map(|job| (job["conclusion"].clone(), job["run_attempt"].clone()));
        (run["conclusion"].clone(), ends.collect::<Vec<_>>())
    };
    let end = |conclusion: &str, attempt: u64| (json!(conclusion), json!(attempt));
    let cut = [end("success", 1), end("success", 1), end("failure", 1), end("cancelled", 1)];
    assert_eq!(ends(&world).await, (json!("failure"), cut.into()));

    // What ended well is kept, with its outputs.
    let path = format!("/api/v3/repos/acme/app/actions/runs/{id}/rerun-failed-jobs");
    assert_eq!(world.post(&path, &json!({})).await.status(), 201);
    let mut runner = Runner::new(&world, "r4").await;
    runner.acquire(&world).await;
    assert_eq!(runner.job["jobDisplayName"], "call / two");
    let inputs = &runner.message_of_job().context_data["inputs"].0;
    assert_eq!(&*inputs.get("from").to_text(), "42");
    assert_eq!(runner.complete(&world, "succeeded").await.status(), 200);
    assert_eq!(work(&world, "r5").await, "last");
    let all = [end("success", 1), end("success", 1), end("success", 2), end("success", 2)];
    assert_eq!(ends(&world).await, (json!("success"), all.into()));

    // And once more by a third process: one job, and what needs it.
    world.hub.shutdown().await;
    let world = World::on(world.kill()).await;
    let job = world.run(id).await["jobs"][1]["id"].clone();
    let path = format!("/api/v3/repos/acme/app/actions/jobs/{job}/rerun");
    assert_eq!(world.post(&path, &json!({})).await.status(), 201);
    for (name, job) in [("r6", "call / one"), ("r7", "call / two"), ("r8", "last")] {
        assert_eq!(work(&world, name).await, job);
    }
    let all = [end("success", 1), end("success", 3), end("success", 3), end("success", 3)];
    assert_eq!(ends(&world).await, (json!("success"), all.into()));
    // One whose plan is gone says so.
    world.hub.shutdown().await;
    std::fs::remove_file(world.dir.path().join(format!("hub/runs/{id}/plan.json"))).unwrap();
    let world = World::on(world.kill()).await;
    let path = format!("/api/v3/repos/acme/app/actions/runs/{id}/rerun");
    let refused = world.post(&path, &json!({})).await;
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.unwrap().contains("its plan was not kept"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_what_is_open_and_who_follows_sees_it() {
    let world = World::new().await;
    let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
    let id = world.push(&folder, "acme/app").await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    let follow = world.events(id);
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        world.hub.shutdown().await;
    };
    let (events, ()) = tokio::join!(follow, stop);
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["conclusion"]), (&json!("run"), &json!("failure")));
    let refused = runner.poll(&world).await;
    assert_eq!(refused.status(), 503);
    let runs = sekisho_hub::read_runs(&world.dir.path().join("hub")).unwrap();
    assert_eq!(runs[0].conclusion.unwrap().as_str(), "failure");
}
