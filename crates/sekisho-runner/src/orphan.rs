//! Processes that a job left running: found by their environment, killed at the job's end.

use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// The variable that marks every process of a job.
pub(crate) const TRACKING: &str = "RUNNER_TRACKING_ID";
/// `/proc` is read again while there are any: each may just have forked another.
const MAX_ROUNDS: u32 = 20;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(10);

/// A process that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) pid: i32,
    pub(crate) name: String,
}

/// Kills every process of this user that carries the job's mark. Blocks.
pub(crate) fn kill_all(tracking: &str) -> Vec<Orphan> {
    let wanted = format!("{TRACKING}={tracking}");
    let mut killed: Vec<Orphan> = Vec::new();
    for round in 0..MAX_ROUNDS {
        if round > 0 {
            std::thread::sleep(PAUSE);
        }
        let found: Vec<Pid> = pids().filter(|pid| is_marked(*pid, &wanted)).collect();
        if found.is_empty() {
            break;
        }
        for pid in found {
            let orphan = Orphan { pid: pid.as_raw_nonzero().get(), name: name(pid) };
            if kill(pid, &wanted) && !killed.contains(&orphan) {
                killed.push(orphan);
            }
        }
    }
    killed
}

fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs_err::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter(|pid| *pid != getpid())
}

/// Another user's process cannot be read, so it is never ours; a zombie's environment is empty.
fn is_marked(pid: Pid, wanted: &str) -> bool {
    let environ = fs_err::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
    environ.is_ok_and(|bytes| bytes.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes()))
}

fn name(pid: Pid) -> String {
    let comm = fs_err::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()));
    comm.map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

fn kill(pid: Pid, wanted: &str) -> bool {
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    // Asked again with the handle held: the number may have gone to another process meanwhile.
    is_marked(pid, wanted) && pidfd_send_signal(&handle, Signal::KILL).is_ok()
}
