//! `sekisho hub`.

use sekisho_types::causes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_github::http::ClientOptions;
use sekisho_github::probe::{Outcome, Probe, Row};
use sekisho_github::rest::{Address, Clock, Credential, GithubClient, KeySigner, RestError};
use serde::Serialize;

use crate::exit::{Exit, hinted};
use crate::plane;
use crate::printer::{Printer, Style};
use crate::settings::{self, DataDir};

/// Largest token, key or certificate file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Look at a GitHub, or at the hub that stands in for it
#[derive(Args, Debug)]
pub(crate) struct HubArgs {
    #[command(subcommand)]
    command: HubCommand,
}

#[derive(Debug, Subcommand)]
enum HubCommand {
    /// Try what Sekisho assumes about GitHub, one by one, and show what held
    #[command(
        after_help = "The token is read from `--token-file`, else from SEKISHO_GITHUB_TOKEN; \
                            the plane that is up needs none.\nExit codes: 0 all held, 1 something \
                            did not.\n\nExamples:\n  sekisho hub probe\n  \
                            sekisho hub probe https://github.com/acme --token-file token\n  \
                            sekisho hub probe https://ghes.example/acme/app --app Iv23x \
                            --app-key app.pem --changes"
    )]
    Probe(Box<ProbeArgs>),
}

#[derive(Args, Debug)]
struct ProbeArgs {
    /// URL of an organization or a repository; or `OWNER[/NAME]` at the plane that is up
    #[arg(default_value = "local", value_name = "URL")]
    target: String,
    /// Also try what registers a runner; it is removed again
    #[arg(long)]
    changes: bool,
    /// File with a token
    #[arg(long, value_name = "FILE", conflicts_with = "app")]
    token_file: Option<PathBuf>,
    /// Client id or number of a GitHub App
    #[arg(long, value_name = "ID", requires = "app_key")]
    app: Option<String>,
    /// File with the App's private key
    #[arg(long, value_name = "FILE", requires = "app")]
    app_key: Option<PathBuf>,
    /// The App's installation [default: the one of the URL]
    #[arg(long, value_name = "NUMBER", requires = "app")]
    installation: Option<u64>,
    /// Proxy [default: HTTPS_PROXY and its kin]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// File with certificates of a private authority
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    schema_version: u32,
    url: &'a str,
    held: usize,
    broken: usize,
    skipped: usize,
    assumptions: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    what: &'a str,
    source: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<&'a str>,
}

pub(crate) async fn run(
    args: &HubArgs,
    data: impl FnOnce() -> anyhow::Result<DataDir>,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let HubCommand::Probe(args) = &args.command;
    probe(args, data, printer).await
}

async fn probe(
    args: &ProbeArgs,
    data: impl FnOnce() -> anyhow::Result<DataDir>,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let (url, credential) = if args.target.contains("://") {
        (args.target.clone(), credential(args)?)
    } else {
        let plane = plane::up(&data()?)?.ok_or_else(|| {
            hinted("no plane is up", "start one with `sekisho up`, or give the URL of a GitHub")
        })?;
        (format!("{}{}", plane.url, args.target), Credential::Token(plane.admin_token))
    };
    let address = Address::parse(&url, false)?;
    let options = ClientOptions {
        proxy: args.proxy.clone().map(SecretString::from),
        certificates: args.ca_file.as_deref().map(read).transpose()?,
        ..ClientOptions::default()
    };
    let client = GithubClient::new(address, credential, &options, Clock::default());
    let client = client.map_err(|error| told(&error))?;
    let probe = Probe::new(client, &options, Clock::default()).await;
    let rows = probe.map_err(|error| told(&error))?.run(args.changes).await;
    show(&url, &rows, printer)
}

fn credential(args: &ProbeArgs) -> anyhow::Result<Credential> {
    if let (Some(issuer), Some(key)) = (&args.app, &args.app_key) {
        let signer = KeySigner::from_pem(SecretString::from(read(key)?).expose_secret())
            .with_context(|| format!("reading `{}`", key.display()))?;
        let (issuer, installation) = (issuer.clone(), args.installation);
        return Ok(Credential::App { issuer, installation, signer: Arc::new(signer) });
    }
    let token = match &args.token_file {
        Some(file) => Some(read(file)?.trim().to_owned()),
        None => settings::github_token(),
    };
    token.map(|token| Credential::Token(token.into())).ok_or_else(|| {
        hinted(
            "there is no credential for this server",
            "give `--token-file`, `--app` with `--app-key`, or set SEKISHO_GITHUB_TOKEN",
        )
    })
}

fn read(file: &Path) -> anyhow::Result<String> {
    let size = fs_err::metadata(file)?.len();
    anyhow::ensure!(size <= MAX_FILE_BYTES, "`{}` is larger than 1 MiB", file.display());
    Ok(fs_err::read_to_string(file)?)
}

/// An error with its next step.
fn told(error: &RestError) -> anyhow::Error {
    hinted(causes(error), error.hint().unwrap_or_else(|| "look at the server's own log".to_owned()))
}

fn show(url: &str, rows: &[Row], printer: Printer) -> anyhow::Result<Exit> {
    let count = |wanted: &str| rows.iter().filter(|row| word(&row.outcome).0 == wanted).count();
    let (held, broken, skipped) = (count("held"), count("broken"), count("skipped"));
    if printer.is_json() {
        let assumptions = rows.iter().map(shown).collect();
        let schema_version = 1;
        printer.answer_json(&Answer { schema_version, url, held, broken, skipped, assumptions })?;
    } else {
        for row in rows {
            let (outcome, seen) = word(&row.outcome);
            let style = match row.outcome {
                Outcome::Held => Style::Good,
                Outcome::Broken(_) => Style::Bad,
                Outcome::Skipped(_) => Style::Dim,
            };
            let outcome = printer.paint(style, &format!("{outcome:<8}"));
            printer.answer(&format!("{outcome}{:<29}{}  [{}]", row.id, row.what, row.source))?;
            if let Some(seen) = seen {
                printer.answer(&format!("{:8}{:29}{seen}", "", ""))?;
            }
        }
        printer.note(&format!("{url}: {held} held, {broken} broken, {skipped} skipped"));
    }
    Ok(if broken == 0 { Exit::Done } else { Exit::Failed })
}

fn shown(row: &Row) -> Shown<'_> {
    let (outcome, seen) = word(&row.outcome);
    Shown { id: row.id, what: row.what, source: row.source, outcome, seen }
}

fn word(outcome: &Outcome) -> (&'static str, Option<&str>) {
    match outcome {
        Outcome::Held => ("held", None),
        Outcome::Broken(seen) => ("broken", Some(seen)),
        Outcome::Skipped(why) => ("skipped", Some(why)),
    }
}
