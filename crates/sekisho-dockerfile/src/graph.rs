//! Which stages a target needs, in which order.

use std::collections::BTreeMap;

use crate::ast::{Dockerfile, Instruction, MountKind, Span, Stage};
use crate::diagnostic::Diagnostic;
use crate::expand::{Lookup, expand};
use crate::suggest;

/// What a stage is based on, or a `--from` points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// A stage of this file, by its index.
    Stage(usize),
    /// An image, as written, variables expanded.
    Image(String),
    /// What `--build-context` says of this name.
    Context(String),
}

/// Names that `--build-context` gave a meaning, or another stage's.
pub type Contexts = BTreeMap<String, Named>;

/// What a named context is to the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A tree from elsewhere.
    Tree,
    /// A stage of this file, by name or index (`target:`).
    Stage(String),
}

/// The key of a context for a name as it is written: images have several names.
pub fn context_key(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(":latest").unwrap_or(&name);
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name).to_owned()
}

/// One `--from` of a COPY or of a RUN's mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Index into [`Stage::instructions`].
    pub instruction: usize,
    /// What it is.
    pub origin: Origin,
    /// Where it stands.
    pub span: Span,
}

/// A stage with its names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What FROM says.
    pub base: Origin,
    /// `--platform`, expanded.
    pub platform: Option<String>,
    /// What COPY and mounts take from elsewhere, in order.
    pub froms: Vec<From>,
}

impl Node {
    /// The stages that this one needs directly, each with where it says so.
    fn needs<'a>(&'a self, stage: &'a Stage) -> impl Iterator<Item = (usize, Span)> + 'a {
        let base = std::iter::once((&self.base, stage.base.span));
        let froms = self.froms.iter().map(|from| (&from.origin, from.span));
        base.chain(froms).filter_map(|(origin, span)| match origin {
            Origin::Stage(index) => Some((*index, span)),
            Origin::Scratch | Origin::Image(_) | Origin::Context(_) => None,
        })
    }
}

/// The stages that a target needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// One per stage of the file, by index; also those that are not needed.
    pub nodes: Vec<Node>,
    /// The stages that are needed, each after those that it needs; the target last.
    pub order: Vec<usize>,
    /// Index of the target.
    pub target: usize,
}

/// Resolves names, and orders the stages that `target` (a name or index; the last stage without)
/// needs. `globals` are the ARGs before the first FROM: see [`crate::scope::globals`].
///
/// A named context hides a stage, and an image, of its name. FROM means an earlier stage of that
/// name; `--from` any stage of that name, or its index. Of two stages of one name the later is
/// meant. A name that is no stage is an image.
pub fn order(
    file: &Dockerfile,
    target: Option<&str>,
    globals: &Lookup<'_>,
    contexts: &Contexts,
) -> Result<Graph, Diagnostic> {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut bases = Vec::new();
    for stage in &file.stages {
        bases.push(base(file, stage, globals, &names, contexts)?);
        if let Some(name) = &stage.name {
            names.insert(name, stage.index);
        }
    }
    let mut nodes = Vec::new();
    for (stage, (base, platform)) in file.stages.iter().zip(bases) {
        let froms = froms(file, stage, &names, contexts)?;
        nodes.push(Node { base, platform, froms });
    }
    let target = find_target(file, target, &names)?;
    let order = sort(file, &nodes, target)?;
    Ok(Graph { nodes, order, target })
}

fn base(
    file: &Dockerfile,
    stage: &Stage,
    globals: &Lookup<'_>,
    earlier: &BTreeMap<&str, usize>,
    contexts: &Contexts,
) -> Result<(Origin, Option<String>), Diagnostic> {
    let expanded = |word: &crate::Word| {
        expand(&word.raw, file.escape, globals)
            .map_err(|error| file.diagnostic(word.span, error.to_string()))
    };
    let name = expanded(&stage.base)?;
    if name.is_empty() {
        let message = format!("base `{}` is empty", stage.base.raw);
        let hint = "declare its variable with ARG before the first FROM, with a default";
        return Err(file.diagnostic(stage.base.span, message).with_hint(hint));
    }
    let platform = stage.platform.as_ref().map(expanded).transpose()?;
    let context = context(file, &name, stage.base.span, contexts)?;
    // A stage that takes the place of another may be based on what that one hides.
    let context = context.filter(|origin| *origin != Origin::Stage(stage.index));
    let origin = match (context, earlier.get(name.to_ascii_lowercase().as_str())) {
        (Some(origin), _) => origin,
        (None, Some(index)) => Origin::Stage(*index),
        (None, None) if name == "scratch" => Origin::Scratch,
        (None, None) => Origin::Image(name),
    };
    Ok((origin, platform.filter(|platform| !platform.is_empty())))
}

