//! Which kinds of sandbox this process can make.

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::error::SandboxError;

/// The walls around a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Mount, pid, ipc and uts namespaces, made with `CAP_SYS_ADMIN`; every uid and gid exists.
    Privileged,
    /// The same by root of a user namespace that has a range of ids: a pod with `hostUsers: false`, or
    /// what `newuidmap` gave us.
    IdRange,
    /// The same inside a user namespace with exactly one uid and gid, which stand for our own outside.
    /// Other owners are kept beside the files; see [`Owner`](crate::Owner).
    SingleId,
    /// No namespace at all: a copy of the files in a changed root, by root of a container that may neither
    /// mount nor make a user namespace.
    ChangedRoot,
}

impl Isolation {
    /// What this process can probably make, by its capabilities alone.
    ///
    /// Root without `CAP_SYS_ADMIN` (an ordinary container) is treated like an ordinary user.
    pub fn choose() -> Self {
        let admin = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        Self::decide(rustix::process::geteuid().is_root() && admin, &map)
    }

    /// By our rights and our user namespace's map, in the form of `/proc/self/uid_map`.
    fn decide(root: bool, map: &str) -> Self {
        let ids: u64 = map
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
            .sum();
        match (root, is_first_namespace(map)) {
            (true, true) => Self::Privileged,
            (true, false) if ids >= MIN_RANGE => Self::IdRange,
            _ => Self::SingleId,
        }
    }

    /// Whether the disk says whose files are in the image; otherwise an attribute does.
    pub fn has_owners(self) -> bool {
        match self {
            Self::Privileged | Self::IdRange | Self::ChangedRoot => true,
            Self::SingleId => false,
        }
    }

    /// What the names of overlayfs's own attributes begin with.
    pub fn overlay_prefix(self) -> &'static str {
        match self {
            Self::Privileged => "trusted.overlay.",
            Self::IdRange | Self::SingleId | Self::ChangedRoot => "user.overlay.",
        }
    }

    /// The one of that [`name`](Self::name).
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        let all = [Self::Privileged, Self::IdRange, Self::SingleId, Self::ChangedRoot];
        all.into_iter().find(|one| one.name() == name)
    }

    /// One word, for names of folders and for keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::IdRange => "id-range",
            Self::SingleId => "single-id",
            Self::ChangedRoot => "changed-root",
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Privileged => "as root",
            Self::IdRange => "as root of a user namespace with a range of ids",
            Self::SingleId => "without privilege: one user id, other owners are emulated",
            Self::ChangedRoot => "on a copy of the files, for nothing can be mounted here",
        })
    }
}

/// Fewest ids that make a range: nobody, 65534, must be one.
pub(crate) const MIN_RANGE: u64 = 65_535;

/// Whether a map is that of the user namespace the machine started with.
pub(crate) fn is_first_namespace(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// What was found out by trying.
#[derive(Debug)]
pub struct Probe {
    /// The best that works; `None` when commands cannot be run at all.
    pub isolation: Option<Isolation>,
    /// Why nothing better works, best first.
    pub refusals: Vec<Refusal>,
}

/// A kind of sandbox that cannot be made here.
#[derive(Debug)]
pub struct Refusal {
    /// Which.
    pub isolation: Isolation,
    /// Why not; its hint says what to change.
    pub reason: SandboxError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_made_follows_from_rights_and_map() {
        let first = "         0          0 4294967295\n";
        let pod = "0 131072 65536\n";
        let split = "0 1000 1\n1 100000 65535\n";
        let single = "0 1000 1\n";
        for (root, map, want) in [
            (true, first, Isolation::Privileged),
            (true, pod, Isolation::IdRange),
            (true, split, Isolation::IdRange),
            (true, single, Isolation::SingleId),
            (false, first, Isolation::SingleId),
            (false, pod, Isolation::SingleId),
            (true, "", Isolation::SingleId),
        ] {
            assert_eq!(Isolation::decide(root, map), want, "{root} {map}");
        }
    }
}
