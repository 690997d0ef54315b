//! Processes of a step: their own process group, one pipe for both outputs, a kill sequence.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use sekisho_sandbox::with_default_signals;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::console::Console;
use crate::log::LineBuffer;
use crate::stop::{Cause, Interrupt};

/// Bytes read at once: what a pipe holds.
const CHUNK_LEN: usize = 64 * 1024;
/// After the process has ended: how long a child that it left may keep the pipe open.
const LINGER: Duration = Duration::from_secs(2);

/// How long a process group is given after each signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillGrace {
    /// After SIGINT.
    pub interrupt: Duration,
    /// After SIGTERM.
    pub terminate: Duration,
}

impl Default for KillGrace {
    fn default() -> Self {
        Self { interrupt: Duration::from_millis(7500), terminate: Duration::from_millis(2500) }
    }
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) folder: PathBuf,
    /// The whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was stopped.
    Interrupted(Cause),
}

impl Ended {
    /// Whether it exited with code 0.
    pub(crate) fn is_success(self) -> bool {
        matches!(self, Self::Exited(status) if status.success())
    }
}

/// What is still to be done to a process.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Running,
    Interrupted { cause: Cause, next: Option<(Signal, Instant)> },
}

/// Runs a process to its end; every line of its output goes through `console`.
pub(crate) async fn run(
    invocation: &Invocation,
    console: &mut Console<'_>,
    interrupt: &Interrupt,
    grace: KillGrace,
) -> anyhow::Result<Ended> {
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let mut child = spawn(invocation, writer)?;
    let group = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let mut pipe = pipe::Receiver::from_owned_fd(reader.into()).context("reading a pipe")?;
    let mut lines = LineBuffer::default();
    let mut chunk = vec![0; CHUNK_LEN];
    let (mut phase, mut exit, mut open) = (Phase::Running, None, true);
    let mut linger: Option<Instant> = None;
    while open || exit.is_none() {
        let wake = match (phase, linger) {
            (_, Some(at)) => Some(at),
            (Phase::Interrupted { next: Some((_, at)), .. }, None) => Some(at),
            _ => None,
        };
        // Each arm is cancel-safe: reading, waiting and sleeping lose nothing when dropped.
        tokio::select! {
            read = pipe.read(&mut chunk), if open => {
                let read = read.context("reading a step's output")?;
                open = read > 0;
                lines.push(&chunk[..read]);
                console.take_lines(&mut lines).await;
            }
            status = child.wait(), if exit.is_none() => {
                exit = Some(status.context("waiting for a process")?);
                linger = Some(Instant::now() + LINGER);
            }
            cause = interrupt.wait(), if exit.is_none() && matches!(phase, Phase::Running) => {
                phase = begin_stop(group, cause, grace);
            }
            () = interrupt.stop.out_of_time(), if is_polite(phase) => {
                signal(group, Signal::KILL);
                phase = Phase::Interrupted { cause: Cause::OutOfTime, next: None };
            }
            () = sleep_until(wake) => {
                if exit.is_some() {
                    break;
                }
                phase = go_on_stopping(group, phase, grace);
            }
        }
    }
    console.take_last_line(&mut lines).await;
    if let Phase::Interrupted { .. } = phase {
        signal(group, Signal::KILL);
    }
    if open {
        discard(pipe);
    }
    match (phase, exit) {
        (Phase::Interrupted { cause, .. }, _) => Ok(Ended::Interrupted(cause)),
        (Phase::Running, Some(status)) => Ok(Ended::Exited(status)),
        (Phase::Running, None) => anyhow::bail!("a process was lost"),
    }
}

fn spawn(invocation: &Invocation, writer: std::io::PipeWriter) -> anyhow::Result<Child> {
    let errors = writer.try_clone().context("making a pipe")?;
    let mut command = Command::new(&invocation.program);
    command
        .args(&invocation.args)
        .current_dir(&invocation.folder)
        .env_clear()
        .envs(invocation.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::from(writer))
        .stderr(Stdio::from(errors))
        .process_group(0)
        .kill_on_drop(true);
    with_default_signals(command.as_std_mut());
    command.spawn().with_context(|| format!("starting `{}`", invocation.program.display()))
}

fn begin_stop(group: Option<Pid>, cause: Cause, grace: KillGrace) -> Phase {
    if cause == Cause::OutOfTime {
        signal(group, Signal::KILL);
        return Phase::Interrupted { cause, next: None };
    }
    signal(group, Signal::INT);
    let next = Some((Signal::TERM, Instant::now() + grace.interrupt));
    Phase::Interrupted { cause, next }
}

/// It is being stopped, but was not yet killed for want of time.
fn is_polite(phase: Phase) -> bool {
    matches!(phase, Phase::Interrupted { cause, .. } if cause != Cause::OutOfTime)
}

fn go_on_stopping(group: Option<Pid>, phase: Phase, grace: KillGrace) -> Phase {
    let Phase::Interrupted { cause, next: Some((due, _)) } = phase else { return phase };
    signal(group, due);
    let next = (due == Signal::TERM).then(|| (Signal::KILL, Instant::now() + grace.terminate));
    Phase::Interrupted { cause, next }
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // The group may be gone already; then there is nothing to signal.
        let _ = kill_process_group(group, signal);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A daemon that a step left still writes into the pipe. It is read and thrown away until the job
/// ends, so that the daemon is not killed by a broken pipe.
fn discard(mut pipe: pipe::Receiver) {
    tokio::spawn(async move {
        let mut chunk = vec![0; CHUNK_LEN];
        while matches!(pipe.read(&mut chunk).await, Ok(read) if read > 0) {}
    });
}
