//! One runner as a child process: a fresh folder, an empty environment, its output archived.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_archive::Writer;
use sekisho_sandbox::remove_tree;
use tokio::process::Command;

use crate::scheduler::Config;
use crate::stray::{self, Marks};

/// The search path behind the folder with `sekisho` itself.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a line may wait before a reader of the archive sees it.
const FLUSH_AFTER: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// The file in a runner's folder that names its marker, for the plane that comes after a crash.
const TRACKING_FILE: &str = "tracking";

/// Sekisho itself, in a runner's folder.
const PROGRAM: &str = "bin/sekisho";

/// A started runner.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its own process group has the same number.
    pub(crate) pid: Pid,
    folder: PathBuf,
    marks: Marks,
    pump: Pump,
}

/// Starts `sekisho runner run` for one registration.
///
/// Its environment is what CONTRIBUTING.md lists under "What a runner sees", and nothing else; the
/// JIT configuration is in it, for the runner to take out before anything of the job runs.
pub(crate) fn start(
    config: &Config,
    name: &str,
    jit: &SecretString,
) -> anyhow::Result<(Child, tokio::process::Child)> {
    let folder = config.runners_dir.join(name);
    remove_tree(&folder).with_context(|| format!("removing the old folder of `{name}`"))?;
    let tracking = uuid::Uuid::new_v4().to_string();
    for part in ["bin", "home", "tmp"] {
        fs_err::create_dir_all(folder.join(part)).context("making a runner's folder")?;
    }
    fs_err::write(folder.join(TRACKING_FILE), &tracking).context("noting a runner's marker")?;
    let program = folder.join(PROGRAM);
    fs_err::os::unix::fs::symlink(&config.program, &program).context("linking the runner")?;

    let archive = Writer::create(&config.archive_dir.join(format!("{name}.log.gz")))?;
    let (output, input) = pipe_with(PipeFlags::CLOEXEC).context("making a runner's pipe")?;
    let errors = input.try_clone().context("making a runner's pipe")?;
    let child = Command::new(&program)
        .args(["runner", "run"])
        .current_dir(&folder)
        .env_clear()
        .env("PATH", format!("{}:{SYSTEM_PATH}", folder.join("bin").display()))
        .env("HOME", folder.join("home"))
        .env("TMPDIR", folder.join("tmp"))
        .env("LANG", "C.UTF-8")
        .env("SEKISHO_CACHE_DIR", &config.cache_dir)
        .envs(config.build_settings.iter().map(|(name, value)| (*name, value)))
        .env(stray::MARKER, &tracking)
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", jit.expose_secret())
        .stdin(Stdio::null())
        .stdout(Stdio::from(input))
        .stderr(Stdio::from(errors))
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting runner `{name}`"))?;
    let pid = child
        .id()
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .context("a runner ended before it began")?;
    let pump = Pump::start(output, archive).context("starting the archive's thread")?;
    let marks = Marks::new(&tracking, &program);
    Ok((Child { pid, folder, marks, pump }, child))
}

impl Child {
    /// SIGTERM to the runner, which ends its steps itself.
    pub(crate) fn stop(&self) {
        // It may have ended just now; then there is nothing to stop.
        let _ = kill_process(self.pid, Signal::TERM);
    }

    /// SIGKILL to all of it.
    pub(crate) fn kill(&self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.marks.kill_all();
    }

    /// Ends what it left running, completes its log, removes its folder. Blocks.
    pub(crate) fn clean_up(self) -> anyhow::Result<()> {
        let strays = self.marks.kill_all();
        if strays > 0 {
            tracing::warn!(strays, "a runner left processes running; they were killed");
        }
        self.pump.finish().context("completing a runner's log")?;
        remove_tree(&self.folder).context("removing a runner's folder")
    }
}

/// Ends and removes what a plane that was killed left behind. Blocks.
pub(crate) fn clean_up_after_crash(runners_dir: &Path) -> anyhow::Result<()> {
    for entry in fs_err::read_dir(runners_dir).context("reading the runners' folder")? {
        let folder = entry.context("reading the runners' folder")?.path();
        if let Ok(tracking) = fs_err::read_to_string(folder.join(TRACKING_FILE)) {
            Marks::new(&tracking, &folder.join(PROGRAM)).kill_all();
        }
        remove_tree(&folder).context("removing the folder of a runner before us")?;
    }
    Ok(())
}

/// Whose a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    /// The runner of this name started it, or is it.
    By(String),
    /// No runner did.
    Elsewhere,
    /// It shows nothing of itself: it just begins another program, with what was open before it still open, or
    /// it just ends.
    Unseen,
}

/// Which runner started a process, by the marker that all of its processes have.
///
/// # Errors
/// The folder of runners cannot be read.
pub fn started(pid: u32, runners_dir: &Path) -> std::io::Result<Started> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(Started::Elsewhere);
    };
    for entry in fs_err::read_dir(runners_dir)? {
        let folder = entry?.path();
        // One that is just being made or removed has no process yet, or none any more.
        let Ok(tracking) = fs_err::read_to_string(folder.join(TRACKING_FILE)) else { continue };
        if let Some(name) = folder.file_name().and_then(|name| name.to_str())
            && Marks::new(&tracking, &folder.join(PROGRAM)).are_on(pid)
        {
            return Ok(Started::By(name.to_owned()));
        }
    }
    Ok(if stray::shows_itself(pid) { Started::Elsewhere } else { Started::Unseen })
}

/// The thread that copies a runner's output into the archive.
#[derive(Debug)]
struct Pump {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Pump {
    fn start(output: OwnedFd, archive: Writer) -> std::io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = std::thread::Builder::new()
            .name("archive".into())
            .spawn(move || copy_lines(output, archive, &seen))?;
        Ok(Self { ended, thread })
    }

    /// Takes what is still in the pipe. A stray that could not be killed may hold the other end
    /// open for ever, so the end of the file is not waited for.
    fn finish(self) -> anyhow::Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the archive's thread panicked"))?
    }
}

fn copy_lines(output: OwnedFd, mut archive: Writer, ended: &AtomicBool) -> anyhow::Result<()> {
    let mut output = std::fs::File::from(output);
    let mut chunk = vec![0; 64 * 1024];
    let mut partial = Vec::new();
    loop {
        let last_look = ended.load(Ordering::Relaxed);
        let ready = poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&FLUSH_AFTER))?;
        if ready == 0 {
            archive.flush()?;
            if last_look {
                break;
            }
            continue;
        }
        let read = output.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        partial.extend_from_slice(&chunk[..read]);
        let complete = partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in partial[..complete].split_inclusive(|byte| *byte == b'\n') {
            archive.line(line.strip_suffix(b"\n").unwrap_or(line))?;
        }
        partial.drain(..complete);
        // A line without end must not fill the memory.
        if partial.len() > sekisho_archive::MAX_LINE {
            archive.line(&std::mem::take(&mut partial))?;
        }
    }
    if !partial.is_empty() {
        archive.line(&partial)?;
    }
    Ok(archive.finish()?)
}
