//! `--call`: what can be known of a build without building.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use clap::ValueEnum;
use sekisho_builder::{Checked, Silent};
use sekisho_dockerfile::graph;
use sekisho_dockerfile::lint::Finding;
use sekisho_dockerfile::outline::{self, Outline, Target};
use sekisho_types::Hint as _;
use serde_json::{Value, json};

use super::{BuildArgs, with_hint};
use crate::exit::Exit;
use crate::printer::{Printer, Style};
use crate::settings::DataDir;

/// What to do with a Dockerfile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Call {
    /// Build the image
    #[default]
    Build,
    /// Show what is dubious; exit code 1 when there is something
    Check,
    /// Show the arguments, secrets and agents that the target takes
    Outline,
    /// Show the stages that can be built
    Targets,
}

/// Reads the Dockerfile, and says what was asked for. Only a context of elsewhere is kept in the cache folder.
pub(super) async fn run(
    args: &BuildArgs,
    data: &DataDir,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let (mut options, _kept) = super::subject(args).await?;
    if options.context.is_some() {
        super::links(args, data, &mut options)?;
    }
    let (target, contexts) = (options.target.clone(), options.context_names());
    let checked = sekisho_builder::check(options, Arc::new(Silent)).await.map_err(with_hint)?;
    match args.call {
        Call::Build | Call::Check => check(&checked, printer),
        Call::Targets => {
            targets(&outline::targets(&checked.file, &checked.globals), printer)?;
            Ok(Exit::Done)
        }
        Call::Outline => {
            let lookup = |name: &str| checked.globals.get(name).cloned();
            let order = graph::order(&checked.file, target.as_deref(), &lookup, &contexts);
            let order = order.map_err(|error| with_hint(error.into()))?.order;
            show(&outline::outline(&checked.file, &order, &checked.globals), printer)?;
            Ok(Exit::Done)
        }
    }
}

fn check(checked: &Checked, printer: Printer) -> anyhow::Result<Exit> {
    let exit = if checked.findings.is_empty() { Exit::Done } else { Exit::Failed };
    if printer.is_json() {
        let warnings: Vec<Value> =
            checked.findings.iter().map(|finding| warning(finding, checked)).collect();
        printer.answer_json(&json!({ "schemaVersion": 1, "warnings": warnings }))?;
        return Ok(exit);
    }
    for finding in &checked.findings {
        let label = printer.paint(Style::Warn, "warning:");
        printer.answer(&format!("{label} {}", finding.diagnostic(&checked.file)))?;
        if let Some(rule) = finding.rule() {
            printer.answer(&printer.paint(Style::Dim, &format!("  see {}", rule.url())))?;
        }
    }
    let told = match checked.findings.len() {
        0 => printer.paint(Style::Good, "no findings"),
        1 => printer.paint(Style::Warn, "1 finding"),
        count => printer.paint(Style::Warn, &format!("{count} findings")),
    };
    printer.note(&told);
    Ok(exit)
}

fn warning(finding: &Finding, checked: &Checked) -> Value {
    let rule = finding.rule();
    let diagnostic = finding.diagnostic(&checked.file);
    json!({
        "ruleName": finding.rule,
        "description": rule.map(|rule| rule.description),
        "url": rule.map(sekisho_dockerfile::lint::Rule::url),
        "detail": finding.message,
        "location": {
            "file": diagnostic.file,
            "line": finding.span.line,
            "column": finding.span.column,
            "endLine": finding.span.end_line,
        },
        "hint": diagnostic.hint(),
    })
}

/// Columns that line up, the first line a heading.
fn table(rows: &[Vec<String>], printer: Printer) -> anyhow::Result<()> {
    let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
    for (at, cell) in rows.iter().flat_map(|row| row.iter().enumerate()) {
        let width = widths.entry(at).or_default();
        *width = (*width).max(cell.chars().count());
    }
    for row in rows {
        let cells = row.iter().enumerate().map(|(at, cell)| {
            let width = widths.get(&at).copied().unwrap_or_default();
            format!("{cell:width$}")
        });
        printer.answer(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn row(cells: [&str; 3]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn targets(targets: &[Target], printer: Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        let all: Vec<Value> = targets
            .iter()
            .map(|target| {
                json!({
                    "name": target.name, "description": target.description, "base": target.base,
                    "platform": target.platform, "default": target.default, "line": target.line,
                })
            })
            .collect();
        return printer.answer_json(&json!({ "schemaVersion": 1, "targets": all }));
    }
    let mut rows = vec![row(["TARGET", "BASE", "DESCRIPTION"])];
    for target in targets {
        let name = if target.default { "{} (default)" } else { "{}" }.replace("{}", &target.name);
        rows.push(row([&name, &target.base, target.description.as_deref().unwrap_or_default()]));
    }
    table(&rows, printer)
}

fn show(outline: &Outline, printer: Printer) -> anyhow::Result<()> {
    if printer.is_json() {
        let wanted = |all: &[outline::Wanted]| -> Vec<Value> {
            all.iter()
                .map(|one| json!({ "id": one.id, "required": one.required, "line": one.line }))
                .collect()
        };
        let arguments: Vec<Value> = outline
            .arguments
            .iter()
            .map(|one| {
                json!({
                    "name": one.name, "value": one.value, "description": one.description,
                    "line": one.line,
                })
            })
            .collect();
        return printer.answer_json(&json!({
            "schemaVersion": 1, "arguments": arguments,
            "secrets": wanted(&outline.secrets), "ssh": wanted(&outline.agents),
        }));
    }
    let mut rows = vec![row(["ARGUMENT", "VALUE", "DESCRIPTION"])];
    for one in &outline.arguments {
        let (value, description) = (one.value.as_deref(), one.description.as_deref());
        rows.push(row([&one.name, value.unwrap_or_default(), description.unwrap_or_default()]));
    }
    for (kind, all) in [("SECRET", &outline.secrets), ("SSH AGENT", &outline.agents)] {
        if !all.is_empty() {
            rows.push(row(["", "", ""]));
            rows.push(row([kind, "", ""]));
        }
        for one in all {
            rows.push(row([&one.id, if one.required { "required" } else { "optional" }, ""]));
        }
    }
    table(&rows, printer).context("writing the answer")
}
