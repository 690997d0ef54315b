//! Finds and ends what a runner left running, wherever it went in the process tree.
//!
//! A step may start a daemon that leaves the process group and outlives the runner. What it cannot
//! leave behind is the environment it was started with: the runner's random marker is in it.

use std::io;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that marks every process of one runner.
pub(crate) const MARKER: &str = "SEKISHO_RUNNER_TRACKING";

/// How often `/proc` is read again while strays are found: each may just have forked another.
const MAX_ROUNDS: u32 = 20;

/// Kills every process of this user whose environment marks it as the runner's; says how many.
pub(crate) fn kill_all(tracking: &str) -> usize {
    let wanted = format!("{MARKER}={tracking}");
    let mut killed = 0;
    for _ in 0..MAX_ROUNDS {
        let strays: Vec<Pid> = pids().filter(|pid| is_marked(*pid, &wanted)).collect();
        if strays.is_empty() {
            break;
        }
        killed += strays.into_iter().filter(|pid| kill(*pid, &wanted)).count();
    }
    killed
}

/// Whether any process is left; for tests and for the proof that a folder may go.
#[cfg(test)]
pub(crate) fn any(tracking: &str) -> bool {
    let wanted = format!("{MARKER}={tracking}");
    pids().any(|pid| is_marked(pid, &wanted))
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs_err::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// A zombie has no environment any more, so it is not waited for here.
fn is_marked(pid: Pid, wanted: &str) -> bool {
    let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
    fs_err::read(path).is_ok_and(|bytes| {
        bytes.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    })
}

fn kill(pid: Pid, wanted: &str) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Asked again with the handle held: the number may have gone to another process meanwhile.
    is_marked(pid, wanted) && pidfd_send_signal(&handle, Signal::KILL).is_ok()
}

/// Removes a folder whatever modes a job left in it: a read-only folder, as Go's module cache is,
/// keeps an ordinary user from emptying it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs_err::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path)?;
            fs_err::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_daemon_that_left_its_group_is_found() {
        let tracking = format!("test-{}", std::process::id());
        let mut shell = Command::new("sh")
            .args(["-c", "setsid sleep 600 & sleep 0.1"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env(MARKER, &tracking)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        shell.wait().unwrap();
        assert!(any(&tracking));
        assert_eq!(kill_all(&tracking), 1);
        assert!(!any(&tracking));
        assert_eq!(kill_all(&tracking), 0);
    }

    #[test]
    fn a_read_only_folder_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        fs_err::create_dir_all(&inner).unwrap();
        fs_err::write(inner.join("file"), "x").unwrap();
        fs_err::set_permissions(&inner, std::fs::Permissions::from_mode(0o555)).unwrap();
        remove_tree(&folder.path().join("a")).unwrap();
        assert!(!folder.path().join("a").exists());
        remove_tree(&folder.path().join("a")).unwrap();
    }
}
