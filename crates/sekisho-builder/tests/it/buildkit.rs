//! A BuildKit of a test's own: `buildkitd` where it is on the `PATH`, else the one in Docker's daemon, as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often a daemon is asked until it answers, a tenth of a second apart: two minutes, which a loaded machine
/// may need.
const TRIES: u32 = 1200;

/// Docker's clients: one since 23 builds with a plugin that need not be there.
const DOCKERS: [&str; 2] = ["docker", "/usr/bin/docker"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of today, with its own client.
    Buildkitd,
    /// In Docker's daemon: in Debian 12 one of 2021, that knows nothing since.
    Docker(&'static str),
}

pub(crate) struct Daemon {
    process: Child,
    pub(crate) kind: Kind,
    folder: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked, not killed: it ends what it started.
        let _ = Command::new("kill").arg(self.process.id().to_string()).output();
        let _ = self.process.wait();
    }
}

pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn kind() -> Option<Kind> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let has = |program: &str| succeeds(Command::new(program).arg("--version"));
    if has("buildkitd") && has("buildctl") {
        return Some(Kind::Buildkitd);
    }
    let builds = |docker: &&str| {
        succeeds(Command::new(docker).env("DOCKER_BUILDKIT", "1").args(["build", "--help"]))
    };
    let docker = DOCKERS.into_iter().find(builds);
    docker.filter(|_| has("dockerd")).map(Kind::Docker)
}

impl Daemon {
    /// `None`, and one line, where none can run.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let started = kind().and_then(|kind| Self::started(kind, folder));
        if started.is_none() {
            eprintln!(
                "skipped: needs buildkitd with buildctl, or dockerd, that can run here as root"
            );
        }
        started
    }

    fn started(kind: Kind, folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let below = |name: &str| folder.join(name).display().to_string();
        // The machine's own configuration must not count.
        fs::write(below("daemon.json"), "{}").unwrap();
        fs::write(below("buildkitd.toml"), "").unwrap();
        let socket = format!("unix://{}", below("socket"));
        let mut command = match kind {
            Kind::Buildkitd => {
                let mut command = Command::new("buildkitd");
                command.args(["--config", &below("buildkitd.toml"), "--root", &below("data")]);
                command.args(["--addr", &socket, "--containerd-worker=false"]);
                command.args(["--oci-worker=true", "--oci-worker-net=host"]);
                command.args(["--allow-insecure-entitlement", "security.insecure"]);
                command
            }
            Kind::Docker(_) => {
                // What it mounts is its own affair, and goes with it.
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "dockerd"]);
                command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
                command.args(["--data-root", &below("data"), "--exec-root", &below("exec")]);
                command.args(["--pidfile", &below("pid"), "--config-file", &below("daemon.json")]);
                command.args(["--host", &socket]);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.stderr(fs::File::create(below("log")).unwrap()).spawn().unwrap();
        let mut daemon = Self { process, kind, folder: folder.to_owned() };
        let asked: &[&str] = match kind {
            Kind::Buildkitd => &["debug", "workers"],
            Kind::Docker(_) => &["version"],
        };
        for _ in 0..TRIES {
            if succeeds(daemon.client().args(asked)) {
                return Some(daemon);
            }
            if daemon.process.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        None
    }

    /// As `BUILDKIT_HOST` and `DOCKER_HOST` have it.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }

    /// Its client, that talks to it.
    pub(crate) fn client(&self) -> Command {
        let mut command = match self.kind {
            Kind::Buildkitd => {
                let mut command = Command::new("buildctl");
                command.args(["--addr", &self.host()]);
                command
            }
            Kind::Docker(docker) => {
                let mut command = Command::new(docker);
                command.args(["--host", &self.host()]).env("DOCKER_BUILDKIT", "1");
                command
            }
        };
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        command
    }
}
