//! `sekisho policy exceptions`: who answers for what, and until when.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sekisho_policy::{Exception, Exceptions, MAX_DAYS};
use serde::Serialize;

use crate::exit::{Exit, hinted};
use crate::printer::{Printer, Style};
use crate::settings::DataDir;

#[derive(Args, Debug)]
pub(super) struct ExceptionsArgs {
    /// The file [default: `gate/exceptions.toml` of the data folder]
    #[arg(long, value_name = "FILE", global = true)]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: ExceptionsCommand,
}

#[derive(Debug, Subcommand)]
enum ExceptionsCommand {
    /// Show every exception, also those that are over
    List,
    /// Write one more
    #[command(after_help = "Example:\n  sekisho policy exceptions add --advisory CVE-2021-23337 \
                            --package lodash --repository acme/app \\\n    --owner 'web team' \
                            --reason 'template() gets no foreign text' --approver ann --days 30")]
    Add(AddArgs),
    /// Let one end yesterday
    Expire {
        /// Id of the advisory, or `secret:FINGERPRINT`
        #[arg(long)]
        advisory: String,
        /// The package, or the file of a secret
        #[arg(long)]
        package: String,
        /// As it stands in the file
        #[arg(long)]
        repository: String,
    },
}

#[derive(Args, Debug)]
struct AddArgs {
    /// Id of the advisory, or `secret:FINGERPRINT`
    #[arg(long)]
    advisory: String,
    /// The package, or the file of a secret
    #[arg(long)]
    package: String,
    /// A repository at the gate, or `acme/*` for all below
    #[arg(long)]
    repository: String,
    /// Who mends it in the end
    #[arg(long)]
    owner: String,
    /// Why it may ship
    #[arg(long)]
    reason: String,
    /// Who says so
    #[arg(long)]
    approver: String,
    /// How long, from today
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=90))]
    days: u8,
    /// VEX's word for the reason
    #[arg(long)]
    justification: Option<String>,
}

/// What an exception does today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    InForce,
    NotYet,
    Expired,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    schema_version: u32,
    exceptions: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    state: State,
    advisory: &'a str,
    package: &'a str,
    repository: &'a str,
    owner: &'a str,
    reason: &'a str,
    approver: &'a str,
    approved: Date,
    ends: Date,
    justification: Option<&'a str>,
}

#[expect(clippy::disallowed_methods, reason = "what is over depends on today")]
pub(super) fn run(
    args: &ExceptionsArgs,
    data: impl FnOnce() -> anyhow::Result<DataDir>,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => data()?.gate().join("exceptions.toml"),
    };
    let today = jiff::Timestamp::now().to_zoned(TimeZone::UTC).date();
    match &args.command {
        ExceptionsCommand::List => list(&file, today, printer),
        ExceptionsCommand::Add(add) => {
            let (_, text) = read(&file)?;
            write(&file, &added(&text, add, today)?)?;
            printer.note("a plane that is up knows of it when it starts again");
            Ok(Exit::Done)
        }
        ExceptionsCommand::Expire { advisory, package, repository } => {
            let (known, _) = read(&file)?;
            let Some(text) = expired(&known, [advisory, package, repository], today)? else {
                printer.note(&format!("`{}` has no such exception", file.display()));
                return Ok(Exit::Nothing);
            };
            write(&file, &text)?;
            printer.note("a plane that is up knows of it when it starts again");
            Ok(Exit::Done)
        }
    }
}

fn read(file: &Path) -> anyhow::Result<(Exceptions, String)> {
    let text = match fs_err::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    Ok((Exceptions::load(file, &text)?, text))
}

/// Writes what the gate will be able to load, and nothing else.
fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    Exceptions::load(file, text).map_err(|error| {
        hinted(error.to_string(), "nothing was written; see docs/policies.md#exceptions")
    })?;
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder)?;
    }
    sekisho_store::write_atomic(file, text.as_bytes(), false)
        .with_context(|| format!("writing `{}`", file.display()))
}

fn list(file: &Path, today: Date, printer: Printer) -> anyhow::Result<Exit> {
    let (exceptions, _) = read(file)?;
    if exceptions.all().is_empty() && !printer.is_json() {
        printer.note(&format!("there are no exceptions in `{}`", file.display()));
        return Ok(Exit::Nothing);
    }
    if printer.is_json() {
        let one = |it: &'_ Exception| state(it, today);
        let all = exceptions.all().iter().map(|it| One {
            state: one(it),
            advisory: &it.advisory,
            package: &it.package,
            repository: &it.repository,
            owner: &it.owner,
            reason: &it.reason,
            approver: &it.approver,
            approved: it.approved,
            ends: it.ends,
            justification: it.justification.as_deref(),
        });
        printer.answer_json(&Listed { schema_version: 1, exceptions: all.collect() })?;
        return Ok(Exit::Done);
    }
    for it in exceptions.all() {
        let (style, word) = match state(it, today) {
            State::InForce => (Style::Good, "in force"),
            State::NotYet => (Style::Warn, "not yet"),
            State::Expired => (Style::Dim, "expired"),
        };
        printer.answer(&format!(
            "{}  {}  {} in {}, until {}: {} ({}, approved by {})",
            printer.paint(style, &format!("{word:8}")),
            it.advisory,
            it.package,
            it.repository,
            it.ends,
            it.reason,
            it.owner,
            it.approver,
        ))?;
    }
    Ok(Exit::Done)
}

