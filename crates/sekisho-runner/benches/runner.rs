//! Measures the runner's program against the services of the tests. The answer is one JSON object on
//! standard output; `cargo xtask bench runner` writes the page.
//!
//! What came out is compared before a time is told: a fast run that loses a line is an error.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark may fail, prints its answer and reads the clock"
)]

#[path = "../tests/it/cable.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod cable;
#[path = "../tests/it/fixture.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod fixture;
#[path = "../tests/it/git.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod git;
#[path = "../tests/it/server.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod server;
#[path = "../tests/it/tenant.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, which use more of it")]
mod tenant;

use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use fixture::{Fixture, Job, blob, id, run};

/// Counted starts, after [`WARM_UP`] that are not.
const STARTS: usize = 15;
const WARM_UP: usize = 2;
/// Counted runs of the large log.
const LOGS: usize = 3;
const LINES: usize = 1_000_000;
/// How long the runner waits for a job before its memory is looked at: all threads have settled.
const SETTLE: Duration = Duration::from_secs(2);

fn main() {
    let program = Path::new(env!("CARGO_BIN_EXE_sekisho-runner"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let mut starts = Vec::new();
        for number in 0..WARM_UP + STARTS {
            let took = start(program).await;
            if number >= WARM_UP {
                starts.push(micros(took));
            }
        }
        let (mut idle, mut steps, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..LOGS {
            idle.push(idle_bytes(program).await);
            let (step, job) = log(program).await;
            steps.push(micros(step));
            jobs.push(micros(job));
        }
        json!({"start_to_acquired_us": starts, "idle_resident_bytes": idle, "log_lines": LINES,
            "log_step_us": steps, "log_job_us": jobs,
            "program_bytes": std::fs::metadata(program).unwrap().len(),
            "program_is_static": is_static(program)})
    });
    println!("{answer}");
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap()
}

fn spawn(program: &Path, fixture: &Fixture, output: Stdio) -> Child {
    Command::new(program)
        .arg("--root")
        .arg(fixture.root.path().join("root"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", fixture.root.path())
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", blob(&fixture.server.url).expose_secret())
        .stdin(Stdio::null())
        .stdout(output)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// From before the process is made to when the services are asked for the job.
async fn start(program: &Path) -> Duration {
    let fixture = Fixture::new().await;
    fixture.set_job(&Job::new([run("hello", "echo hello")]));
    let _ = blob(&fixture.server.url);
    let began = Instant::now();
    let mut child = spawn(program, &fixture, Stdio::null());
    let took = loop {
        let changed = fixture.server.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if fixture.server.told.lock().unwrap().calls.iter().any(|call| call == "acquire") {
            break began.elapsed();
        }
        changed.await;
    };
    assert!(child.wait().await.unwrap().success());
    let told = fixture.server.told.lock().unwrap();
    assert_eq!(told.complete.as_ref().unwrap()["conclusion"], json!("succeeded"));
    took
}

/// Resident memory of a runner that waits for a job.
async fn idle_bytes(program: &Path) -> u64 {
    let fixture = Fixture::new().await;
    fixture.server.keep_waiting();
    let mut child = spawn(program, &fixture, Stdio::null());
    fixture.server.until("waiting").await;
    tokio::time::sleep(SETTLE).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    child.kill().await.unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// A step that writes a million lines: how long the step took by the runner's own account, and how long
/// the whole process.
async fn log(program: &Path) -> (Duration, Duration) {
    let fixture = Fixture::new().await;
    let text = fixture.root.path().join("lines.txt");
    let mut file = BufWriter::new(std::fs::File::create(&text).unwrap());
    for number in 0..LINES {
        writeln!(file, "line {number} of a log that is neither short nor very long").unwrap();
    }
    file.flush().unwrap();
    fixture.set_job(&Job::new([run("lines", &format!("cat '{}'", text.display()))]));
    let out = fixture.root.path().join("stdout.txt");
    let began = Instant::now();
    let output = Stdio::from(std::fs::File::create(&out).unwrap());
    let mut child = spawn(program, &fixture, output);
    assert!(child.wait().await.unwrap().success());
    let job = began.elapsed();
    let want = std::fs::read(&text).unwrap();
    assert!(bare(&std::fs::read(&out).unwrap()) == want, "standard output lost something");
    let told = fixture.server.told.lock().unwrap();
    let uploaded = &told.blobs[&format!("log-{}", id("lines"))];
    assert!(bare(uploaded) == want, "the uploaded log lost something");
    let complete = told.complete.as_ref().unwrap();
    assert_eq!(complete["telemetry"], json!([]), "the live log lost something");
    let live: usize = told.feed.iter().map(|frame| frame["value"].as_array().unwrap().len()).sum();
    let stdout_lines = std::fs::read(&out).unwrap().iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(live, stdout_lines, "the live log lost something");
    (step_time(complete), job)
}

/// The lines that came from the file, without their times.
fn bare(log: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(log.len());
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        if let Some(line) = line.get(29..).filter(|line| line.starts_with(b"line ")) {
            text.extend_from_slice(line);
        }
    }
    text
}

fn step_time(complete: &Value) -> Duration {
    let steps = complete["stepResults"].as_array().unwrap();
    let step = steps.iter().find(|step| step["external_id"] == json!(id("lines"))).unwrap();
    let time = |key: &str| step[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    time("completed_at").duration_since(time("started_at")).unsigned_abs()
}

/// Whether the program needs no other file to run: it names no interpreter.
fn is_static(program: &Path) -> bool {
    let bytes = std::fs::read(program).unwrap();
    let word = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let headers = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into().unwrap())).unwrap();
    let (size, count) = (word(54), word(56));
    // PT_INTERP is 3.
    (0..count).all(|n| word(headers + n * size) != 3)
}
