//! What can go wrong, step by step, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use sekisho_types::Hint;
use serde::{Deserialize, Serialize};

/// A step of setting up a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Tying our life to the caller's.
    ParentDeathSignal,
    /// `unshare` of the user namespace.
    UserNamespace,
    /// Writing `uid_map`, `gid_map` and `setgroups`.
    IdMap,
    /// `unshare` of mount, pid, ipc, uts and network namespaces.
    Namespaces,
    /// Keeping the command from every network.
    Network,
    /// Mounting the private tmpfs on the mount point and preparing it.
    Scratch,
    /// Making our executable visible read-only.
    Executable,
    /// Starting pid 1.
    Init,
    /// Mounting the overlay.
    Overlay,
    /// Filling `/dev`.
    Devices,
    /// Mounting and masking `/proc`.
    Proc,
    /// Mounting an empty `/sys`.
    Sys,
    /// A bind mount.
    Bind,
    /// Making the overlay the root.
    Pivot,
    /// Setting the host name.
    HostName,
    /// Dropping capabilities, users and groups.
    Drop,
    /// Installing the system call filters.
    Filter,
    /// Copying the root, or comparing it, where nothing can be mounted.
    Copy,
    /// Showing a folder, a cache or memory in the root, where nothing can be mounted.
    Mount,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ParentDeathSignal => "set the parent death signal",
            Self::UserNamespace => "create a user namespace",
            Self::IdMap => "map the user and group id",
            Self::Namespaces => "create namespaces",
            Self::Network => "keep the command from the network",
            Self::Scratch => "mount a private tmpfs",
            Self::Executable => "bind the executable read-only",
            Self::Init => "start pid 1",
            Self::Overlay => "mount the overlay",
            Self::Devices => "fill /dev",
            Self::Proc => "mount /proc",
            Self::Sys => "mount /sys",
            Self::Bind => "bind a file or folder",
            Self::Pivot => "change the root",
            Self::HostName => "set the host name",
            Self::Drop => "drop privileges",
            Self::Filter => "filter system calls",
            Self::Copy => "copy or compare the files",
            Self::Mount => "mount a folder",
        })
    }
}

/// Why a command was not run, or has no exit status.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The sandbox could not be made.
    #[error("cannot {step} for the sandbox{}", at(.path.as_ref()))]
    Setup {
        /// Which step failed.
        step: Step,
        /// On which file, where there is one.
        path: Option<PathBuf>,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The program does not exist in the root, or cannot be executed.
    #[error("cannot execute `{program}`")]
    Exec {
        /// As given in the spec.
        program: String,
        /// The kernel's answer: not found, not executable, no such interpreter.
        #[source]
        source: io::Error,
    },
    /// The working directory cannot be entered.
    #[error("cannot enter the working directory `{path}`")]
    CurrentDir {
        /// As given in the spec.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The spec asks for something that cannot be.
    #[error("bad sandbox spec: {reason}")]
    Spec {
        /// What.
        reason: &'static str,
    },
    /// Our own stage could not be started, or its pipes failed.
    #[error("cannot start the sandbox process")]
    Start {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A stage ended without a word: killed from outside, out of memory.
    #[error("the sandbox process ended without a report")]
    Vanished,
    /// [`Control::kill`](crate::Control::kill) was called.
    #[error("the command was cancelled")]
    Cancelled,
    /// The disk came close to being full.
    #[error(
        "the command was killed, for only {} MiB are free at `{}`", .free_bytes >> 20, .path.display()
    )]
    DiskFull {
        /// The folder that the command wrote to.
        path: PathBuf,
        /// What was left.
        free_bytes: u64,
    },
    /// [`Spec::timeout`](crate::Spec::timeout) passed.
    #[error("the command ran longer than {} s and was killed", .after.as_secs())]
    TimedOut {
        /// The limit.
        after: Duration,
    },
}

fn at(path: Option<&PathBuf>) -> String {
    path.map(|path| format!(" at `{}`", path.display())).unwrap_or_default()
}

impl Hint for SandboxError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Setup { step, source, .. } => setup_hint(*step, errno(source)?),
            Self::Exec { source, program } if errno(source) == Some(Errno::NOENT) => Some(format!(
                "check that the base image holds `{program}` and the interpreter or loader it names"
            )),
            Self::Exec { source, .. } if errno(source) == Some(Errno::NOEXEC) => {
                Some("give the script a `#!` line, or build for this machine's architecture".into())
            }
            Self::DiskFull { .. } => {
                Some("free some space, or put the cache folder on a larger disk".to_owned())
            }
            _ => None,
        }
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

fn setup_hint(step: Step, errno: Errno) -> Option<String> {
    let text = match step {
        Step::UserNamespace | Step::IdMap | Step::Namespaces | Step::Scratch => {
            return user_namespace_hint(errno);
        }
        Step::Overlay if errno == Errno::INVAL => {
            "put the cache folder on a file system that overlayfs can write to (ext4, xfs, btrfs, \
             tmpfs), not on overlayfs itself or a network share"
        }
        Step::Overlay if errno == Errno::PERM => {
            "overlayfs in a user namespace needs Linux 5.11 or newer, and no security module that \
             forbids mounts"
        }
        Step::Proc if errno == Errno::PERM => {
            "the kernel gives no fresh /proc where the outer one is masked: give the pod \
             `procMount: Unmasked`, or run as an ordinary user"
        }
        Step::Network => {
            "this container may not make a network of a command's own: let the command have the \
             container's (`--network=default`), or give the pod `hostUsers: false` and CAP_SYS_ADMIN, or a \
             seccomp profile that allows user namespaces"
        }
        Step::Mount => {
            "`--mount` of a folder needs a sandbox that may mount: give the pod `hostUsers: false` and \
             CAP_SYS_ADMIN, or a seccomp profile that allows user namespaces"
        }
        Step::Overlay if errno == Errno::NODEV => "load the kernel module: `modprobe overlay`",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Looks at the switches that forbid user namespaces, to name the one that is off.
fn user_namespace_hint(errno: Errno) -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let text = if errno == Errno::INVAL || errno == Errno::NOSYS {
        "this kernel is built without user namespaces; run as root with CAP_SYS_ADMIN instead"
    } else if read("/proc/sys/user/max_user_namespaces") == "0" || errno == Errno::NOSPC {
        "user namespaces are switched off: `sysctl -w user.max_user_namespaces=15000`"
    } else if read("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "user namespaces are switched off: `sysctl -w kernel.unprivileged_userns_clone=1`"
    } else if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        "AppArmor restricts user namespaces: \
         `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give the binary a profile \
         that allows `userns`"
    } else if matches!(errno, Errno::PERM | Errno::ACCESS) {
        "in a container, allow `unshare` and `mount` (seccomp Unconfined or CAP_SYS_ADMIN in a pod \
         with hostUsers: false)"
    } else {
        return None;
    };
    Some(text.to_owned())
}
