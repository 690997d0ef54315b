//! Concurrency groups, from a push to REST.

use serde_json::{Value, json};

use crate::runner::Runner;
use crate::world::{WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";
const ACTIONS: &str = "/api/v3/repos/acme/app/actions";

fn workflow(concurrency: &str) -> String {
    WORKFLOW.replace("permissions:", &format!("concurrency: {concurrency}\npermissions:"))
}

async fn members(world: &World, path: &str) -> Vec<Value> {
    let list = world.get(&format!("{ACTIONS}/{path}")).await;
    let groups = list["concurrency_groups"].as_array().unwrap();
    assert_eq!(list["total_count"], groups.len());
    groups.iter().flat_map(|group| group["group_members"].as_array().unwrap().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_the_one_before_it() {
    let world = World::new().await;
    let text = workflow("'Deploy to ${{ github.ref_name }}'");
    let folder = world.folder("work", &[(FILE, &text)]);
    let first = world.push(&folder, "acme/app").await;
    folder.commit(&[]);
    let second = world.push(&folder, "acme/app").await;
    let status = async |run: u64| {
        let run = world.get(&format!("{ACTIONS}/runs/{run}")).await;
        (run["status"].clone(), run["conclusion"].clone())
    };
    assert_eq!(status(first).await, (json!("queued"), Value::Null));
    assert_eq!(status(second).await, (json!("pending"), Value::Null));
    let member = |run, status: &str| json!({"run_id": run, "job_id": null, "job_name": null, "status": status});
    let both = [member(first, "in_progress"), member(second, "pending")];
    assert_eq!(members(&world, "concurrency_groups").await, both);
    assert_eq!(members(&world, &format!("runs/{second}/concurrency_groups")).await, both);
    let group = world.get(&format!("{ACTIONS}/concurrency_groups/deploy%20to%20MAIN")).await;
    assert_eq!(group["group_name"], "Deploy to main");
    let url = group["group_url"].as_str().unwrap().strip_prefix(&world.url).unwrap();
    assert_eq!(world.get(url).await, group);

    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    folder.commit(&[(FILE, &workflow("{ group: deploy to main, cancel-in-progress: true }"))]);
    let third = world.push(&folder, "acme/app").await;
    assert_eq!(status(second).await, (json!("completed"), json!("cancelled")));
    // The one in progress is told to stop.
    runner.message(&world, "JobCancellation").await;
    assert_eq!(runner.complete(&world, "canceled").await.status(), 200);
    assert_eq!(status(first).await, (json!("completed"), json!("cancelled")));
    assert_eq!(status(third).await, (json!("queued"), Value::Null));
    let said = world.run(first).await["jobs"][0]["annotations"].to_string();
    assert!(said.contains("higher priority waiting request for 'Deploy to main'"), "{said}");
    let mut runner = Runner::new(&world, "r2").await;
    runner.acquire(&world).await;
    assert_eq!(runner.complete(&world, "succeeded").await.status(), 200);
    assert_eq!(members(&world, "concurrency_groups").await, [Value::Null; 0]);
    let none = world.request(reqwest::Method::GET, &format!("{ACTIONS}/concurrency_groups/none"));
    assert_eq!(none.bearer_auth(crate::world::ADMIN).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_be_named_is_told_at_the_push() {
    let world = World::new().await;
    let folder = world.folder("work", &[(FILE, &workflow("${{ github.event.none }}"))]);
    folder.git(&["push", "--quiet", &world.remote("acme/app"), "main"]);
    let path = format!("/_hub/v1/pushes?repository=acme/app&sha={}", folder.sha());
    let pushed = world.get(&path).await;
    assert_eq!(pushed["runs"], json!([]));
    let error = &pushed["errors"][0];
    assert_eq!((&error["path"], &error["line"]), (&json!(FILE), &json!(3)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("1 to 400 bytes"), "{error}");
}
