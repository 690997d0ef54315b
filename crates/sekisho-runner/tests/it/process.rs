//! A process that is nothing but a runner: environment, standard output, SIGTERM.
//!
//! The process is this test binary again, told by a variable to be a runner.

use std::path::PathBuf;
use std::process::Stdio;

use secrecy::ExposeSecret as _;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::fixture::{Fixture, Job, blob, run, run_if};

const ROOT: &str = "SEKISHO_TEST_RUNNER_ROOT";

/// Not a test of its own: the runner of the tests below.
#[test]
fn as_runner() {
    let Some((_, root)) = std::env::vars_os().find(|(name, _)| name == ROOT) else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = sekisho_runner::process::run(None, PathBuf::from(root), "0.0.0".to_owned());
    let outcome = runtime.block_on(running).unwrap();
    assert_eq!(outcome.exit_code(), 0);
}

fn spawn(fixture: &Fixture) -> tokio::process::Child {
    let path = std::env::vars_os().find(|(name, _)| name == "PATH").unwrap().1;
    tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::as_runner", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env("PATH", path)
        .env("HOME", fixture.root.path())
        .env(ROOT, fixture.root.path().join("root"))
        .env("SEKISHO_RUNNER_TRACKING", "mark-1")
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", blob(&fixture.server.url).expose_secret())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn the_log_is_on_stdout_and_the_configuration_nowhere() {
    let fixture = Fixture::new().await;
    let jit = blob(&fixture.server.url);
    let script = "env | grep JITCONFIG || echo none; echo \"mark $SEKISHO_RUNNER_TRACKING\"";
    fixture.set_job(&Job::new([run("look", script)]));
    let output = spawn(&fixture).wait_with_output().await.unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    let lines: Vec<&str> =
        stdout.lines().filter_map(|l| l.split_once("Z ")).map(|(_, t)| t).collect();
    assert!(lines.contains(&"mark mark-1"), "{stdout}");
    assert!(lines.contains(&"none"), "{stdout}");
    assert!(!stdout.contains(jit.expose_secret()));
    assert!(!stdout.contains("JITCONFIG="));
}

#[tokio::test]
async fn sigterm_cancels_the_job_and_its_end_is_reported() {
    let fixture = Fixture::new().await;
    fixture.set_job(&Job::new([
        run(
            "long",
            "trap 'echo got INT; exit 1' INT; echo started; while true; do sleep 0.1; done",
        ),
        run_if("always", "always()", "echo cleaned up"),
    ]));
    let mut child = spawn(&fixture);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("Z started\n") {
        assert!(stdout.read_line(&mut text).await.unwrap() > 0, "{text}");
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    stdout.read_to_string(&mut text).await.unwrap();
    assert!(child.wait().await.unwrap().success(), "{text}");
    for line in ["got INT", "cleaned up", "##[error]The operation was canceled."] {
        assert!(text.contains(&format!("Z {line}\n")), "no `{line}` in:\n{text}");
    }
    let told = fixture.server.told.lock().unwrap();
    assert_eq!(told.complete.as_ref().unwrap()["conclusion"], json!("canceled"));
    let log = &told.blobs[&format!("log-{}", crate::fixture::id("long"))];
    assert!(String::from_utf8_lossy(log).contains("got INT"));
}
