//! Measures what the first issue promised, and writes `docs/benchmarks.md`.
//!
//! Every run's image is compared before a time is printed: a fast run that builds something else is
//! an error, not a result.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

pub(crate) mod build;
mod disk;
mod gate;
pub(crate) mod hub;
mod machine;
mod memory;
pub(crate) mod operator;
mod page;
pub(crate) mod runner;
mod stats;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use self::memory::Sampler;
use self::stats::Series;

/// Counted runs of what takes about a second.
const RUNS: usize = 15;

/// Runs that are not counted, first.
const WARM_UP: usize = 2;

/// Counted runs on an empty data folder.
const COLD_RUNS: usize = 5;

/// The example that needs no network: what the plane itself takes.
const SCRATCH: &str = "examples/scratch";

/// The README's first command: a base is made, packages are installed. Needs a mirror.
const HELLO: &str = "examples/hello";

/// How long the plane may take to be up.
const UP_DEADLINE: Duration = Duration::from_secs(20);

/// What one `sekisho run` told, and how long it took.
struct Run {
    wall: Duration,
    digest: String,
    /// From the job's place in the queue to the first line of its first step.
    first_line: Duration,
}

/// Runs every benchmark of this checkout.
pub(crate) fn run(fresh_clone: bool) -> anyhow::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("finding the checkout")?.to_owned();
    let fresh = fresh_clone.then(|| measure_fresh_clone(&root)).transpose()?;

    let status = crate::cargo()
        .args(["build", "--release", "--locked", "--package", "sekisho"])
        .current_dir(&root)
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the build failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let bench = Bench { program: target.join("release/sekisho"), root: root.clone() };

    let cold = bench.cold()?;
    let warm = bench.warm()?;
    let (first_line, memory) = bench.up()?;
    let (first, again) = bench.distribution()?;
    ensure!(cold.1 == warm.1, "a cold and a warm run built different images");
    let size = fs_err::metadata(&bench.program)?.len();

    let page = head(&Figures {
        cold: &cold.0,
        warm: &warm.0,
        first_line: &first_line,
        memory: &memory,
        first: &first,
        again: &again,
        fresh,
        binary_bytes: size,
    });
    page::write_head(&root, &page)
}

/// Runs the benchmarks of the gate; `quick` ones on the everyday build, to see that they work.
pub(crate) fn run_gate(quick: bool) -> anyhow::Result<()> {
    let (root, program) = program(quick)?;
    gate::run(&root, &program, quick)
}

/// The memory of the gate under a hundred uploads, as it ships.
pub(crate) fn run_gate_uploads() -> anyhow::Result<()> {
    gate::run_uploads(&program(false)?.1)
}

/// The same of the builder.
pub(crate) fn run_build(scope: build::Scope) -> anyhow::Result<()> {
    let (root, program) = program(scope == build::Scope::Quick)?;
    build::run(&root, &program, scope)
}

/// Names the program to measure when it is built already.
const PROGRAM: &str = "SEKISHO_BENCH_PROGRAM";

/// The checkout, and its program: the everyday build when `quick`, else as it ships.
fn program(quick: bool) -> anyhow::Result<(PathBuf, PathBuf)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.parent().context("finding the checkout")?.to_owned();
    if let Some(program) = std::env::var_os(PROGRAM) {
        return Ok((root, program.into()));
    }
    let mut arguments = vec!["build", "--locked", "--package", "sekisho"];
    arguments.extend(["--profile", if quick { "dev" } else { "dist" }]);
    let status = crate::cargo().args(arguments).current_dir(&root).status();
    ensure!(status.context("starting cargo")?.success(), "the build failed");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let profile = if quick { "debug" } else { "dist" };
    Ok((root, target.join(profile).join("sekisho")))
}

/// To the terminal of who asked.
#[expect(clippy::print_stdout, reason = "this is the chore's answer")]
fn print(text: &str) -> anyhow::Result<()> {
    println!("{text}");
    Ok(())
}

