//! The operator: runners for a burst of jobs, how soon they are gone, and what a lost operator costs.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::stats::Series;
use super::{machine, page};

/// Builds the operator as it ships, measures it, and writes its section of `docs/benchmarks.md`; with
/// `quick`, a tenth of it, of the everyday build, to the terminal.
pub(crate) fn run(quick: bool) -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("finding the checkout")?.to_owned();
    let mut command = crate::cargo();
    command.args(["bench", "--profile", if quick { "dev" } else { "dist" }, "--locked", "--quiet"]);
    command.args(["--package", "sekisho-operator", "--bench", "operator"]);
    if quick {
        command.args(["--", "--quick"]);
    }
    let output = command.current_dir(&root).stderr(Stdio::inherit()).output();
    let output = output.context("starting cargo")?;
    ensure!(output.status.success(), "the benchmark failed");
    let text = String::from_utf8(output.stdout).context("reading the benchmark's answer")?;
    let answer = text.lines().rev().find(|line| line.starts_with('{'));
    let answer: Value = serde_json::from_str(answer.context("the benchmark gave no answer")?)?;
    let section = section(&answer)?;
    if quick {
        #[expect(clippy::print_stdout, reason = "this is the chore's terminal")]
        {
            println!("{section}");
        }
        return Ok(());
    }
    page::write_section(&root, "Operator", &section)
}

fn section(answer: &Value) -> anyhow::Result<String> {
    let servers = answer.get("servers").and_then(Value::as_array).context("no `servers`")?;
    let columns = servers.iter().map(column).collect::<anyhow::Result<Vec<Column>>>()?;
    let first = servers.first().context("nothing was measured")?;
    let of = |name: &str| first.get(name).and_then(Value::as_u64).unwrap_or(0);
    let rows = [
        (format!("{} jobs pushed to as many pods created", of("burst_jobs")), "≤ 15 s"),
        (
            "a job's end to its Runner and pod gone, 50 a second: p50 / p99 / most".to_owned(),
            "p50 ≤ 300 ms, p99 ≤ 2 s",
        ),
        (
            format!(
                "jobs a second, {} pushed, from the push to nothing left",
                of("sustained_jobs")
            ),
            "≥ 100",
        ),
        ("writes to the API server a runner, those of its set included".to_owned(), "≤ 8"),
        ("reads from it a runner, beside the watches".to_owned(), "-"),
        ("runners that were one too many, of all of these".to_owned(), "0"),
        (
            format!(
                "the operator killed with {} jobs under way: until the other makes a pod",
                of("fail_over_jobs") / 2
            ),
            "≤ 15 s",
        ),
        (
            format!("peak resident memory of the operator, {} runners", of("runners")),
            "≤ 512 MiB at 10,000",
        ),
    ];
    let mut text = format!(
        "Written by `cargo xtask bench operator`. Hub, API server and each operator are processes of their own on
one machine; kubelets and runners are played by another, which speaks the runner's wire with the hub; the hub
gives all of them one key pair, for to make pairs would be most of what is measured. Before a time is told it
was checked that each job ran once, and that no Runner, pod, secret or registration is left.

Machine: {}

| what |",
        machine::describe()
    );
    for column in &columns {
        text.push_str(&format!(" {} |", column.name));
    }
    text.push_str(" promised |\n|---|---|");
    text.push_str(&"---|".repeat(columns.len()));
    for (number, (what, promised)) in rows.iter().enumerate() {
        text.push_str(&format!("\n| {what} |"));
        for column in &columns {
            text.push_str(&format!(" {} |", column.cells[number]));
        }
        text.push_str(&format!(" {promised} |"));
    }
    text.push('\n');
    Ok(text)
}

/// What was measured on one API server.
struct Column {
    name: String,
    cells: [String; 8],
}

fn column(server: &Value) -> anyhow::Result<Column> {
    let number = |name: &str| -> anyhow::Result<u64> {
        let number = server.get(name).and_then(Value::as_u64);
        number.with_context(|| format!("the answer has no `{name}`"))
    };
    let name = server.get("server").and_then(Value::as_str).context("no `server`")?.to_owned();
    let mut removed = Series::default();
    for us in server.get("removed_us").and_then(Value::as_array).context("no `removed_us`")? {
        removed.push(Duration::from_micros(us.as_u64().context("a time that is no number")?));
    }
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let calls = |name: &str| {
        let calls = server.get(name).and_then(Value::as_object)?;
        Some(calls.values().filter_map(Value::as_u64).sum::<u64>() as f64)
    };
    let (jobs, took) = (number("sustained_jobs")?, seconds(number("sustained_ms")?));
    let cells = [
        format!("{:.1} s", seconds(number("burst_ms")?)),
        removed.percentiles(),
        format!("{:.0}", jobs as f64 / took),
        calls("writes").map_or("-".to_owned(), |calls| format!("{:.2}", calls / jobs as f64)),
        calls("reads").map_or("-".to_owned(), |calls| format!("{:.2}", calls / jobs as f64)),
        number("surplus")?.to_string(),
        format!("{:.1} s", seconds(number("fail_over_ms")?)),
        format!("{} MiB", number("resident_bytes")?.div_ceil(1024 * 1024)),
    ];
    Ok(Column { name, cells })
}
