//! The caller's side: start, stream, wait, kill.

mod talk;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::EventfdFlags;

use self::talk::{End, talk};
use crate::error::SandboxError;
use crate::group::{Group, Limits};
use crate::isolation::{Isolation, Probe, Refusal};
use crate::mounts::{NO_LIMIT_OF_PROCESSES, wanted_group};
use crate::spec::{Network, Outcome, Spec, User};
use crate::wire::Request;
use crate::zygote::{Started, Zygote};

/// Which of its outputs a command wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Kills the command from another thread. Clones are the same switch; it cannot be undone.
#[derive(Clone, Debug)]
pub struct Control(Arc<OwnedFd>);

impl Control {
    /// A switch that is off.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> Result<Self, SandboxError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let fd = rustix::event::eventfd(0, flags)
            .map_err(|error| SandboxError::Start { source: error.into() })?;
        Ok(Self(Arc::new(fd)))
    }

    /// Ends every command that runs, or will be run, with this switch.
    pub fn kill(&self) {
        // It fails only when the counter is full, and then it is on already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

/// Starts sandboxes, by starting a program whose `main` begins with
/// [`main_if_sandbox`](crate::main_if_sandbox): once for all of them. Clones share it, and it ends with the
/// last one.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
    zygote: Arc<Mutex<Option<Arc<Zygote>>>>,
}

impl Default for Launcher {
    /// The program is this process's own.
    fn default() -> Self {
        Self::with_program("/proc/self/exe")
    }
}