/// Where a long benchmark is.
#[expect(clippy::print_stderr, reason = "for who waits for this chore")]
fn progress(text: &str) {
    eprintln!("{text}");
}

struct Bench {
    root: PathBuf,
    program: PathBuf,
}

impl Bench {
    /// A new data folder for each run: nothing is cached.
    fn cold(&self) -> anyhow::Result<(Series, String)> {
        let mut series = Series::default();
        let mut digests = Vec::new();
        for _ in 0..COLD_RUNS {
            let data = tempfile::tempdir().context("making a data folder")?;
            let run = self.example(SCRATCH, data.path())?;
            series.push(run.wall);
            digests.push(run.digest);
        }
        Ok((series, one_of(digests)?))
    }

    /// `sekisho run` again and again on one data folder, each with a plane of its own.
    fn warm(&self) -> anyhow::Result<(Series, String)> {
        let data = tempfile::tempdir().context("making a data folder")?;
        let mut series = Series::default();
        let mut digests = Vec::new();
        for number in 0..WARM_UP + RUNS {
            let run = self.example(SCRATCH, data.path())?;
            digests.push(run.digest);
            if number >= WARM_UP {
                series.push(run.wall);
            }
        }
        Ok((series, one_of(digests)?))
    }

    /// Runs on a plane that is up: from queue to first line, and the memory of all of it.
    fn up(&self) -> anyhow::Result<(Series, Series)> {
        let data = tempfile::tempdir().context("making a data folder")?;
        let plane = Plane::start(&self.program, data.path())?;
        let (mut first_line, mut memory) = (Series::default(), Series::default());
        for number in 0..WARM_UP + RUNS {
            let sampler = Sampler::start(plane.process.id());
            let run = self.example(SCRATCH, data.path())?;
            let peak = sampler.peak()?;
            if number >= WARM_UP {
                first_line.push(run.first_line);
                memory.push_bytes(peak);
            }
        }
        Ok((first_line, memory))
    }

    /// The example with a distribution: the first run on an empty data folder, downloads included, and
    /// later ones, which must have the same image.
    fn distribution(&self) -> anyhow::Result<(Series, Series)> {
        let data = tempfile::tempdir().context("making a data folder")?;
        let (mut first, mut again) = (Series::default(), Series::default());
        let mut digests = Vec::new();
        for number in 0..=RUNS {
            let run = self.example(HELLO, data.path())?;
            digests.push(run.digest);
            let series = if number == 0 { &mut first } else { &mut again };
            series.push(run.wall);
        }
        one_of(digests)?;
        Ok((first, again))
    }

    fn example(&self, example: &str, data: &Path) -> anyhow::Result<Run> {
        let began = Instant::now();
        let answer = self.json(data, &["run", example, "--port", "0"])?;
        let wall = began.elapsed();
        let run = answer.pointer("/runs/0").context("the answer has no run")?;
        let id = run.pointer("/id").and_then(Value::as_u64).context("the run has no id")?;
        let queued = run.pointer("/jobs/0/queued_at").and_then(Value::as_str);
        let digest = answer.pointer("/images/0/digest").and_then(Value::as_str);

        let log = self.json(data, &["logs", &id.to_string()])?;
        let lines = log.pointer("/jobs/0/lines").and_then(Value::as_array);
        let first = lines.and_then(|lines| first_step_line(lines));
        Ok(Run {
            wall,
            digest: digest.context("the run pushed no image")?.to_owned(),
            first_line: stats::between(
                queued.context("the job was never queued")?,
                first.context("the log has no step")?,
            )?,
        })
    }

    fn json(&self, data: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = Command::new(&self.program)
            .args(arguments)
            .args(["--output", "json", "--quiet", "--data-dir"])
            .arg(data)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .output()
            .context("starting sekisho")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`sekisho {}` failed: {errors}", arguments.join(" "));
        serde_json::from_slice(&output.stdout).context("reading sekisho's answer")
    }
}

