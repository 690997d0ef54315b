//! The engines, and the registry between them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::peers::{DockerRegistry, Log};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::compare::{self, Image};
use crate::bench::UP_DEADLINE;
use crate::bench::stats::Series;

/// The ordinary user: a number that nobody has.
const USER: &str = "12345";

/// Debian's docker-registry, until it is dropped.
pub(super) struct Registry(DockerRegistry);

impl Registry {
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let registry = DockerRegistry::start(folder, Log::Off)?;
        Ok(Self(registry.context("the engines need Debian's package docker-registry")?))
    }

    /// `127.0.0.1:PORT`.
    pub(super) fn host(&self) -> &str {
        self.0.host()
    }

    /// What was pushed under a name, from the registry's own files.
    pub(super) fn image(&self, name: &str) -> anyhow::Result<Image> {
        let name = name.strip_prefix(self.host()).unwrap_or(name).trim_start_matches('/');
        let (repository, tag) = name.rsplit_once(':').context("the image has no tag")?;
        let root = self.0.data().join("docker/registry/v2");
        let link = format!("repositories/{repository}/_manifests/tags/{tag}/current/link");
        let link = fs_err::read_to_string(root.join(link)).context("the image was not pushed")?;
        let blob = |hex: &str| -> anyhow::Result<fs_err::File> {
            let start = hex.get(..2).context("a digest is short")?;
            Ok(fs_err::File::open(root.join("blobs/sha256").join(start).join(hex).join("data"))?)
        };
        let hex = link.trim().trim_start_matches("sha256:");
        let mut manifest = Vec::new();
        std::io::copy(&mut blob(hex)?, &mut manifest)?;
        compare::read(&manifest, blob)
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("starting {:?}", command.get_program()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One that builds and pushes.
pub(super) struct Engine {
    pub(super) name: &'static str,
    /// With its name.
    pub(super) version: String,
    kind: Kind,
}

enum Kind {
    Sekisho { program: PathBuf, cache: Folders, user: bool, options: &'static [&'static str] },
    Buildkit { docker: PathBuf, daemon: Daemon, data: Folders },
    Buildah { storage: Folders },
}

/// An engine's folder, a new one each time that it shall know nothing. The old ones stay until the end:
/// ext4 does not give the inodes of deleted files out again for minutes, and looks at each of them for
/// every file that is made, so who deletes before a measurement measures that.
struct Folders {
    parent: PathBuf,
    name: String,
    number: usize,
}

impl Folders {
    fn new(parent: &Path, name: &str) -> Self {
        Self { parent: parent.to_owned(), name: name.to_owned(), number: 0 }
    }

    fn current(&self) -> PathBuf {
        self.parent.join(format!("{}-{}", self.name, self.number))
    }

    fn next(&mut self) -> PathBuf {
        self.number += 1;
        self.current()
    }
}

/// A dockerd that is ours.
struct Daemon {
    child: Child,
    socket: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Daemon {
    /// On a folder that is made for it.
    fn start(docker: &Path, data: &Path) -> anyhow::Result<Self> {
        fs_err::create_dir(data)?;
        let path = |name: &str| data.join(name).display().to_string();
        let socket = format!("unix://{}", path("docker.sock"));
        // A view of control groups of its own, for older systems mix the two kinds.
        let script = "mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; exec dockerd \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "dockerd"]);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "-H", &socket]);
        command.args(["--data-root", &path("data"), "--exec-root", &path("exec")]);
        command.args(["--pidfile", &path("pid")]);
        let log = std::fs::File::create(data.join("log"))?;
        let child = quiet(&mut command).stderr(log).spawn().context("starting dockerd")?;
        let mut daemon = Self { child, socket };
        let began = Instant::now();
        while run(Command::new(docker).args(["-H", &daemon.socket, "info"])).is_err() {
            if daemon.child.try_wait()?.is_some() || began.elapsed() > UP_DEADLINE {
                let log = fs_err::read_to_string(data.join("log"))?;
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                bail!("dockerd is not up: {}", last.join("; "));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    /// SIGTERM by the tool that every system has: it unmounts what it mounted. Once it has ended,
    /// nothing.
    fn stop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}

impl Engine {
    pub(super) fn sekisho(
        program: &Path,
        folder: &Path,
        cache: Option<&str>,
    ) -> anyhow::Result<Self> {
        let cache = Folders::new(folder, cache.unwrap_or("cache"));
        let version = run(Command::new(program).arg("--version"))?.trim().to_owned();
        let kind = Kind::Sekisho { program: program.to_owned(), cache, user: false, options: &[] };
        Ok(Self { name: "sekisho", version, kind })
    }

    /// As somebody without privilege, where we can become one.
    pub(super) fn sekisho_as_user(program: &Path, folder: &Path) -> anyhow::Result<Option<Self>> {
        if run(Command::new("id").arg("-u"))?.trim() != "0" {
            return Ok(None);
        }
        let cache = Folders::new(folder, "user-cache");
        give_to_user(&cache.current())?;
        let kind = Kind::Sekisho { program: program.to_owned(), cache, user: true, options: &[] };
        Ok(Some(Self { name: "sekisho", version: String::new(), kind }))
    }

    /// Builds with these options; a peer has none.
    pub(super) fn with(mut self, more: &'static [&'static str]) -> Self {
        if let Kind::Sekisho { options, .. } = &mut self.kind {
            *options = more;
        }
        self
    }

    pub(super) fn is_a_peer(&self) -> bool {
        !matches!(self.kind, Kind::Sekisho { .. })
    }

    /// Builds and pushes.
    pub(super) fn build(&mut self, context: &Path, name: &str) -> anyhow::Result<()> {
        match &self.kind {
            Kind::Sekisho { program, cache, user, options } => {
                let mut command = sekisho(program, &cache.current(), *user);
                command.args(["--push", "--tag", name]).args(*options);
                run(command.arg(context)).map(drop)
            }
            Kind::Buildkit { docker, daemon, .. } => {
                let docker = |arguments: &[&str]| {
                    let mut command = Command::new(docker);
                    command.env("DOCKER_BUILDKIT", "1").args(["-H", &daemon.socket]);
                    command.args(arguments);
                    command
                };
                let mut build = docker(&["build", "--network", "host", "-q", "-t", name]);
                run(build.arg(context))?;
                run(&mut docker(&["push", "-q", name])).map(drop)
            }
            Kind::Buildah { storage } => {
                let storage = &storage.current();
                let mut build = buildah(storage);
                build.args(["build", "--layers", "--isolation", "chroot", "--network", "host"]);
                build.args(["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000"]);
                build.args(["--tls-verify=false", "--pull", "-q", "-t", name]);
                run(build.arg(context))?;
                run(buildah(storage).args(["push", "-q", "--tls-verify=false", name])).map(drop)
            }
        }
    }

    /// Knows nothing of what it built and pulled.
    pub(super) fn forget(&mut self) -> anyhow::Result<()> {
        match &mut self.kind {
            Kind::Sekisho { cache, user: true, .. } => give_to_user(&cache.next())?,
            Kind::Sekisho { cache, .. } => drop(cache.next()),
            Kind::Buildkit { docker, daemon, data } => {
                // The old one ends first: two would both want the machine's network.
                daemon.stop();
                *daemon = Daemon::start(docker, &data.next())?;
            }
            Kind::Buildah { storage } => fs_err::create_dir(storage.next())?,
        }
        Ok(())
    }

    /// How long RUNs of `/bin/true` take: their sandboxes alone, and all of them.
    pub(super) fn nothing(
        &mut self,
        base: &str,
        folder: &Path,
    ) -> anyhow::Result<(Series, Series)> {
        let Kind::Sekisho { program, cache, user, .. } = &self.kind else {
            bail!("only sekisho tells the time of a step");
        };
        let context = folder.join("nothing");
        fs_err::create_dir_all(&context)?;
        let runs = "RUN [\"/bin/true\"]\n".repeat(10);
        fs_err::write(context.join("Dockerfile"), format!("FROM {base}\n{runs}"))?;
        let mut command = sekisho(program, &cache.current(), *user);
        command.args(["--no-cache", "--output", "json"]);
        let answer: Value = serde_json::from_str(&run(command.arg(&context))?)?;
        let steps = answer.pointer("/steps").and_then(Value::as_array).context("no steps")?;
        let (mut sandbox, mut whole) = (Series::default(), Series::default());
        for step in
            steps.iter().filter(|step| step["text"].as_str().is_some_and(|t| t.starts_with("RUN")))
        {
            let time = |name: &str| step[name].as_u64().context("no time");
            sandbox.push(Duration::from_micros(time("sandbox_us")?));
            whole.push(Duration::from_millis(time("duration_ms")?));
        }
        Ok((sandbox, whole))
    }
}

/// Makes a folder of the user without privilege.
fn give_to_user(folder: &Path) -> anyhow::Result<()> {
    fs_err::create_dir(folder)?;
    let id: u32 = USER.parse()?;
    Ok(std::os::unix::fs::chown(folder, Some(id), Some(id))?)
}

fn sekisho(program: &Path, cache: &Path, user: bool) -> Command {
    let mut command = match user {
        false => Command::new(program),
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
            command.env("HOME", cache);
            command
        }
    };
    command.arg("build").arg("--cache-dir").arg(cache).args(["--progress", "quiet"]);
    command
}

fn buildah(storage: &Path) -> Command {
    let mut command = Command::new("buildah");
    command.arg("--root").arg(storage.join("root")).arg("--runroot").arg(storage.join("run"));
    command
}

/// buildah, where it is installed.
pub(super) fn buildah_engine(folder: &Path) -> anyhow::Result<Option<Engine>> {
    let Ok(version) = run(Command::new("buildah").arg("--version")) else { return Ok(None) };
    let version = version.split(" (").next().unwrap_or_default().replace(" version", "");
    let storage = Folders::new(folder, "buildah");
    fs_err::create_dir(storage.current())?;
    Ok(Some(Engine { name: "buildah", version, kind: Kind::Buildah { storage } }))
}

/// docker.io's BuildKit with a daemon of its own, where it is installed and we are root.
pub(super) fn buildkit(folder: &Path) -> anyhow::Result<Option<Engine>> {
    let Ok(version) = run(Command::new("dockerd").arg("--version")) else { return Ok(None) };
    // Clients since 23 build with a plugin that Debian may not have.
    let clients = [PathBuf::from("docker"), PathBuf::from("/usr/bin/docker")];
    let builds = |docker: &PathBuf| {
        let mut command = Command::new(docker);
        let help = run(command.env("DOCKER_BUILDKIT", "1").args(["build", "--help"]));
        help.is_ok_and(|help| help.contains("--secret"))
    };
    let Some(docker) = clients.into_iter().find(builds) else { return Ok(None) };
    let data = Folders::new(folder, "dockerd");
    let daemon = Daemon::start(&docker, &data.current())?;
    let version = version.trim().split(',').next().unwrap_or_default();
    let version = format!("BuildKit of {}", version.replace(" version", ""));
    let kind = Kind::Buildkit { docker, daemon, data };
    Ok(Some(Engine { name: "buildkit", version, kind }))
}
