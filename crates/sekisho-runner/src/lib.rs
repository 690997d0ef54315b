//! A runner: it takes one job, runs its steps as GitHub's own runner does, and is gone.
//!
//! ```text
//! JIT config ─▶ session ─▶ poll ─▶ acknowledge ─▶ acquire ─▶ job ─▶ complete ─▶ delete session
//!                           ▲                        │
//!                           └─ goes on beside it: cancellations; and renewjob every 60 s
//! ```
//!
//! What a job may do: `run` steps (bash, sh, python, templates), `actions/checkout`, JavaScript and
//! composite actions, of the repository itself and of others. What it may not (containers) is an error
//! that says so.
//!
//! *Invariants.* Text of a job leaves only through module `log`, which masks it. A step sees, of the
//! runner's secrets, the id-token pair alone. Every step runs in a process group of its own, and
//! every process carries a mark by which it is found and killed at the job's end.
//!
//! [`process::run`] is for a process that is nothing but a runner; [`run`] for anything else.

mod annotation;
mod checkout;
mod clock;
mod command;
mod composite;
mod console;
mod dirs;
mod exec;
mod expression;
mod file_command;
#[doc(hidden)]
pub mod fuzzing;
mod hash_files;
mod javascript;
mod job;
mod lease;
mod listener;
mod log;
mod manifest;
mod mask;
mod matcher;
mod orphan;
mod plan;
pub mod process;
mod remote;
mod shell;
mod spec;
mod state;
mod stop;
mod timeline;
mod uploads;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use secrecy::SecretString;
use sekisho_github::wire::run_service::Conclusion;

pub use exec::KillGrace;
pub use stop::Stop;

/// What a runner is run with.
pub struct Options {
    /// Its folder: work folder and spool files go there. Made if it is not there.
    pub root: PathBuf,
    /// What it says its version is.
    pub version: String,
    /// What steps inherit. It must not hold the JIT configuration.
    pub environment: Vec<(OsString, OsString)>,
    /// Where the job's log goes as it happens, each line as `<timestamp> <text>`.
    pub output: Box<dyn Write + Send>,
    /// Cancelled from outside: by a signal, say.
    pub stop: Stop,
    /// How long a step is given to stop.
    pub grace: KillGrace,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("root", &self.root).finish_non_exhaustive()
    }
}

/// How a runner's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerOutcome {
    /// It ran a job and reported its result.
    Completed(Conclusion),
    /// There was no job for it: it was stopped first, or the job had gone.
    NoJob,
    /// Its registration is gone, or it is not allowed in.
    Refused,
    /// The services could not be reached; another try may succeed.
    Unreachable,
    /// Another process holds its session.
    SessionConflict,
    /// The service wants a newer runner.
    VersionTooOld,
    /// It had a job, and lost it: the service gave it up or to somebody else.
    LockLost,
}

impl RunnerOutcome {
    /// The exit code that runners have for it: 0 whatever the job's result.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Completed(_) | Self::NoJob => 0,
            Self::Refused | Self::LockLost => 1,
            Self::Unreachable => 2,
            Self::SessionConflict => 5,
            Self::VersionTooOld => 7,
        }
    }

    /// The same where the job's result is asked for: 100 and the result's number.
    pub fn result_code(self) -> u8 {
        let Self::Completed(conclusion) = self else { return self.exit_code() };
        100 + match conclusion {
            Conclusion::Succeeded => 0,
            Conclusion::SucceededWithIssues => 1,
            Conclusion::Failed => 2,
            Conclusion::Canceled => 3,
            Conclusion::Skipped => 4,
            Conclusion::Abandoned => 5,
        }
    }
}

/// Registers a session, takes one job, runs it, reports it.
///
/// A rustls crypto provider must be installed in the process.
///
/// # Errors
/// When the configuration cannot be used, or the job's result could not be reported.
pub async fn run(jit: SecretString, options: Options) -> anyhow::Result<RunnerOutcome> {
    Box::pin(listener::run(jit, options)).await
}
