//! Peak memory of a process and all that comes from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often is looked.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks at a process tree until asked for the peak.
pub(super) struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Sampler {
    pub(super) fn start(pid: u32) -> Self {
        Self::without(pid, BTreeSet::new())
    }

    /// What comes from this process from now on, and it alone: neither this process nor what runs below it
    /// already, such as a registry or another engine's daemon.
    pub(super) fn of_what_starts() -> Self {
        let mut there = BTreeSet::new();
        tree(std::process::id(), &mut |pid| {
            there.insert(pid);
        });
        Self::without(std::process::id(), there)
    }

    fn without(pid: u32, others: BTreeSet<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut now = 0;
                tree(pid, &mut |pid| {
                    now += if others.contains(&pid) { 0 } else { proportional(pid) };
                });
                peak = peak.max(now);
                std::thread::sleep(PAUSE);
            }
            peak
        });
        Self { stop, thread }
    }

    /// Bytes.
    pub(super) fn peak(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the memory sampler panicked"))
    }
}

/// Visits a process and all below it; one that ended meanwhile has none.
fn tree(pid: u32, visit: &mut dyn FnMut(u32)) {
    visit(pid);
    let Ok(threads) = fs_err::read_dir(format!("/proc/{pid}/task")) else { return };
    for thread in threads.flatten() {
        let children = fs_err::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            tree(child, visit);
        }
    }
}

/// Proportional set size in bytes: a page that two share counts half for each.
fn proportional(pid: u32) -> u64 {
    let rollup = fs_err::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
