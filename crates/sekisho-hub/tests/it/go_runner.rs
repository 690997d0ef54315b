//! A runner that others wrote, unchanged: `github-act-runner`, where it is on the `PATH`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::credentials;
use crate::toolkit::skipped;
use crate::world::{ADMIN, World};

/// The program.
const RUNNER: &str = "github-act-runner";
/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(120);
const RUNNERS: &str = "/api/v3/repos/acme/app/actions/runners";
/// Three steps, of which one is skipped.
const WORKFLOW: &str = "\
on: push
jobs:
  hello:
    runs-on: default
    outputs: { answer: '${{ steps.say.outputs.answer }}' }
    steps:
      - id: say
        run: |
          echo \"hello of $GITHUB_REPOSITORY\"
          echo answer=42 >> \"$GITHUB_OUTPUT\"
      - if: false
        run: echo no
      - run: test '${{ steps.say.outputs.answer }}' = 42
  next:
    needs: hello
    runs-on: default
    steps: [{ run: 'test \"${{ needs.hello.outputs.answer }}\" = 42' }]
";

pub(crate) fn is_missing() -> bool {
    let found = std::process::Command::new(RUNNER).arg("--version").output();
    if found.is_err() {
        skipped(RUNNER);
    }
    found.is_err()
}

/// A world with a run of two jobs, and the run.
async fn world() -> (World, u64) {
    let world = World::new().await;
    let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
    let run = world.push(&folder, "acme/app").await;
    (world, run)
}

/// Runs the program in a folder of its own, to its end.
pub(crate) async fn run(folder: &Path, jit: Option<&str>, args: &[&str]) -> String {
    std::fs::create_dir_all(folder).unwrap();
    let program = Command::new(RUNNER)
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .envs(jit.map(|jit| ("ACTIONS_RUNNER_INPUT_JITCONFIG", jit)))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WITHIN, program).await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

/// Every step of a job, with its conclusion, and the log, as REST has them.
async fn check(world: &World, run: u64, runner: &str) {
    let path = format!("/api/v3/repos/acme/app/actions/runs/{run}/jobs");
    let jobs = world.get(&path).await["jobs"].clone();
    let hello = &jobs[0];
    assert_eq!((&hello["conclusion"], &hello["runner_name"]), (&json!("success"), &json!(runner)));
    let steps = hello["steps"].as_array().unwrap().iter();
    // It numbers its own first step 0, and no other of its own.
    let of_scripts = |step: &&Value| step["number"] != 0;
    let ends: Vec<&Value> = steps.filter(of_scripts).map(|step| &step["conclusion"]).collect();
    assert_eq!(ends, ["success", "skipped", "success"], "{hello}");
    let path = format!("/api/v3/repos/acme/app/actions/jobs/{}/logs", hello["id"]);
    let log = world.request(reqwest::Method::GET, &path).bearer_auth(ADMIN).send().await.unwrap();
    let log = log.text().await.unwrap();
    assert!(log.contains("hello of acme/app"), "{log}");
}

async fn conclusions(world: &World, run: u64) -> Vec<Value> {
    let jobs = world.run(run).await["jobs"].as_array().unwrap().clone();
    jobs.into_iter().map(|job| job["conclusion"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_one_job_with_a_jit_configuration() {
    if is_missing() {
        return;
    }
    let (world, id) = world().await;
    let made = world.register("go-1", &["default"]).await;
    let jit = made["encoded_jit_config"].as_str().unwrap();
    run(&world.dir.path().join("go"), Some(jit), &["run", "--terminal=false"]).await;
    check(&world, id, "go-1").await;
    // Its one job; the registration ended with it.
    assert_eq!(conclusions(&world, id).await, [json!("success"), Value::Null]);
    assert_eq!(world.get(RUNNERS).await["total_count"], json!(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_configured_with_a_token_runs_jobs_and_is_removed() {
    if is_missing() {
        return;
    }
    let (world, id) = world().await;
    let folder = world.dir.path().join("go");
    let token = credentials::registration(&world, "repos/acme/app").await;
    let url = world.remote("acme/app");
    let configure = ["configure", "--unattended", "--url", &url, "--token", &token];
    let more = ["--name", "go-2", "--no-default-labels", "--labels", "default"];
    run(&folder, None, &[&configure[..], &more].concat()).await;
    assert_eq!(world.get(RUNNERS).await["runners"][0]["name"], json!("go-2"));
    for _ in 0..2 {
        run(&folder, None, &["run", "--once", "--terminal=false"]).await;
    }
    check(&world, id, "go-2").await;
    assert_eq!(conclusions(&world, id).await, ["success", "success"]);
    // It stays, for it is not for one job alone.
    assert_eq!(world.get(RUNNERS).await["total_count"], json!(1));
    let path = format!("{RUNNERS}/remove-token");
    let token: Value = world.post(&path, &json!({})).await.json().await.unwrap();
    let token = token["token"].as_str().unwrap();
    let remove = ["remove", "--unattended", "--url", &url, "--token", token, "--name", "go-2"];
    run(&folder, None, &remove).await;
    assert_eq!(world.get(RUNNERS).await["total_count"], json!(0));
}
