//! Second stage, pid 1: builds the root, drops privileges, runs the command, reaps.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::{self, DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, WaitOptions};
use rustix::thread::{self, Gid, Uid};

use crate::emulate::{self, Emulator};
use crate::error::Step;
use crate::spec::{Exit, MIN_MEMORY_BYTES, Spec, Used, User};
use crate::supervisor::{EXIT_MISUSE, die_with_parent};
use crate::wire::{self, AtStep as _, Failure, Report, Request};
use crate::{Isolation, capability, filter, mounts, sys};

/// How often orphans are reaped while the command runs.
const REAP_INTERVAL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Of 1000: well before what the machine runs besides builds.
const OOM_SCORE: &str = "500";

/// Runs the stage and returns its exit code.
pub(crate) fn main(request: &Request, socket: &UnixStream) -> i32 {
    if !process::getpid().is_init() {
        return EXIT_MISUSE;
    }
    let report = match prepare(&request.spec) {
        Err(failure) => failure.into(),
        // Confining is a part of what is tried out; there is just no command.
        Ok(prepared) if request.probe => match confine(false) {
            Ok(_) => Report::Ended {
                exit: Exit::Code(0),
                remarks: prepared.remarks,
                link_owners: Vec::new(),
                used: Used::default(),
            },
            Err(report) => report,
        },
        Ok(prepared) => run(&request.spec, socket, prepared),
    };
    // Everything else in the namespace dies when we return; the caller need not be there any more.
    let _ = wire::send(socket, &report);
    0
}

/// Everything is mounted; nothing is dropped yet.
struct Prepared {
    remarks: Vec<String>,
    pivoted: bool,
}

fn prepare(spec: &Spec) -> Result<Prepared, Failure> {
    die_with_parent()?;
    // Before any file is made: the caller's mask must not show in the image.
    process::umask(Mode::empty());
    rustix::system::sethostname(spec.hostname.as_bytes()).at(Step::HostName)?;
    let built = mounts::build(spec)?;
    process::umask(Mode::from_raw_mode(0o022));
    Ok(Prepared { remarks: built.remarks, pivoted: built.pivoted })
}

/// Capabilities, then the user: for this thread and what it starts.
fn drop_privileges(spec: &Spec, pivoted: bool) -> rustix::io::Result<()> {
    capability::bound(pivoted, spec.network)?;
    thread::set_no_new_privs(true)?;
    match spec.isolation {
        Isolation::Privileged | Isolation::IdRange | Isolation::ChangedRoot => {
            become_user(&spec.user)
        }
        Isolation::SingleId if spec.user.uid != 0 => capability::drop_all(),
        Isolation::SingleId => Ok(()),
    }
}

/// For this thread and what it starts.
pub(crate) fn become_user(user: &User) -> rustix::io::Result<()> {
    let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    thread::set_thread_groups(&groups)?;
    let gid = Gid::from_raw(user.gid);
    thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(user.uid);
    thread::set_thread_res_uid(uid, uid, uid)
}

/// Hard limits are lowered, never raised.
pub(crate) fn limit(spec: &Spec) -> rustix::io::Result<()> {
    // A core file in the layer would make it differ from run to run.
    let lower = |resource, wanted: u64| {
        let now = process::getrlimit(resource);
        let most = |limit: Option<u64>| Some(limit.map_or(wanted, |limit| limit.min(wanted)));
        process::setrlimit(
            resource,
            Rlimit { current: most(now.current), maximum: most(now.maximum) },
        )
    };
    let core = process::getrlimit(Resource::Core);
    process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum })?;
    // Counted within our user namespace; without one it is `pid_max` that holds, or a control group.
    if matches!(spec.isolation, Isolation::IdRange | Isolation::SingleId) {
        lower(Resource::Nproc, u64::from(spec.max_processes))?;
    }
    if let Some(most) = spec.max_memory_bytes {
        lower(Resource::Data, most.max(MIN_MEMORY_BYTES))?;
    }
    // When memory runs out, a build goes before what the machine is for.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    Ok(())
}

fn run(spec: &Spec, socket: &UnixStream, prepared: Prepared) -> Report {
    let Prepared { mut remarks, pivoted } = prepared;
    if spec.args.is_empty() {
        return Report::Exec { errno: rustix::io::Errno::INVAL.raw_os_error() };
    }
    if let Err(error) = std::env::set_current_dir(&spec.current_dir) {
        return Report::CurrentDir { errno: wire::raw(error) };
    }
    let started = match start(spec, pivoted) {
        Ok(started) => started,
        Err(report) => return report,
    };
    let emulated = started.listener.is_some();
    let mut emulator = match started.listener.map(Emulator::new).transpose() {
        Ok(emulator) => emulator,
        Err(error) => return Failure::new(Step::Filter, error).into(),
    };
    let waited = match i32::try_from(started.child.id()).ok().and_then(Pid::from_raw) {
        Some(pid) => reap_until(pid, socket, &mut emulator),
        None => Err(io::ErrorKind::InvalidData.into()),
    };
    let link_owners = emulator.map(Emulator::into_links).unwrap_or_default();
    if wants_emulation(spec) && !emulated {
        remarks.push(
            "owners cannot be emulated here, for there is no /proc that shows them".to_owned(),
        );
    }
    match waited {
        Ok(exit) => {
            let used = sys::children_used().unwrap_or_default();
            Report::Ended { exit, remarks, link_owners, used }
        }
        Err(error) => Report::Setup { step: Step::Init, path: None, errno: wire::raw(error) },
    }
}

