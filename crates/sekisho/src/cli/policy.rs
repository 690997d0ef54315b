//! `sekisho policy`.

mod diff;
mod exceptions;
mod test;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_policy::{Exceptions, Policies, Verdict};
use serde::Serialize;

use crate::exit::Exit;
use crate::printer::{Printer, Style};
use crate::settings::DataDir;

/// Check the gate's rules, and explain what it decided
#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Read rules (Cedar) and exceptions (.toml) as the gate would
    #[command(after_help = "Example:\n  sekisho policy check rules.cedar exceptions.toml")]
    Check {
        /// What to read
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Judge a folder of facts, each with the verdict that is expected
    #[command(after_help = "Example:\n  sekisho policy test --policies rules.cedar fixtures/")]
    Test {
        /// Folder of .json files with `facts` and `expect`
        #[arg(value_name = "FOLDER")]
        fixtures: PathBuf,
        /// Rules (Cedar) [default: those that come along]
        #[arg(long, value_name = "FILE")]
        policies: Option<PathBuf>,
        /// Exceptions (.toml) [default: none]
        #[arg(long, value_name = "FILE")]
        exceptions: Option<PathBuf>,
    },
    /// Show what other rules would have decided
    #[command(after_help = "Works whether or not a plane is up.\n\nExample:\n  \
                            sekisho policy diff --policies new.cedar --against decisions")]
    Diff {
        /// What to compare with
        #[arg(long, value_enum)]
        against: diff::Against,
        /// Rules (Cedar) [default: those that come along]
        #[arg(long, value_name = "FILE")]
        policies: Option<PathBuf>,
        /// Exceptions (.toml) [default: none]
        #[arg(long, value_name = "FILE")]
        exceptions: Option<PathBuf>,
    },
    /// List, add and end exceptions
    Exceptions(exceptions::ExceptionsArgs),
    /// Make a decision again from what it was made of, and show the answer
    #[command(after_help = "Works whether or not a plane is up.\n\nExample:\n  \
                            sekisho policy explain 000000000042")]
    Explain {
        /// Number of the decision, as the gate's refusals and records have it
        decision: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    schema_version: u32,
    /// `file:line:column: message`.
    errors: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation<'a> {
    schema_version: u32,
    decision: &'a sekisho_gate::Decision,
    verdict: &'a Verdict,
    reproduced: bool,
}

pub(crate) fn run(
    args: &PolicyArgs,
    data: impl FnOnce() -> anyhow::Result<DataDir>,
    printer: Printer,
) -> anyhow::Result<Exit> {
    match &args.command {
        PolicyCommand::Check { files } => check(files, printer),
        PolicyCommand::Test { fixtures, policies, exceptions } => {
            test::run(fixtures, policies.as_deref(), exceptions.as_deref(), printer)
        }
        PolicyCommand::Diff { against: diff::Against::Decisions, policies, exceptions } => {
            diff::run(policies.as_deref(), exceptions.as_deref(), &data()?, printer)
        }
        PolicyCommand::Exceptions(args) => exceptions::run(args, data, printer),
        PolicyCommand::Explain { decision } => explain(decision, &data()?, printer),
    }
}

fn check(files: &[PathBuf], printer: Printer) -> anyhow::Result<Exit> {
    let mut errors = Vec::new();
    for file in files {
        let text = fs_err::read_to_string(file)?;
        errors.extend(fault(file, &text));
    }
    if printer.is_json() {
        printer.answer_json(&Checked { schema_version: 1, errors: errors.clone() })?;
    } else {
        errors.iter().try_for_each(|error| printer.answer(error))?;
    }
    if errors.is_empty() {
        printer.note("no faults");
        return Ok(Exit::Done);
    }
    Ok(Exit::Failed)
}

/// Rules and exceptions of files, or those that come along.
fn load(policies: Option<&Path>, exceptions: Option<&Path>) -> anyhow::Result<Policies> {
    let read = |file: &Path| {
        let text = fs_err::read_to_string(file)?;
        match fault(file, &text) {
            Some(fault) => Err(anyhow::anyhow!(fault)),
            None => Ok(text),
        }
    };
    let mut loaded = match policies {
        Some(file) => Policies::load(&read(file)?)?,
        None => Policies::default_set(),
    };
    if let Some(file) = exceptions {
        loaded = loaded.with_exceptions(Exceptions::load(file, &read(file)?)?);
    }
    Ok(loaded)
}

/// What keeps the gate from loading a file.
fn fault(file: &Path, text: &str) -> Option<String> {
    if file.extension().is_some_and(|extension| extension == "toml") {
        return Exceptions::load(file, text).err().map(|error| error.to_string());
    }
    let error = Policies::load(text).err()?;
    Some(match error.place() {
        // It begins with line and column.
        Some(_) => format!("{}:{error}", file.display()),
        None => format!("{}: {error}", file.display()),
    })
}

fn explain(id: &str, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let explained = crate::gate::archive(data)?
        .explain(id)
        .with_context(|| format!("making decision `{id}` again"))?;
    let Some(explained) = explained else {
        printer.note(&format!("there is no decision `{id}` in `{}`", data.root().display()));
        return Ok(Exit::Nothing);
    };
    let sekisho_gate::Explained { decision, verdict, reproduced } = &explained;
    if printer.is_json() {
        let (decision, reproduced) = (decision, *reproduced);
        printer.answer_json(&Explanation { schema_version: 1, decision, verdict, reproduced })?;
    } else {
        let tag = decision.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        printer.answer(&format!(
            "{}  {}  {}{tag}  {}",
            decision.id,
            verdict.decision.as_str(),
            decision.repository,
            decision.digest
        ))?;
        for reason in &verdict.reasons {
            printer.answer(&format!("  {}: {}", reason.mode.as_str(), reason.sentence()))?;
        }
    }
    if !reproduced {
        printer.always(&printer.paint(Style::Bad, "the record says something else"));
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_with_their_place() {
        let check = |file: &str, text: &str| fault(Path::new(file), text).unwrap_or_default();
        assert_eq!(check("a.cedar", "@id(\"p\") permit (principal, action, resource);"), "");
        assert!(check("a.cedar", "\npermit (").starts_with("a.cedar:2:"));
        let unnamed = "permit (principal, action, resource);";
        assert_eq!(check("a.cedar", unnamed), "a.cedar:1:1: the policy `policy0` has no `@id`");
        assert!(check("b.toml", "x = 1").starts_with("b.toml:1:1: unknown field `x`"));
        assert_eq!(check("b.toml", ""), "");
    }
}
