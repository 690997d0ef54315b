//! What can be given to a build: its targets, and a target's arguments, secrets and agents.
//!
//! Comments of the form `# name description` right above an ARG or FROM describe it, as in BuildKit's
//! `--call=outline` and `--call=targets`.

use std::collections::BTreeMap;

use crate::ast::{Dockerfile, Instruction, MountKind, Span, Stage};
use crate::expand::{Lookup, expand};

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, or its number.
    pub name: String,
    /// The comment above it.
    pub description: Option<String>,
    /// What FROM says, variables expanded.
    pub base: String,
    /// `--platform`, as written.
    pub platform: Option<String>,
    /// It is what is built without a target.
    pub default: bool,
    /// From 1.
    pub line: u32,
}

/// A variable that a build can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// The comment above it.
    pub description: Option<String>,
    /// Its value when none is given, variables expanded.
    pub value: Option<String>,
    /// From 1.
    pub line: u32,
}

/// A secret or agent that a RUN wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub id: String,
    /// The build fails without.
    pub required: bool,
    /// From 1.
    pub line: u32,
}

/// What a target takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// In order of their first declaration.
    pub arguments: Vec<Argument>,
    /// For `RUN --mount=type=secret`.
    pub secrets: Vec<Wanted>,
    /// For `RUN --mount=type=ssh`.
    pub agents: Vec<Wanted>,
}

/// All stages, in order.
pub fn targets(file: &Dockerfile, globals: &BTreeMap<String, String>) -> Vec<Target> {
    let lookup: &Lookup<'_> = &|name| globals.get(name).cloned();
    let last = file.stages.len().saturating_sub(1);
    let target = |stage: &Stage| Target {
        name: stage.name.clone().unwrap_or_else(|| stage.index.to_string()),
        description: stage.name.as_deref().and_then(|name| described(file, stage.span, name)),
        base: expand(&stage.base.raw, file.escape, lookup).unwrap_or_default(),
        platform: stage.platform.as_ref().map(|word| word.raw.clone()),
        default: stage.index == last,
        line: stage.span.line,
    };
    file.stages.iter().map(target).collect()
}

/// What the stages of `order` (see [`crate::graph::order`]) take.
pub fn outline(file: &Dockerfile, order: &[usize], globals: &BTreeMap<String, String>) -> Outline {
    let mut outline = Outline::default();
    let lookup: &Lookup<'_> = &|name| globals.get(name).cloned();
    let add = |arguments: &mut Vec<Argument>, args: &[crate::Arg], span: Span, used: bool| {
        for arg in args {
            let known = arguments.iter().any(|known| known.name == arg.name);
            let default = arg.default.as_ref();
            let value = default.and_then(|word| expand(&word.raw, file.escape, lookup).ok());
            let value = value.or_else(|| globals.get(&arg.name).cloned());
            // A bare ARG in a stage only brings in the global one, which is told already.
            if !known && (used || value.is_some()) {
                let (name, line) = (arg.name.clone(), span.line);
                let description = described(file, span, &name);
                arguments.push(Argument { name, description, value, line });
            }
        }
    };
    for args in &file.global_args {
        add(&mut outline.arguments, &args.node, args.span, true);
    }
    let mut stages: Vec<&Stage> = order.iter().filter_map(|at| file.stages.get(*at)).collect();
    stages.sort_by_key(|stage| stage.index);
    for instruction in stages.iter().flat_map(|stage| &stage.instructions) {
        let line = instruction.span.line;
        match &instruction.node {
            Instruction::Arg(args) => {
                add(&mut outline.arguments, args, instruction.span, true);
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    let (list, id, required) = match &mount.kind {
                        MountKind::Secret { id, env, required, .. } => {
                            let last = mount.target.as_deref().and_then(|to| to.rsplit('/').next());
                            let id = id.as_deref().or(last).or(env.as_deref());
                            (&mut outline.secrets, id.unwrap_or_default(), *required)
                        }
                        MountKind::Ssh { id, required, .. } => {
                            (&mut outline.agents, id.as_deref().unwrap_or("default"), *required)
                        }
                        _ => continue,
                    };
                    match list.iter_mut().find(|known| known.id == id) {
                        Some(known) => known.required |= required,
                        None => list.push(Wanted { id: id.to_owned(), required, line }),
                    }
                }
            }
            _ => {}
        }
    }
    outline
}

/// `# name description` on the line above.
fn described(file: &Dockerfile, span: Span, name: &str) -> Option<String> {
    let above = span.line.checked_sub(2)?;
    let comment = file.source.lines().nth(above as usize)?.trim().strip_prefix('#')?.trim();
    let (first, rest) = comment.split_once(' ')?;
    (first == name).then(|| rest.trim().to_owned()).filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{graph, parse, scope};

    #[test]
    fn targets_and_what_they_take() {
        let text = "# BASE the image to start from\nARG BASE=debian:12\n\
            FROM $BASE AS build\n# MODE debug or release\nARG MODE=release OTHER\n\
            RUN --mount=type=secret,id=npm,required=true --mount=type=ssh a\n\
            # app what ships\nFROM scratch AS app\nARG BASE\nCOPY --from=build /a /a\n\
            FROM build\nRUN --mount=type=secret,target=/run/x b\n";
        let file = parse("D", text).unwrap();
        let globals = scope::globals(&file, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        let targets = targets(&file, &globals);
        let names: Vec<_> = targets.iter().map(|one| (one.name.as_str(), one.default)).collect();
        assert_eq!(names, [("build", false), ("app", false), ("2", true)]);
        assert_eq!(targets[0].base, "debian:12");
        assert_eq!(targets[1].description.as_deref(), Some("what ships"));
        let lookup = |name: &str| globals.get(name).cloned();
        let none = graph::Contexts::new();
        let order = graph::order(&file, Some("app"), &lookup, &none).unwrap().order;
        let outline = outline(&file, &order, &globals);
        let arguments: Vec<_> = outline
            .arguments
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_deref(), one.description.as_deref()))
            .collect();
        assert_eq!(
            arguments,
            [
                ("BASE", Some("debian:12"), Some("the image to start from")),
                ("MODE", Some("release"), Some("debug or release")),
                ("OTHER", None, None),
            ]
        );
        let npm = Wanted { id: "npm".to_owned(), required: true, line: 6 };
        assert_eq!(outline.secrets, [npm], "of the target's stages only");
        assert_eq!(outline.agents[0].id, "default");
    }
}
