//! The runner as a program of its own: what a runner's image holds, and nothing else.
//!
//! It is `sekisho runner run` without the rest of Sekisho: small, quick to start, and static when it is
//! built so. The registration comes in `ACTIONS_RUNNER_INPUT_JITCONFIG`, or in the file that
//! `ACTIONS_RUNNER_INPUT_JITCONFIG_FILE` names, and never in an argument: others can see those.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sekisho_runner::process;
use tracing_subscriber::filter::LevelFilter;

const HELP: &str = "\
Takes one job, runs it, and ends

usage: sekisho-runner [--root DIR] [--stop-grace SECONDS]

  --root DIR             folder for the job's files [default: .]
  --stop-grace SECONDS   how long the job has to end after SIGTERM
                         [default: $RUNNER_GRACEFUL_STOP_TIMEOUT, else 20]
  --version, --help

environment:
  ACTIONS_RUNNER_INPUT_JITCONFIG        the registration, as the service gave it out
  ACTIONS_RUNNER_INPUT_JITCONFIG_FILE   a file with it

exit codes: 0 done or no job, 1 refused or lost, 2 not reachable, 5 session conflict, 7 too old;
with ACTIONS_RUNNER_RETURN_JOB_RESULT_FOR_HOSTED: 100 and more, by the job's result";

/// Gives the grace where `--stop-grace` does not.
const GRACE: &str = "RUNNER_GRACEFUL_STOP_TIMEOUT";

struct Arguments {
    root: PathBuf,
    grace: Duration,
}

#[expect(clippy::print_stderr, clippy::print_stdout, reason = "this is the program's terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--help" | "-h"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["--version"] => {
            println!("sekisho-runner {} (as {})", env!("CARGO_PKG_VERSION"), process::VERSION);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match parse(&arguments).and_then(|arguments| start(&arguments)) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> anyhow::Result<Arguments> {
    let from_env = std::env::vars().find(|(name, _)| name == GRACE).map(|(_, value)| value);
    let mut grace = from_env.filter(|value| !value.is_empty());
    let mut root = PathBuf::from(".");
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().with_context(|| format!("`{name}` needs a value\n\n{HELP}"))?;
        match name.as_str() {
            "--root" => root = value.into(),
            "--stop-grace" => grace = Some(value.clone()),
            _ => bail!("no option `{name}`\n\n{HELP}"),
        }
    }
    let grace = match grace {
        Some(text) => {
            let seconds = text.parse().with_context(|| format!("`{text}` is no number of seconds"));
            Duration::from_secs(seconds?)
        }
        None => process::STOP_GRACE,
    };
    Ok(Arguments { root, grace })
}

fn start(arguments: &Arguments) -> anyhow::Result<u8> {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false);
    log.with_max_level(LevelFilter::WARN).init();
    // Fails only when one is installed already, and nobody else installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let version = process::VERSION.to_owned();
    let root = arguments.root.clone();
    let running = process::run(None, root, version, arguments.grace);
    let outcome = runtime.block_on(Box::pin(running))?;
    // What a step has left behind may still hold a pipe that is read: it ends with this process.
    runtime.shutdown_background();
    Ok(process::exit_code(outcome))
}
