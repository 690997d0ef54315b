//! `sekisho policy diff`: what other rules would have decided.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use sekisho_gate::Replayed;
use sekisho_policy::{Mode, Verdict};
use serde::Serialize;

use super::load;
use crate::exit::Exit;
use crate::printer::{Printer, Style};
use crate::settings::DataDir;

/// How many decisions are judged anew, the latest ones.
const LIMIT: usize = 1000;

/// What rules are compared with.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Against {
    /// What the gate of the data folder decided: its latest 1000 decisions
    Decisions,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Differences {
    schema_version: u32,
    judged: usize,
    /// Decisions whose facts are not there any more.
    without_facts: usize,
    changed: Vec<Change>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    id: String,
    image: String,
    before: &'static str,
    after: &'static str,
    /// Rules that spoke, and would not.
    silent: BTreeSet<String>,
    /// Rules that did not speak, and would.
    new: BTreeSet<String>,
}

pub(super) fn run(
    policies: Option<&Path>,
    exceptions: Option<&Path>,
    data: &DataDir,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let policies = load(policies, exceptions)?;
    let replayed = crate::gate::archive(data)?
        .replay(&policies, LIMIT)
        .with_context(|| format!("judging the decisions in `{}` anew", data.root().display()))?;
    let without_facts = replayed.iter().filter(|it| it.verdict.is_none()).count();
    let changed: Vec<Change> = replayed.iter().filter_map(change).collect();
    let judged = replayed.len() - without_facts;
    if printer.is_json() {
        let differences = Differences { schema_version: 1, judged, without_facts, changed };
        printer.answer_json(&differences)?;
        return Ok(Exit::Done);
    }
    if judged == 0 {
        printer.note(&format!("there are no decisions in `{}`", data.root().display()));
        return Ok(Exit::Nothing);
    }
    for it in &changed {
        let style = match it.after {
            "deny" | "quarantine" => Style::Bad,
            "warn" => Style::Warn,
            _ => Style::Good,
        };
        let step = format!("{} -> {}", it.before, it.after);
        printer.answer(&format!("{}  {}  {}", it.id, printer.paint(style, &step), it.image))?;
        for (what, rules) in [("no longer", &it.silent), ("now", &it.new)] {
            if !rules.is_empty() {
                let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
                printer.answer(&format!("  {what}: {}", rules.join(", ")))?;
            }
        }
    }
    printer.answer(&format!("{} of {judged} decisions change", changed.len()))?;
    if without_facts > 0 {
        printer.note(&format!("of {without_facts} more the facts are not kept"));
    }
    Ok(Exit::Done)
}

/// What is different; `None` when the same rules say the same.
fn change(replayed: &Replayed) -> Option<Change> {
    let Replayed { decision, verdict } = replayed;
    let after = verdict.as_ref()?;
    let before = &decision.verdict;
    let (spoke, speaks) = (spoken(before), spoken(after));
    if before.decision == after.decision && spoke == speaks {
        return None;
    }
    let image = match &decision.tag {
        Some(tag) => format!("{}:{tag}", decision.repository),
        None => format!("{}@{}", decision.repository, decision.digest),
    };
    Some(Change {
        id: decision.id.clone(),
        image,
        before: before.decision.as_str(),
        after: after.decision.as_str(),
        silent: spoke.difference(&speaks).cloned().collect(),
        new: speaks.difference(&spoke).cloned().collect(),
    })
}

/// The rules that somebody hears of.
fn spoken(verdict: &Verdict) -> BTreeSet<String> {
    let heard = verdict.reasons.iter().filter(|reason| reason.mode != Mode::Audit);
    heard.map(|reason| reason.rule.clone()).collect()
}
