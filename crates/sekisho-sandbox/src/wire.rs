//! What the stages tell each other over the socket that is their standard input.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Owner;
use crate::error::{SandboxError, Step};
use crate::spec::{Exit, Spec, Used};

/// Largest message: an environment, a few hundred paths and some secrets, a few bytes of JSON per byte.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Most open files that are sent at once.
const MAX_FILES: usize = 3;

/// Down: what to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) spec: Spec,
    /// Ends after everything is mounted, without running the command.
    pub(crate) probe: bool,
}

/// Up: how it ended. Exactly one is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    Setup { step: Step, path: Option<PathBuf>, errno: i32 },
    Exec { errno: i32 },
    CurrentDir { errno: i32 },
    Ended { exit: Exit, remarks: Vec<String>, link_owners: Vec<(Vec<u8>, Owner)>, used: Used },
}

impl Report {
    pub(crate) fn into_outcome(self, spec: &Spec) -> Result<crate::Outcome, SandboxError> {
        let os = io::Error::from_raw_os_error;
        Err(match self {
            Self::Ended { exit, remarks, link_owners, used } => {
                return Ok(crate::Outcome { exit, remarks, link_owners, used });
            }
            Self::Setup { step, path, errno } => Failure { step, path, errno }.into_error(),
            Self::Exec { errno } => {
                let program = spec.args.first().cloned().unwrap_or_default();
                SandboxError::Exec { program, source: os(errno) }
            }
            Self::CurrentDir { errno } => {
                SandboxError::CurrentDir { path: spec.current_dir.clone(), source: os(errno) }
            }
        })
    }
}

/// Why a stage could not do its part; becomes a [`Report::Setup`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) path: Option<PathBuf>,
    pub(crate) errno: i32,
}

impl Failure {
    pub(crate) fn new(step: Step, error: impl Into<io::Error>) -> Self {
        Self { step, path: None, errno: raw(error.into()) }
    }

    pub(crate) fn into_error(self) -> SandboxError {
        let Self { step, path, errno } = self;
        SandboxError::Setup { step, path, source: io::Error::from_raw_os_error(errno) }
    }
}

impl From<Failure> for Report {
    fn from(failure: Failure) -> Self {
        Self::Setup { step: failure.step, path: failure.path, errno: failure.errno }
    }
}

/// Says at which step, and on what, an operation failed.
pub(crate) trait AtStep<T> {
    fn at(self, step: Step) -> Result<T, Failure>;
    fn at_path(self, step: Step, path: impl Into<PathBuf>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> AtStep<T> for Result<T, E> {
    fn at(self, step: Step) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, path: None, errno: raw(error.into()) })
    }

    fn at_path(self, step: Step, path: impl Into<PathBuf>) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, path: Some(path.into()), errno: raw(error.into()) })
    }
}

/// Errors that std makes up itself have no number; they mean bad input.
pub(crate) fn raw(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(rustix::io::Errno::INVAL.raw_os_error())
}

/// Sends bytes and, with them, open files, if there are any.
pub(crate) fn send_files(to: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives what [`send_files`] sent: exactly as many bytes. The end of the socket is an error.
pub(crate) fn receive_files(from: impl AsFd, bytes: &mut [u8]) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let wanted = bytes.len();
    let received = loop {
        let mut into = [IoSliceMut::new(bytes)];
        match recvmsg(&from, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    if received != wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok(files.flatten().collect())
}

/// Four bytes of length, then JSON.
pub(crate) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(json.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&json);
    to.write_all(&frame)
}

/// Reads exactly one message and not a byte more.
pub(crate) fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// The inherited standard input, as the socket it is.
pub(crate) fn socket() -> io::Result<std::os::unix::net::UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}
