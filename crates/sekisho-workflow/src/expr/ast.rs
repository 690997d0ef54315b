//! The tree of a parsed expression.

use std::fmt;
use std::sync::Arc;

use super::functions::Function;
use super::value::Value;

/// A parsed expression: its text, and a tree no deeper than [`super::MAX_EXPRESSION_DEPTH`].
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub(super) source: Arc<str>,
    pub(super) root: Node,
}

impl Expr {
    /// The text it was parsed from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it calls `success()`, `failure()`, `cancelled()` or `always()`.
    pub fn uses_status_function(&self) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| {
            found |= matches!(&node.kind, Kind::Call { function, .. } if function.is_status());
        });
        found
    }

    /// Whether it names the context `name`, whose case does not matter.
    pub fn uses_context(&self, name: &str) -> bool {
        let mut found = false;
        self.root.visit(&mut |node| {
            found |=
                matches!(&node.kind, Kind::Context { name: n } if n.eq_ignore_ascii_case(name));
        });
        found
    }

    /// The text, if the expression is nothing but a string literal.
    pub fn as_text(&self) -> Option<&str> {
        if let Kind::Literal(Value::String(text)) = &self.root.kind { Some(text) } else { None }
    }

    /// Every property path that starts at context `context` and whose names are literal, as far
    /// as it is literal: `needs.build.outputs.tag` gives `["build", "outputs", "tag"]`. A context
    /// without a literal name gives nothing.
    pub fn paths_of(&self, context: &str) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        self.root.visit(&mut |node| {
            if let Some(path) = node.literal_path(context) {
                paths.push(path);
            }
        });
        // A visit meets `a.b.c` as `a.b.c`, `a.b` and `a`: only the longest is of interest.
        let all = paths.clone();
        paths.retain(|path| !all.iter().any(|o| o.len() > path.len() && o.starts_with(path)));
        paths.retain(|path| !path.is_empty());
        paths
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// One node and where it starts, in characters from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Of the longest way down, itself included.
    pub(super) depth: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Literal(Value),
    Context { name: String },
    Index { base: Box<Node>, index: Box<Node> },
    Wildcard { base: Box<Node> },
    Call { function: Function, arguments: Vec<Node> },
    Not(Box<Node>),
    Compare { operator: Operator, left: Box<Node>, right: Box<Node> },
    And(Vec<Node>),
    Or(Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Node {
    pub(super) fn new(kind: Kind) -> Self {
        let mut node = Self { kind, depth: 0 };
        let mut deepest = 0;
        node.children(&mut |child| deepest = deepest.max(child.depth));
        node.depth = deepest + 1;
        node
    }

    fn children<'a>(&'a self, each: &mut dyn FnMut(&'a Self)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Context { .. } => {}
            Kind::Wildcard { base } | Kind::Not(base) => each(base),
            Kind::Index { base, index } => {
                each(base);
                each(index);
            }
            Kind::Compare { left, right, .. } => {
                each(left);
                each(right);
            }
            Kind::Call { arguments: nodes, .. } | Kind::And(nodes) | Kind::Or(nodes) => {
                nodes.iter().for_each(each);
            }
        }
    }

    fn visit<'a>(&'a self, each: &mut dyn FnMut(&'a Self)) {
        each(self);
        self.children(&mut |child| child.visit(each));
    }

    fn literal_path(&self, context: &str) -> Option<Vec<String>> {
        let mut node = self;
        let mut keys = Vec::new();
        while let Kind::Index { base, index } = &node.kind {
            keys.push(if let Kind::Literal(Value::String(key)) = &index.kind {
                Some(key.clone())
            } else {
                None
            });
            node = base;
        }
        match &node.kind {
            Kind::Context { name } if name.eq_ignore_ascii_case(context) => {
                Some(keys.into_iter().rev().map_while(|key| key).collect())
            }
            _ => None,
        }
    }
}
