//! Which stages a target needs.

use crate::ast::{Dockerfile, Span};
use crate::diagnostic::Diagnostic;
use crate::expand::Lookup;

/// What a stage is based on, or a `--from` points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nothing.
    Scratch,
    /// A stage of this file, by its index.
    Stage(usize),
    /// An image, as written, variables expanded.
    Image(String),
}

/// One `--from` of a COPY or of a RUN's mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Index into [`crate::Stage::instructions`].
    pub instruction: usize,
    /// As written.
    pub name: String,
    /// What it is.
    pub origin: Origin,
    /// Where it stands.
    pub span: Span,
}

/// A stage with its names resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Index into [`Dockerfile::stages`].
    pub stage: usize,
    /// What FROM says.
    pub base: Origin,
    /// `--platform`, expanded.
    pub platform: Option<String>,
    /// What COPY and mounts take from elsewhere, in order.
    pub froms: Vec<From>,
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
pub fn order(
    file: &Dockerfile,
    target: Option<&str>,
    globals: &Lookup<'_>,
) -> Result<Graph, Diagnostic> {
    let _ = (file, target, globals);
    unimplemented!("the graph")
}
