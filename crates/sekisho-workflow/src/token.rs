//! Template tokens: YAML values that may hold expressions, as a job message carries them.
//!
//! On the wire a token is a bare JSON scalar, or an object with a numeric `type`:
//!
//! ```text
//! 0 string lit · 1 sequence seq:[…] · 2 mapping map:[{"Key":…,"Value":…}…] · 3 expression expr
//! 4 insert directive:"insert" · 5 boolean bool · 6 number num · 7 null
//! ```
//!
//! each with optional `file` (1-based index into the job's file table), `line` and `col`.

mod eval;
mod scalar;
mod serde_impl;

use crate::diagnostic::Position;

pub use eval::{EvalError, eval, eval_bool, eval_map, eval_number, eval_string};
pub use scalar::{TokenError, from_text, from_yaml};

/// A YAML value that may hold expressions, and where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Which file, as a 1-based index into the job's file table.
    pub file: Option<u32>,
    /// Where in the file.
    pub at: Option<Position>,
}

/// What a token is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum TokenKind {
    /// No value.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(f64),
    /// Text without expressions.
    String(String),
    /// Items in order.
    Sequence(Vec<Token>),
    /// Keys and values in order. A key is a string, an expression or [`TokenKind::Insert`].
    Mapping(Vec<(Token, Token)>),
    /// An expression, without `${{` and `}}`.
    Expression(String),
    /// The key `${{ insert }}`: the value's entries join the mapping around it.
    Insert,
}

impl Token {
    /// A token without a place.
    pub fn new(kind: TokenKind) -> Self {
        Self { kind, file: None, at: None }
    }

    /// Text.
    pub fn string(text: impl Into<String>) -> Self {
        Self::new(TokenKind::String(text.into()))
    }

    /// An expression, without `${{` and `}}`.
    pub fn expression(text: impl Into<String>) -> Self {
        Self::new(TokenKind::Expression(text.into()))
    }

    /// A mapping with literal keys.
    pub fn mapping<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Self::string(key), value));
        Self::new(TokenKind::Mapping(entries.collect()))
    }

    /// The same token at a place.
    #[must_use]
    pub fn at(mut self, at: Position) -> Self {
        self.at = Some(at);
        self
    }

    /// Sets the file of this token and of all within it.
    #[must_use]
    pub fn in_file(mut self, file: u32) -> Self {
        self.each(&mut |token| token.file = Some(file));
        self
    }

    /// Drops file, line and column of this token and of all within it: a smaller message.
    #[must_use]
    pub fn without_places(mut self) -> Self {
        self.each(&mut |token| {
            token.file = None;
            token.at = None;
        });
        self
    }

    /// The text, if it is a literal string.
    pub fn as_str(&self) -> Option<&str> {
        if let TokenKind::String(text) = &self.kind { Some(text) } else { None }
    }

    /// The expression's text, if it is one.
    pub fn as_expression(&self) -> Option<&str> {
        if let TokenKind::Expression(text) = &self.kind { Some(text) } else { None }
    }

    /// Keys and values, if it is a mapping.
    pub fn entries(&self) -> Option<&[(Self, Self)]> {
        if let TokenKind::Mapping(entries) = &self.kind { Some(entries) } else { None }
    }

    /// Items, if it is a sequence.
    pub fn items(&self) -> Option<&[Self]> {
        if let TokenKind::Sequence(items) = &self.kind { Some(items) } else { None }
    }

    /// The value of literal key `key` of a mapping, in any case.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let entries = self.entries()?;
        let is_key = |k: &Self| k.as_str().is_some_and(|k| k.eq_ignore_ascii_case(key));
        entries.iter().find(|(k, _)| is_key(k)).map(|(_, value)| value)
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, TokenKind::Null)
    }

    /// Whether neither it nor anything within it is an expression.
    pub fn is_literal(&self) -> bool {
        match &self.kind {
            TokenKind::Null | TokenKind::Bool(_) | TokenKind::Number(_) | TokenKind::String(_) => {
                true
            }
            TokenKind::Sequence(items) => items.iter().all(Self::is_literal),
            TokenKind::Mapping(entries) => {
                entries.iter().all(|(key, value)| key.is_literal() && value.is_literal())
            }
            TokenKind::Expression(_) | TokenKind::Insert => false,
        }
    }

    /// Calls `found` with the text of each expression in it.
    pub fn expressions<'a>(&'a self, found: &mut dyn FnMut(&'a str)) {
        match &self.kind {
            TokenKind::Expression(text) => found(text),
            TokenKind::Sequence(items) => items.iter().for_each(|item| item.expressions(found)),
            TokenKind::Mapping(entries) => {
                for (key, value) in entries {
                    key.expressions(found);
                    value.expressions(found);
                }
            }
            _ => {}
        }
    }

    fn each(&mut self, change: &mut dyn FnMut(&mut Self)) {
        change(self);
        match &mut self.kind {
            TokenKind::Sequence(items) => items.iter_mut().for_each(|item| item.each(change)),
            TokenKind::Mapping(entries) => {
                for (key, value) in entries {
                    key.each(change);
                    value.each(change);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
