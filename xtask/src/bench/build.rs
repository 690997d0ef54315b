//! `bench build`: the builder beside buildah and docker.io's BuildKit, both as Debian has them.
//!
//! ```text
//!  w1  COPY of a source tree, RUNs over it, COPY of an application, RUN over that
//!  w2  ten small RUNs                       w3  one large COPY
//!  w4  a RUN that computes: engines can only get in its way
//! ```
//!
//! Rounds are interleaved, so that what else the machine does meets all engines alike. Every build pulls its
//! base from a registry of this machine and pushes to it; a time counts only when the image has the same
//! files and the same config as the others'.

mod compare;
mod peers;
mod workloads;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use self::peers::{Engine, Registry};
use self::workloads::{Size, Workload};
use super::disk::{self, Disk};
use super::memory::Sampler;
use super::stats::Series;
use super::{machine, page};

/// Counted rounds.
const ROUNDS: usize = 3;

/// What of a build is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Case {
    Cold,
    NoChange,
    OneFile,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::NoChange => "no change",
            Self::OneFile => "one file changed",
        }
    }

    /// How many times faster than BuildKit, and than buildah, is promised.
    ///
    /// Of buildah it is "cold" and "warm", and warm is a build in which nothing changed: its promise was made of
    /// a measured 3.8 to 5.1 s of buildah's against 0.07 s, which are figures of that case. Where a file
    /// changed, nothing is promised.
    fn promised(self, workload: &str) -> (f64, Option<f64>) {
        match (self, workload) {
            (_, "w4") => (1.0, Some(1.0)),
            (Self::Cold, "w1") => (3.0, Some(5.0)),
            (Self::Cold, "w2") => (3.5, Some(5.0)),
            (Self::Cold, _) => (2.5, Some(5.0)),
            (Self::NoChange, _) => (6.0, Some(30.0)),
            (Self::OneFile, _) => (4.0, None),
        }
    }
}

/// By workload, case and engine.
type Times = BTreeMap<(&'static str, Case, &'static str), Series>;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All; the section is written.
    All,
    /// Little work and one round, to the terminal.
    Quick,
    /// One workload as large as it is, and the peak of memory where it is w3; to the terminal.
    Only(&'static str),
}

impl Scope {
    /// That of a workload.
    ///
    /// # Errors
    /// There is no such workload.
    pub(crate) fn only(name: &str) -> anyhow::Result<Self> {
        let known = workloads::NAMES.into_iter().find(|known| *known == name);
        let known = known.with_context(|| format!("the workloads are {:?}", workloads::NAMES))?;
        Ok(Self::Only(known))
    }
}

/// Measures, and writes the section, or prints it.
pub(super) fn run(root: &Path, program: &Path, scope: Scope) -> anyhow::Result<()> {
    let folder = Disk::new()?;
    let registry = Registry::start(folder.path())?;
    let program = &copy_of(program, folder.path())?;
    let base = base(program, folder.path(), &registry)?;
    let mut engines = vec![Engine::sekisho(program, folder.path(), None)?];
    engines.extend(peers::buildkit(folder.path())?);
    engines.extend(peers::buildah_engine(folder.path())?);
    ensure!(engines.len() > 1, "no peer is here: install Debian's `buildah` or `docker.io`");
    let size = if scope == Scope::Quick { Size::Little } else { Size::Full };
    let wanted = |name: &str| !matches!(scope, Scope::Only(only) if only != name);
    let mut times = Times::new();
    for workload in workloads::all(folder.path(), &base, size, &wanted)? {
        for round in 0..if scope == Scope::Quick { 1 } else { ROUNDS } {
            measure(&workload, round, &mut engines, &registry, &mut times)?;
        }
    }
    let rounds = if matches!(scope, Scope::Quick) { 1 } else { ROUNDS };
    let extras = match scope {
        Scope::Only(name) => {
            let text = times_text(&times, &engines, folder.describe());
            let mut said = String::new();
            if name == "w3" {
                let w3 = workload(&folder.path().join("peak"), &base, size, "w3")?;
                let mut large = Engine::sekisho(program, folder.path(), Some("large-cache"))?;
                let peak = mebibytes(peak(&mut large, &w3, &registry, 0)?);
                said = format!("\npeak memory of w3's one layer (sum of PSS): {peak} MiB\n");
            }
            return super::print(&(text + &said));
        }
        Scope::All | Scope::Quick => {
            extras(program, folder.path(), &base, &registry, (size, rounds))?
        }
    };
    let text = section(&times, &engines, &extras, folder.describe());
    match scope {
        Scope::Quick => super::print(&text),
        _ => page::write_section(root, "Builder", &text),
    }
}

