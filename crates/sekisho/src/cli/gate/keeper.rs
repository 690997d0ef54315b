//! What a gate holds and what it wrote down, for who runs it.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_gate::{Held, Prune, Pruned, Quarantine, Verified, Word};
use serde::Serialize;

use crate::client::{Client, Said};
use crate::exit::Exit;
use crate::plane::{self, Found, Port};
use crate::printer::{Printer, Style};
use crate::settings::{DataDir, env};

/// Who approves, unless told otherwise: the variable that a login sets.
const USER: &str = "USER";

/// What the one who runs a gate may ask.
#[derive(Debug, Subcommand)]
pub(crate) enum KeeperCommand {
    /// Images that wait for somebody's word
    Quarantine(QuarantineArgs),
    /// Check that no decision was changed, removed or reordered
    #[command(
        after_help = "Works whether or not a plane is up.\n\nExamples:\n  sekisho gate verify\n  \
                            sekisho gate verify --key \"$(cat kept-elsewhere.pub)\""
    )]
    Verify {
        /// Public key (base64) that signed, instead of those in the data folder
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Remove old decisions with their evidence, as `keep_days` of gate/storage.toml does by itself
    #[command(after_help = "Example:\n  sekisho gate prune --keep-days 400")]
    Prune {
        /// How many days of decisions stay
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
        keep_days: u32,
    },
    /// Have the image of a decision copied on to the promoter's registry now, or say what waits for that
    #[command(
        after_help = "What waits is tried again by itself, in pauses of up to an hour; for other images, where there is a \
                            new route.\n\nExamples:\n  sekisho gate promote\n  sekisho gate promote 000000000042"
    )]
    Promote {
        /// Number of the decision; without it, what waits is listed
        decision: Option<String>,
    },
    /// Write a decision in a form that others read
    Export {
        #[command(subcommand)]
        what: ExportCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExportCommand {
    /// A SLSA verification summary, as a signed DSSE envelope
    #[command(after_help = "Example:\n  sekisho gate export vsa 000000000042 > vsa.json")]
    Vsa {
        /// Number of the decision
        decision: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    command: QuarantineCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// List what is held
    List,
    /// Show why one is held
    Show {
        /// Its id: `q-000000000042`
        id: String,
    },
    /// Let one pass: it is judged again and promoted, without being built again
    Approve(WordArgs),
    /// Say no to one
    Reject(WordArgs),
}

#[derive(Args, Debug)]
pub(crate) struct WordArgs {
    /// Its id: `q-000000000042`
    id: String,
    /// Why; it goes on record
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who says so [default: $USER]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    held: &'a [Held],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gone {
    schema_version: u32,
    decisions: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    schema_version: u32,
    records: usize,
    signed: usize,
    faults: Vec<String>,
}

pub(crate) async fn run(
    command: &KeeperCommand,
    data: &DataDir,
    printer: Printer,
) -> anyhow::Result<Exit> {
    if let KeeperCommand::Verify { key } = command {
        return verify(key.as_deref(), data, printer);
    }
    let options = plane::Options {
        port: Port::Rather(plane::DEFAULT_PORT),
        capacity: 1,
        hub: plane::HubOptions::default(),
        build_settings: vec![],
    };
    match plane::find_or_start(data, options).await? {
        Found::Up(address) => ask(command, &Client::new(address)?, printer).await,
        Found::Own(plane) => {
            let exit = match Client::new(plane.address.clone()) {
                Ok(client) => ask(command, &client, printer).await,
                Err(error) => Err(error),
            };
            plane.stop(true).await?;
            exit
        }
    }
}

async fn ask(command: &KeeperCommand, client: &Client, printer: Printer) -> anyhow::Result<Exit> {
    match command {
        KeeperCommand::Quarantine(args) => match &args.command {
            QuarantineCommand::List => list(client, printer).await,
            QuarantineCommand::Show { id } => show(id, client, printer).await,
            QuarantineCommand::Approve(args) => word("approve", args, client, printer).await,
            QuarantineCommand::Reject(args) => word("reject", args, client, printer).await,
        },
        KeeperCommand::Export { what: ExportCommand::Vsa { decision } } => {
            let path = format!("/_gate/v1/decisions/{decision}/vsa");
            match client.gate::<serde_json::Value>(&path).await? {
                Said::Yes(envelope) => {
                    printer.answer(&envelope.to_string())?;
                    Ok(Exit::Done)
                }
                Said::No(_, why) => nothing(printer, &why),
            }
        }
        KeeperCommand::Promote { decision: None } => {
            super::promoter::waiting(client, printer).await
        }
        KeeperCommand::Promote { decision: Some(decision) } => {
            super::promoter::promote(decision, client, printer).await
        }
        KeeperCommand::Prune { keep_days } => prune(*keep_days, client, printer).await,
        // Answered before a plane was looked for.
        KeeperCommand::Verify { .. } => anyhow::bail!("verifying needs no plane"),
    }
}

fn nothing(printer: Printer, why: &str) -> anyhow::Result<Exit> {
    printer.note(why);
    Ok(Exit::Nothing)
}

async fn list(client: &Client, printer: Printer) -> anyhow::Result<Exit> {
    let Quarantine { held } = match client.gate("/_gate/v1/quarantine").await? {
        Said::Yes(answer) => answer,
        Said::No(_, why) => return nothing(printer, &why),
    };
    if printer.is_json() {
        printer.answer_json(&Listed { schema_version: 1, held: &held })?;
        return Ok(Exit::Done);
    }
    if held.is_empty() {
        return nothing(printer, "nothing is held");
    }
    for one in &held {
        printer.answer(&line(one))?;
    }
    Ok(Exit::Done)
}

fn line(held: &Held) -> String {
    let name = match &held.tag {
        Some(tag) => format!("{}:{tag}", held.repository),
        None => format!("{}@{}", held.repository, held.digest),
    };
    let until = held.until.strftime("%Y-%m-%d");
    let why = held.reasons.first().map(String::as_str).unwrap_or_default();
    format!("{}  {name}  until {until}  {why}", held.id)
}

async fn show(id: &str, client: &Client, printer: Printer) -> anyhow::Result<Exit> {
    let held: Held = match client.gate(&format!("/_gate/v1/quarantine/{id}")).await? {
        Said::Yes(held) => held,
        Said::No(_, why) => return nothing(printer, &why),
    };
    if printer.is_json() {
        printer.answer_json(&held)?;
        return Ok(Exit::Done);
    }
    printer.answer(&line(&held))?;
    printer.answer(&format!("  {}  pushed by {}", held.digest, held.pushed_by))?;
    for reason in &held.reasons {
        printer.answer(&format!("  {reason}"))?;
    }
    Ok(Exit::Done)
}

async fn word(
    what: &str,
    args: &WordArgs,
    client: &Client,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let by = args.by.clone().or_else(|| env(USER));
    let by = by.context("say with `--by` who says so, for `USER` is not set")?;
    let path = format!("/_gate/v1/quarantine/{}/{what}", args.id);
    let word = Word { by, reason: args.reason.clone() };
    match client.say(&path, &word).await? {
        Said::Yes(()) => {
            let done = if what == "approve" { "approved and promoted" } else { "rejected" };
            printer.note(&format!("{} {done}", args.id));
            Ok(Exit::Done)
        }
        Said::No(404, why) => nothing(printer, &why),
        Said::No(403, why) => {
            printer.always(&printer.paint(Style::Bad, &format!("still refused: {why}")));
            Ok(Exit::Denied)
        }
        Said::No(_, why) => anyhow::bail!("{why}"),
    }
}

async fn prune(keep_days: u32, client: &Client, printer: Printer) -> anyhow::Result<Exit> {
    match client.ask::<_, Pruned>("/_gate/v1/prune", &Prune { keep_days }).await? {
        Said::Yes(pruned) if printer.is_json() => {
            printer.answer_json(&Gone { schema_version: 1, decisions: pruned.decisions })?;
            Ok(Exit::Done)
        }
        Said::Yes(Pruned { decisions: 0 }) => {
            nothing(printer, "no signed checkpoint is that old; the newest one always stays")
        }
        Said::Yes(Pruned { decisions }) => {
            printer.note(&format!("{decisions} decisions removed, with what they alone rested on"));
            Ok(Exit::Done)
        }
        Said::No(_, why) => anyhow::bail!("{why}"),
    }
}

fn verify(key: Option<&str>, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let archive = crate::gate::archive(data)?;
    let verified = archive.verify(key).context("reading the gate's decisions")?;
    let Verified { records, signed, faults } = verified;
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    told(Checked { schema_version: 1, records, signed, faults }, printer)
}

fn told(checked: Checked, printer: Printer) -> anyhow::Result<Exit> {
    let is_whole = checked.faults.is_empty();
    if printer.is_json() {
        printer.answer_json(&checked)?;
    } else {
        checked.faults.iter().try_for_each(|fault| printer.answer(fault))?;
        printer.note(&format!("{} decisions, {} of them signed", checked.records, checked.signed));
    }
    Ok(if is_whole { Exit::Done } else { Exit::Failed })
}
