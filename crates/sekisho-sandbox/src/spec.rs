//! What to run, in which root, as whom.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Isolation, Owner};

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
    /// More that it sees, mounted in this order.
    pub mounts: Vec<Mount>,
    /// More variables, whose values are nobody's business.
    pub secret_env: Vec<(String, SecretBytes)>,
    /// Killed after this; `None`: never.
    pub timeout: Option<Duration>,
    /// Most processes and threads at once. It holds on Linux 6.14 and newer, in a user namespace, and where
    /// a control group can be made; below 301 the kernel does not go.
    pub max_processes: u32,
    /// Most memory, in bytes: of all processes together, files in memory included, where a control group can be
    /// made; beyond it the kernel ends one. And everywhere of each process, as the kernel counts for
    /// `RLIMIT_DATA`: what it may write and shares with nobody; it is refused more. `None`: as the caller.
    pub max_memory_bytes: Option<u64>,
    /// The command is killed when the disk of [`Spec::writable`] has less free than this.
    pub min_free_bytes: u64,
}

/// What [`Spec::max_processes`] should be: more than any compiler wants, few enough for a machine.
pub const MAX_PROCESSES: u32 = 8192;

/// The smallest useful [`Spec::max_memory_bytes`]: below it the sandbox itself has too little to start.
pub const MIN_MEMORY_BYTES: u64 = 16 << 20;

/// What [`Spec::min_free_bytes`] should be: a disk fills by less than that between two looks.
pub const MIN_FREE_BYTES: u64 = 512 << 20;

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
    /// The host's, with its `resolv.conf`. It cannot be listened to: there are no raw sockets.
    #[default]
    Host,
    /// None: a network namespace of its own, with loopback alone.
    None,
}

/// Something mounted into the root. Targets are absolute and clean paths inside; what is absent there is
/// made, in memory where the image allows it, else in `upper` and empty.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Mount {
    /// A file or folder of the host.
    Bind(Bind),
    /// Stacked trees, or a part of them.
    Layers(Layers),
    /// Memory.
    Tmpfs {
        /// Where.
        target: String,
        /// Most bytes in it; the kernel's limit without, half of the memory.
        size_bytes: Option<u64>,
    },
    /// A read-only file in memory.
    File(MemoryFile),
}

impl Mount {
    /// Where it is inside, and whether it is a folder.
    pub(crate) fn stub(&self) -> (&str, bool) {
        match self {
            Self::Bind(bind) => (&bind.target, bind.source.is_dir()),
            Self::Layers(layers) => (&layers.target, layers.is_folder),
            Self::Tmpfs { target, .. } => (target, true),
            Self::File(file) => (&file.target, false),
        }
    }
}

/// Trees in overlayfs form, shown as one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layers {
    /// The topmost first.
    pub lower: Vec<PathBuf>,
    /// As [`Spec::writable`]; without it writes are refused.
    pub writable: Option<PathBuf>,
    /// Path of what is shown in the stacked trees; links do not lead out of them.
    pub source: String,
    /// Whether that is a folder.
    pub is_folder: bool,
    /// Where.
    pub target: String,
}

/// A file that exists in memory only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemoryFile {
    /// Where.
    pub target: String,
    /// What is in it.
    pub content: SecretBytes,
    /// Permissions.
    pub mode: u32,
    /// Owner; without effect in [`Isolation::SingleId`], where there is one owner.
    pub uid: u32,
    /// Group; the same.
    pub gid: u32,
}

/// Bytes that are not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretBytes(pub Vec<u8>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretBytes(…)")
    }
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

/// What a command and all that came from it used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Time of processors, in milliseconds; with several of them more than the time that passed.
    pub cpu_ms: u64,
    /// Most memory that one process of it had, in bytes.
    pub peak_rss_bytes: u64,
}

/// What [`Launcher::run`](crate::Launcher::run) answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How the command ended.
    pub exit: Exit,
    /// Second-best choices that had to be made, one sentence each.
    pub remarks: Vec<String>,
    /// Owners that the command gave to links and special files, by path without the leading `/`; see
    /// [`Owner`].
    pub link_owners: Vec<(Vec<u8>, Owner)>,
    /// What it used.
    pub used: Used,
}
