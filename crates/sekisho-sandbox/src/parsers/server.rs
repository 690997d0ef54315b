//! The server of parsers: makes a copy of itself for each request, and tells how it ended.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions};

use super::{REQUEST_BYTES, REQUEST_FILES};
use crate::zygote::fork;
use crate::{confine, sys, wire};

/// Exit code of a parser that could not be confined, or panicked.
const EXIT_FAILED: u8 = 101;

/// One parser at work.
struct Parser {
    pid: Pid,
    /// Readable once it has ended.
    process: OwnedFd,
    /// `None` once nobody wants to know.
    control: Option<OwnedFd>,
}

/// What a parser is made of.
struct Request {
    limits: Limits,
    stdin: OwnedFd,
    stdout: OwnedFd,
    control: OwnedFd,
}

/// As the kernel is told.
struct Limits {
    memory_bytes: u64,
    cpu_seconds: u64,
}

/// Serves [`Parsers`](crate::Parsers), whose socket is stdin, until they are gone: `parse` is called in a
/// process of its own for each input, reads it from stdin, answers on stdout and gives an exit code.
///
/// What should be ready in each of them is best made before this is called. This process must have one
/// thread, and own no open file but the standard three.
///
/// # Errors
/// The kernel has no filters for system calls, or does not make processes. What the caller does wrong
/// with one request ends no other.
pub fn serve_parsers(parse: impl Fn() -> u8) -> io::Result<()> {
    confine::leave()?;
    let mut parsers: Vec<Parser> = Vec::new();
    loop {
        let ready = wait(&parsers)?;
        parsers = tended(parsers, &ready);
        if !ready.request {
            continue;
        }
        match receive() {
            Ok(request) => parsers.extend(start(request, &parse)),
            Err(_) => return end(parsers),
        }
    }
}

/// What happened.
struct Ready {
    request: bool,
    /// For each parser: it ended, and nobody waits for it any more.
    parsers: Vec<(bool, bool)>,
}

fn wait(parsers: &[Parser]) -> io::Result<Ready> {
    let main = io::stdin();
    let mut polled = vec![PollFd::new(&main, PollFlags::IN)];
    for parser in parsers {
        polled.push(PollFd::new(&parser.process, PollFlags::IN));
        // Of the end of the other side one is always told.
        let control = parser.control.as_ref().unwrap_or(&parser.process);
        polled.push(PollFd::new(control, PollFlags::empty()));
    }
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let happened: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
    let pairs = happened[1..].chunks_exact(2);
    Ok(Ready { request: happened[0], parsers: pairs.map(|it| (it[0], it[1])).collect() })
}

/// Those that are still at work.
fn tended(parsers: Vec<Parser>, ready: &Ready) -> Vec<Parser> {
    let mut left = Vec::new();
    for (index, mut parser) in parsers.into_iter().enumerate() {
        let (ended, unwanted) = ready.parsers.get(index).copied().unwrap_or_default();
        if ended {
            parser.told();
            continue;
        }
        if unwanted {
            parser.control = None;
            let _ = rustix::process::pidfd_send_signal(&parser.process, Signal::KILL);
        }
        left.push(parser);
    }
    left
}

impl Parser {
    /// Takes the ended process away and says how it ended.
    fn told(self) {
        let Ok(Some((_, status))) = rustix::process::waitpid(Some(self.pid), WaitOptions::empty())
        else {
            return;
        };
        if let Some(control) = self.control {
            let status = status.as_raw().to_ne_bytes();
            let _ = rustix::net::send(&control, &status, SendFlags::NOSIGNAL);
        }
    }
}

/// The next request.
///
/// # Errors
/// There will be no further one.
fn receive() -> io::Result<Request> {
    let mut bytes = [0; REQUEST_BYTES];
    let files = wire::receive_files(io::stdin(), &mut bytes)?;
    let number = |at: usize| bytes[at..].first_chunk().copied().map(u64::from_ne_bytes);
    let (Some(memory_bytes), Some(cpu_seconds), Ok([stdin, stdout, control])) =
        (number(0), number(8), <[OwnedFd; REQUEST_FILES]>::try_from(files))
    else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(Request { limits: Limits { memory_bytes, cpu_seconds }, stdin, stdout, control })
}

/// The parser of a request. Without one its caller sees the end of the socket and no status.
fn start(request: Request, parse: &dyn Fn() -> u8) -> Option<Parser> {
    let server = rustix::process::getpid();
    let Request { limits, stdin, stdout, control } = request;
    let stderr = io::stderr().as_fd().try_clone_to_owned().ok()?;
    let files = [stdin, stdout, stderr];
    let pid = fork(move || {
        let work = move || be_parser(server, files, &limits, parse);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.unwrap_or(Ok(EXIT_FAILED)).map_or(EXIT_FAILED.into(), i32::from)
    });
    let pid = pid.ok()?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => Some(Parser { pid, process, control: Some(control) }),
        Err(_) => {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
            None
        }
    }
}

/// What the copy does. What it has of the server's files is closed behind the back of their owners, which
/// are never dropped: the copy ends here.
fn be_parser(
    server: Pid,
    files: [OwnedFd; 3],
    limits: &Limits,
    parse: &dyn Fn() -> u8,
) -> io::Result<u8> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died just before.
    if rustix::process::getppid() != Some(server) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    sys::take_standard(files)?;
    limits.set()?;
    confine::wall_in()?;
    Ok(parse())
}

impl Limits {
    fn set(&self) -> io::Result<()> {
        for (resource, current, maximum) in [
            (Resource::Data, self.memory_bytes, self.memory_bytes),
            // First the signal that says why, then the end.
            (Resource::Cpu, self.cpu_seconds, self.cpu_seconds.saturating_add(1)),
            (Resource::Fsize, 0, 0),
        ] {
            let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
            rustix::process::setrlimit(resource, limit)?;
        }
        Ok(())
    }
}

/// The caller is gone, and so is everybody who parsed for it.
fn end(parsers: Vec<Parser>) -> io::Result<()> {
    for parser in &parsers {
        let _ = rustix::process::pidfd_send_signal(&parser.process, Signal::KILL);
    }
    for parser in parsers {
        let _ = rustix::process::waitpid(Some(parser.pid), WaitOptions::empty());
    }
    Ok(())
}
