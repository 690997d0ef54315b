//! `sekisho runner`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use secrecy::SecretString;

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
          default_value_t = sekisho_runner::process::STOP_GRACE.as_secs())]
    stop_grace: u64,
}

/// The version that is said to the service: GitHub refuses runners that are older than its newest by
/// more than 30 days, so this is the release of the official runner whose wire is spoken.
const RUNNER_VERSION: &str = "2.336.0";

/// Runs one job.
pub(crate) async fn run(args: &RunnerArgs) -> anyhow::Result<ExitCode> {
    let RunnerCommand::Run(args) = &args.command;
    let version = RUNNER_VERSION.to_owned();
    let grace = Duration::from_secs(args.stop_grace);
    let (jit, root) = (args.jitconfig.clone(), args.root.clone());
    let outcome = sekisho_runner::process::run(jit, root, version, grace).await?;
    Ok(outcome.exit_code().into())
}
