//! What to run, in which root, as whom.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Isolation;

/// One command and the world it sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// How it is walled off; [`Isolation::choose`] picks what this process can do.
    pub isolation: Isolation,
    /// Read-only trees, the topmost first, in overlayfs form (whiteouts are 0:0 character devices).
    /// May be empty. At most 500, which is the kernel's limit.
    pub lower: Vec<PathBuf>,
    /// A directory of ours alone, on one file system, that holds two empty directories: `upper`, which
    /// collects what the command changes, and `work`, which overlayfs needs. Good for one run.
    pub writable: PathBuf,
    /// An empty directory of ours alone to mount on. Nothing is ever written to it.
    pub mountpoint: PathBuf,
    /// Program and arguments; the program is looked up in the `PATH` of [`Spec::env`].
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Absolute path inside the root; must exist there.
    pub current_dir: String,
    /// Who the command is.
    pub user: User,
    /// What `hostname` says; at most 64 bytes.
    pub hostname: String,
    /// Which network it sees.
    pub network: Network,
    /// More of the host's files and folders to show it.
    pub binds: Vec<Bind>,
    /// Killed after this; `None`: never.
    pub timeout: Option<Duration>,
}

/// Numeric identity inside the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups; ignored in [`Isolation::SingleId`], where no other group exists.
    pub groups: Vec<u32>,
}

/// Which network the command sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// The host's, with its `resolv.conf` and `hosts`.
    #[default]
    Host,
    /// None: an empty network namespace, in which even loopback is down.
    None,
}

/// A file or folder of the host shown inside the sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path inside; created (in memory, not in `upper`) when absent.
    pub target: String,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// The code a shell would report: 128 + signal for a killed command.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// What [`Launcher::run`](crate::Launcher::run) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the command ended.
    pub exit: Exit,
    /// Second-best choices that had to be made, one sentence each.
    pub remarks: Vec<String>,
}