impl Launcher {
    /// With another program; for tests, whose own `main` is not theirs.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), zygote: Arc::default() }
    }

    /// Begins to make ready what [`run`](Self::run) will need, and does not wait for it. What goes wrong, the
    /// first command tells.
    pub fn prepare(&self, isolation: Isolation) {
        let _ = self.zygote(isolation);
    }

    /// Runs the command and waits for its end, passing on what it writes as it writes it.
    ///
    /// Blocks: call it on a thread of its own. When this returns, nothing of the sandbox is left but what is
    /// in [`Spec::writable`]. A command that exits with another code than 0 is no error.
    ///
    /// # Errors
    /// [`SandboxError`] by variant.
    pub fn run(
        &self,
        spec: &Spec,
        control: &Control,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError> {
        check(spec)?;
        self.start(&Request { spec: spec.clone(), probe: false }, control, output)
    }

    /// Finds out, by making an empty sandbox below `folder`, what works here and why nothing better.
    ///
    /// `folder` must exist, be writable, and lie on the file system that will be built on.
    ///
    /// # Errors
    /// Only when folders cannot be made there; that no sandbox can be made is an answer.
    pub fn probe(&self, folder: &std::path::Path) -> io::Result<Probe> {
        let mut probe = Probe { isolation: None, refusals: Vec::new() };
        let best = match Isolation::choose() {
            Isolation::IdRange => Isolation::IdRange,
            _ => Isolation::Privileged,
        };
        for isolation in [best, Isolation::SingleId] {
            match self.try_one(isolation, folder)? {
                Ok(()) => {
                    probe.isolation = Some(isolation);
                    break;
                }
                Err(reason) => probe.refusals.push(Refusal { isolation, reason }),
            }
        }
        Ok(probe)
    }

    /// What to wall commands off with: what our rights allow, and in a container whose root has few of them,
    /// what turns out to work below `folder`.
    ///
    /// # Errors
    /// Folders cannot be made there.
    pub fn choose(&self, folder: &std::path::Path) -> io::Result<Isolation> {
        let likely = Isolation::choose();
        let container = rustix::process::geteuid().is_root() && likely == Isolation::SingleId;
        if !container || !crate::capability::may_change_root() {
            return Ok(likely);
        }
        Ok(match self.try_one(likely, folder)? {
            Ok(()) => likely,
            Err(_) => Isolation::ChangedRoot,
        })
    }

    /// Makes an empty sandbox below `folder`.
    fn try_one(
        &self,
        isolation: Isolation,
        folder: &std::path::Path,
    ) -> io::Result<Result<(), SandboxError>> {
        let base = folder.join(format!("probe-{}-{isolation:?}", std::process::id()));
        let request = Request { spec: probe_spec(isolation, base.clone()), probe: true };
        for name in ["upper", "work", "mnt"] {
            std::fs::create_dir_all(base.join(name))?;
        }
        let result =
            Control::new().and_then(|control| self.start(&request, &control, &mut |_, _| {}));
        crate::remove_tree(&base)?;
        Ok(result.map(drop))
    }

    /// The one for this isolation that is there, or a new one.
    fn zygote(&self, isolation: Isolation) -> io::Result<Arc<Zygote>> {
        let mut slot = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |zygote: &&Arc<Zygote>| zygote.isolation == isolation && zygote.lives();
        if let Some(zygote) = slot.as_ref().filter(fits) {
            return Ok(Arc::clone(zygote));
        }
        let zygote = Arc::new(Zygote::start(&self.program, isolation)?);
        *slot = Some(Arc::clone(&zygote));
        Ok(zygote)
    }

    fn start(
        &self,
        request: &Request,
        control: &Control,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, SandboxError> {
        let start = |source| SandboxError::Start { source };
        let zygote = self.zygote(request.spec.isolation).map_err(start)?;
        let Started { supervisor, output: pipes } = zygote.copy()?;
        // It waits for the request, so nothing of the sandbox is outside of the group.
        let wanted = wanted_group(&request.spec);
        let group = wanted.and_then(Group::make);
        let group = group.filter(|group| group.add(supervisor.pid).is_ok());
        let ended = talk(&supervisor.socket, pipes, request, control, output);
        // Also after an error.
        supervisor.end().map_err(start)?;
        match ended? {
            End::Report(report) => {
                let mut outcome = report.into_outcome(&request.spec)?;
                outcome.remarks.extend(remarks(wanted, group.as_ref()));
                Ok(outcome)
            }
            End::Silence => Err(SandboxError::Vanished),
            End::Cancelled => Err(SandboxError::Cancelled),
            End::DiskFull(free_bytes) => {
                Err(SandboxError::DiskFull { path: request.spec.writable.clone(), free_bytes })
            }
            End::TimedOut(after) => Err(SandboxError::TimedOut { after }),
        }
    }
}

/// What there is to say about limits of all processes together.
fn remarks(wanted: Option<Limits>, group: Option<&Group>) -> Vec<String> {
    let Some(Limits { memory_bytes, processes }) = wanted else { return Vec::new() };
    let memory = memory_bytes.map(|most| most >> 20);
    let text = match (group, memory) {
        (Some(group), Some(most)) if group.was_out_of_memory() => Some(format!(
            "the kernel ended a process of the command: together they had more than {most} MiB"
        )),
        (None, Some(_)) => Some(
            "no control group can be made here: the limit of memory holds for each process, not \
             for all of a RUN together"
                .to_owned(),
        ),
        _ => None,
    };
    let uncounted = group.is_none() && processes.is_some();
    text.into_iter().chain(uncounted.then(|| NO_LIMIT_OF_PROCESSES.to_owned())).collect()
}

fn check(spec: &Spec) -> Result<(), SandboxError> {
    let bad = |reason| Err(SandboxError::Spec { reason });
    if spec.args.is_empty() {
        return bad("there is no program to run");
    }
    if spec.lower.len() > crate::mounts::MAX_LOWER {
        return bad("there are more layers than overlayfs can stack (499)");
    }
    let nul = |text: &String| text.contains('\0');
    if spec.args.iter().any(nul) || spec.env.iter().any(|(name, value)| nul(name) || nul(value)) {
        return bad("an argument or variable holds a NUL byte");
    }
    if spec.secret_env.iter().any(|(name, value)| nul(name) || value.0.contains(&0)) {
        return bad("a secret variable holds a NUL byte");
    }
    let secret = spec.secret_env.iter().map(|(name, _)| name);
    if spec
        .env
        .iter()
        .map(|(name, _)| name)
        .chain(secret)
        .any(|name| name.is_empty() || name.contains('='))
    {
        return bad("a variable's name is empty or holds `=`");
    }
    Ok(())
}

fn probe_spec(isolation: Isolation, base: PathBuf) -> Spec {
    Spec {
        isolation,
        lower: Vec::new(),
        mountpoint: base.join("mnt"),
        writable: base,
        args: Vec::new(),
        env: Vec::new(),
        current_dir: "/".to_owned(),
        user: User::default(),
        hostname: "probe".to_owned(),
        network: Network::Host,
        mounts: Vec::new(),
        secret_env: Vec::new(),
        timeout: None,
        max_processes: crate::MAX_PROCESSES,
        max_memory_bytes: None,
        min_free_bytes: 0,
    }
}