/// The command, and where its held calls come to, if any are held.
struct Started {
    child: Child,
    listener: Option<OwnedFd>,
}

/// Only root of one id needs it.
fn wants_emulation(spec: &Spec) -> bool {
    spec.isolation == Isolation::SingleId && spec.user.uid == 0
}

/// It needs a `/proc` that shows us.
fn emulates(spec: &Spec) -> bool {
    wants_emulation(spec) && rustix::fs::readlink("/proc/self", Vec::new()).is_ok()
}

/// Starts the command from a thread that gives up everything first: filters and capabilities are a
/// thread's own, and this one has to go on answering calls.
fn start(spec: &Spec, pivoted: bool) -> Result<Started, Report> {
    let failed = |error: io::Error| Report::from(Failure::new(Step::Drop, error));
    limit(spec).map_err(|error| failed(error.into()))?;
    // Changing the user cannot be left to the thread: it would make us traceable by what has that user.
    if spec.isolation.has_owners() {
        drop_privileges(spec, pivoted).map_err(|error| failed(error.into()))?;
        die_with_parent()?;
    }
    // Nobody inside may trace pid 1 or open its executable.
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| failed(error.into()))?;
    let emulates = emulates(spec);
    let started = std::thread::scope(|scope| {
        let command = scope.spawn(|| {
            if spec.isolation == Isolation::SingleId {
                drop_privileges(spec, pivoted).map_err(|error| failed(error.into()))?;
            }
            let listener = confine(emulates)?;
            Ok(Started { child: command(spec)?, listener })
        });
        command.join().unwrap_or_else(|_| Err(failed(io::ErrorKind::Other.into())))
    })?;
    capability::keep_for_serving().map_err(|error| failed(error.into()))?;
    thread::set_no_new_privs(true).map_err(|error| failed(error.into()))?;
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| failed(error.into()))?;
    die_with_parent()?;
    Ok(started)
}

/// Installs the filters on this thread.
pub(crate) fn confine(emulates: bool) -> Result<Option<OwnedFd>, Report> {
    let failed = |error: io::Error| Report::from(Failure::new(Step::Filter, error));
    for program in filter::programs().map_err(|error| failed(io::Error::other(error)))? {
        seccompiler::apply_filter(&program).map_err(|error| match error {
            seccompiler::Error::Seccomp(source) | seccompiler::Error::Prctl(source) => {
                failed(source)
            }
            other => failed(io::Error::other(other)),
        })?;
    }
    if !emulates {
        return Ok(None);
    }
    let mut program = filter::hold(emulate::HELD).map_err(|error| failed(error.into()))?;
    sys::install_listener(&mut program).map(Some).map_err(|error| failed(error.into()))
}

pub(crate) fn command(spec: &Spec) -> Result<Child, Report> {
    let Some((program, args)) = spec.args.split_first() else {
        return Err(Report::Exec { errno: rustix::io::Errno::INVAL.raw_os_error() });
    };
    Command::new(program)
        .args(args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .envs(spec.secret_env.iter().map(|(name, value)| (name, OsStr::from_bytes(&value.0))))
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| Report::Exec { errno: wire::raw(error) })
}

/// Reaps whatever ends until `main` has, and answers held calls. The supervisor kills us when the caller
/// hangs up; should it be gone too, the hang-up ends us here.
pub(crate) fn reap_until(
    main: Pid,
    socket: &UnixStream,
    emulator: &mut Option<Emulator>,
) -> io::Result<Exit> {
    let pidfd = process::pidfd_open(main, PidfdFlags::empty())?;
    let mut listening = emulator.is_some();
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
        // Held calls come by the thousand; between them there is nothing to reap.
        loop {
            let mut fds = vec![
                PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP),
            ];
            if let Some(emulator) = emulator.as_ref().filter(|_| listening) {
                fds.push(PollFd::from_borrowed_fd(emulator.listener().as_fd(), PollFlags::IN));
            }
            match poll(&mut fds, Some(&REAP_INTERVAL)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let (ended, hung_up) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            let held = fds.get(2).map_or(PollFlags::empty(), PollFd::revents);
            if hung_up {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            match emulator.as_mut() {
                Some(emulator) if held.contains(PollFlags::IN) => emulator.serve()?,
                // Nobody is left under the filter.
                Some(_) if !held.is_empty() => listening = false,
                _ => break,
            }
            if ended {
                break;
            }
        }
    }
}
