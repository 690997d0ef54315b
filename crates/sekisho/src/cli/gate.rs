//! `sekisho gate`.

mod docker_config;
mod keeper;
mod promoter;
mod serve;
pub(crate) mod users;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde::Serialize;

use crate::exit::{Exit, hinted};
use crate::printer::Printer;
use crate::session::{self, Session};
use crate::settings::{self, DataDir};

/// Largest file with a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 64 * 1024;

/// Log in to a gate, or serve as one; approve what yours holds, verify and export its decisions
#[derive(Args, Debug)]
pub(crate) struct GateArgs {
    #[command(subcommand)]
    command: GateCommand,
}

#[derive(Debug, Subcommand)]
enum GateCommand {
    /// Let docker, skopeo, buildah and oras push with the identity of this job
    #[command(
        after_help = "Exchanges the job's OIDC token for a session of at most an hour, and writes it \
                            into docker's config.json, for its owner alone.\n\nExample:\n  \
                            sekisho gate login gate.example.org && \
                            docker push gate.example.org/acme/app:v1"
    )]
    Login {
        /// Host and port of the gate
        #[arg(value_name = "GATE")]
        registry: String,
        /// File with an OIDC token, instead of the job's own
        #[arg(long, value_name = "FILE")]
        oidc_token_file: Option<PathBuf>,
        /// Folder of config.json [default: $DOCKER_CONFIG, or ~/.docker]
        #[arg(long, value_name = "DIR")]
        docker_config: Option<PathBuf>,
    },
    /// Users with a password, for a gate on this machine alone
    User(users::UserArgs),
    /// Serve as a gate of its own, without a plane; several can share a bucket
    Serve(serve::ServeArgs),
    Promoter(promoter::PromoterArgs),
    /// Make the keys that gates on one bucket share; those that are there stay
    #[command(after_help = "Example:\n  sekisho gate keys keys && \\\n  \
                            kubectl create secret generic sekisho-gate-keys --from-file=keys")]
    Keys {
        /// Folder of the keys, for its owner alone
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Read layers, each in a process of its own; started by the gate itself
    #[command(hide = true)]
    AnalyseLayers,
    #[command(flatten)]
    Keeper(keeper::KeeperCommand),
}

impl GateArgs {
    /// Whether this process is to read layers, and nothing else.
    pub(crate) fn is_analyser(&self) -> bool {
        matches!(self.command, GateCommand::AnalyseLayers)
    }

    /// Whether it serves until it is stopped, so that its log is what it says.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.command, GateCommand::Serve(_) | GateCommand::Promoter(_))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn<'a> {
    schema_version: u32,
    gate: &'a str,
    repository: &'a str,
    expires_in_seconds: u64,
    file: String,
}

pub(crate) async fn run(
    args: &GateArgs,
    data: impl FnOnce() -> anyhow::Result<DataDir>,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let (registry, oidc_token_file, docker_config) = match &args.command {
        GateCommand::Login { registry, oidc_token_file, docker_config } => {
            (registry, oidc_token_file, docker_config)
        }
        GateCommand::Keeper(command) => return keeper::run(command, &data()?, printer).await,
        GateCommand::User(args) => return users::run(args, &data()?, printer),
        GateCommand::Serve(args) => return serve::run(args, &data()?, printer).await,
        GateCommand::Promoter(args) => return promoter::run(args, &data()?, printer).await,
        GateCommand::Keys { folder } => {
            crate::gate::make_keys(folder)?;
            printer.note(&format!("the keys are in {}", folder.display()));
            return Ok(Exit::Done);
        }
        // Done before there is a runtime.
        GateCommand::AnalyseLayers => return Ok(Exit::Done),
    };
    let gate = session::gate_url(registry)?;
    let session = match oidc_token_file {
        Some(file) => session::of_token(&token_in(file)?, &gate).await?,
        None => session::of_job(&gate).await?.ok_or_else(|| {
            hinted(
                "there is no identity to log in with".to_owned(),
                "run it in a job with `permissions: id-token: write`, or name a file with \
                 `--oidc-token-file`",
            )
        })?,
    };
    let folder = match docker_config {
        Some(folder) => folder.clone(),
        None => settings::docker_config_dir()?,
    };
    let file = folder.join("config.json");
    docker_config::log_in(&file, registry, &session.token)?;
    let Session { repository, expires_in, .. } = &session;
    if printer.is_json() {
        printer.answer_json(&LoggedIn {
            schema_version: 1,
            gate: registry,
            repository,
            expires_in_seconds: *expires_in,
            file: file.display().to_string(),
        })?;
    } else {
        printer.answer(&format!(
            "logged in to {registry} as {repository} for {} minutes ({})",
            expires_in / 60,
            file.display()
        ))?;
    }
    Ok(Exit::Done)
}

fn token_in(file: &PathBuf) -> anyhow::Result<SecretString> {
    let size = fs_err::metadata(file)?.len();
    anyhow::ensure!(size <= MAX_TOKEN_BYTES, "`{}` is no token: {size} bytes", file.display());
    let text = fs_err::read_to_string(file).context("reading an OIDC token")?;
    Ok(text.trim().to_owned().into())
}
