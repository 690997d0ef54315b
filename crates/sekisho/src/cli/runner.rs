//! `sekisho runner`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::SecretString;
use sekisho_runner::process;

/// The program that takes one job
#[derive(Args, Debug)]
pub(crate) struct RunnerArgs {
    #[command(subcommand)]
    command: RunnerCommand,
}

#[derive(Debug, Subcommand)]
enum RunnerCommand {
    /// Listen, take one job, run it, and end
    Run(RunnerRunArgs),
}

/// Listen, take one job, run it, and end
#[derive(Args, Debug)]
#[command(
    after_help = "The registration comes from `POST …/actions/runners/generate-jitconfig` of \
                        GitHub or of a hub. It is a secret: prefer the variable to the option, for \
                        arguments can be seen by others."
)]
struct RunnerRunArgs {
    /// The registration, as the service gave it out [default: $ACTIONS_RUNNER_INPUT_JITCONFIG]
    #[arg(long, value_name = "BLOB")]
    jitconfig: Option<SecretString>,
    /// Folder for the job's files
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// How long the job has to end after SIGTERM, before what still runs is killed
    #[arg(long, value_name = "SECONDS", env = "RUNNER_GRACEFUL_STOP_TIMEOUT",
          default_value_t = process::STOP_GRACE.as_secs())]
    stop_grace: u64,
}

/// Runs one job.
pub(crate) async fn run(args: &RunnerArgs) -> anyhow::Result<ExitCode> {
    let RunnerCommand::Run(args) = &args.command;
    let version = process::VERSION.to_owned();
    let grace = Duration::from_secs(args.stop_grace);
    let (jit, root) = (args.jitconfig.clone(), args.root.clone());
    let outcome = process::run(jit, root, version, grace).await?;
    Ok(process::exit_code(outcome).into())
}
