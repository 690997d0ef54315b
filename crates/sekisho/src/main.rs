//! The Sekisho command line: parse, wire, exit.

mod cli;
mod client;
mod cluster;
mod exit;
mod gate;
mod journey;
mod plane;
mod printer;
mod session;
mod settings;
mod signals;
mod snapshot;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::printer::Printer;
use crate::settings::DataDir;

/// How long work gets that nobody waits for any more: a bucket or a disk that does not answer keeps no
/// program from ending.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // A stage of a sandbox is this program started again; nothing may happen before this.
    sekisho_sandbox::main_if_sandbox();
    let cli = Cli::parse();
    let printer = Printer::new(&cli.global);
    match start(&cli, printer) {
        Ok(exit) => exit,
        Err(error) => {
            exit::show(printer, &error);
            Exit::Failed.into()
        }
    }
}

fn start(cli: &Cli, printer: Printer) -> anyhow::Result<ExitCode> {
    if let Command::Gate(args) = &cli.command
        && args.is_analyser()
    {
        // Before there is any other thread: it is copied for each layer.
        gate::analyser::child::serve()?;
        return Ok(Exit::Done.into());
    }
    let service = match &cli.command {
        Command::Operator(args) => args.is_service(),
        Command::Gate(args) => args.is_service(),
        _ => false,
    };
    log_to_stderr(cli.global.verbose, printer, service)?;
    let builds = match &cli.command {
        Command::Build(args) => args.builds_here(),
        Command::Base(_) | Command::Cache(_) => true,
        _ => false,
    };
    // While there is one thread: the whole program moves.
    if builds && let Err(error) = sekisho_sandbox::enter_id_range() {
        tracing::info!("the range of ids that this user was given cannot be used: {error}");
    }
    // Fails only when one is installed already, and nobody else installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let done = runtime.block_on(dispatch(cli, printer));
    runtime.shutdown_timeout(LEAVE_WITHIN);
    done
}

async fn dispatch(cli: &Cli, printer: Printer) -> anyhow::Result<ExitCode> {
    let data = || DataDir::of(&cli.global);
    // Boxed: each is a state machine of many kilobytes, and only one of them is needed.
    let exit = match &cli.command {
        Command::Run(args) => Box::pin(cli::run::run(args, &data()?, printer)).await?,
        Command::Up(args) => Box::pin(cli::up::run(args, &data()?, printer)).await?,
        Command::Runs(args) => cli::runs::run(args, &data()?, printer)?,
        Command::Logs(args) => cli::logs::run(args, &data()?, printer)?,
        Command::Build(args) => Box::pin(cli::build::run(args, &data()?, printer)).await?,
        Command::Gate(args) => Box::pin(cli::gate::run(args, data, printer)).await?,
        Command::Base(args) => Box::pin(cli::base::run(args, &data()?, printer)).await?,
        Command::Cache(args) => cli::cache::run(args, &data()?, printer)?,
        Command::Policy(args) => cli::policy::run(args, data, printer)?,
        Command::Hub(args) => Box::pin(cli::hub::run(args, data, printer)).await?,
        Command::Operator(args) => Box::pin(cli::operator::run(args, printer)).await?,
        Command::Runners(args) => Box::pin(cli::runners::run(args, printer)).await?,
        Command::Why(args) => Box::pin(cli::why::run(args, printer)).await?,
        Command::Migrate(args) => Box::pin(cli::migrate::run(args, printer)).await?,
        // The codes of a runner are GitHub's, not ours.
        Command::Runner(args) => return Box::pin(cli::runner::run(args)).await,
    };
    Ok(exit.into())
}

/// Logs of the services; the journey of a run is told by the printer. Of a command that is a service
/// the log is all it says, so it says more, and in JSON where that is the form of answers.
fn log_to_stderr(verbose: u8, printer: Printer, service: bool) -> anyhow::Result<()> {
    let filter = match verbose {
        0 if service => "warn,sekisho_operator=info,sekisho_gate=info,sekisho=info",
        0 => "warn",
        1 => {
            "warn,sekisho=info,sekisho_hub=info,sekisho_gate=info,sekisho_scheduler=info,\
              sekisho_operator=debug"
        }
        _ => "debug,hyper=info,reqwest=info",
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(printer.has_colour())
        .with_env_filter(EnvFilter::try_new(filter).context("reading the log filter")?);
    let begun = match service && printer.is_json() {
        true => log.json().flatten_event(true).try_init(),
        false => log.compact().try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("starting the log: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
