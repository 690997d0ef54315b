//! A process that waits to be copied, so that a sandbox costs a `fork` and not two starts of the program.
//!
//! Ours is a large program whose addresses are settled each time it starts: some milliseconds, as much as
//! everything else of a sandbox together. So it is started once for all sandboxes of a [`Launcher`]:
//!
//! ```text
//!  caller ── start ──▶ `__sandbox-zygote`     namespaces of its own, a read-only view of the executable
//!    │                    │ exec of that view
//!    │                    ▼
//!    │  a socket, two  `__sandbox-copies`     one thread; owns no file but the socket to its caller
//!    └── pipes ──────▶    │ fork
//!       ◀── pid, pidfd ── ▼
//!                      supervisor             with the three as its standard streams
//! ```
//!
//! It ends when its caller does, for then its socket does, and the kernel ends its copies with it. What a
//! sandbox is to do never comes by here, so no copy knows another one's secrets.
//!
//! A command could find our executable through `/proc` and, being its owner, write to it. Through that view
//! it cannot, whoever has the file.
//!
//! [`Launcher`]: crate::Launcher
//!
//! Sources: fork(2), unix(7) for `SCM_RIGHTS`, pid_namespaces(7), memfd_create(2).

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mount::{self, MountPropagationFlags};
use rustix::process::{Pid, PidfdFlags, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::error::{SandboxError, Step};
use crate::spec::User;
use crate::supervisor::{self, EXIT_MISUSE};
use crate::wire::{self, AtStep as _, Failure};
use crate::{Isolation, mounts, sys};

/// Where the kernel shows a process its own program.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What a copy is given: a socket, and where its command's output goes.
const FILES: usize = 3;

/// The caller's end. The process goes with it.
#[derive(Debug)]
pub(crate) struct Zygote {
    pub(crate) isolation: Isolation,
    link: Mutex<Link>,
}

#[derive(Debug)]
struct Link {
    socket: UnixStream,
    child: Child,
    /// What it said, once it has: that it is there, or why it cannot be.
    said: Option<Option<Failure>>,
}

/// A copy, which becomes the supervisor of a sandbox.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) supervisor: Supervisor,
    /// Standard output and error of its command.
    pub(crate) output: [OwnedFd; 2],
}

/// A supervisor that waits for what it is to do.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) pid: u32,
    process: OwnedFd,
    pub(crate) socket: UnixStream,
}

impl Zygote {
    /// Starts one, and does not wait for it.
    pub(crate) fn start(program: &Path, isolation: Isolation) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .args([crate::ZYGOTE_ARG, isolation.name()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { isolation, link: Mutex::new(Link { socket, child, said: None }) })
    }

    /// Whether it has not ended.
    pub(crate) fn lives(&self) -> bool {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(link.child.try_wait(), Ok(None))
    }