/// Rounded up.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

/// One that any user may run.
fn copy_of(program: &Path, folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    let copy = folder.join("sekisho");
    fs_err::copy(program, &copy)?;
    fs_err::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

/// A golden base in the registry, for every engine's FROM.
fn base(program: &Path, folder: &Path, registry: &Registry) -> anyhow::Result<String> {
    let context = folder.join("base");
    fs_err::create_dir(&context)?;
    fs_err::write(context.join("Dockerfile"), "FROM sekisho.local/debian:bookworm\n")?;
    let name = format!("{}/base:1", registry.host());
    let mut engine = Engine::sekisho(program, folder, Some("base-cache"))?;
    engine.build(&context, &name).context("making the base of Debian's packages")?;
    Ok(name)
}

/// One round of a workload: each case by each engine, and the results compared.
fn measure(
    workload: &Workload,
    round: usize,
    engines: &mut [Engine],
    registry: &Registry,
    times: &mut Times,
) -> anyhow::Result<()> {
    for case in [Case::Cold, Case::NoChange, Case::OneFile] {
        if case == Case::OneFile {
            workload.change(round)?;
        }
        let mut images = Vec::new();
        for engine in engines.iter_mut() {
            if case == Case::Cold {
                engine.forget()?;
            }
            // A name of its own: a push of what the registry has would be no push.
            let name = format!("{}/{}-{}-{round}:1", registry.host(), engine.name, workload.name);
            disk::settle()?;
            let began = Instant::now();
            engine.build(&workload.context, &name)?;
            let took = began.elapsed();
            super::progress(&format!(
                "{} {} round {}: {} in {:.2} s",
                workload.name,
                case.name(),
                round + 1,
                engine.name,
                took.as_secs_f64()
            ));
            times.entry((workload.name, case, engine.name)).or_default().push(took);
            images.push((engine.name, registry.image(&name)?));
        }
        compare::same(&images)
            .with_context(|| format!("{} {}: the images differ", workload.name, case.name()))?;
    }
    Ok(())
}

/// What only we are measured at.
struct Extras {
    /// RUNs of `/bin/true`: their sandboxes alone, and all of them.
    sandbox: Series,
    nothing: Series,
    root: Series,
    /// Empty where we cannot become somebody else.
    user: Series,
    peak_bytes: Series,
}

/// What is promised of us alone.
const SANDBOX_US: u64 = 10_000;
const USER_RATIO: f64 = 1.3;
const PEAK_BYTES: u64 = 200_000_000;

fn extras(
    program: &Path,
    folder: &Path,
    base: &str,
    registry: &Registry,
    (size, rounds): (Size, usize),
) -> anyhow::Result<Extras> {
    let w1 = workload(&folder.join("extras"), base, size, "w1")?;
    let mut root = Engine::sekisho(program, folder, Some("root-cache"))?;
    let cold = |engine: &mut Engine, name: &str| -> anyhow::Result<Duration> {
        engine.forget()?;
        disk::settle()?;
        let began = Instant::now();
        engine.build(&w1.context, &format!("{}/{name}:1", registry.host()))?;
        Ok(began.elapsed())
    };
    let mut user = Engine::sekisho_as_user(program, folder)?;
    let w3 = workload(&folder.join("peak"), base, size, "w3")?;
    let mut large = Engine::sekisho(program, folder, Some("large-cache"))?;
    let series = Series::default;
    let (mut as_root, mut as_user, mut peak_bytes) = (series(), series(), series());
    for round in 0..rounds {
        as_root.push(cold(&mut root, &format!("as-root-{round}"))?);
        if let Some(user) = &mut user {
            as_user.push(cold(user, &format!("as-user-{round}"))?);
        }
        peak_bytes.push_bytes(peak(&mut large, &w3, registry, round)?);
    }
    let (sandbox, nothing) = root.nothing(base, folder)?;
    Ok(Extras { sandbox, nothing, root: as_root, user: as_user, peak_bytes })
}

/// Adds what was measured of us alone, and what of it is below its promise.
fn alone(extras: &Extras, text: &mut String, lost: &mut Vec<String>) {
    let ratio = extras.user.median() as f64 / extras.root.median().max(1) as f64;
    let user = match extras.user.len() {
        0 => "not measured: this is no root".to_owned(),
        _ => {
            let (user, root) = (extras.user.milliseconds(), extras.root.milliseconds());
            format!("{user}, {ratio:.2} × of root's {root}")
        }
    };
    let (sandbox, peak) = (extras.sandbox.median(), extras.peak_bytes.median());
    for (is_lost, what) in [
        (sandbox > SANDBOX_US, format!("a sandbox: {} ms, not 10", sandbox.div_ceil(1000))),
        (ratio > USER_RATIO, format!("an ordinary user: {ratio:.2}× of root, not {USER_RATIO}×")),
        (peak > PEAK_BYTES, format!("w3's memory: {} MB, not 200", peak / 1_000_000)),
    ] {
        if is_lost {
            lost.push(what);
        }
    }
    text.push_str(&format!(
        "\n| sekisho alone | measured | promised |\n|---|---|---|\n\
         | the sandbox of a RUN of `/bin/true`, from its making to its end | {} | ≤ 10 ms |\n\
         | all of that RUN: with its key, the look at its changes, the record | {} | |\n\
         | w1 cold as an ordinary user | {user} | ≤ {USER_RATIO} × |\n\
         | peak memory of w3's one layer (sum of PSS) | {} | ≤ 200 MB of 500 MB |\n",
        extras.sandbox.milliseconds(),
        extras.nothing.milliseconds(),
        extras.peak_bytes.mebibytes(),
    ));
}

fn workload(folder: &Path, base: &str, size: Size, name: &str) -> anyhow::Result<Workload> {
    let all = workloads::all(folder, base, size, &|one| one == name)?;
    all.into_iter().next().context("no such workload")
}

/// Most memory that a cold build of w3 takes: the builder and what it starts, and nothing that was there before.
fn peak(
    large: &mut Engine,
    w3: &Workload,
    registry: &Registry,
    round: usize,
) -> anyhow::Result<u64> {
    large.forget()?;
    let sampler = Sampler::of_what_starts();
    large.build(&w3.context, &format!("{}/large-{round}:1", registry.host()))?;
    sampler.peak()
}

/// The machine, the engines and the table of times; what is below its promise at the end.
fn times_text(times: &Times, engines: &[Engine], disk: &str) -> String {
    let (text, lost) = table(times, engines, disk);
    format!("{text}\n{}", lost_text(&lost))
}

fn lost_text(lost: &[String]) -> String {
    match lost.is_empty() {
        true => "Nothing is below its promise.\n".to_owned(),
        false => format!("Below the promise: {}.\n", lost.join("; ")),
    }
}

fn section(times: &Times, engines: &[Engine], extras: &Extras, disk: &str) -> String {
    let (mut text, mut lost) = table(times, engines, disk);
    alone(extras, &mut text, &mut lost);
    text.push('\n');
    text.push_str(&lost_text(&lost));
    text
}

/// The machine, the engines and the table of times; and what is below its promise.
fn table(times: &Times, engines: &[Engine], disk: &str) -> (String, Vec<String>) {
    let mut text = format!("Machine: {} Files on {disk}.\n\nPeers: ", machine::describe());
    let versions: Vec<String> = engines.iter().map(|engine| engine.version.clone()).collect();
    text.push_str(&versions.join("; "));
    text.push_str(
        ".\n\nEach figure is minimum / median / maximum over interleaved rounds, pull of the base and push \
         of the image included, registry on loopback. Files and config of the images were compared and are \
         the same. `×` is the peer's median over ours; what is below the promise is marked.\n\n\
         | workload | case | engine | time | × | promised |\n|---|---|---|---|---|---|\n",
    );
    let mut lost = Vec::new();
    for ((workload, case, engine), series) in times {
        let ours = times.get(&(*workload, *case, "sekisho"));
        let ratio = ours.map_or(0.0, |ours| series.median() as f64 / ours.median().max(1) as f64);
        let promised = match *engine {
            "buildkit" => Some(case.promised(workload).0),
            "buildah" => case.promised(workload).1,
            _ => None,
        };
        let (times_text, want) = match promised {
            None if *engine == "sekisho" => (String::new(), String::new()),
            None => (format!("{ratio:.1}"), String::new()),
            Some(want) => {
                if ratio < want {
                    let case = case.name();
                    lost.push(format!("{workload} {case}: {ratio:.1}× of {engine}, not {want}×"));
                }
                (format!("{ratio:.1}"), format!("≥ {want}"))
            }
        };
        let (case, time) = (case.name(), series.milliseconds());
        text.push_str(&format!(
            "| {workload} | {case} | {engine} | {time} | {times_text} | {want} |\n"
        ));
    }
    (text, lost)
}
