//! Which kinds of sandbox this process can make.

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::error::SandboxError;

/// The walls around a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Mount, pid, ipc and uts namespaces, made with `CAP_SYS_ADMIN`; every uid and gid exists.
    Privileged,
    /// The same inside a user namespace with exactly one uid and gid, which stand for our own outside.
    /// Ownership cannot change: `chown` to another id fails.
    SingleId,
}

impl Isolation {
    /// What this process can probably make, by its capabilities alone.
    ///
    /// Root without `CAP_SYS_ADMIN` (an ordinary container) is treated like an ordinary user.
    pub fn choose() -> Self {
        let admin = rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        if rustix::process::geteuid().is_root() && admin {
            Self::Privileged
        } else {
            Self::SingleId
        }
    }
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
