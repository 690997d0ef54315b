//! First stage of a sandbox: namespaces, then waiting.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{self, MountPropagationFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::error::Step;
use crate::spec::{Network, User};
use crate::wire::{self, AtStep as _, Failure, Report, Request};
use crate::{Isolation, changed_root, init, sys, zygote};

/// Exit code of a stage that was not started by [`Launcher`](crate::Launcher).
pub(crate) const EXIT_MISUSE: i32 = 125;

/// Runs the stage and returns its exit code, which nobody looks at: the report is what counts.
pub(crate) fn main() -> i32 {
    let Ok(socket) = wire::socket() else { return EXIT_MISUSE };
    let Ok(request) = wire::receive::<Request>(&socket) else { return EXIT_MISUSE };
    if request.spec.isolation == Isolation::ChangedRoot {
        let report = changed_root::main(&request.spec, &socket);
        let _ = wire::send(&socket, &report);
        return 0;
    }
    match start(&request, &socket) {
        Ok(init) => watch(init, &socket),
        Err(failure) => {
            // The caller may be gone; then nobody is left to tell.
            let _ = wire::send(&socket, &Report::from(failure));
            1
        }
    }
}

/// Makes the namespaces, and pid 1 in them.
fn start(request: &Request, socket: &UnixStream) -> Result<Pid, Failure> {
    let spec = &request.spec;
    // A signal from a terminal is for the caller, who then ends us in order.
    let _ = rustix::process::setsid();
    let mut flags =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    if spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    if spec.isolation == Isolation::SingleId {
        one_id(&spec.user)?;
    }
    sys::unshare(flags).at(Step::Namespaces)?;
    if spec.network == Network::None {
        sys::raise_loopback().at(Step::Network)?;
    }
    die_with_parent()?;
    mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .at(Step::Namespaces)?;
    zygote::fork(|| init::main(request, socket)).at(Step::Init)
}

/// Enters a user namespace with one user and one group, which stand for our own.
pub(crate) fn one_id(inside: &User) -> Result<(), Failure> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    sys::unshare(UnshareFlags::NEWUSER).at(Step::UserNamespace)?;
    let map = |name: &str, text: &str| {
        let path = Path::new("/proc/self").join(name);
        fs::write(&path, text).at_path(Step::IdMap, path)
    };
    map("setgroups", "deny")?;
    map("uid_map", &format!("{} {uid} 1", inside.uid))?;
    map("gid_map", &format!("{} {gid} 1", inside.gid))
}

/// Asks the kernel to kill us when the process that started us ends. Cleared by every change of
/// credentials, so to be called after them.
pub(crate) fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at(Step::ParentDeathSignal)
}

/// Waits for pid 1; ends it when the caller hangs up.
///
/// Waiting for pid 1 returns only after everything in its namespace is gone, which is what makes it
/// safe for the caller to remove the folders afterwards.
fn watch(init: Pid, socket: &UnixStream) -> i32 {
    if let Err(error) = until_end_or_hang_up(init, socket) {
        let errno = wire::raw(error);
        let _ = wire::send(socket, &Report::Setup { step: Step::Init, path: None, errno });
    }
    // It has not been waited for, so the number is its own.
    let _ = rustix::process::kill_process(init, Signal::KILL);
    loop {
        match rustix::process::waitpid(Some(init), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return 0,
            Err(_) => return 1,
        }
    }
}

fn until_end_or_hang_up(init: Pid, socket: &UnixStream) -> io::Result<()> {
    let pidfd = rustix::process::pidfd_open(init, PidfdFlags::empty())?;
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
