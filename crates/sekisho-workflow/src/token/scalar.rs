//! YAML values to tokens: `${{ }}` inside text becomes an expression.

use thiserror::Error;

use super::{Token, TokenKind};
use crate::diagnostic::{MAX_DIAGNOSTICS, Position};
use crate::expr::{self, ExprError, Scope};
use crate::yaml::{Node, NodeValue, Style};

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// Text that cannot become a token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem}")]
pub struct TokenError {
    /// Where in the file.
    pub at: Position,
    /// What is wrong.
    #[source]
    pub problem: TokenProblem,
}

/// What is wrong with text that was to become a token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenProblem {
    /// `${{` without `}}`.
    #[error(
        "The expression is not closed. An unescaped ${{{{ sequence was found, but the closing }}}} sequence was not found."
    )]
    Unclosed,
    /// An expression where none may stand.
    #[error("A template expression is not allowed in this context")]
    NotAllowed,
    /// `${{ insert }}` anywhere but as a key.
    #[error("The directive 'insert' is not allowed in this context")]
    Insert,
    /// The expression is wrong.
    #[error(transparent)]
    Expression(ExprError),
}

/// A YAML value as a token, each expression in it checked against `scope`.
///
/// `None` as scope: expressions are not allowed here.
///
/// # Errors
/// Wrong expressions, with their places; at most [`MAX_DIAGNOSTICS`] of them.
pub fn from_yaml(node: &Node, scope: Option<&Scope>) -> Result<Token, Vec<TokenError>> {
    let mut errors = Vec::new();
    let token = convert(node, scope, &mut errors);
    if errors.is_empty() { Ok(token) } else { Err(errors) }
}

/// Text with `${{ }}` in it as a token without a place, its expressions checked against `scope`.
///
/// # Errors
/// The first wrong expression; its place is a column of `text`.
pub fn from_text(text: &str, scope: Option<&Scope>) -> Result<Token, TokenError> {
    let node = Node {
        value: NodeValue::String(text.to_owned()),
        at: Position::START,
        style: Style::Plain,
    };
    let mut errors = Vec::new();
    let kind = scalar(&node, text, scope, &mut errors);
    errors.into_iter().next().map_or(Ok(Token::new(kind)), Err)
}

fn convert(node: &Node, scope: Option<&Scope>, errors: &mut Vec<TokenError>) -> Token {
    let kind = match &node.value {
        NodeValue::Null => TokenKind::Null,
        NodeValue::Bool(value) => TokenKind::Bool(*value),
        NodeValue::Number(value) => TokenKind::Number(*value),
        NodeValue::String(text) => scalar(node, text, scope, errors),
        NodeValue::Sequence(items) => {
            TokenKind::Sequence(items.iter().map(|item| convert(item, scope, errors)).collect())
        }
        NodeValue::Mapping(entries) => TokenKind::Mapping(
            entries
                .iter()
                .map(|(key, value)| {
                    let node = Node {
                        value: NodeValue::String(key.text.clone()),
                        at: key.at,
                        style: Style::Plain,
                    };
                    let kind = if is_insert(&key.text) {
                        TokenKind::Insert
                    } else {
                        scalar(&node, &key.text, scope, errors)
                    };
                    (Token::new(kind).at(key.at), convert(value, scope, errors))
                })
                .collect(),
        ),
    };
    Token::new(kind).at(node.at)
}

fn is_insert(text: &str) -> bool {
    text.strip_prefix(OPEN)
        .and_then(|text| text.strip_suffix(CLOSE))
        .is_some_and(|text| text.trim() == "insert")
}

/// A part of a scalar: text, or an expression and where it begins (in characters).
enum Part<'a> {
    Text(&'a str),
    Expression { text: &'a str, offset: usize },
}

fn scalar(
    node: &Node,
    text: &str,
    scope: Option<&Scope>,
    errors: &mut Vec<TokenError>,
) -> TokenKind {
    if !text.contains(OPEN) {
        return TokenKind::String(text.to_owned());
    }
    let before = errors.len();
    let mut fail = |offset: usize, problem| {
        // More are not shown, and a place is found by counting through the text.
        if errors.len() < MAX_DIAGNOSTICS {
            errors.push(TokenError { at: node.position_of(offset), problem });
        }
    };
    let parts = match split(text) {
        Ok(parts) => parts,
        Err(offset) => {
            fail(offset, TokenProblem::Unclosed);
            return TokenKind::Null;
        }
    };
    for part in &parts {
        let Part::Expression { text, offset } = part else { continue };
        let Some(scope) = scope else {
            fail(offset - OPEN.len(), TokenProblem::NotAllowed);
            continue;
        };
        let trimmed = text.trim();
        if trimmed == "insert" {
            fail(offset - OPEN.len(), TokenProblem::Insert);
        } else if let Err(error) = scope.parse(trimmed) {
            let lead = text.chars().count() - text.trim_start().chars().count();
            let within = error.position().unwrap_or(1).saturating_sub(1);
            fail(offset + lead + within, TokenProblem::Expression(error));
        }
    }
    if let [Part::Expression { text, .. }] = parts.as_slice() {
        // `${{ '…' }}` is how text that holds `${{` itself is written.
        if let Ok(expr) = expr::parse(text.trim())
            && let Some(literal) = expr.as_text()
        {
            return TokenKind::String(literal.to_owned());
        }
        return TokenKind::Expression(text.trim().to_owned());
    }
    let folded = fold(&parts);
    // The parts are sound; together they may be too long or too many.
    if errors.len() == before
        && let Some(Err(error)) = scope.map(|scope| scope.parse(&folded))
    {
        errors.push(TokenError { at: node.at, problem: TokenProblem::Expression(error) });
    }
    TokenKind::Expression(folded)
}

/// Splits text at `${{ }}`; the offset (in characters) of an expression that is not closed.
fn split(text: &str) -> Result<Vec<Part<'_>>, usize> {
    let mut parts = Vec::new();
    let mut rest = text;
    // Characters before `rest`.
    let mut passed = 0;
    while let Some(start) = rest.find(OPEN) {
        let (before, inside) = (&rest[..start], &rest[start + OPEN.len()..]);
        passed += before.chars().count();
        let Some(end) = closing(inside) else { return Err(passed) };
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let expression = &inside[..end];
        parts.push(Part::Expression { text: expression, offset: passed + OPEN.len() });
        passed += OPEN.len() + expression.chars().count() + CLOSE.len();
        rest = &inside[end + CLOSE.len()..];
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

/// Where `}}` closes the expression: the first one outside a string.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut in_string = false;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            // A doubled quote leaves the string and enters it again at once.
            b'\'' => in_string = !in_string,
            b'}' if !in_string && bytes.get(index + 1) == Some(&b'}') => return Some(index),
            _ => {}
        }
    }
    None
}

/// Text and expressions as one call of `format`.
fn fold(parts: &[Part<'_>]) -> String {
    let mut pattern = String::new();
    let mut arguments = String::new();
    let mut count = 0;
    for part in parts {
        match part {
            Part::Text(text) => {
                for c in text.chars() {
                    pattern.push(c);
                    if matches!(c, '{' | '}' | '\'') {
                        pattern.push(c);
                    }
                }
            }
            Part::Expression { text, .. } => {
                pattern.push_str(&format!("{{{count}}}"));
                arguments.push_str(", ");
                arguments.push_str(text.trim());
                count += 1;
            }
        }
    }
    format!("format('{pattern}'{arguments})")
}
