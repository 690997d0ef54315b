//! Reading nodes with diagnostics: what each kind of place in the file accepts.

use crate::diagnostic::{Collector, Position, did_you_mean};
use crate::expr::{Scope, Value};
use crate::token::{self, Token, TokenKind};
use crate::yaml::{Key, Node, NodeValue};

/// Most names in one list: events, needs, patterns, options.
const MAX_NAMES: usize = 256;

/// Reads nodes; a wrong one becomes a diagnostic and `None`.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) problems: Collector,
}

/// The entries of a mapping whose keys are known.
pub(super) struct Fields<'n> {
    entries: Vec<(&'n Key, &'n Node)>,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entry(key).map(|(_, node)| node)
    }

    pub(super) fn entry(&self, key: &str) -> Option<(&'n Key, &'n Node)> {
        self.entries.iter().find(|(k, _)| k.text == key).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'n Key, &'n Node)> {
        self.entries.iter().copied()
    }
}

impl Reader {
    pub(super) fn new(path: &str) -> Self {
        Self { problems: Collector::new(path) }
    }

    pub(super) fn fail(&mut self, at: Position, message: impl Into<String>) {
        self.problems.push(at, message);
    }

    fn expected(&mut self, node: &Node, what: &str, kind: &str) {
        self.fail(node.at, format!("`{what}` must be {kind}, but is {}", node.kind()));
    }

