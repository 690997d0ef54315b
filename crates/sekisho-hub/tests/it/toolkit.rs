//! The packages that GitHub's own actions are made of, as clients.
//!
//! `SEKISHO_NODE_MODULES` names a `node_modules` folder with `@actions/artifact`, `@actions/cache`
//! and `@actions/core`; `.ci/run` makes one.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::world::World;
use crate::{pulls, storage};

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(120);
/// The first version of Node.js that the packages are made for.
const NODE: u32 = 20;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/toolkit.mjs");

#[expect(clippy::print_stderr, reason = "whoever runs the tests should know")]
pub(crate) fn skipped(needs: &str) {
    eprintln!("skipped: needs {needs}");
}

/// The major version of the `node` that is found. `None` if there is none.
fn node_version() -> Option<u32> {
    let output = std::process::Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_own_packages_work_unchanged() {
    let Some(modules) = std::env::var_os("SEKISHO_NODE_MODULES") else {
        return skipped("SEKISHO_NODE_MODULES: see CONTRIBUTING.md");
    };
    if node_version().is_none_or(|version| version < NODE) {
        return skipped("Node.js 20 or newer");
    }
    let (world, folder) = storage::world().await;
    let job = storage::job(&world, &folder, "r1").await;
    let held = run(&world, &job, &modules, "all").await;
    let want = [
        "uploadArtifact",
        "listArtifacts",
        "getArtifact",
        "downloadArtifact",
        "an artifact of the same name is refused",
        "an artifact that is no archive",
        "deleteArtifact",
        "restoreCache: a miss",
        "saveCache",
        "restoreCache",
        "restoreCache: prefixes",
        "restoreCache: versions",
        "saveCache: a conflict",
        "getIDToken",
    ];
    assert_eq!(held, want);
}

/// The package asks first whether it may; the hub refuses what it does not ask about.
#[tokio::test(flavor = "multi_thread")]
async fn githubs_own_cache_package_keeps_to_the_mode_and_is_kept_to_it() {
    let Some(modules) = std::env::var_os("SEKISHO_NODE_MODULES") else {
        return skipped("SEKISHO_NODE_MODULES: see CONTRIBUTING.md");
    };
    if node_version().is_none_or(|version| version < NODE) {
        return skipped("Node.js 20 or newer");
    }
    let world = World::new().await;
    for (mode, want) in [
        ("write", ["saves", "restores"]),
        ("read", ["does not save", "restores"]),
        ("write-only", ["saves", "does not restore"]),
        ("none", ["does not save", "does not restore"]),
    ] {
        // Another job of the repository has saved what there is to restore.
        let (folder, seed) = storage::in_mode(&world, mode, None).await;
        assert_eq!(run(&world, &seed, &modules, "seed").await, ["saves"]);
        seed.runner.complete(&world, "succeeded").await;
        let (_, job) = storage::in_mode(&world, mode, Some(folder)).await;
        assert_eq!(run(&world, &job, &modules, "mode").await, want, "{mode}, as told");
        // A package that is older than the mode, or a job that lies to it.
        assert_eq!(run(&world, &job, &modules, "untold").await, want, "{mode}, untold");
        job.runner.complete(&world, "succeeded").await;
    }
}

/// A fork's pull request reads what the base saved, and whatever it saves is seen by nobody else; the
/// base's own answer to it saves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn githubs_own_cache_package_at_a_pull_request() {
    let Some(modules) = std::env::var_os("SEKISHO_NODE_MODULES") else {
        return skipped("SEKISHO_NODE_MODULES: see CONTRIBUTING.md");
    };
    if node_version().is_none_or(|version| version < NODE) {
        return skipped("Node.js 20 or newer");
    }
    let (world, folder, [pull, target]) = pulls::forked().await;
    let base = pulls::of_base(&world, &folder).await;
    assert_eq!(run(&world, &base, &modules, "scope:base:").await, ["saves base"]);
    let held = run(&world, &pull, &modules, "scope:pull:base").await;
    assert_eq!(held, ["finds base: by base", "saves pull", "saves base"]);
    // Its own comes first for itself, under the base's name too.
    let held = run(&world, &pull, &modules, "scope:again:base,pull").await;
    assert_eq!(held[..2], ["finds base: by pull", "finds pull: by pull"]);
    let held = run(&world, &target, &modules, "scope:target:base,pull").await;
    let want = ["finds base: by base", "does not find pull"];
    assert_eq!(held[..2], want);
    assert!(held[2..].iter().all(|line| line.starts_with("does not save")), "{held:?}");
    let held = run(&world, &base, &modules, "scope:later:base,pull").await;
    assert_eq!(held[..2], want);
}

/// Runs the script at a job, and gives what held.
async fn run(world: &World, job: &storage::Job, modules: &OsStr, what: &str) -> Vec<String> {
    let message = job.runner.message_of_job();
    let endpoint = message.system_connection().unwrap();
    let variable = message.variable("actions_uses_cache_service_v2").unwrap();
    assert_eq!(variable.value.expose(), "true");
    let scratch = world.dir.path().join("toolkit");
    std::fs::create_dir_all(scratch.join("temp")).unwrap();
    let server = message.context_data["github"].0.get("server_url").to_text();
    let mode = message.variable("actions_cache_mode").map(|mode| mode.value.expose().to_owned());
    let mode = mode.filter(|_| what == "mode");
    let identity = endpoint.data("GenerateIdTokenUrl");
    let run = tokio::process::Command::new("node")
        .arg(SCRIPT)
        .args([Path::new(modules), &scratch, Path::new(what)])
        .current_dir(&scratch)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // What a runner gives JavaScript actions.
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", &scratch)
        .env("RUNNER_TEMP", scratch.join("temp"))
        .env("GITHUB_SERVER_URL", &*server)
        .env("ACTIONS_RUNTIME_TOKEN", job.runner.job_token())
        .env("ACTIONS_RESULTS_URL", endpoint.data("ResultsServiceUrl").unwrap())
        .env("ACTIONS_CACHE_URL", endpoint.data("CacheServerUrl").unwrap())
        .env("ACTIONS_CACHE_SERVICE_V2", variable.value.expose())
        .envs(mode.map(|mode| ("ACTIONS_CACHE_MODE", mode)))
        .envs(identity.map(|url| ("ACTIONS_ID_TOKEN_REQUEST_URL", url)))
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", job.runner.job_token())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WITHIN, run).await.unwrap().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {stdout}\n{stderr}");
    stderr.lines().filter_map(|line| line.strip_prefix("held: ")).map(str::to_owned).collect()
}
