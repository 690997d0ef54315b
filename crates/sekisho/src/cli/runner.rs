//! `sekisho runner`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use secrecy::SecretString;

use crate::exit::Exit;

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
#[command(after_help = "The registration comes from `POST …/actions/runners/generate-jitconfig` of \
                        GitHub or of a hub. It is a secret: prefer the variable to the option, for \
                        arguments can be seen by others.")]
struct RunnerRunArgs {
    /// The registration, as the service gave it out
    #[arg(
        long,
        value_name = "BLOB",
        env = "ACTIONS_RUNNER_INPUT_JITCONFIG",
        hide_env_values = true
    )]
    jitconfig: SecretString,
    /// Folder for the job's files
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

/// Runs one job.
pub(crate) async fn run(args: &RunnerArgs) -> anyhow::Result<Exit> {
    let RunnerCommand::Run(args) = &args.command;
    let options = sekisho_runner::Options::new(args.root.clone());
    let _ = sekisho_runner::run(args.jitconfig.clone(), options).await?;
    Ok(Exit::Done)
}