    /// A mapping whose keys are among `known`; another key is an error at its place.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        known: &[&str],
    ) -> Option<Fields<'n>> {
        let entries = self.entries(node, what)?;
        for (key, _) in &entries {
            if !known.contains(&key.text.as_str()) && !self.problems.is_full() {
                let hint = did_you_mean(&key.text, known.iter().copied());
                self.fail(key.at, format!("unknown key `{}` in `{what}`{hint}", key.text));
            }
        }
        Some(Fields { entries })
    }

    /// A mapping with keys that the user names; no two of them differ only in case.
    pub(super) fn entries<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
    ) -> Option<Vec<(&'n Key, &'n Node)>> {
        let NodeValue::Mapping(entries) = &node.value else {
            self.expected(node, what, "a mapping");
            return None;
        };
        let mut seen = std::collections::HashSet::new();
        for (key, _) in entries {
            if !seen.insert(key.text.to_lowercase()) {
                self.fail(key.at, format!("`{}` is already defined in `{what}`", key.text));
            }
        }
        Some(entries.iter().map(|(key, node)| (key, node)).collect())
    }

    /// Text without expressions. Numbers and booleans become their text.
    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        let token = self.scalar(node, what, None)?;
        match &token.kind {
            TokenKind::String(text) => Some(text.clone()),
            TokenKind::Number(number) => Some(Value::Number(*number).to_text()),
            TokenKind::Bool(value) => Some(value.to_string()),
            _ => {
                self.expected(node, what, "a string");
                None
            }
        }
    }

    /// Text without expressions that is not empty.
    pub(super) fn name(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node, what)?;
        if text.trim().is_empty() {
            self.fail(node.at, format!("`{what}` must not be empty"));
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let NodeValue::Bool(value) = node.value {
            return Some(value);
        }
        self.expected(node, what, "`true` or `false`");
        None
    }

    /// One string, or a sequence of them.
    pub(super) fn names(&mut self, node: &Node, what: &str) -> Vec<(String, Position)> {
        let nodes = match &node.value {
            NodeValue::Sequence(items) => items.iter().collect(),
            _ => vec![node],
        };
        if nodes.len() > MAX_NAMES {
            self.fail(node.at, format!("`{what}` has more than {MAX_NAMES} entries"));
        }
        let mut names = Vec::new();
        for node in nodes.into_iter().take(MAX_NAMES) {
            names.extend(self.name(node, what).map(|name| (name, node.at)));
        }
        names
    }

    /// Anything, with its expressions checked.
    pub(super) fn token(&mut self, node: &Node, scope: Option<&Scope>) -> Option<Token> {
        match token::from_yaml(node, scope) {
            Ok(token) => Some(token),
            Err(errors) => {
                for error in errors {
                    self.fail(error.at, error.to_string());
                }
                None
            }
        }
    }

    /// A scalar or an expression.
    pub(super) fn scalar(
        &mut self,
        node: &Node,
        what: &str,
        scope: Option<&Scope>,
    ) -> Option<Token> {
        if matches!(node.value, NodeValue::Sequence(_) | NodeValue::Mapping(_)) {
            self.expected(node, what, "a string");
            return None;
        }
        self.token(node, scope)
    }

    /// A scalar or an expression that says something.
    pub(super) fn nonempty(&mut self, node: &Node, what: &str, scope: &Scope) -> Option<Token> {
        let token = self.scalar(node, what, Some(scope))?;
        if token.is_null() || token.as_str().is_some_and(|text| text.trim().is_empty()) {
            self.fail(node.at, format!("`{what}` must not be empty"));
            return None;
        }
        Some(token)
    }

    /// `true`, `false` or an expression.
    pub(super) fn boolean_token(
        &mut self,
        node: &Node,
        what: &str,
        scope: &Scope,
    ) -> Option<Token> {
        let token = self.scalar(node, what, Some(scope))?;
        if !matches!(token.kind, TokenKind::Bool(_) | TokenKind::Expression(_)) {
            self.expected(node, what, "`true`, `false` or an expression");
            return None;
        }
        Some(token)
    }

    /// A number above zero, or an expression.
    pub(super) fn positive_token(
        &mut self,
        node: &Node,
        what: &str,
        scope: &Scope,
    ) -> Option<Token> {
        let token = self.scalar(node, what, Some(scope))?;
        match token.kind {
            TokenKind::Number(number) if number.is_finite() && number > 0.0 => Some(token),
            TokenKind::Expression(_) => Some(token),
            _ => {
                self.fail(node.at, format!("`{what}` must be a number above 0, or an expression"));
                None
            }
        }
    }

    /// A mapping of names to scalars, or an expression that makes one.
    pub(super) fn string_map(&mut self, node: &Node, what: &str, scope: &Scope) -> Option<Token> {
        let NodeValue::Mapping(entries) = &node.value else {
            let token = self.token(node, Some(scope))?;
            if matches!(token.kind, TokenKind::Expression(_) | TokenKind::Null) {
                return Some(token).filter(|token| !token.is_null());
            }
            self.expected(node, what, "a mapping");
            return None;
        };
        for (key, value) in entries {
            if key.text.is_empty() {
                self.fail(key.at, format!("a name in `{what}` must not be empty"));
            }
            let insert = key.text.starts_with("${{");
            if !insert && matches!(value.value, NodeValue::Sequence(_) | NodeValue::Mapping(_)) {
                self.expected(value, &format!("{what}.{}", key.text), "a string");
            }
        }
        self.token(node, Some(scope))
    }

    /// The expression of an `if`, complete with `success()` where it belongs.
    pub(super) fn condition(&mut self, node: &Node, scope: &Scope) -> Option<String> {
        let text = match &node.value {
            NodeValue::String(text) if !text.contains("${{") => {
                let trimmed = text.trim();
                if !trimmed.is_empty()
                    && let Err(error) = scope.parse(trimmed)
                {
                    let lead = text.chars().count() - text.trim_start().chars().count();
                    let offset = lead + error.position().unwrap_or(1).saturating_sub(1);
                    self.fail(node.position_of(offset), error.to_string());
                    return None;
                }
                trimmed.to_owned()
            }
            _ => match self.scalar(node, "if", Some(scope))?.kind {
                TokenKind::Expression(text) => text,
                TokenKind::Bool(value) => value.to_string(),
                TokenKind::Number(value) => Value::Number(value).to_text(),
                _ => String::new(),
            },
        };
        let condition = super::condition(Some(&text));
        // With `success()` around it, it may be too long or too deep.
        if let Err(error) = scope.parse(&condition) {
            self.fail(node.at, error.to_string());
        }
        Some(condition)
    }
}

/// `[A-Za-z_][A-Za-z0-9_-]*`: the ids of jobs and steps, the names of inputs and outputs.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
