//! A hub that was killed leaves no run open.

use serde_json::json;

use crate::job::Runner;
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
