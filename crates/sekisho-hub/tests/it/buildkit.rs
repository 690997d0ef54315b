//! BuildKit's cache in the Actions service (`type=gha`), with `buildkitd` and `buildctl`.
//!
//! Both must be on the `PATH`, and whoever runs the tests must be root: a builder is started.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::storage;

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(180);

/// Why there is nothing to test with.
fn missing() -> Option<&'static str> {
    let runs = |program| std::process::Command::new(program).arg("--version").output().is_ok();
    if !(runs("buildkitd") && runs("buildctl") && runs("runc")) {
        return Some("buildkitd, buildctl and runc");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    (uid.split_whitespace().nth(1) != Some("0")).then_some("root")
}

fn socket(scratch: &Path) -> String {
    format!("unix://{}", scratch.join("buildkit.sock").display())
}

/// A builder of its own folder, which ends with the test.
async fn builder(scratch: &Path) -> Child {
    let mut command = Command::new("buildkitd");
    command
        .args(["--addr", &socket(scratch), "--root"])
        .arg(scratch.join("root"))
        .args(["--oci-worker-snapshotter=native", "--oci-worker-net=host"])
        .arg("--containerd-worker=false")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let child = command.spawn().unwrap();
    while !buildctl(scratch, &[], &["debug", "workers"]).await.status.success() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    child
}

async fn buildctl(scratch: &Path, env: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new("buildctl");
    command.args(["--addr", &socket(scratch)]).args(args).current_dir(scratch).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", scratch);
    command
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

/// What a build says.
async fn build(scratch: &Path, env: &[(&str, &str)], scope: &str, more: &[&str]) -> String {
    let import = format!("type=gha,scope={scope}");
    let export = format!("type=gha,scope={scope},mode=max,ignore-error=false");
    let mut args = vec!["build", "--progress=plain", "--frontend=dockerfile.v0"];
    args.extend(["--local=context=context", "--local=dockerfile=context"]);
    args.extend(["--import-cache", &import, "--export-cache", &export]);
    args.extend(more);
    let output = buildctl(scratch, env, &args).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_exported_and_imported() {
    if let Some(needs) = missing() {
        return crate::toolkit::skipped(needs);
    }
    let (world, folder) = storage::world().await;
    let job = storage::job(&world, &folder, "r1").await;
    let message = job.runner.message_of_job();
    let endpoint = message.system_connection().unwrap();
    let results = endpoint.data("ResultsServiceUrl").unwrap();
    // What a runner gives JavaScript actions; those that build hand it on.
    let env = [
        ("ACTIONS_RUNTIME_TOKEN", job.runner.job_token()),
        ("ACTIONS_RESULTS_URL", results),
        ("ACTIONS_CACHE_SERVICE_V2", "true"),
    ];
    let scratch = world.dir.path().join("buildkit");
    std::fs::create_dir_all(scratch.join("context")).unwrap();
    let dockerfile = "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one /a /b\n";
    std::fs::write(scratch.join("context/Dockerfile"), dockerfile).unwrap();
    // Nothing that could be compressed: it is uploaded in several blocks.
    let mut dice = 1_u64;
    let mut roll = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        dice.to_be_bytes()[0]
    };
    let content: Vec<u8> = (0..9_000_000).map(|_| roll()).collect();
    std::fs::write(scratch.join("context/a"), &content).unwrap();
    let work = async {
        let _builder = builder(&scratch).await;
        let first = build(&scratch, &env, "app", &[]).await;
        assert!(first.contains("exporting to GitHub Actions Cache"), "{first}");
        assert!(!first.contains("CACHED"), "{first}");
        let forgotten = buildctl(&scratch, &[], &["prune", "--all"]).await;
        assert!(forgotten.status.success());
        let output = "--output=type=local,dest=out";
        let second = build(&scratch, &env, "app", &[output]).await;
        assert!(second.contains("importing cache manifest from gha:"), "{second}");
        // The layer of the first stage is known to be there, and not fetched; that of the second is.
        assert!(second.contains("[one 1/1] COPY a /a\n#5 CACHED"), "{second}");
        assert!(second.contains("extracting sha256:"), "{second}");
        assert!(std::fs::read(scratch.join("out/b")).unwrap() == content);
        assert!(buildctl(&scratch, &[], &["prune", "--all"]).await.status.success());
        let other = build(&scratch, &env, "other", &[]).await;
        assert!(!other.contains("CACHED"), "a cache is found by its own name alone: {other}");
    };
    tokio::time::timeout(WITHIN, work).await.unwrap();
}
