//! Rules about FROM.

use std::collections::BTreeSet;

use super::{Findings, Subject};
use crate::ast::{Instruction, Span, Stage};
use crate::expand::expand;

/// Names that mean something else in `--from`.
const RESERVED: [&str; 2] = ["context", "scratch"];

/// `FROM`, `AS` and the name, as written.
fn words(stage: &Stage) -> Option<(&str, &str, &str)> {
    let mut words = stage.text.split_whitespace();
    let from = words.next()?;
    let rest: Vec<&str> = words.filter(|word| !word.starts_with("--")).collect();
    match rest.as_slice() {
        [_, keyword, name] => Some((from, keyword, name)),
        _ => None,
    }
}

pub(super) fn stage_name_casing(subject: &Subject<'_>, findings: &mut Findings) {
    for stage in &subject.file.stages {
        if let Some((_, _, name)) = words(stage)
            && name != name.to_ascii_lowercase()
        {
            findings.add(stage.span, format!("Stage name '{name}' should be lowercase"));
        }
    }
}

pub(super) fn from_as_casing(subject: &Subject<'_>, findings: &mut Findings) {
    for stage in &subject.file.stages {
        let Some((from, keyword, _)) = words(stage) else { continue };
        let same = match from == from.to_ascii_lowercase() {
            true => keyword == keyword.to_ascii_lowercase(),
            false => keyword == keyword.to_ascii_uppercase(),
        };
        // Neither one nor the other is what another rule is about.
        let consistent = from == from.to_ascii_lowercase() || from == from.to_ascii_uppercase();
        if consistent && !same {
            let message = format!("'{keyword}' and '{from}' keywords' casing do not match");
            findings.add(stage.span, message);
        }
    }
}

pub(super) fn duplicate_stage_name(subject: &Subject<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for stage in &subject.file.stages {
        if let Some(name) = &stage.name
            && !seen.insert(name)
        {
            let message = format!("Duplicate stage name \"{name}\", stage names should be unique");
            findings.add(stage.span, message);
        }
    }
}

pub(super) fn reserved_stage_name(subject: &Subject<'_>, findings: &mut Findings) {
    for stage in &subject.file.stages {
        if let Some(name) = stage.name.as_deref().filter(|name| RESERVED.contains(name)) {
            let message =
                format!("Stage name should not use the same name as reserved stage \"{name}\"");
            findings.add(stage.span, message);
        }
    }
}

pub(super) fn redundant_target_platform(subject: &Subject<'_>, findings: &mut Findings) {
    for stage in &subject.file.stages {
        let Some(platform) = &stage.platform else { continue };
        if matches!(platform.raw.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                platform.raw
            );
            findings.add(stage.span, message);
        }
    }
}

pub(super) fn constant_platform(subject: &Subject<'_>, findings: &mut Findings) {
    for stage in &subject.file.stages {
        let Some(platform) = stage.platform.as_ref().filter(|word| !word.raw.contains('$')) else {
            continue;
        };
        let Ok(value) = expand(&platform.raw, subject.file.escape, &|_| None) else { continue };
        // A stage that says in its name what it is for is meant to be.
        let name = stage.name.as_deref().unwrap_or_default();
        let named = value.split('/').take(2).any(|part| !part.is_empty() && name.contains(part));
        if !named {
            let message = format!("FROM --platform flag should not use constant value \"{value}\"");
            findings.add(stage.span, message);
        }
    }
}

/// A comment right above a FROM with a name, or an ARG, should describe it.
pub(super) fn definition_description(subject: &Subject<'_>, findings: &mut Findings) {
    let lines: Vec<&str> = subject.file.source.lines().collect();
    let mut check = |span: Span, instruction: &str, names: &[&str]| {
        let above = span.line.checked_sub(2).and_then(|at| lines.get(at as usize));
        let Some(comment) = above.and_then(|line| line.trim().strip_prefix('#')) else { return };
        let first = comment.trim().split(' ').next().unwrap_or_default();
        // Directives and frames are no descriptions.
        let meant = comment.starts_with(' ') && !comment.contains('=') && !first.is_empty();
        if meant && !names.contains(&first) {
            let name = names.first().copied().unwrap_or_default();
            findings.add(
                span,
                format!(
                    "Comment for {instruction} should follow the format: `# {name} <description>`"
                ),
            );
        }
    };
    for args in &subject.file.global_args {
        let names: Vec<&str> = args.node.iter().map(|arg| arg.name.as_str()).collect();
        check(args.span, "ARG", &names);
    }
    for stage in &subject.file.stages {
        if let Some(name) = &stage.name {
            check(stage.span, "FROM", &[name]);
        }
        for instruction in &stage.instructions {
            if let Instruction::Arg(args) = &instruction.node {
                let names: Vec<&str> = args.iter().map(|arg| arg.name.as_str()).collect();
                check(instruction.span, "ARG", &names);
            }
        }
    }
}
