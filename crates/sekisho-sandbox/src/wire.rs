//! What the stages tell each other over the socket that is their standard input.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Owner;
use crate::error::{SandboxError, Step};
use crate::spec::{Exit, Spec, Used};

/// Largest message: an environment, a few hundred paths and some secrets, a few bytes of JSON per byte.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;

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
            Self::Setup { step, path, errno } => {
                SandboxError::Setup { step, path, source: os(errno) }
            }
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
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) path: Option<PathBuf>,
    pub(crate) errno: i32,
}

impl Failure {
    pub(crate) fn new(step: Step, error: impl Into<io::Error>) -> Self {
        Self { step, path: None, errno: raw(error.into()) }
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

/// Four bytes of length, then JSON.
pub(crate) fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(json.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&json);
    to.write_all(&frame)
}

/// Reads exactly one message and not a byte more: the next one is for the next stage.
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
    use std::os::fd::AsFd as _;
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}