fn froms(
    file: &Dockerfile,
    stage: &Stage,
    names: &BTreeMap<&str, usize>,
    contexts: &Contexts,
) -> Result<Vec<From>, Diagnostic> {
    let mut froms = Vec::new();
    for (index, instruction) in stage.instructions.iter().enumerate() {
        let mut take = |name: &str, span: Span| {
            let origin = origin(file, name, span, names, contexts)?;
            froms.push(From { instruction: index, origin, span });
            Ok(())
        };
        match &instruction.node {
            Instruction::Copy(copy) => {
                if let Some(from) = &copy.from {
                    take(&from.raw, from.span)?;
                }
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    let (MountKind::Bind { from, .. } | MountKind::Cache { from, .. }) =
                        &mount.kind
                    else {
                        continue;
                    };
                    if let Some(from) = from {
                        take(from, mount.span)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(froms)
}

/// What a `--from` means in an instruction that is not of the file itself: an ONBUILD's.
///
/// # Errors
/// As [`order`] says for a `--from` of the file.
pub fn from_outside(
    file: &Dockerfile,
    name: &str,
    span: Span,
    contexts: &Contexts,
) -> Result<Origin, Diagnostic> {
    let named = file.stages.iter().filter_map(|stage| Some((stage.name.as_deref()?, stage.index)));
    origin(file, name, span, &named.collect(), contexts)
}

/// What a named context makes of a name, if there is one.
fn context(
    file: &Dockerfile,
    name: &str,
    span: Span,
    contexts: &Contexts,
) -> Result<Option<Origin>, Diagnostic> {
    let key = context_key(name);
    Ok(match contexts.get(&key) {
        None => None,
        Some(Named::Tree) => Some(Origin::Context(key)),
        Some(Named::Stage(target)) => {
            let named = |stage: &Stage| stage.name.as_deref() == Some(&target.to_ascii_lowercase());
            let index = file.stages.iter().rposition(named).or_else(|| target.parse().ok());
            let index = index.filter(|index| *index < file.stages.len()).ok_or_else(|| {
                let message =
                    format!("the context `{name}` is the stage `{target}`, which is not there");
                file.diagnostic(span, message)
            })?;
            Some(Origin::Stage(index))
        }
    })
}

fn origin(
    file: &Dockerfile,
    name: &str,
    span: Span,
    names: &BTreeMap<&str, usize>,
    contexts: &Contexts,
) -> Result<Origin, Diagnostic> {
    if let Some(origin) = context(file, name, span, contexts)? {
        return Ok(origin);
    }
    if let Some(index) = names.get(name.to_ascii_lowercase().as_str()) {
        return Ok(Origin::Stage(*index));
    }
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        return match name.parse::<usize>() {
            Ok(index) if index < file.stages.len() => Ok(Origin::Stage(index)),
            _ => {
                let message = format!("there is no stage {name}");
                let hint = format!("stages are numbered from 0 to {}", file.stages.len() - 1);
                Err(file.diagnostic(span, message).with_hint(hint))
            }
        };
    }
    if name == "scratch" {
        return Ok(Origin::Scratch);
    }
    // A near miss of a stage's name is taken for an image only when it cannot be a slip: an image
    // has a tag, a digest or a registry.
    let plain = !name.contains(['/', ':', '@', '.']);
    match suggest::nearest(name, names.keys().copied()).filter(|_| plain) {
        Some(near) => Err(file
            .diagnostic(span, format!("there is no stage `{name}`"))
            .with_hint(format!("did you mean `{near}`? For the image write `{name}:latest`"))),
        None => Ok(Origin::Image(name.to_owned())),
    }
}

fn find_target(
    file: &Dockerfile,
    target: Option<&str>,
    names: &BTreeMap<&str, usize>,
) -> Result<usize, Diagnostic> {
    let last = file.stages.len().saturating_sub(1);
    let Some(target) = target else { return Ok(last) };
    if let Some(index) = names.get(target.to_ascii_lowercase().as_str()) {
        return Ok(*index);
    }
    if let Some(index) = target.parse().ok().filter(|index| *index <= last) {
        return Ok(index);
    }
    let span = file.stages.first().map(|stage| stage.span).unwrap_or_default();
    let hint = match suggest::nearest(target, names.keys().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "no stage of this file has a name".to_owned(),
        None => {
            let known: Vec<&str> = names.keys().copied().collect();
            format!("stages are `{}`", known.join("`, `"))
        }
    };
    Err(file.diagnostic(span, format!("there is no target stage `{target}`")).with_hint(hint))
}

/// Depth first, with an explicit stack: a file may have thousands of stages.
fn sort(file: &Dockerfile, nodes: &[Node], target: usize) -> Result<Vec<usize>, Diagnostic> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; nodes.len()];
    let mut order = Vec::new();
    let mut stack = vec![(target, 0)];
    marks[target] = Mark::Open;
    while let Some((index, seen)) = stack.pop() {
        let stage = &file.stages[index];
        let Some((need, span)) = nodes[index].needs(stage).nth(seen) else {
            marks[index] = Mark::Done;
            order.push(index);
            continue;
        };
        stack.push((index, seen + 1));
        match marks[need] {
            Mark::Done => {}
            Mark::Open => {
                let name = match &file.stages[need].name {
                    Some(name) => format!("`{name}`"),
                    None => need.to_string(),
                };
                let message = format!("stage {name} needs itself");
                return Err(file.diagnostic(span, message));
            }
            Mark::New => {
                marks[need] = Mark::Open;
                stack.push((need, 0));
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests;
