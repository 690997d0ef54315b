//! Rules about instructions and their arguments.

use std::collections::BTreeMap;

use super::{Findings, Subject};
use crate::ast::{Command, Instruction, Source, Span, Spanned, Word};
use crate::expand::expand_words;
use crate::parse::quoted_words;

/// The name of an instruction as written, and what follows it.
fn keyword(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

fn each<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Spanned<Instruction>> {
    subject.file.stages.iter().flat_map(|stage| &stage.instructions)
}

pub(super) fn no_empty_continuation(subject: &Subject<'_>, findings: &mut Findings) {
    for span in &subject.file.empty_continuations {
        findings.add(*span, "Empty continuation line");
    }
}

pub(super) fn consistent_instruction_casing(subject: &Subject<'_>, findings: &mut Findings) {
    let mut names: Vec<(&str, Span)> = Vec::new();
    for stage in &subject.file.stages {
        names.push((keyword(&stage.text).0, stage.span));
        let inner = stage.instructions.iter();
        names.extend(inner.map(|instruction| (keyword(&instruction.text).0, instruction.span)));
    }
    let is = |name: &str, of: fn(&str) -> String| of(name) == name;
    let (lower, upper) = (str::to_ascii_lowercase as fn(&str) -> String, str::to_ascii_uppercase);
    let lowers = names.iter().filter(|(name, _)| is(name, lower)).count();
    let uppers = names.iter().filter(|(name, _)| is(name, upper)).count();
    let (majority, good): (_, fn(&str) -> String) =
        if lowers > uppers { ("lowercase", lower) } else { ("uppercase", upper) };
    for (name, span) in names.into_iter().filter(|(name, _)| !is(name, good)) {
        let message =
            format!("Command '{name}' should match the case of the command majority ({majority})");
        findings.add(span, message);
    }
}

pub(super) fn json_args_recommended(subject: &Subject<'_>, findings: &mut Findings) {
    let mut shells: BTreeMap<usize, bool> = BTreeMap::new();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for stage in &subject.file.stages {
        let base = names.get(stage.base.raw.to_ascii_lowercase().as_str());
        // Who says which shell it is knows that one is there.
        let mut shell = base.is_some_and(|base| shells.get(base) == Some(&true));
        for instruction in &stage.instructions {
            let command = match &instruction.node {
                Instruction::Shell(_) => {
                    shell = true;
                    continue;
                }
                Instruction::Cmd(command) | Instruction::Entrypoint(command) => command,
                _ => continue,
            };
            if matches!(command, Command::Shell { .. }) && !shell {
                let name = instruction.node.name();
                let message = format!(
                    "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                );
                findings.add(instruction.span, message);
            }
        }
        shells.insert(stage.index, shell);
        if let Some(name) = &stage.name {
            names.insert(name, stage.index);
        }
    }
}

pub(super) fn maintainer_deprecated(subject: &Subject<'_>, findings: &mut Findings) {
    for instruction in each(subject) {
        if matches!(instruction.node, Instruction::Maintainer(_)) {
            let message = "Maintainer instruction is deprecated in favor of using label";
            findings.add(instruction.span, message);
        }
    }
}

pub(super) fn workdir_relative_path(subject: &Subject<'_>, findings: &mut Findings) {
    let mut settled: BTreeMap<&str, bool> = BTreeMap::new();
    for stage in &subject.file.stages {
        let base = stage.base.raw.to_ascii_lowercase();
        let mut is_set = settled.get(base.as_str()).copied().unwrap_or(false);
        for instruction in &stage.instructions {
            let Instruction::Workdir(word) = &instruction.node else { continue };
            // What a variable holds is not known here.
            if !is_set && !word.raw.starts_with(['/', '$', '"', '\'']) {
                let message = format!(
                    "Relative workdir \"{}\" can have unexpected results if the base image changes",
                    word.raw
                );
                findings.add(instruction.span, message);
            }
            is_set = true;
        }
        if let Some(name) = &stage.name {
            settled.insert(name, is_set);
        }
    }
}

pub(super) fn multiple_instructions(subject: &Subject<'_>, findings: &mut Findings) {
    for stage in &subject.file.stages {
        let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
        for instruction in &stage.instructions {
            let name = instruction.node.name();
            if !matches!(name, "CMD" | "ENTRYPOINT" | "HEALTHCHECK") {
                continue;
            }
            // The earlier one is what has no effect.
            if let Some(earlier) = seen.insert(name, instruction.span) {
                let message = format!(
                    "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
                );
                findings.add(earlier, message);
            }
        }
    }
}

pub(super) fn legacy_key_value_format(subject: &Subject<'_>, findings: &mut Findings) {
    for instruction in each(subject) {
        if !matches!(instruction.node, Instruction::Env(_) | Instruction::Label(_)) {
            continue;
        }
        let (_, rest) = keyword(&instruction.text);
        let first = quoted_words(rest, subject.file.escape).into_iter().next();
        if first.is_some_and(|word| !word.contains('=')) {
            let name = instruction.node.name();
            let message = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            findings.add(instruction.span, message);
        }
    }
}

pub(super) fn copy_ignored_file(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(ignore) = subject.ignore.filter(|ignore| !ignore.brings_back()) else { return };
    for instruction in each(subject) {
        let (name, sources) = match &instruction.node {
            Instruction::Copy(copy) if copy.from.is_none() => ("Copy", &copy.sources),
            Instruction::Add(add) => ("Add", &add.sources),
            _ => continue,
        };
        for source in sources {
            let Source::Path(word) = source else { continue };
            let path = word.raw.trim_start_matches("./").trim_matches('/');
            let plain =
                !path.is_empty() && path != "." && !path.contains(['$', '*', '?', '[', ':']);
            if plain && ignore.is_ignored(path) {
                let message = format!(
                    "Attempting to {name} file \"{path}\" that is excluded by .dockerignore"
                );
                findings.add(instruction.span, message);
            }
        }
    }
}

/// Ports as written, where no variable hides them.
fn ports<'a>(subject: &Subject<'a>) -> Vec<(Span, String)> {
    let mut all = Vec::new();
    for instruction in each(subject) {
        let Instruction::Expose(words) = &instruction.node else { continue };
        for Word { raw, .. } in words.iter().filter(|word| !word.raw.contains('$')) {
            let ports = expand_words(raw, subject.file.escape, &|_| None).unwrap_or_default();
            all.extend(ports.into_iter().map(|port| (instruction.span, port)));
        }
    }
    all
}

pub(super) fn expose_proto_casing(subject: &Subject<'_>, findings: &mut Findings) {
    for (span, port) in ports(subject) {
        let protocol = port.split_once('/').map_or("", |(_, protocol)| protocol);
        if protocol != protocol.to_ascii_lowercase() {
            let message =
                format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
            findings.add(span, message);
        }
    }
}

pub(super) fn expose_invalid_format(subject: &Subject<'_>, findings: &mut Findings) {
    for (span, port) in ports(subject) {
        if port.contains(':') {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
            );
            findings.add(span, message);
        }
    }
}
