//! The hub: how many jobs and listeners at once, and how soon a job is heard of.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::stats::Series;
use super::{machine, page};

/// Builds the hub as it ships, measures it, and writes its section of `docs/benchmarks.md`.
pub(crate) fn run() -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("finding the checkout")?.to_owned();
    let output = crate::cargo()
        .args(["bench", "--profile", "dist", "--locked", "--quiet"])
        .args(["--package", "sekisho-hub", "--bench", "hub"])
        .current_dir(&root)
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    ensure!(output.status.success(), "the benchmark failed");
    let text = String::from_utf8(output.stdout).context("reading the benchmark's answer")?;
    let answer = text.lines().rev().find(|line| line.starts_with('{'));
    let answer: Value = serde_json::from_str(answer.context("the benchmark gave no answer")?)?;
    page::write_section(&root, "Hub", &section(&answer)?)
}

fn section(answer: &Value) -> anyhow::Result<String> {
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    let times = |name: &str| -> anyhow::Result<Series> {
        let list = answer.get(name).and_then(Value::as_array);
        let mut series = Series::default();
        for us in list.with_context(|| format!("the answer has no `{name}`"))? {
            series.push(Duration::from_micros(us.as_u64().unwrap_or(u64::MAX)));
        }
        Ok(series)
    };
    let (flood, late) = (times("flood_us")?, times("late_us")?);
    Ok(format!(
        "Written by `cargo xtask bench hub`. The hub is one process, its {} listeners, each with a scale set and a
long poll of its own, are another on the same machine. Before a time was taken it was checked that every
job was heard of once, by the listener of its set.

Machine: {}

| what | measured | promised |
|---|---|---|
| peak resident memory, {} jobs waiting, {} long polls | {} MiB | ≤ 512 MiB |
| job queued to message in the listener's hands, 100 jobs/s, {} jobs: p50 / p99 / most | {} | p99 ≤ 50 ms |
| the same when all {} come as fast as they can | {} | - |
",
        number("listeners"),
        machine::describe(),
        number("jobs_waiting"),
        number("listeners"),
        number("peak_resident_bytes").div_ceil(1024 * 1024),
        late.len(),
        late.percentiles(),
        flood.len(),
        flood.percentiles(),
    ))
}
