//! What people read: the names of jobs.

use crate::expr::{Contexts, NoFunctions, Value};
use crate::token::{self, Token};

/// Longest name of a matrix instance, in characters.
const MAX_CHARS: usize = 100;

/// The job's own part of its name: `name`, or the id; of a matrix instance with its values.
pub(super) fn own_name(
    name: Option<&Token>,
    id: &str,
    contexts: &Contexts,
    matrix: &serde_json::Value,
) -> Result<String, token::EvalError> {
    let base = match name {
        None => id.to_owned(),
        Some(token) => {
            let text = token::eval_string(token, contexts, &NoFunctions)?;
            if !token.is_literal() && !text.is_empty() {
                return Ok(text);
            }
            if text.is_empty() { id.to_owned() } else { text }
        }
    };
    let mut values = Vec::new();
    leaves(&Value::from(matrix), &mut values);
    if values.is_empty() {
        return Ok(base);
    }
    Ok(cut(format!("{base} ({})", values.join(", "))))
}

/// `caller / called`.
pub(super) fn joined(parent: Option<&str>, own: &str) -> String {
    parent.map_or_else(|| own.to_owned(), |parent| format!("{parent} / {own}"))
}

fn leaves(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => {}
        Value::Array(items) => items.iter().for_each(|item| leaves(item, found)),
        Value::Object(object) => object.values().for_each(|item| leaves(item, found)),
        primitive => found.push(primitive.to_text()),
    }
}

fn cut(name: String) -> String {
    if name.chars().count() <= MAX_CHARS {
        return name;
    }
    let kept: String = name.chars().take(MAX_CHARS - 3).collect();
    format!("{kept}...")
}
