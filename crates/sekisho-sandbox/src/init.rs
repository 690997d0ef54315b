//! Second stage, pid 1: builds the root, drops privileges, runs the command, reaps.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::{self, DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, WaitOptions};
use rustix::thread::{self, Gid, Uid};

use crate::error::Step;
use crate::spec::{Exit, Spec};
use crate::supervisor::{EXIT_MISUSE, die_with_parent};
use crate::wire::{self, AtStep as _, Failure, Report, Request};
use crate::{Isolation, capability, mounts};

/// How often orphans are reaped while the command runs.
const REAP_INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

pub(crate) fn main() -> i32 {
    let Ok(socket) = wire::socket() else { return EXIT_MISUSE };
    let Ok(request) = wire::receive::<Request>(&socket) else { return EXIT_MISUSE };
    if !process::getpid().is_init() {
        return EXIT_MISUSE;
    }
    let report = match prepare(&request.spec) {
        Err(failure) => failure.into(),
        Ok(remarks) if request.probe => Report::Ended { exit: Exit::Code(0), remarks },
        Ok(remarks) => run(&request.spec, &socket, remarks),
    };
    // Everything else in the namespace dies when we return; the caller need not be there any more.
    let _ = wire::send(&socket, &report);
    0
}

fn prepare(spec: &Spec) -> Result<Vec<String>, Failure> {
    die_with_parent()?;
    // Before any file is made: the caller's mask must not show in the image.
    process::umask(Mode::empty());
    rustix::system::sethostname(spec.hostname.as_bytes()).at(Step::HostName)?;
    let built = mounts::build(spec)?;
    process::umask(Mode::from_raw_mode(0o022));
    drop_privileges(spec, built.pivoted).at(Step::Drop)?;
    die_with_parent()?;
    Ok(built.remarks)
}

fn drop_privileges(spec: &Spec, pivoted: bool) -> rustix::io::Result<()> {
    // A core file in the layer would make it differ from run to run. Hard limits are never raised.
    let core = process::getrlimit(Resource::Core);
    process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum })?;
    capability::bound(pivoted)?;
    thread::set_no_new_privs(true)?;
    match spec.isolation {
        Isolation::Privileged => {
            let user = &spec.user;
            let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
            thread::set_thread_groups(&groups)?;
            let gid = Gid::from_raw(user.gid);
            thread::set_thread_res_gid(gid, gid, gid)?;
            let uid = Uid::from_raw(user.uid);
            thread::set_thread_res_uid(uid, uid, uid)?;
        }
        Isolation::SingleId if spec.user.uid != 0 => capability::drop_all()?,
        Isolation::SingleId => {}
    }
    // Nobody inside may trace pid 1 or open its executable.
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn run(spec: &Spec, socket: &UnixStream, remarks: Vec<String>) -> Report {
    let Some((program, args)) = spec.args.split_first() else {
        return Report::Exec { errno: rustix::io::Errno::INVAL.raw_os_error() };
    };
    if let Err(error) = std::env::set_current_dir(&spec.current_dir) {
        return Report::CurrentDir { errno: wire::raw(error) };
    }
    let child = Command::new(program)
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .envs(spec.secret_env.iter().map(|(name, value)| (name, OsStr::from_bytes(&value.0))))
        .stdin(Stdio::null())
        .spawn();
    let child = match child {
        Ok(child) => child,
        Err(error) => return Report::Exec { errno: wire::raw(error) },
    };
    let waited = match i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        Some(pid) => reap_until(pid, socket),
        None => Err(io::ErrorKind::InvalidData.into()),
    };
    match waited {
        Ok(exit) => Report::Ended { exit, remarks },
        Err(error) => Report::Setup { step: Step::Init, path: None, errno: wire::raw(error) },
    }
}

/// Reaps whatever ends until `main` has. The supervisor kills us when the caller hangs up; should it
/// be gone too, the hang-up ends us here.
fn reap_until(main: Pid, socket: &UnixStream) -> io::Result<Exit> {
    let pidfd = process::pidfd_open(main, PidfdFlags::empty())?;
    loop {
        while let Some((pid, status)) = process::wait(WaitOptions::NOHANG)? {
            if pid != main {
                continue;
            }
            let code = status.exit_status().map(Exit::Code);
            let exit = code.or_else(|| status.terminating_signal().map(Exit::Signal));
            if let Some(exit) = exit {
                return Ok(exit);
            }
        }
        let mut fds = [
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP),
        ];
        match poll(&mut fds, Some(&REAP_INTERVAL)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[1].revents().is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}
