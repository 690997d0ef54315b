//! Layers are read by another process: `sekisho gate analyse-layer`.
//!
//! ```text
//!  gate ── a key, the layer's bytes ─▶ stdin ┐ child: no file, socket, program or thread can be had from
//!       ◀─── one JSON document ─── stdout ───┘ the kernel; bounded memory and time; one layer, then gone
//! ```
//!
//! The child has an empty environment and no file but its ends of two pipes, so it holds no credential
//! (the key makes fingerprints of secrets and opens nothing), and what it says is only taken as what is
//! in that layer. One that crashes, hangs or eats too much is an error, and so is a layer that could not
//! be read: never one without findings. One child is always started ahead.

pub(crate) mod child;
mod limits;
mod seats;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use sekisho_gate::Busy;
use serde_json::Value;

use self::child::Answer;
pub(super) use self::limits::Limits;
use self::seats::Seats;

/// How much is handed over at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// The largest answer, in bytes: a layer with the most packages that the scanner lists.
const MAX_ANSWER_BYTES: usize = 128 * 1024 * 1024;

/// Most children that read at once. Four may read uploads, which last as long as their clients like.
const MAX_CHILDREN: usize = 8;

/// Starts children. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Analyser {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    program: PathBuf,
    args: Vec<String>,
    limits: Limits,
    seats: Seats,
    spare: Mutex<Option<Started>>,
}

/// A child; killed when it is dropped.
#[derive(Debug)]
struct Started {
    child: Child,
    /// `None` once it was told that this was all.
    stdin: Option<OwnedFd>,
    stdout: File,
}

impl Drop for Started {
    fn drop(&mut self) {
        // One that ended by itself is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Analyser {
    /// Children are this program, started again.
    pub(super) fn new(limits: Limits) -> Self {
        // Whatever becomes of the file that it was started from.
        Self::of("/proc/self/exe".into(), &["gate", "analyse-layer"], limits)
    }

    /// Children are that program with these arguments.
    fn of(program: PathBuf, args: &[&str], limits: Limits) -> Self {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let (seats, spare) = (Seats::new(MAX_CHILDREN), Mutex::default());
        Self { inner: Arc::new(Inner { program, args, limits, seats, spare }) }
    }

    /// A child, and soon another one for whoever comes next.
    fn take(&self) -> anyhow::Result<Started> {
        let spare = self.inner.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ready = match spare {
            Some(ready) => ready,
            // Nothing is wrong with the layer.
            None => self.inner.start().map_err(|error| Busy(format!("{error:#}")))?,
        };
        let inner = Arc::clone(&self.inner);
        let work = move || match inner.start() {
            Ok(next) => {
                let mut spare = inner.spare.lock().unwrap_or_else(PoisonError::into_inner);
                // Two that were started ahead at once: one is enough.
                let _ = spare.insert(next);
            }
            Err(error) => tracing::warn!("no analyser started ahead: {error:#}"),
        };
        std::thread::Builder::new().name("next-analyser".to_owned()).spawn(work)?;
        Ok(ready)
    }

    /// What is in a layer, by a child's word; `key` is for its fingerprints of secrets.
    ///
    /// # Errors
    /// [`Busy`] when no child can be started. Else the child says so, or says nothing: it died, hung, or
    /// was stopped at a limit.
    pub(super) fn layer(&self, key: &[u8; 32], layer: &mut dyn Read) -> anyhow::Result<Value> {
        let _seat = self.inner.seats.take();
        let mut started = self.take()?;
        if let Some(stdin) = started.stdin.take() {
            self.inner.feed(&stdin, &mut key.chain(layer))?;
        }
        let bytes = self.inner.listen(&mut started.stdout)?;
        if bytes.is_empty() {
            // It has closed its end, so it is over, or is not to go on.
            let _ = started.child.kill();
            let status = started.child.wait().context("waiting for the analyser's end")?;
            bail!("{}", self.inner.limits.end(status));
        }
        match serde_json::from_slice(&bytes).context("the analyser's answer is damaged")? {
            Answer::Layer(value) => Ok(value),
            Answer::Error(why) => bail!("{why}"),
        }
    }
}

impl Inner {
    fn start(&self) -> anyhow::Result<Started> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting `{}`", self.program.display()))?;
        let stdin = child.stdin.take().map(OwnedFd::from);
        let stdout = child.stdout.take().context("the analyser has no stdout")?;
        let stdout = File::from(OwnedFd::from(stdout));
        let started = Started { child, stdin, stdout };
        let pid = Pid::from_child(&started.child);
        for (resource, current, maximum) in self.limits.resources() {
            let limit = Rlimit { current: Some(current), maximum: Some(maximum) };
            prlimit(Some(pid), resource, limit).context("limiting the analyser")?;
        }
        if let Some(stdin) = &started.stdin {
            rustix::io::ioctl_fionbio(stdin, true).context("preparing the analyser's pipe")?;
        }
        Ok(started)
    }