fn state(exception: &Exception, today: Date) -> State {
    if exception.is_in_force(today) {
        State::InForce
    } else if today < exception.approved {
        State::NotYet
    } else {
        State::Expired
    }
}

/// The text with one more exception at its end.
fn added(text: &str, add: &AddArgs, today: Date) -> anyhow::Result<String> {
    let days = i64::from(add.days).min(i64::from(MAX_DAYS));
    let ends = today.checked_add(jiff::Span::new().days(days)).context("counting days")?;
    // JSON's strings are strings of TOML.
    let field = |name: &str, value: &str| {
        serde_json::to_string(value).map(|value| format!("{name} = {value}\n"))
    };
    let mut block = String::from("[[exception]]\n");
    for (name, value) in [
        ("advisory", add.advisory.as_str()),
        ("package", &add.package),
        ("repository", &add.repository),
        ("owner", &add.owner),
        ("reason", &add.reason),
        ("approver", &add.approver),
        ("approved", &today.to_string()),
        ("ends", &ends.to_string()),
    ] {
        block.push_str(&field(name, value)?);
    }
    if let Some(justification) = &add.justification {
        block.push_str(&field("justification", justification)?);
    }
    let between = if text.is_empty() { "" } else { "\n" };
    Ok(format!(
        "{}{between}{block}",
        if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
    ))
}

/// The text with the exception over; `None` when there is no such one.
fn expired(
    known: &Exceptions,
    [advisory, package, repository]: [&String; 3],
    today: Date,
) -> anyhow::Result<Option<String>> {
    let is_it = |it: &Exception| {
        (&it.advisory, &it.package, &it.repository) == (advisory, package, repository)
    };
    let Some(position) = known.all().iter().position(is_it) else { return Ok(None) };
    let yesterday = today.yesterday().context("counting days")?;
    // One of today holds for today: it cannot end before it began.
    let last = yesterday.max(known.all()[position].approved).min(known.all()[position].ends);
    Ok(known.with_end(position, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(days: u8) -> AddArgs {
        AddArgs {
            advisory: "CVE-2021-23337".into(),
            package: "lodash".into(),
            repository: "acme/app".into(),
            owner: "web \"team\"".into(),
            reason: "no foreign text".into(),
            approver: "ann".into(),
            days,
            justification: None,
        }
    }

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn one_is_added_and_ended_where_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gate/exceptions.toml");
        let text = added("", &add(30), day("2026-11-23")).unwrap();
        write(&file, &format!("# ours\n{text}# after it\n")).unwrap();
        let (known, text) = read(&file).unwrap();
        assert_eq!(known.all()[0].ends, day("2026-12-23"));
        assert_eq!(known.all()[0].owner, "web \"team\"");
        assert_eq!(state(&known.all()[0], day("2026-12-23")), State::InForce);
        assert_eq!(state(&known.all()[0], day("2026-12-24")), State::Expired);
        assert_eq!(state(&known.all()[0], day("2026-11-22")), State::NotYet);
        // Twice is refused, and the file stays as it is.
        let twice = added(&text, &add(1), day("2026-11-23")).unwrap();
        assert!(write(&file, &twice).unwrap_err().to_string().contains("twice"));
        assert_eq!(read(&file).unwrap().1, text);

        let it = |package: &str| {
            ["CVE-2021-23337".to_owned(), package.to_owned(), "acme/app".to_owned()]
        };
        let end = |package: &str, today| {
            let [a, b, c] = it(package);
            expired(&known, [&a, &b, &c], day(today)).unwrap()
        };
        assert_eq!(end("other", "2026-12-01"), None);
        let ended = end("lodash", "2026-12-01").unwrap();
        assert_eq!(ended, text.replace("\"2026-12-23\"", "\"2026-11-30\""));
        write(&file, &ended).unwrap();
        // On its first day it can only end with that day; when it is over it stays as it was.
        assert!(end("lodash", "2026-11-23").unwrap().contains("ends = \"2026-11-23\""));
        assert_eq!(end("lodash", "2027-01-01").unwrap(), text);
    }
}
