//! Docker's own daemon and client, where the daemon can run: as root, without a network of its own.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::clients::{check_done, check_refused, pulled, run};
use crate::skopeo::is_installed;
use crate::support::World;

/// How often a daemon is asked until it answers, a tenth of a second apart: two minutes, which a
/// loaded machine may need.
const TRIES: u32 = 1200;

pub(crate) struct Daemon {
    process: Child,
    dir: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked, not killed: it ends the containerd that it started.
        let _ = Command::new("kill").arg(self.process.id().to_string()).output();
        let _ = self.process.wait();
    }
}

impl Daemon {
    /// `None`, and one line, where it cannot run.
    pub(crate) fn start() -> Option<Self> {
        if !is_installed("dockerd", "--version") || !is_installed("docker", "--version") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // The machine's own must not count.
        fs_err::write(dir.path().join("daemon.json"), "{}").unwrap();
        let below = |name: &str| dir.path().join(name).display().to_string();
        let spawned = Command::new("dockerd")
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(["--storage-driver=vfs", "--data-root", &below("data")])
            .args(["--exec-root", &below("exec"), "--pidfile", &below("pid")])
            .args(["--config-file", &below("daemon.json")])
            .args(["--host", &format!("unix://{}", below("socket"))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut daemon = Self { process: spawned.unwrap(), dir };
        for _ in 0..TRIES {
            if daemon.docker(&["version"]).output().unwrap().status.success() {
                return Some(daemon);
            }
            let ended = daemon.process.try_wait().unwrap().is_some();
            if ended {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        eprintln!("skipped: needs a dockerd that can run here, as root");
        None
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("socket")
    }

    fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.env("DOCKER_CONFIG", self.dir.path().join("config")).args(args);
        command
    }

    /// An image of one layer that holds the lines as a file.
    pub(crate) async fn import(&self, lines: &str, name: &str) -> Output {
        let files = self.dir.path().join("files");
        fs_err::create_dir_all(&files).unwrap();
        fs_err::write(files.join("lines"), lines).unwrap();
        let tar = self.dir.path().join("files.tar");
        let made =
            Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&files).arg("lines").output();
        assert!(made.unwrap().status.success());
        let tar = tar.display().to_string();
        run(self.docker(&["import", "--change", "USER app", &tar, name])).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pushes_with_a_session_and_shows_why_it_was_refused() {
    let Some(daemon) = tokio::task::spawn_blocking(Daemon::start).await.unwrap() else { return };
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let config = daemon.dir.path().join("config");
    fs_err::create_dir_all(&config).unwrap();
    // As `sekisho gate login` writes it.
    let mut auths = json!({"auths": {}});
    auths["auths"][world.host()] = json!({"auth": "MDAwOg==", "identitytoken": session});
    fs_err::write(config.join("config.json"), auths.to_string()).unwrap();
    for (tag, lines) in
        [("good", "pkg express 1 fine\n"), ("bad", "pkg lodash 4.17.20 critical 4.17.21\n")]
    {
        let name = format!("{}/acme/app:{tag}", world.host());
        check_done(&daemon.import(lines, &name).await);
        let output = run(daemon.docker(&["push", &name])).await;
        if tag == "good" {
            check_done(&output);
        } else {
            check_refused(&output);
            let shown = String::from_utf8_lossy(&output.stderr);
            assert!(shown.contains("denied: severe-with-fix: critical"), "{shown}");
        }
    }
    assert!(pulled(&world, "good").await.starts_with("sha256:"));
    assert_eq!(pulled(&world, "bad").await, "");
    // It pulls what was let through, and by the digest that it pushed.
    let name = format!("{}/acme/app:good", world.host());
    check_done(&run(daemon.docker(&["pull", "--quiet", &name])).await);
}
