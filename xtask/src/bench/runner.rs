//! The runner: how soon it has its job, what it weighs, how fast a log goes through it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::stats::Series;
use super::{machine, page};

/// Where a static program can be built: `rustup target add` it.
const STATIC: &str = "x86_64-unknown-linux-musl";

/// Builds the runner as it ships, measures it, and writes its section of `docs/benchmarks.md`.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("finding the checkout")?.to_owned();
    let mut cargo = crate::cargo();
    cargo.args(["bench", "--profile", "dist", "--locked", "--quiet"]);
    cargo.args(["--package", "sekisho-runner", "--bench", "runner"]);
    if has_target(STATIC) {
        cargo.args(["--target", STATIC]);
    }
    let output = cargo.current_dir(&root).stderr(Stdio::inherit()).output();
    let output = output.context("starting cargo")?;
    ensure!(output.status.success(), "the benchmark failed");
    let text = String::from_utf8(output.stdout).context("reading the benchmark's answer")?;
    let answer = text.lines().rev().find(|line| line.starts_with('{'));
    let answer: Value = serde_json::from_str(answer.context("the benchmark gave no answer")?)?;
    page::write_section(&root, "Runner", &section(&answer)?)
}

fn has_target(target: &str) -> bool {
    let output =
        Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|output| {
        let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success() && PathBuf::from(folder).is_dir()
    })
}

fn section(answer: &Value) -> anyhow::Result<String> {
    let numbers = |name: &str| -> anyhow::Result<Vec<u64>> {
        let list = answer.get(name).and_then(Value::as_array);
        let list = list.with_context(|| format!("the answer has no `{name}`"))?;
        Ok(list.iter().filter_map(Value::as_u64).collect())
    };
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    let times = |name: &str| -> anyhow::Result<Series> {
        let mut series = Series::default();
        numbers(name)?.into_iter().for_each(|us| series.push(Duration::from_micros(us)));
        Ok(series)
    };
    let mut idle = Series::default();
    numbers("idle_resident_bytes")?.into_iter().for_each(|bytes| idle.push_bytes(bytes));
    let lines = number("log_lines");
    let mut rate = Series::default();
    for us in numbers("log_step_us")? {
        rate.push_bytes(lines * 1_000_000 / us.max(1));
    }
    let start = times("start_to_acquired_us")?;
    let is_static = answer.get("program_is_static").and_then(Value::as_bool) == Some(true);
    Ok(format!(
        "Written by `cargo xtask bench runner`, against services in the same process as the benchmark. What
came out of standard output, the uploaded log and the live log was compared line by line before a time
was taken.

Machine: {}

| what | measured | promised |
|---|---|---|
| process start to job acquired, {} starts | {} | median ≤ 100 ms |
| resident memory while it waits for a job | {} | ≤ 30 MiB |
| log lines a second, a step that writes {lines} | {} | ≥ 200,000 |
| the whole job with that log, uploads included | {} | - |
| the program, {} | {:.1} MiB | static |
",
        machine::describe(),
        start.len(),
        start.milliseconds(),
        idle.mebibytes(),
        rate.plain(),
        times("log_job_us")?.milliseconds(),
        if is_static { "static" } else { "NOT static: the target is not installed" },
        f64::from(u32::try_from(number("program_bytes")).unwrap_or(u32::MAX)) / (1024.0 * 1024.0),
    ))
}
