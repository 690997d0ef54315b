//! `sekisho-fuzz`: runs targets for as long as is wanted. See docs/fuzzing.md.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, setrlimit};
use sekisho_fuzz::hunt::{holds, hunt};
use sekisho_fuzz::{Target, repository, table, targets};

const HELP: &str = "usage: cargo run -p sekisho-fuzz -- [TARGET…] [--seconds N] [--seed N]
                                     | TARGET --input FILE…
                                     | TARGET --write-seeds FOLDER
                                     | --table

  Runs each target (all, unless some are named) for N seconds, 10 unless said. The seed is printed;
  with the same seed the same inputs come again. An input that is found is written to
  target/fuzz/TARGET.found, the one that was run last to target/fuzz/TARGET.last: what ended the
  process is in there.";

/// Memory that the process may have, in bytes: a parser that wants more has no limit.
const MAX_MEMORY: u64 = 4 * 1024 * 1024 * 1024;
/// For how long one input may be computed. Nothing that is read here takes a second of an unoptimised build.
const MAX_TIME: Duration = Duration::from_secs(20);
/// What one input may take, however busy the machine is: who waits for this long waits for nothing.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// What was asked for.
#[derive(Debug, Default)]
struct Asked {
    targets: Vec<Target>,
    seconds: Option<u64>,
    seed: Option<u64>,
    inputs: Vec<PathBuf>,
    seeds: Option<PathBuf>,
    table: bool,
    help: bool,
}

#[expect(clippy::print_stderr, reason = "this is the program's terminal")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "what was found is the program's answer")]
fn run() -> anyhow::Result<()> {
    let asked = read(std::env::args().skip(1))?;
    if asked.help {
        println!("{HELP}");
        return Ok(());
    }
    if asked.table {
        let text = fs_err::read_to_string(table::page())?;
        let text = table::renewed(&text).context("docs/fuzzing.md has no place for a table")?;
        return Ok(fs_err::write(table::page(), text)?);
    }
    let chosen = if asked.targets.is_empty() { targets::all() } else { asked.targets };
    for target in &chosen {
        for file in &asked.inputs {
            let held = holds(target, &fs_err::read(file)?);
            held.map_err(anyhow::Error::msg).with_context(|| file.display().to_string())?;
            println!("{}: {} holds", target.name, file.display());
        }
        if let Some(folder) = &asked.seeds {
            fs_err::create_dir_all(folder)?;
            for (number, seed) in target.corpus()?.iter().enumerate() {
                fs_err::write(folder.join(number.to_string()), seed)?;
            }
        }
    }
    if !asked.inputs.is_empty() || asked.seeds.is_some() {
        return Ok(());
    }
    let limit = Rlimit { current: Some(MAX_MEMORY), maximum: Some(MAX_MEMORY) };
    setrlimit(Resource::As, limit).context("limiting memory")?;
    let folder = repository().join("target/fuzz");
    fs_err::create_dir_all(&folder)?;
    let seed = asked.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let time = Duration::from_secs(asked.seconds.unwrap_or(10));
    let mut found = 0;
    for target in &chosen {
        found += usize::from(!search(target, seed, time, &folder)?);
    }
    if found > 0 {
        bail!("{found} targets do not hold");
    }
    Ok(())
}

fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seconds" => asked.seconds = Some(value()?.parse().context("--seconds")?),
            "--seed" => asked.seed = Some(value()?.parse().context("--seed")?),
            "--write-seeds" => asked.seeds = Some(value()?.into()),
            "--input" => asked.inputs.push(value()?.into()),
            "--table" => asked.table = true,
            "--help" | "-h" => asked.help = true,
            name => match targets::named(name) {
                Some(target) => asked.targets.push(target),
                None if asked.inputs.is_empty() => bail!("no target `{name}`\n\n{HELP}"),
                None => asked.inputs.push(name.into()),
            },
        }
    }
    Ok(asked)
}

/// Whether nothing was found.
#[expect(clippy::print_stdout, reason = "what was found is the program's answer")]
fn search(target: &Target, seed: u64, time: Duration, folder: &Path) -> anyhow::Result<bool> {
    let last = File::create(folder.join(format!("{}.last", target.name)))?;
    let started = now();
    let watch = Watch::start(target.name);
    let done = hunt(target, seed, |round, input| {
        watch.0.store(round + 1, Ordering::Relaxed);
        // Before it is run: a stack that overflows, or memory that ends, leaves no time for it.
        last.set_len(0)?;
        last.write_all_at(input, 0)?;
        Ok(started.elapsed() < time)
    });
    match done {
        Ok(inputs) => println!("{}: {inputs} inputs of seed {seed} hold", target.name),
        Err(finding) => {
            let file = folder.join(format!("{}.found", target.name));
            fs_err::write(&file, &finding.input)?;
            println!("{finding}\nwritten to {}", file.display());
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ends the process when an input takes too long; [`Watch::0`] is the input that is run, from 1.
struct Watch(Arc<AtomicU64>);

impl Watch {
    fn start(name: &'static str) -> Self {
        let at = Arc::new(AtomicU64::new(0));
        let weak = Arc::downgrade(&at);
        // Not joined: it ends by itself soon after the hunt.
        std::thread::spawn(move || {
            let (mut before, mut since, mut used) = (0, now(), computed());
            while let Some(at) = weak.upgrade().map(|at| at.load(Ordering::Relaxed)) {
                if at != before {
                    (before, since, used) = (at, now(), computed());
                } else if since.elapsed() > MAX_WAIT || computed() > used + MAX_TIME {
                    too_long(name);
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        Self(at)
    }
}

/// For how long this process has computed; nothing where that is not said. A clock would blame an input
/// for what else runs on the machine.
fn computed() -> Duration {
    /// Of proc_pid_stat(5): the kernel counts a hundred a second for programs, whatever its own tick is.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
    // In front, in parentheses, is a name that may hold anything; `utime` and `stime` are fields 14 and 15.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    TICK * ticks
}

#[expect(clippy::print_stdout, reason = "what was found is the program's answer")]
fn too_long(name: &str) -> ! {
    println!(
        "target `{name}`: the input in target/fuzz/{name}.last is computed for longer than {MAX_TIME:?}, or takes {MAX_WAIT:?}"
    );
    std::process::abort()
}

#[expect(clippy::disallowed_methods, reason = "nothing here is asynchronous")]
fn now() -> Instant {
    Instant::now()
}
