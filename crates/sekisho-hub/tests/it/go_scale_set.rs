//! GitHub's own scale set client with its listener, unchanged, and the runners that it wants.
//!
//! `tests/peers` is the program that drives it; `.ci/run` builds it, and the test finds it on the `PATH`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::go_runner;
use crate::toolkit::skipped;
use crate::world::{ADMIN, World};

const CLIENT: &str = "scale-set-client";
/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(240);
const WORKFLOW: &str = "\
on: push
jobs:
  hello:
    runs-on: gpu
    steps: [{ run: 'echo hello' }]
  failing:
    runs-on: [gpu, large]
    steps: [{ run: 'exit 3' }]
";

#[tokio::test(flavor = "multi_thread")]
async fn githubs_listener_has_two_jobs_run() {
    if go_runner::is_missing() {
        return;
    }
    let world = World::new().await;
    let url = world.remote("acme/app");
    let started = Command::new(CLIENT)
        .args([&url, "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut client) = started else { return skipped(CLIENT) };
    let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
    let run = world.push(&folder, "acme/app").await;
    client.stdin.take().unwrap().write_all(format!("{ADMIN}\n").as_bytes()).await.unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let (mut held, mut told, mut runners) = (BTreeMap::new(), Vec::new(), JoinSet::new());
    let all = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).unwrap();
            let (what, value) = line.as_object().unwrap().iter().next().unwrap();
            match what.as_str() {
                "held" => held.extend(value.as_object().unwrap().clone()),
                "runner" => {
                    let folder = world.dir.path().join(value["name"].as_str().unwrap());
                    let jit = value["jit"].as_str().unwrap().to_owned();
                    runners.spawn(async move {
                        go_runner::run(&folder, Some(&jit), &["run", "--terminal=false"]).await
                    });
                }
                "completed" => told.push(value.clone()),
                _ => {}
            }
        }
    };
    let in_time = tokio::time::timeout(WITHIN, all).await;
    if in_time.is_err() {
        client.start_kill().unwrap();
    }
    let output = client.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(in_time.is_ok() && output.status.success(), "{said}");
    runners.join_all().await;
    let want = [
        "a name that is taken is refused",
        "a runner is found by its name",
        "a runner's name that is taken is refused",
        "a second session is refused",
        "a set gets other labels",
        "a set is found by its name",
        "a set is found by its number",
        "a set that was deleted is gone",
    ];
    assert_eq!(held, want.map(|what| (what.to_owned(), json!(true))).into());
    told.sort_by_key(|it| it["job"].as_str().unwrap().to_owned());
    let ends: Vec<_> = told.iter().map(|it| (&it["job"], &it["result"])).collect();
    let want = [(&json!("failing"), &json!("failed")), (&json!("hello"), &json!("succeeded"))];
    assert_eq!(ends, want);
    assert_ne!(told[0]["runner"], told[1]["runner"]);
    assert_eq!(world.run(run).await["conclusion"], json!("failure"));
    // Each runner went with its job.
    let left = world.get("/api/v3/repos/acme/app/actions/runners").await;
    assert_eq!(left["total_count"], json!(0));
}
