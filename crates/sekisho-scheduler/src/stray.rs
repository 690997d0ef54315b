//! Finds and ends what a runner left running, wherever it went in the process tree.
//!
//! A step may start a daemon that leaves the process group and outlives the runner. What it cannot
//! leave behind is the environment it was started with: the runner's random marker is in it.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The variable that marks every process of one runner.
pub(crate) const MARKER: &str = "SEKISHO_RUNNER_TRACKING";

/// How often `/proc` is read again while strays are found: each may just have forked another.
const MAX_ROUNDS: u32 = 20;

/// What marks the processes of one runner.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    variable: Vec<u8>,
    program: Vec<u8>,
}

impl Marks {
    /// `program` is the runner's own, in its own folder: a runner hides its environment from
    /// everybody but root, so it is known by its first argument.
    pub(crate) fn new(tracking: &str, program: &Path) -> Self {
        let program = [program.as_os_str().as_bytes(), b"\0"].concat();
        Self { variable: format!("{MARKER}={tracking}").into_bytes(), program }
    }

    /// Kills every process with one of the marks; says how many.
    pub(crate) fn kill_all(&self) -> usize {
        // By number: one that is still dying in the next round is not counted again.
        let mut killed = BTreeSet::new();
        for _ in 0..MAX_ROUNDS {
            let strays: Vec<Pid> = pids().filter(|pid| self.are_on(*pid)).collect();
            if strays.is_empty() {
                break;
            }
            let ended = strays.into_iter().filter(|pid| self.kill(*pid));
            killed.extend(ended.map(Pid::as_raw_nonzero));
        }
        killed.len()
    }

    /// A zombie has neither environment nor arguments any more, so it is not waited for here.
    pub(crate) fn are_on(&self, pid: Pid) -> bool {
        let read = |what: &str| fs_err::read(format!("/proc/{}/{what}", pid.as_raw_nonzero()));
        let in_environment = |bytes: Vec<u8>| {
            bytes.split(|byte| *byte == 0).any(|variable| variable == self.variable)
        };
        read("environ").is_ok_and(in_environment)
            || read("cmdline").is_ok_and(|arguments| arguments.starts_with(&self.program))
    }

    fn kill(&self, pid: Pid) -> bool {
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
        // Asked again with the handle held: the number may have gone to another process meanwhile.
        self.are_on(pid) && pidfd_send_signal(&handle, Signal::KILL).is_ok()
    }
}

/// Whether a process has arguments: every program that runs has one at least. Between two programs, and from
/// its end on, it has none.
pub(crate) fn shows_itself(pid: Pid) -> bool {
    let arguments = fs_err::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    arguments.is_ok_and(|arguments| !arguments.is_empty())
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs_err::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use sekisho_sandbox::remove_tree;

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
        let marks = Marks::new(&tracking, Path::new("/nowhere/bin/sekisho"));
        assert_eq!(marks.kill_all(), 1);
        assert_eq!(marks.kill_all(), 0);
    }

    #[test]
    fn a_runner_that_hides_its_environment_is_found_by_its_program() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("runner");
        fs_err::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut runner = Command::new(&program).arg("600").env_clear().spawn().unwrap();
        let marks = Marks::new("no such marker", &program);
        // A process has no arguments for a moment after it was started.
        let pid = Pid::from_child(&runner);
        (0..1000).take_while(|_| !marks.are_on(pid)).for_each(|_| std::thread::yield_now());
        let killed = marks.kill_all();
        let _ = runner.kill();
        assert_eq!(killed, 1);
        assert_eq!(runner.wait().unwrap().to_string(), "signal: 9 (SIGKILL)");
    }

    #[test]
    fn a_process_that_ended_shows_nothing_of_itself() {
        let mut child =
            Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let wait_until = |shown: bool| {
            while shows_itself(pid) != shown {
                std::thread::yield_now();
            }
        };
        // Its program has just begun; then it has ended and was not waited for.
        wait_until(true);
        drop(child.stdin.take());
        wait_until(false);
        assert!(fs_err::exists(format!("/proc/{}", child.id())).unwrap());
        child.wait().unwrap();
        assert!(!shows_itself(pid));
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
