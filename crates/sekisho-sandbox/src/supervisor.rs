//! First stage: namespaces, then waiting.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{self, MountFlags, MountPropagationFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::UnshareFlags;

use crate::error::Step;
use crate::spec::Network;
use crate::wire::{self, AtStep as _, Failure, Report, Request};
use crate::{Isolation, capability, changed_root, sys};

/// Exit code of a stage that was not started by [`Launcher`](crate::Launcher).
pub(crate) const EXIT_MISUSE: i32 = 125;

/// Where the read-only view of our executable is mounted, below the mount point.
const EXECUTABLE: &str = "exe";

/// Runs the stage and returns its exit code, which nobody looks at: the report is what counts.
pub(crate) fn main() -> i32 {
    let Ok(socket) = wire::socket() else { return EXIT_MISUSE };
    let Ok(request) = wire::receive::<Request>(&socket) else { return EXIT_MISUSE };
    if request.spec.isolation == Isolation::ChangedRoot {
        // The one for a second stage, which there is not.
        let _ = wire::receive::<Request>(&socket);
        let report = changed_root::main(&request.spec, &socket);
        let _ = wire::send(&socket, &report);
        return 0;
    }
    match start(&request) {
        Ok(init) => watch(init, &socket),
        Err(failure) => {
            // The caller may be gone; then nobody is left to tell.
            let _ = wire::send(&socket, &Report::from(failure));
            1
        }
    }
}

fn start(request: &Request) -> Result<Child, Failure> {
    let spec = &request.spec;
    // A signal from a terminal is for the caller, who then ends us in order.
    let _ = rustix::process::setsid();
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    if spec.isolation == Isolation::SingleId {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        sys::unshare(UnshareFlags::NEWUSER).at(Step::UserNamespace)?;
        let map = |name: &str, text: &str| {
            let path = Path::new("/proc/self").join(name);
            fs::write(&path, text).at_path(Step::IdMap, path)
        };
        map("setgroups", "deny")?;
        map("uid_map", &format!("{} {uid} 1", spec.user.uid))?;
        map("gid_map", &format!("{} {gid} 1", spec.user.gid))?;
    }
    sys::unshare(flags).at(Step::Namespaces)?;
    die_with_parent()?;
    mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .at(Step::Namespaces)?;
    let executable = read_only_executable(&spec.mountpoint)?;
    if spec.isolation == Isolation::SingleId && spec.user.uid != 0 {
        capability::keep_across_exec().at(Step::Init)?;
    }
    Command::new(executable)
        .arg(crate::INIT_ARG)
        .env_clear()
        .stdin(Stdio::inherit())
        .spawn()
        .at(Step::Init)
}

/// Asks the kernel to kill us when the process that started us ends. Cleared by every change of
/// credentials, so to be called after them.
pub(crate) fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at(Step::ParentDeathSignal)
}

/// A command could find our executable through `/proc` and, being its owner, write to it. Through
/// this mount it cannot.
fn read_only_executable(mountpoint: &Path) -> Result<PathBuf, Failure> {
    mount::mount(
        "sekisho",
        mountpoint,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(c"mode=0755,size=1g"),
    )
    .at_path(Step::Scratch, mountpoint)?;
    let target = mountpoint.join(EXECUTABLE);
    // Not by `/proc/self/exe`: that leads to a mount of the namespace we have left, and the kernel
    // binds only what is in ours. By its path it is ours, if it is still the same file.
    let path = fs::read_link("/proc/self/exe").at(Step::Executable)?;
    if same_file(&path, Path::new("/proc/self/exe")) {
        fs::write(&target, []).at_path(Step::Executable, &target)?;
        mount::mount_bind(&path, &target).at_path(Step::Executable, &path)?;
    } else {
        // Replaced or deleted since we started.
        fs::copy("/proc/self/exe", &target).at_path(Step::Executable, &target)?;
        mount::mount_bind(&target, &target).at_path(Step::Executable, &target)?;
    }
    crate::mounts::make_read_only(&target).at_path(Step::Executable, &target)?;
    Ok(target)
}

fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Waits for pid 1; ends it when the caller hangs up.
///
/// Waiting for pid 1 returns only after everything in its namespace is gone, which is what makes it
/// safe for the caller to remove the folders afterwards.
fn watch(mut init: Child, socket: &UnixStream) -> i32 {
    if let Err(error) = until_end_or_hang_up(&init, socket) {
        let errno = wire::raw(error);
        let _ = wire::send(socket, &Report::Setup { step: Step::Init, path: None, errno });
    }
    let _ = init.kill();
    match init.wait() {
        Ok(status) => status.code().unwrap_or(1),
        Err(_) => 1,
    }
}

fn until_end_or_hang_up(init: &Child, socket: &UnixStream) -> io::Result<()> {
    let pid = i32::try_from(init.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP),
        ];
        match poll(&mut fds, None) {
            Ok(_) if fds.iter().any(|fd| !fd.revents().is_empty()) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
