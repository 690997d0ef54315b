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

mod alone;
mod compare;
mod peers;
mod workloads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use self::alone::Extras;
use self::peers::{Engine, Registry};
use self::workloads::{Size, Workload};
use super::disk::{self, Disk};
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

/// A disk of its own, the registry on it, and the base that every engine pulls from there.
struct Place {
    registry: Registry,
    program: PathBuf,
    base: String,
    // The last to go.
    disk: Disk,
}

impl Place {
    fn new(program: &Path) -> anyhow::Result<Self> {
        let disk = Disk::new()?;
        let registry = Registry::start(disk.path())?;
        let program = copy_of(program, disk.path())?;
        let base = base(&program, disk.path(), &registry)?;
        Ok(Self { registry, program, base, disk })
    }

    fn folder(&self) -> &Path {
        self.disk.path()
    }

    fn workload(&self, size: Size, name: &'static str) -> anyhow::Result<Workload> {
        let context = self.folder().join("contexts").join(name);
        workloads::make(context, &self.base, size, name).with_context(|| format!("making {name}"))
    }
}

/// Measures, and writes the section, or prints it.
pub(super) fn run(root: &Path, program: &Path, scope: Scope) -> anyhow::Result<()> {
    let (size, rounds) = match scope {
        Scope::Quick => (Size::Little, 1),
        _ => (Size::Full, ROUNDS),
    };
    let compared = Compared::measure(program, scope, size, rounds)?;
    let place = &Place::new(program)?;
    match scope {
        Scope::Only(name) => {
            let mut text = compared.text();
            if name == "w3" {
                let peak = mebibytes(alone::Large::new(place, size)?.peak(0)?);
                text += &format!("\npeak memory of w3's one layer (sum of PSS): {peak} MiB\n");
            }
            super::print(&text)
        }
        Scope::Quick => super::print(&section(&compared, &Extras::measure(place, size, rounds)?)),
        Scope::All => {
            let text = section(&compared, &Extras::measure(place, size, rounds)?);
            page::write_section(root, "Builder", &text)
        }
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
            // A name of its own: a push of what the registry has would be no push.
            let name = format!("{}/{}-{}-{round}:1", registry.host(), engine.name, workload.name);
            let took = timed(engine, workload, case, &name)?;
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

/// Builds once more where a peer failed: buildah's programs now and then meet `EBUSY` when they seal themselves.
/// What failed is told, and counts for nothing; ours may not fail.
fn timed(
    engine: &mut Engine,
    workload: &Workload,
    case: Case,
    name: &str,
) -> anyhow::Result<Duration> {
    const TRIES: usize = 3;
    let mut tries = 0;
    loop {
        if case == Case::Cold {
            engine.forget()?;
        }
        disk::settle()?;
        let began = Instant::now();
        tries += 1;
        match engine.build(&workload.context, name) {
            Ok(()) => return Ok(began.elapsed()),
            Err(error) if engine.is_a_peer() && tries < TRIES => {
                super::progress(&format!("{} failed, and is tried again: {error:#}", engine.name));
            }
            Err(error) => return Err(error),
        }
    }
}

fn lost_text(lost: &[String]) -> String {
    match lost.is_empty() {
        true => "Nothing is below its promise.\n".to_owned(),
        false => format!("Below the promise: {}.\n", lost.join("; ")),
    }
}

fn section(compared: &Compared, extras: &Extras) -> String {
    let (mut text, mut lost) = compared.table();
    extras.tell(&mut text, &mut lost);
    text.push('\n');
    text.push_str(&lost_text(&lost));
    text
}

/// What the engines took, and which they were.
struct Compared {
    times: Times,
    versions: Vec<String>,
    /// What their files were on.
    disk: &'static str,
}

impl Compared {
    /// Each workload on a disk of its own, for what was built stays there until the end.
    fn measure(program: &Path, scope: Scope, size: Size, rounds: usize) -> anyhow::Result<Self> {
        let mut compared = Self { times: Times::new(), versions: Vec::new(), disk: "" };
        for name in workloads::NAMES {
            if matches!(scope, Scope::Only(only) if only != name) {
                continue;
            }
            let place = Place::new(program)?;
            let folder = place.folder();
            let mut engines = vec![Engine::sekisho(&place.program, folder, None)?];
            engines.extend(peers::buildkit(folder)?);
            engines.extend(peers::buildah_engine(folder)?);
            ensure!(
                engines.len() > 1,
                "no peer is here: install Debian's `buildah` or `docker.io`"
            );
            let workload = place.workload(size, name)?;
            for round in 0..rounds {
                measure(&workload, round, &mut engines, &place.registry, &mut compared.times)?;
            }
            compared.versions = engines.iter().map(|engine| engine.version.clone()).collect();
            compared.disk = place.disk.describe();
        }
        Ok(compared)
    }

    /// The table, and what is below its promise at the end.
    fn text(&self) -> String {
        let (text, lost) = self.table();
        format!("{text}\n{}", lost_text(&lost))
    }

    /// The machine, the engines and the table of times; and what is below its promise.
    fn table(&self) -> (String, Vec<String>) {
        let (machine, disk) = (machine::describe(), self.disk);
        let mut text = format!("Machine: {machine} Files on {disk}.\n\nPeers: ");
        text.push_str(&self.versions.join("; "));
        text.push_str(
            ".\n\nEach figure is minimum / median / maximum over interleaved rounds, pull of the base and push \
             of the image included, registry on loopback. Files and config of the images were compared and are \
             the same. `×` is the peer's median over ours; what is below the promise is marked.\n\n\
             | workload | case | engine | time | × | promised |\n|---|---|---|---|---|---|\n",
        );
        let mut lost = Vec::new();
        for ((workload, case, engine), series) in &self.times {
            let ours = self.times.get(&(*workload, *case, "sekisho"));
            let ratio =
                ours.map_or(0.0, |ours| series.median() as f64 / ours.median().max(1) as f64);
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
                        lost.push(format!(
                            "{workload} {case}: {ratio:.1}× of {engine}, not {want}×"
                        ));
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
}
