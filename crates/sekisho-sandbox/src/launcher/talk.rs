//! The caller's side of a sandbox that runs: its output, its report, and what ends it early.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Control, Stream};
use crate::error::SandboxError;
use crate::spec::Spec;
use crate::wire::{self, Report, Request};

/// How much of the command's output is passed on at once, at most.
const CHUNK_BYTES: usize = 16 << 10;

/// How often the free space of the disk is looked at.
const DISK_INTERVAL: Duration = Duration::from_millis(500);

/// How a sandbox ended.
pub(super) enum End {
    Report(Report),
    Silence,
    Cancelled,
    TimedOut(Duration),
    DiskFull(u64),
}

/// Sends the request, passes the output on, and waits for the end, one way or another.
#[expect(clippy::disallowed_methods, reason = "the deadline of a process is wall time")]
pub(super) fn talk(
    socket: &UnixStream,
    pipes: [OwnedFd; 2],
    request: &Request,
    control: &Control,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<End, SandboxError> {
    let start = |source| SandboxError::Start { source };
    // One that is gone sends no report either.
    let _ = wire::send(socket, request);
    let timeout = request.spec.timeout;
    let deadline = timeout.map(|after| Instant::now() + after);
    let [stdout, stderr] = pipes;
    let mut pipes = [(Some(stdout), Stream::Stdout), (Some(stderr), Stream::Stderr)];
    let mut answer = Vec::new();
    let mut talking = true;
    let mut looked = Instant::now();
    while talking || pipes.iter().any(|(pipe, _)| pipe.is_some()) {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let next = Some(left.map_or(DISK_INTERVAL, |left| left.min(DISK_INTERVAL)));
        let ready = wait(control, talking.then_some(socket), &pipes, next).map_err(start)?;
        if looked.elapsed() >= DISK_INTERVAL {
            looked = Instant::now();
            if let Some(free_bytes) = nearly_full(&request.spec) {
                return Ok(End::DiskFull(free_bytes));
            }
        }
        match (ready.cancelled, timeout) {
            (true, _) => return Ok(End::Cancelled),
            (false, Some(after)) if left == Some(Duration::ZERO) => {
                return Ok(End::TimedOut(after));
            }
            (false, _) => {}
        }
        if ready.socket {
            talking = read_answer(socket, &mut answer).map_err(start)?;
        }
        for (index, (pipe, stream)) in pipes.iter_mut().enumerate() {
            if ready.pipes[index] && !forward(pipe.as_ref(), *stream, output).map_err(start)? {
                *pipe = None;
            }
        }
    }
    Ok(match wire::receive(answer.as_slice()) {
        Ok(report) => End::Report(report),
        Err(_) => End::Silence,
    })
}

/// What is free, when that is too little.
fn nearly_full(spec: &Spec) -> Option<u64> {
    let stat = rustix::fs::statvfs(&spec.writable).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (free < spec.min_free_bytes).then_some(free)
}

struct Ready {
    cancelled: bool,
    socket: bool,
    pipes: [bool; 2],
}

fn wait(
    control: &Control,
    socket: Option<&UnixStream>,
    pipes: &[(Option<OwnedFd>, Stream); 2],
    left: Option<Duration>,
) -> io::Result<Ready> {
    let socket = socket.map(AsFd::as_fd);
    let all = [
        Some(control.0.as_fd()),
        socket,
        pipes[0].0.as_ref().map(AsFd::as_fd),
        pipes[1].0.as_ref().map(AsFd::as_fd),
    ];
    let open: Vec<BorrowedFd<'_>> = all.iter().flatten().copied().collect();
    let mut fds: Vec<_> =
        open.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    // One millisecond more, so that the deadline has passed when poll says so.
    let timeout = left.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut answers = fds.iter().map(|fd| !fd.revents().is_empty());
    let mut next = |present: bool| present && answers.next().unwrap_or(false);
    Ok(Ready {
        cancelled: next(true),
        socket: next(socket.is_some()),
        pipes: [next(pipes[0].0.is_some()), next(pipes[1].0.is_some())],
    })
}

/// False at the end.
fn read_answer(mut socket: &UnixStream, answer: &mut Vec<u8>) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    match socket.read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(read) if answer.len() + read > wire::MAX_MESSAGE_BYTES => {
            Err(io::Error::other(format!("a report of more than {read} bytes")))
        }
        Ok(read) => {
            answer.extend_from_slice(&chunk[..read]);
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        // It ended before it read all of the request.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
        Err(error) => Err(error),
    }
}

/// False at the end.
fn forward(
    pipe: Option<&OwnedFd>,
    stream: Stream,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut chunk = [0; CHUNK_BYTES];
    match rustix::io::read(pipe, &mut chunk) {
        Ok(0) => Ok(false),
        Ok(read) => {
            output(stream, &chunk[..read]);
            Ok(true)
        }
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
