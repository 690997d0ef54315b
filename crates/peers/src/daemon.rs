//! BuildKit, by its own daemon or in Docker's, as root and with nothing of the machine's own configuration.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::{is_installed, skipped};

/// How often a daemon is asked until it answers, a tenth of a second apart: two minutes, which a loaded machine
/// may need.
const TRIES: u32 = 1200;

/// A daemon with its client.
pub struct Daemon {
    process: Child,
    folder: PathBuf,
    client: [&'static str; 2],
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked, not killed: it ends what it started.
        let _ = Command::new("kill").arg(self.process.id().to_string()).output();
        let _ = self.process.wait();
    }
}

impl Daemon {
    /// BuildKit's own, with everything below `folder`. `None`, and one line, where it cannot run.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn buildkitd(folder: &Path) -> anyhow::Result<Option<Self>> {
        let below = |name: &str| folder.join(name).display().to_string();
        fs_err::create_dir_all(folder)?;
        fs_err::write(below("buildkitd.toml"), "")?;
        let mut command = apart("buildkitd");
        command.args(["--config", &below("buildkitd.toml"), "--root", &below("data")]);
        command.args(["--addr", &socket(folder), "--containerd-worker=false"]);
        command.args(["--oci-worker=true", "--oci-worker-net=host"]);
        Self::start(command, folder, "buildkitd", ["buildctl", "--addr"], &["debug", "workers"])
    }

    /// Docker's, with everything below `folder`, and no network of its own. `None`, and one line, where it
    /// cannot run.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn dockerd(folder: &Path) -> anyhow::Result<Option<Self>> {
        let below = |name: &str| folder.join(name).display().to_string();
        fs_err::create_dir_all(folder)?;
        fs_err::write(below("daemon.json"), "{}")?;
        let mut command = apart("dockerd");
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.args(["--storage-driver=vfs", "--data-root", &below("data")]);
        command.args(["--exec-root", &below("exec"), "--pidfile", &below("pid")]);
        command.args(["--config-file", &below("daemon.json"), "--host", &socket(folder)]);
        Self::start(command, folder, "dockerd", ["docker", "--host"], &["version"])
    }

    fn start(
        mut command: Command,
        folder: &Path,
        name: &str,
        client: [&'static str; 2],
        asked: &[&str],
    ) -> anyhow::Result<Option<Self>> {
        if !is_installed(name, "--version") || !is_installed(client[0], "--version") {
            return Ok(None);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(folder.join("log"))?);
        let process = command.spawn().with_context(|| format!("starting {name}"))?;
        let mut daemon = Self { process, folder: folder.to_owned(), client };
        for _ in 0..TRIES {
            if daemon.client().args(asked).output()?.status.success() {
                return Ok(Some(daemon));
            }
            if daemon.process.try_wait()?.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        skipped(&format!("a {name} that can run here, as root,"));
        Ok(None)
    }

    /// As `BUILDKIT_HOST` and `DOCKER_HOST` have it.
    #[must_use]
    pub fn host(&self) -> String {
        socket(&self.folder)
    }

    /// Its client, that talks to it; with a configuration of its own, below the daemon's folder.
    #[must_use]
    pub fn client(&self) -> Command {
        let mut command = Command::new(self.client[0]);
        command.args([self.client[1], &self.host()]);
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        command
    }
}

fn socket(folder: &Path) -> String {
    format!("unix://{}", folder.join("socket").display())
}

/// What it mounts is its own affair, and goes with it.
fn apart(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", program]);
    command
}
