//! A process that is nothing but a runner: environment, signals, parent.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Pid, Signal, getsid};
use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};

use crate::{KillGrace, Options, RunnerOutcome, Stop, run as run_one};

/// The version that is said to the service: GitHub refuses runners that are older than its newest by
/// more than 30 days, so this is the release of the official runner whose wire is spoken.
pub const VERSION: &str = "2.336.0";
/// If this is set, the exit code tells the job's result.
pub const RETURN_RESULT: &str = "ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED";
/// The variable that carries the JIT configuration.
pub const JITCONFIG: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";
/// The variable that names the file with it: a secret that a pod mounts.
pub const JITCONFIG_FILE: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG_FILE";
/// The longest such file, in bytes; GitHub's have some 4 KiB.
const JITCONFIG_LENGTH_MAX: u64 = 64 * 1024;
/// Variables that are the runner's and not for steps to see.
const INPUT_PREFIX: &str = "ACTIONS_RUNNER_INPUT_";
/// How long a job has to end after a signal, if nothing else is said: with the time that reporting
/// takes, less than the 30 s after which Kubernetes kills a pod.
pub const STOP_GRACE: Duration = Duration::from_secs(20);
/// Set by a scheduler that wants its runners to end when it does.
pub const TRACKING: &str = "SEKISHO_RUNNER_TRACKING";

/// Runs this process as a runner, in `root`.
///
/// The JIT configuration is `jit`, or else the variable [`JITCONFIG`], or else in the file that
/// [`JITCONFIG_FILE`] names. SIGTERM and SIGINT cancel
/// the job, which has `grace` to end; a second one leaves it no time. Either way the log's end and the
/// result are sent before this returns. Other processes of the same user can read neither
/// memory nor first environment of this one from here on (root can). If [`TRACKING`] is set, the
/// death of the parent is a SIGTERM.
///
/// # Errors
/// As [`crate::run`]; and when there is no configuration, or the parent is dead already.
pub async fn run(
    jit: Option<SecretString>,
    root: PathBuf,
    version: String,
    grace: Duration,
) -> anyhow::Result<RunnerOutcome> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("closing the process to others")?;
    let (environment, inputs) = environment(std::env::vars_os());
    if environment.iter().any(|(name, _)| name == TRACKING) {
        end_with_parent()?;
    }
    let jit = match (jit.or(inputs.jit), inputs.file) {
        (Some(jit), _) => jit,
        (None, Some(file)) => read(&file)?,
        (None, None) => anyhow::bail!(
            "no JIT configuration: pass `--jitconfig`, or set `{JITCONFIG}` or `{JITCONFIG_FILE}`"
        ),
    };
    let stop = Stop::new();
    stop_on_signals(stop.clone(), grace)?;
    let output = Box::new(std::io::stdout());
    let grace = KillGrace::default();
    run_one(jit, Options { root, version, environment, output, stop, grace }).await
}

/// The exit code of this process, as its environment asks for it: see [`RETURN_RESULT`].
pub fn exit_code(outcome: RunnerOutcome) -> u8 {
    let asked = std::env::vars_os().any(|(name, value)| name == RETURN_RESULT && !value.is_empty());
    if asked { outcome.result_code() } else { outcome.exit_code() }
}

/// What is said to the runner by its environment.
#[derive(Default)]
struct Inputs {
    jit: Option<SecretString>,
    file: Option<PathBuf>,
}

/// The environment for steps, and what was in it for the runner.
fn environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> (Vec<(OsString, OsString)>, Inputs) {
    let mut inputs = Inputs::default();
    let mut kept = Vec::new();
    for (name, value) in all {
        if name == JITCONFIG {
            inputs.jit =
                value.into_string().ok().filter(|text| !text.is_empty()).map(SecretString::from);
        } else if name == JITCONFIG_FILE {
            inputs.file = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from);
        } else if !name.to_string_lossy().starts_with(INPUT_PREFIX) {
            kept.push((name, value));
        }
    }
    (kept, inputs)
}

/// The JIT configuration in `file`, which may end with a line's end.
fn read(file: &Path) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    fs_err::File::open(file)?
        .take(JITCONFIG_LENGTH_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("reading the JIT configuration in `{}`", file.display()))?;
    let trimmed = text.trim();
    anyhow::ensure!(!trimmed.is_empty(), "`{}` has no JIT configuration", file.display());
    Ok(SecretString::from(trimmed))
}

/// Asks for a SIGTERM when the parent dies. The parent may have died just before that.
fn end_with_parent() -> anyhow::Result<()> {
    let before = rustix::process::getppid();
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .context("asking for a signal when the parent dies")?;
    let after = rustix::process::getppid();
    let is_alive = before == after && after.is_some_and(is_own_parent);
    anyhow::ensure!(is_alive, "the process that started this runner is dead");
    Ok(())
}

/// Process 1 is who orphans are given to. It may have started us all the same, as the only process
/// of a container: then we are in its session, for a scheduler makes no new one.
fn is_own_parent(parent: Pid) -> bool {
    let same_session = || match (getsid(Some(parent)), getsid(None)) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        _ => false,
    };
    !parent.is_init() || same_session()
}

/// The first signal cancels the job, the second leaves it no time.
fn stop_on_signals(stop: Stop, grace: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    // It ends with the process: there is nothing to wait for.
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                stop.cancel_now();
            } else {
                stop.cancel_within(grace);
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn steps_do_not_see_the_configuration() {
        let all = [
            (JITCONFIG, "blob"),
            (JITCONFIG_FILE, "/jit"),
            ("ACTIONS_RUNNER_INPUT_TOKEN", "t"),
            ("PATH", "/bin"),
        ];
        let all = all.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        let (environment, inputs) = environment(all);
        assert_eq!(environment, [(OsString::from("PATH"), OsString::from("/bin"))]);
        assert_eq!(inputs.jit.unwrap().expose_secret(), "blob");
        assert_eq!(inputs.file.unwrap(), Path::new("/jit"));
    }

    #[test]
    fn a_file_may_end_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jitconfig");
        fs_err::write(&file, "blob\n").unwrap();
        assert_eq!(read(&file).unwrap().expose_secret(), "blob");
        fs_err::write(&file, " \n").unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.ends_with("jitconfig` has no JIT configuration"), "{error}");
    }
}
