//! Rules about variables: declared, defined, fit to be an image's name, fit to be seen.

use std::collections::{BTreeMap, BTreeSet};

use sekisho_types::ImageReference;

use super::{Findings, Subject};
use crate::ast::{Instruction, Source, Span, Spanned, Word};
use crate::expand::{Lookup, expand, unset};
use crate::{scope, suggest};

/// Words of a variable's name that say that it is not for everybody.
const SECRET_WORDS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words that say that it is, all the same.
const OPEN_WORDS: [&str; 3] = ["public", "file", "version"];

/// Arguments that exist without being declared before FROM.
const PLATFORM: [&str; 9] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

pub(super) fn undefined_arg_in_from(subject: &Subject<'_>, findings: &mut Findings) {
    let declared = subject.file.global_args.iter().flat_map(|args| &args.node);
    let declared: Vec<&str> = declared.map(|arg| arg.name.as_str()).chain(PLATFORM).collect();
    let lookup: &Lookup<'_> = &|name| {
        let value = subject.globals.get(name).cloned();
        value.or_else(|| declared.contains(&name).then(String::new))
    };
    for stage in &subject.file.stages {
        for word in std::iter::once(&stage.base).chain(&stage.platform) {
            for name in unset(&word.raw, subject.file.escape, lookup) {
                let near = suggest::nearest(&name, declared.iter().copied());
                let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
                findings.add(stage.span, format!("FROM argument '{name}' is not declared{near}"));
            }
        }
    }
}

pub(super) fn invalid_default_arg_in_from(subject: &Subject<'_>, findings: &mut Findings) {
    let platform: BTreeMap<String, String> =
        PLATFORM.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
    let Ok(defaults) = scope::globals(subject.file, &BTreeMap::new(), &platform) else { return };
    for stage in &subject.file.stages {
        let lookup: &Lookup<'_> = &|name| defaults.get(name).cloned();
        let Ok(name) = expand(&stage.base.raw, subject.file.escape, lookup) else { return };
        if stage.base.raw.contains('$') && name.parse::<ImageReference>().is_err() {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base.raw
            );
            findings.add(stage.span, message);
        }
    }
}

/// What a stage knows of variables.
#[derive(Clone, Default)]
struct Known {
    names: BTreeSet<String>,
    /// Every variable of the base is among them.
    whole: bool,
}

/// The words of an instruction in which variables count.
fn words(instruction: &Instruction) -> Vec<&Word> {
    fn paths(sources: &[Source]) -> impl Iterator<Item = &Word> {
        sources.iter().filter_map(|source| match source {
            Source::Path(word) => Some(word),
            Source::Heredoc(_) => None,
        })
    }
    match instruction {
        Instruction::Add(add) => {
            let flags = [&add.chown, &add.chmod, &add.checksum].into_iter().flatten();
            paths(&add.sources).chain([&add.destination]).chain(flags).chain(&add.exclude).collect()
        }
        Instruction::Copy(copy) => {
            let flags = [&copy.chown, &copy.chmod].into_iter().flatten();
            let places = paths(&copy.sources).chain([&copy.destination]);
            places.chain(flags).chain(&copy.exclude).collect()
        }
        Instruction::Arg(args) => args.iter().filter_map(|arg| arg.default.as_ref()).collect(),
        Instruction::Env(pairs) | Instruction::Label(pairs) => {
            pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).collect()
        }
        Instruction::Expose(words) | Instruction::Volume(words) => words.iter().collect(),
        Instruction::Stopsignal(word) | Instruction::User(word) | Instruction::Workdir(word) => {
            vec![word]
        }
        _ => Vec::new(),
    }
}

pub(super) fn undefined_var(subject: &Subject<'_>, findings: &mut Findings) {
    let escape = subject.file.escape;
    let mut stages: BTreeMap<String, Known> = BTreeMap::new();
    for stage in &subject.file.stages {
        let lookup: &Lookup<'_> = &|name| subject.globals.get(name).cloned();
        let base = expand(&stage.base.raw, escape, lookup).unwrap_or_default();
        let mut known = match stages.get(&base.to_ascii_lowercase()) {
            Some(known) => known.clone(),
            None => {
                let env = subject.base_env.get(&base);
                let names = env.into_iter().flatten().filter_map(|one| one.split('=').next());
                let names = names.map(str::to_owned).collect();
                Known { names, whole: base == "scratch" || env.is_some() }
            }
        };
        known.names.insert("PATH".to_owned());
        for Spanned { node, span, .. } in &stage.instructions {
            // An ARG sees its own names as it goes; an ENV sees what was before it.
            if let Instruction::Arg(args) = node {
                for arg in args {
                    if let Some(default) = &arg.default {
                        tell(&known, default, escape, *span, findings);
                    }
                    known.names.insert(arg.name.clone());
                }
                continue;
            }
            for word in words(node) {
                tell(&known, word, escape, *span, findings);
            }
            if let Instruction::Env(pairs) = node {
                known.names.extend(pairs.iter().map(|pair| pair.key.raw.clone()));
            }
        }
        if let Some(name) = &stage.name {
            stages.insert(name.clone(), known);
        }
    }
}

fn tell(known: &Known, word: &Word, escape: char, span: Span, findings: &mut Findings) {
    let lookup: &Lookup<'_> = &|name| known.names.contains(name).then(|| "x".to_owned());
    for name in unset(&word.raw, escape, lookup) {
        let near = suggest::nearest(&name, known.names.iter().map(String::as_str));
        if near.is_none() && !known.whole {
            continue;
        }
        let near = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
        findings.add(span, format!("Usage of undefined variable '${name}'{near}"));
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    has(&SECRET_WORDS) && !has(&OPEN_WORDS)
}

pub(super) fn secrets_used_in_arg_or_env(subject: &Subject<'_>, findings: &mut Findings) {
    let mut check = |instruction: &str, name: &str, span: Span| {
        if is_secret(name) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")"
            );
            findings.add(span, message);
        }
    };
    for args in &subject.file.global_args {
        args.node.iter().for_each(|arg| check("ARG", &arg.name, args.span));
    }
    for Spanned { node, span, .. } in
        subject.file.stages.iter().flat_map(|stage| &stage.instructions)
    {
        match node {
            Instruction::Arg(args) => {
                args.iter().for_each(|arg| check("ARG", &arg.name, *span));
            }
            Instruction::Env(pairs) => {
                pairs.iter().for_each(|pair| check("ENV", &pair.key.raw, *span));
            }
            _ => {}
        }
    }
}
