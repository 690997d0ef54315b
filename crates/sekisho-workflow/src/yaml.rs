//! YAML with places: a tree of nodes that know their line and column.
//!
//! The reader accepts what GitHub accepts: one document, the YAML 1.2 core scalars (so `on` is
//! text), anchors and aliases, no merge keys. A foreign file cannot exhaust the reader: its size,
//! depth and the nodes that aliases expand to are limited.

mod reader;
mod scalar;

use crate::diagnostic::Position;

pub use reader::{YamlError, parse};

/// Largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Deepest nesting of sequences and mappings.
pub const MAX_DEPTH: usize = 50;

/// Most nodes, aliases counted as often as they are used: an alias of an alias of an alias
/// multiplies. GitHub's bound on parse events, which a file of [`MAX_FILE_BYTES`] cannot reach
/// without aliases.
pub const MAX_NODES: usize = 200_000;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: NodeValue,
    /// Its first character; of a block scalar, that of its first line with text.
    pub at: Position,
    /// How it is written, if it is text.
    pub style: Style,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Decimal, hexadecimal, octal, `.inf` or `.nan`.
    Number(f64),
    /// Any other text, and all quoted text.
    String(String),
    /// Items in order.
    Sequence(Vec<Node>),
    /// Keys, which are text, and values in order. No key comes twice.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// As written; a number or a boolean is a key as its text.
    pub text: String,
    /// Its first character.
    pub at: Position,
}

/// How text is written, as far as it matters for finding a place within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes on one line.
    Plain,
    /// In quotes, on one line, without escapes.
    Quoted,
    /// `|`: its lines are the file's lines.
    Literal,
    /// Anything else: places within it are not known.
    Opaque,
}

impl Node {
    /// The place of character `offset` (from 0) of this node's text; its own where not known.
    pub fn position_of(&self, offset: usize) -> Position {
        let NodeValue::String(text) = &self.value else { return self.at };
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        match self.style {
            Style::Plain => Position { column: self.at.column.saturating_add(offset), ..self.at },
            Style::Quoted => {
                Position { column: self.at.column.saturating_add(offset + 1), ..self.at }
            }
            Style::Literal => {
                let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                // The node's place is in the first line with text, at its indent.
                let empty = text.chars().take_while(|c| *c == '\n').count();
                let before: Vec<char> = text.chars().take(offset as usize).collect();
                let line = before.iter().filter(|c| **c == '\n').count();
                let column = before.iter().rev().take_while(|c| **c != '\n').count();
                Position {
                    line: (self.at.line + small(line)).saturating_sub(small(empty)),
                    column: self.at.column.saturating_add(small(column)),
                }
            }
            Style::Opaque => self.at,
        }
    }

    /// What kind of value this is, in the words of error messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            NodeValue::Null => "nothing",
            NodeValue::Bool(_) => "a boolean",
            NodeValue::Number(_) => "a number",
            NodeValue::String(_) => "a string",
            NodeValue::Sequence(_) => "a sequence",
            NodeValue::Mapping(_) => "a mapping",
        }
    }
}

#[cfg(test)]
mod tests;