/// The time in front of the first line of the workflow's first step: the line behind the last of
/// `Set up job`, which is the runner's own.
fn first_step_line(lines: &[Value]) -> Option<&str> {
    let mut lines = lines.iter().filter_map(Value::as_str);
    lines.find(|line| line.contains(" Complete job name: "))?;
    lines.next()?.split(' ').next()
}

/// A plane that is up, until it is dropped.
struct Plane {
    process: Child,
}

impl Plane {
    fn start(program: &Path, data: &Path) -> anyhow::Result<Self> {
        let process = Command::new(program)
            .args(["up", "--quiet", "--port", "0", "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .spawn()
            .context("starting the plane")?;
        let plane = Self { process };
        let began = Instant::now();
        while !data.join("plane.json").exists() {
            if began.elapsed() > UP_DEADLINE {
                bail!("the plane is not up after {} s", UP_DEADLINE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(plane)
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // SIGTERM by the tool that every system has: std can only kill.
        let pid = self.process.id().to_string();
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.process.wait();
    }
}

/// From `git clone` to the end of the README's first command, downloads included.
fn measure_fresh_clone(root: &Path) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir().context("making a folder for the clone")?;
    let clone = folder.path().join("sekisho");
    let began = Instant::now();
    let cloned = Command::new("git").arg("clone").arg("--quiet").arg(root).arg(&clone).status()?;
    ensure!(cloned.success(), "the clone failed");
    let status = crate::cargo()
        .args(["run", "--release", "--quiet", "--", "run", HELLO, "--data-dir"])
        .arg(folder.path().join("data"))
        .current_dir(&clone)
        .env("CARGO_HOME", folder.path().join("cargo"))
        .env("CARGO_TARGET_DIR", folder.path().join("target"))
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the first run failed");
    Ok(began.elapsed())
}

/// All of them, if they are the same.
fn one_of(mut digests: Vec<String>) -> anyhow::Result<String> {
    digests.dedup();
    match digests.as_slice() {
        [digest] => Ok(digest.clone()),
        _ => bail!("runs of one commit built different images: {}", digests.join(", ")),
    }
}

struct Figures<'a> {
    cold: &'a Series,
    warm: &'a Series,
    first_line: &'a Series,
    memory: &'a Series,
    first: &'a Series,
    again: &'a Series,
    fresh: Option<Duration>,
    binary_bytes: u64,
}

fn head(figures: &Figures<'_>) -> String {
    let Figures { cold, warm, first_line, memory, first, again, fresh, binary_bytes } = figures;
    let fresh = match fresh {
        Some(took) => format!("{:.1} min", took.as_secs_f64() / 60.0),
        None => "not measured in this run".to_owned(),
    };
    let mib = 1024.0 * 1024.0;
    format!(
        "# Benchmarks

Written by `cargo xtask bench`; never by hand. Each figure is minimum / median / maximum over the counted
runs; the images of all runs were compared and are the same.

Machine: {}

| what | measured | promised |
|---|---|---|
| queue to first step's first line, plane up | {} | median ≤ 300 ms |
| `sekisho run examples/scratch`, warm, all included | {} | median ≤ 2 s |
| the same on an empty data folder | {} | - |
| `sekisho run examples/hello`, warm | {} | - |
| the same for the first time: a Debian made of its packages, then `apt-get install` | {} | - |
| peak memory of the plane, runner and build included (sum of PSS) | {} | ≤ 150 MiB |
| fresh clone to first result, downloads included | {fresh} | ≤ 10 min |
| size of the release binary | {:.1} MiB | - |

Runs counted: {} warm, {} cold, after {WARM_UP} that were not.
",
        machine::describe(),
        first_line.milliseconds(),
        warm.milliseconds(),
        cold.milliseconds(),
        again.milliseconds(),
        first.milliseconds(),
        memory.mebibytes(),
        f64::from(u32::try_from(*binary_bytes).unwrap_or(u32::MAX)) / mib,
        warm.len(),
        cold.len(),
    )
}
