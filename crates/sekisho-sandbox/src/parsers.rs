//! Confined parsers of foreign bytes, a process for each input.
//!
//! ```text
//!  caller ── limits, ends of two pipes and a socket ─▶ server: one thread, empty environment, no network;
//!    │                                                   │       reads nothing but such requests
//!    │                                                   ▼ fork
//!    ├─ input ────────────────────────────────▶ stdin  parser: confined, limited, one input, then gone
//!    ◀─ answer ──────────────────────────────── stdout ──┘
//!    ◀─ how it ended ─────────── server
//! ```
//!
//! A parser is a copy of the server, which has never seen foreign bytes; it costs no start of a program.
//! When the caller closes its end of the socket the parser is killed; when the caller is gone all of them
//! are, and the server ends; when the server is killed its parsers are too, and the next input has another.

pub(crate) mod server;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::wire;

/// How much is handed over at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// The largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// Of a request: memory and seconds, eight bytes each.
const REQUEST_BYTES: usize = 16;

/// What comes with a request: the parser's input and output, and the socket for its end.
const REQUEST_FILES: usize = 3;

/// What one parser may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParserLimits {
    /// Memory that it writes to, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in whole seconds.
    pub cpu: Duration,
    /// How long it may take no byte, and after the last byte say nothing.
    pub silence: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ParserError {
    /// Nothing is wrong with the input.
    #[error("no parser can be started: {0}")]
    Unavailable(#[source] io::Error),
    /// The input could not be read.
    #[error("reading what is to be parsed: {0}")]
    Input(#[source] io::Error),
    /// It was killed.
    #[error("the parser did nothing for {0:?} and was stopped")]
    Silent(Duration),
    /// It was killed.
    #[error("the parser's answer is larger than {MAX_ANSWER_BYTES} bytes")]
    Large,
    /// The kernel ended it.
    #[error("parsing took more than {0:?} of processor time")]
    Time(Duration),
    /// It gave up.
    #[error("parsing took more than {} MiB of memory", .0 / (1024 * 1024))]
    Memory(u64),
    /// The kernel ended it.
    #[error("the parser asked for what parsing does not need, and was stopped")]
    Forbidden,
    /// It failed.
    #[error("the parser ended without an answer ({0})")]
    Ended(ExitStatus),
}

/// Has inputs parsed. The server is started for the first one.
#[derive(Debug)]
pub struct Parsers {
    program: PathBuf,
    args: Vec<String>,
    server: Mutex<Option<Arc<Server>>>,
}

impl Parsers {
    /// The server is `program` with these arguments, which calls [`serve_parsers`](crate::serve_parsers).
    pub fn new(program: impl Into<PathBuf>, args: &[&str]) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { program: program.into(), args, server: Mutex::default() }
    }

    /// What a parser says of the input, of which it need not read all. Blocks.
    ///
    /// # Errors
    /// Whatever is no answer with the exit code 0.
    pub fn ask(&self, limits: &ParserLimits, input: &mut dyn Read) -> Result<Vec<u8>, ParserError> {
        let mut parser = self.parser(limits).map_err(ParserError::Unavailable)?;
        parser.feed(input, limits)?;
        let answer = parser.listen(limits)?;
        let status = parser.end(limits)?;
        if status.success() && !answer.is_empty() { Ok(answer) } else { Err(limits.why(status)) }
    }

    fn parser(&self, limits: &ParserLimits) -> io::Result<Parser> {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(up) = &*server {
            match up.parser(limits) {
                // It was killed.
                Err(error) if GONE.contains(&error.kind()) => {}
                parser => return parser,
            }
        }
        let up = server.insert(Arc::new(Server::start(&self.program, &self.args)?));
        up.parser(limits)
    }
}

/// What a server that has ended is known by.
const GONE: [io::ErrorKind; 3] =
    [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset, io::ErrorKind::NotConnected];

/// The server, which ends when this is dropped.
#[derive(Debug)]
struct Server {
    process: Child,
    socket: OwnedFd,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It kills whoever still parses, and ends.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// Packets, for each is one message with its files.
fn socketpair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

impl Server {
    fn start(program: &Path, args: &[String]) -> io::Result<Self> {
        let (socket, theirs) = socketpair()?;
        let process = Command::new(program)
            .args(args)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal from a terminal is for the caller, who may want to finish.
            .process_group(0)
            .spawn()?;
        Ok(Self { process, socket })
    }

    fn parser(self: &Arc<Self>, limits: &ParserLimits) -> io::Result<Parser> {
        let (input, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, output) = pipe_with(PipeFlags::CLOEXEC)?;
        let (control, end) = socketpair()?;
        rustix::io::ioctl_fionbio(&stdin, true)?;
        let files = [input.as_fd(), output.as_fd(), end.as_fd()];
        wire::send_files(&self.socket, &limits.to_bytes(), &files)?;
        let (stdin, stdout) = (Some(stdin), File::from(stdout));
        Ok(Parser { stdin, stdout, control, _server: Arc::clone(self) })
    }
}

/// One parser; killed when this is dropped.
struct Parser {
    /// `None` once it was told that this was all.
    stdin: Option<OwnedFd>,
    stdout: File,
    /// Tells how it ended.
    control: OwnedFd,
    _server: Arc<Server>,
}

impl Parser {
    fn feed(&mut self, input: &mut dyn Read, limits: &ParserLimits) -> Result<(), ParserError> {
        let Some(stdin) = self.stdin.take() else { return Ok(()) };
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = input.read(&mut piece).map_err(ParserError::Input)?;
            if read == 0 {
                return Ok(());
            }
            let mut left = &piece[..read];
            while !left.is_empty() {
                limits.wait(&stdin, PollFlags::OUT)?;
                match rustix::io::write(&stdin, left) {
                    Ok(taken) => left = &left[taken..],
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // It has read enough, or died: its answer tells.
                    Err(Errno::PIPE) => return Ok(()),
                    Err(error) => return Err(ParserError::Unavailable(error.into())),
                }
            }
        }
    }

    fn listen(&mut self, limits: &ParserLimits) -> Result<Vec<u8>, ParserError> {
        let mut answer = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            limits.wait(&self.stdout, PollFlags::IN)?;
            match self.stdout.read(&mut piece).map_err(ParserError::Unavailable)? {
                0 => return Ok(answer),
                read if answer.len() + read > MAX_ANSWER_BYTES => return Err(ParserError::Large),
                read => answer.extend_from_slice(&piece[..read]),
            }
        }
    }

    fn end(self, limits: &ParserLimits) -> Result<ExitStatus, ParserError> {
        limits.wait(&self.control, PollFlags::IN)?;
        let mut status = [0; 4];
        match rustix::net::recv(&self.control, &mut status, RecvFlags::empty()) {
            Ok((4, _)) => Ok(ExitStatus::from_raw(i32::from_ne_bytes(status))),
            Ok(_) => Err(ParserError::Unavailable(io::Error::other("their server was ended"))),
            Err(error) => Err(ParserError::Unavailable(error.into())),
        }
    }
}

impl ParserLimits {
    fn to_bytes(self) -> [u8; REQUEST_BYTES] {
        let mut bytes = [0; REQUEST_BYTES];
        bytes[..8].copy_from_slice(&self.memory_bytes.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.cpu.as_secs().max(1).to_ne_bytes());
        bytes
    }

    fn wait(&self, fd: impl AsFd, what: PollFlags) -> Result<(), ParserError> {
        let silence = self.silence;
        let timeout = Timespec {
            tv_sec: i64::try_from(silence.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: silence.subsec_nanos().into(),
        };
        loop {
            match poll(&mut [PollFd::new(&fd, what)], Some(&timeout)) {
                Ok(0) => return Err(ParserError::Silent(silence)),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(ParserError::Unavailable(error.into())),
            }
        }
    }

    fn why(&self, status: ExitStatus) -> ParserError {
        let is = |signal: Signal| status.signal() == Some(signal.as_raw());
        if is(Signal::XCPU) {
            ParserError::Time(self.cpu)
        } else if is(Signal::ABORT) {
            ParserError::Memory(self.memory_bytes)
        } else if is(Signal::SYS) {
            ParserError::Forbidden
        } else {
            ParserError::Ended(status)
        }
    }
}