    /// Hands the bytes over; whether the child wants them all is its affair.
    fn feed(&self, stdin: &OwnedFd, layer: &mut dyn Read) -> anyhow::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = layer.read(&mut piece).context("reading the layer")?;
            if read == 0 {
                return Ok(());
            }
            let mut left = &piece[..read];
            while !left.is_empty() {
                self.wait(stdin, PollFlags::OUT)?;
                match rustix::io::write(stdin, left) {
                    Ok(taken) => left = &left[taken..],
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                    // It has read enough, or died: its answer tells.
                    Err(rustix::io::Errno::PIPE) => return Ok(()),
                    Err(error) => return Err(error).context("handing the layer over"),
                }
            }
        }
    }

    fn listen(&self, stdout: &mut File) -> anyhow::Result<Vec<u8>> {
        let mut answer = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            self.wait(&*stdout, PollFlags::IN)?;
            match stdout.read(&mut piece).context("reading the analyser's answer")? {
                0 => return Ok(answer),
                read if answer.len() + read > MAX_ANSWER_BYTES => {
                    bail!("the analyser's answer is larger than {MAX_ANSWER_BYTES} bytes")
                }
                read => answer.extend_from_slice(&piece[..read]),
            }
        }
    }

    fn wait(&self, fd: impl AsFd, what: PollFlags) -> anyhow::Result<()> {
        let silence = self.limits.silence;
        let timeout = Timespec {
            tv_sec: i64::try_from(silence.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: silence.subsec_nanos().into(),
        };
        loop {
            match poll(&mut [PollFd::new(&fd, what)], Some(&timeout)) {
                Ok(0) => bail!("the analyser did nothing for {silence:?} and was stopped"),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for the analyser"),
            }
        }
    }
}

impl Limits {
    /// What the kernel is told, with what it is to allow at most.
    fn resources(&self) -> [(Resource, u64, u64); 3] {
        let seconds = self.cpu.as_secs().max(1);
        [
            (Resource::Data, self.memory_bytes, self.memory_bytes),
            // First the signal that says why, then the end.
            (Resource::Cpu, seconds, seconds + 1),
            (Resource::Fsize, 0, 0),
        ]
    }

    /// Why a child that said nothing ended.
    fn end(&self, status: ExitStatus) -> String {
        let is = |signal: Signal| status.signal() == Some(signal.as_raw());
        if is(Signal::XCPU) {
            return format!("reading the layer took more than {:?} of processor time", self.cpu);
        }
        if is(Signal::ABORT) {
            let mib = self.memory_bytes / (1024 * 1024);
            return format!("reading the layer took more than {mib} MiB of memory");
        }
        if is(Signal::SYS) {
            return "the analyser asked for what reading a layer does not need, and was stopped"
                .to_owned();
        }
        format!("the analyser ended without an answer ({status})")
    }
}

#[cfg(test)]
mod tests;