    /// Has it make a copy of itself.
    pub(crate) fn copy(&self) -> Result<Started, SandboxError> {
        let start = |source| SandboxError::Start { source };
        let (socket, theirs) = UnixStream::pair().map_err(start)?;
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (stdout, out) = pipe().map_err(|error| start(error.into()))?;
        let (stderr, err) = pipe().map_err(|error| start(error.into()))?;
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let vanished = |_: io::Error| SandboxError::Vanished;
        if link.said.is_none() {
            link.said = Some(wire::receive(&link.socket).map_err(vanished)?);
        }
        if let Some(Some(failure)) = &link.said {
            return Err(failure.clone().into_error());
        }
        let files = [theirs.as_fd(), out.as_fd(), err.as_fd()];
        wire::send_files(&link.socket, &[0], &files).map_err(vanished)?;
        let mut number = [0; 4];
        let files = wire::receive_files(&link.socket, &mut number).map_err(vanished)?;
        drop(link);
        let number = i32::from_ne_bytes(number);
        let Some(process) = files.into_iter().next() else {
            return Err(start(io::Error::from_raw_os_error(number)));
        };
        let supervisor = Supervisor { pid: number.unsigned_abs(), process, socket };
        Ok(Started { supervisor, output: [stdout, stderr] })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It fails only when the other end is gone, and then it is.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

impl Supervisor {
    /// Hangs up, which makes the supervisor end everything and then itself, and waits for that.
    pub(crate) fn end(self) -> io::Result<()> {
        drop(self.socket);
        loop {
            let mut fds = [PollFd::from_borrowed_fd(self.process.as_fd(), PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(drop).map_err(io::Error::from),
            }
        }
    }
}

/// The first stage: takes what it needs of the machine, and starts itself again where its executable can only
/// be read. Returns the exit code.
pub(crate) fn main() -> i32 {
    // What whoever started our caller left open, a shell's script say, is none of a command's business.
    if sys::close_all_but_standard().is_err() {
        return EXIT_MISUSE;
    }
    let Ok(socket) = wire::socket() else { return EXIT_MISUSE };
    let wanted = std::env::args().nth(2);
    let Some(isolation) = wanted.as_deref().and_then(Isolation::by_name) else {
        return EXIT_MISUSE;
    };
    // A signal from a terminal is for the caller, who then ends us in order.
    let _ = rustix::process::setsid();
    if isolation == Isolation::ChangedRoot {
        // Nothing can be mounted there.
        return serve();
    }
    let failure = match walls(isolation) {
        Ok((program, _kept)) => {
            let error = Command::new(program).arg(crate::COPIES_ARG).env_clear().exec();
            Failure::new(Step::Executable, error)
        }
        Err(failure) => failure,
    };
    // The caller may be gone; then nobody is left to tell.
    let _ = wire::send(&socket, &Some(failure));
    1
}

/// A mount namespace of our own, in which the executable cannot be written; its path there, which may need a
/// file to be open.
fn walls(isolation: Isolation) -> Result<(PathBuf, Option<fs::File>), Failure> {
    if isolation == Isolation::SingleId {
        supervisor::one_id(&User::default())?;
    }
    sys::unshare(UnshareFlags::NEWNS).at(Step::Namespaces)?;
    mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .at(Step::Namespaces)?;
    // Not by `/proc/self/exe`: that leads to a mount of the namespace we have left, and the kernel
    // binds only what is in ours. By its path it is ours, if it is still the same file.
    let path = fs::read_link(OWN_PROGRAM).at(Step::Executable)?;
    if same_file(&path, Path::new(OWN_PROGRAM)) {
        mount::mount_bind(&path, &path).at_path(Step::Executable, &path)?;
        mounts::make_read_only(&path).at_path(Step::Executable, &path)?;
        return Ok((path, None));
    }
    sealed_copy().at(Step::Executable)
}

/// A copy in memory that nobody can write to, of a program that was replaced or deleted since it started.
fn sealed_copy() -> io::Result<(PathBuf, Option<fs::File>)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = fs::File::from(rustix::fs::memfd_create("sekisho", flags)?);
    io::copy(&mut fs::File::open(OWN_PROGRAM)?, &mut copy)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd())), Some(copy)))
}

fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// The second stage: copies itself as often as the caller asks, until he is gone. Returns the exit code.
pub(crate) fn serve() -> i32 {
    let control = io::stdin();
    let said = wire::socket().and_then(|socket| wire::send(&socket, &None::<Failure>));
    if said.is_err() {
        return EXIT_MISUSE;
    }
    loop {
        let mut byte = [0];
        let Ok(files) = wire::receive_files(control.as_fd(), &mut byte) else { return 0 };
        let Ok(files) = <[OwnedFd; FILES]>::try_from(files) else { return EXIT_MISUSE };
        // Those that ended meanwhile.
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
        if start_copy(files).is_err() {
            // The caller sees the end of the socket.
            return 1;
        }
    }
}

/// Copies us, and tells the caller what the copy is; or, without one, the number of the error.
fn start_copy(files: [OwnedFd; FILES]) -> io::Result<()> {
    let copied = fork(move || {
        // The first takes the place of the socket to the caller, which the copy must not have.
        sys::take_standard(files).map_or(EXIT_MISUSE, |()| supervisor::main())
    });
    let pid = match copied {
        Ok(pid) => pid,
        Err(error) => {
            return wire::send_files(io::stdin().as_fd(), &wire::raw(error).to_ne_bytes(), &[]);
        }
    };
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let number = pid.as_raw_nonzero().get().to_ne_bytes();
    wire::send_files(io::stdin().as_fd(), &number, &[process.as_fd()])
}

/// Runs something in a copy of this process, which ends with the exit code that it gives.
///
/// # Errors
/// The process has more threads than one, or the kernel makes no more processes.
#[expect(
    clippy::exit,
    reason = "the copy is a process of its own; it must not go on as the caller"
)]
pub(crate) fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    match sys::fork()? {
        Some(pid) => Ok(pid),
        None => std::process::exit(work()),
    }
}
