//! A process that is nothing but a runner: environment, standard output, SIGTERM.
//!
//! The process is this test binary again, told by a variable to be a runner.

use std::path::PathBuf;
use std::process::Stdio;

use std::time::Duration;

use secrecy::ExposeSecret as _;
use sekisho_runner::process;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};

use crate::fixture::{Fixture, Job, blob, run, run_if};

const ROOT: &str = "SEKISHO_TEST_RUNNER_ROOT";
/// Milliseconds.
const GRACE: &str = "SEKISHO_TEST_RUNNER_GRACE";

/// Not a test of its own: the runner of the tests below.
#[test]
fn as_runner() {
    let Some((_, root)) = std::env::vars_os().find(|(name, _)| name == ROOT) else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let grace = std::env::vars().find(|(name, _)| name == GRACE);
    let grace =
        grace.map_or(process::STOP_GRACE, |(_, ms)| Duration::from_millis(ms.parse().unwrap()));
    let running = process::run(None, PathBuf::from(root), "0.0.0".to_owned(), grace);
    let outcome = runtime.block_on(running).unwrap();
    assert_eq!(outcome.exit_code(), 0);
}

fn spawn(fixture: &Fixture) -> tokio::process::Child {
    command(fixture).spawn().unwrap()
}

fn command(fixture: &Fixture) -> tokio::process::Command {
    let mut command = runner(fixture, blob(&fixture.server.url).expose_secret());
    command.env("SEKISHO_RUNNER_TRACKING", "mark-1");
    command
}

/// A process that is a runner of this registration.
pub(crate) fn runner(fixture: &Fixture, jit: &str) -> tokio::process::Command {
    let program = tokio::process::Command::new(std::env::current_exe().unwrap());
    as_program(program, fixture, jit)
}

/// The rest of a command that begins with this test binary.
fn as_program(
    mut command: tokio::process::Command,
    fixture: &Fixture,
    jit: &str,
) -> tokio::process::Command {
    let path = std::env::vars_os().find(|(name, _)| name == "PATH").unwrap().1;
    command
        .args(["--exact", "process::as_runner", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env("PATH", path)
        .env("HOME", fixture.root.path())
        .env(ROOT, fixture.root.path().join("root"))
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", jit)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Reads the output until it has `text`.
async fn read_until(stdout: &mut BufReader<ChildStdout>, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        assert!(stdout.read_line(&mut all).await.unwrap() > 0, "no `{text}` in:\n{all}");
    }
    all
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
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

/// A plane that was started with `nohup` has steps that can be interrupted all the same.
#[tokio::test]
async fn a_step_ignores_no_signal_though_its_runner_was_started_so() {
    let fixture = Fixture::new().await;
    fixture.set_job(&Job::new([run("look", "grep SigIgn /proc/self/status")]));
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", "trap '' HUP INT QUIT USR1; exec \"$@\"", "sh"]);
    shell.arg(std::env::current_exe().unwrap());
    let mut command = as_program(shell, &fixture, blob(&fixture.server.url).expose_secret());
    let output = command.output().await.unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    let ignored = stdout.lines().find_map(|line| line.split_once("SigIgn:\t")).unwrap().1;
    // Of the 31 of the standard; those above are the C library's own.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0, "{stdout}");
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
    let mut text = read_until(&mut stdout, "Z started\n").await;
    terminate(&child);
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

/// The result, the last lines and the state of every step got out, though the job was killed.
fn assert_reported(fixture: &Fixture, step: &str, last: &str) {
    let told = fixture.server.told.lock().unwrap();
    assert_eq!(told.complete.as_ref().unwrap()["conclusion"], json!("canceled"));
    let log = &told.blobs[&format!("log-{}", crate::fixture::id(step))];
    assert!(String::from_utf8_lossy(log).contains(last), "{}", String::from_utf8_lossy(log));
    let states = told.updates.last().unwrap()["steps"].as_array().unwrap();
    assert!(states.iter().all(|step| step["status"] == json!(6)), "{states:?}");
    assert_eq!(told.calls.last().map(String::as_str), Some("delete session"));
}

#[tokio::test]
async fn a_second_sigterm_kills_what_runs_and_the_result_is_reported_all_the_same() {
    let fixture = Fixture::new().await;
    let stubborn = "trap 'echo got INT' INT; trap '' TERM; echo started; \
                    while true; do sleep 0.1 || true; done";
    fixture.set_job(&Job::new([
        run("stubborn", stubborn),
        run_if("always", "always()", "echo must not start"),
    ]));
    let mut child = spawn(&fixture);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut stdout, "Z started\n").await;
    terminate(&child);
    read_until(&mut stdout, "Z got INT\n").await;
    terminate(&child);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
    assert!(child.wait().await.unwrap().success(), "{rest}");
    assert!(!rest.contains("Z must not start\n"), "{rest}");
    assert_reported(&fixture, "stubborn", "got INT");
}

#[tokio::test]
async fn what_runs_after_sigterm_has_its_grace_and_no_more() {
    let fixture = Fixture::new().await;
    fixture.set_job(&Job::new([
        run("long", "echo started; sleep 300"),
        run_if("always", "always()", "echo cleaning; sleep 300"),
        run_if("later", "always()", "echo must not start"),
    ]));
    let mut child = command(&fixture).env(GRACE, "3000").spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    read_until(&mut stdout, "Z started\n").await;
    terminate(&child);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.unwrap();
    assert!(child.wait().await.unwrap().success(), "{rest}");
    assert!(!rest.contains("Z must not start\n"), "{rest}");
    assert_reported(&fixture, "always", "cleaning");
}

#[tokio::test]
async fn a_signal_while_it_waits_for_a_job_ends_it_at_once() {
    let fixture = Fixture::new().await;
    fixture.server.keep_waiting();
    let mut child = spawn(&fixture);
    fixture.server.until("waiting").await;
    terminate(&child);
    assert!(child.wait().await.unwrap().success());
    let told = fixture.server.told.lock().unwrap();
    assert_eq!(told.calls.last().map(String::as_str), Some("delete session"));
}
