//! Tokens to values.

use std::sync::Arc;

use thiserror::Error;

use super::{Token, TokenKind};
use crate::diagnostic::Position;
use crate::expr::{self, Contexts, ExprError, Functions, Object, Value};

/// Why a token has no value.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{problem}")]
pub struct EvalError {
    /// Which file, as an index into the job's file table.
    pub file: Option<u32>,
    /// Where in the file.
    pub at: Option<Position>,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The expression fails.
    #[error(transparent)]
    Expression(#[from] ExprError),
    /// A value of another kind is needed.
    #[error("expected {expected}, but found {found}")]
    Kind {
        /// What is needed.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
}

fn fail(token: &Token, problem: impl Into<Problem>) -> EvalError {
    EvalError { file: token.file, at: token.at, problem: problem.into() }
}

fn wrong_kind(token: &Token, expected: &'static str, value: &Value) -> EvalError {
    fail(token, Problem::Kind { expected, found: value.kind() })
}

/// Evaluates a token and everything in it.
///
/// # Errors
/// [`EvalError`] when an expression fails, or a mapping key is no primitive.
pub fn eval(
    token: &Token,
    contexts: &Contexts,
    functions: &dyn Functions,
) -> Result<Value, EvalError> {
    match &token.kind {
        TokenKind::Null => Ok(Value::Null),
        TokenKind::Bool(value) => Ok(Value::Bool(*value)),
        TokenKind::Number(value) => Ok(Value::Number(*value)),
        TokenKind::String(text) => Ok(Value::String(text.clone())),
        TokenKind::Insert => {
            Err(fail(token, Problem::Kind { expected: "a value", found: "`insert`" }))
        }
        TokenKind::Expression(text) => {
            let expr = expr::parse(text).map_err(|error| fail(token, error))?;
            expr::evaluate(&expr, contexts, functions).map_err(|error| fail(token, error))
        }
        TokenKind::Sequence(items) => {
            let mut values = Vec::with_capacity(items.len());
            for item in items {
                values.push(eval(item, contexts, functions)?);
            }
            Ok(Value::from(values))
        }
        TokenKind::Mapping(_) => {
            let mut object = Object::new();
            each_entry(token, contexts, functions, &mut |key, value| object.insert(key, value))?;
            Ok(Value::Object(Arc::new(object)))
        }
    }
}

/// Evaluates to text: a primitive becomes its string, null the empty one.
///
/// # Errors
/// [`EvalError`] as [`eval`]; and for an array or an object.
pub fn eval_string(
    token: &Token,
    contexts: &Contexts,
    functions: &dyn Functions,
) -> Result<String, EvalError> {
    let value = eval(token, contexts, functions)?;
    if value.is_primitive() {
        Ok(value.to_text())
    } else {
        Err(wrong_kind(token, "a string", &value))
    }
}

/// Evaluates to a boolean, for `continue-on-error`.
///
/// # Errors
/// [`EvalError`] as [`eval`]; and for what is no boolean and not the text of one.
pub fn eval_bool(
    token: &Token,
    contexts: &Contexts,
    functions: &dyn Functions,
) -> Result<bool, EvalError> {
    let value = eval(token, contexts, functions)?;
    match &value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" => Ok(false),
        _ => Err(wrong_kind(token, "a boolean", &value)),
    }
}

/// Evaluates to a number, for `timeout-minutes`.
///
/// # Errors
/// [`EvalError`] as [`eval`]; and for what is no number and not the text of one.
pub fn eval_number(
    token: &Token,
    contexts: &Contexts,
    functions: &dyn Functions,
) -> Result<f64, EvalError> {
    let value = eval(token, contexts, functions)?;
    match &value {
        Value::Number(number) if !number.is_nan() => Ok(*number),
        Value::String(text) if !text.trim().is_empty() && !value.to_number().is_nan() => {
            Ok(value.to_number())
        }
        _ => Err(wrong_kind(token, "a number", &value)),
    }
}

/// Evaluates a mapping to names and texts, in order: `env`, `with`, `outputs`. Null is no entry.
///
/// A name that comes twice stays twice: the later one wins.
///
/// # Errors
/// [`EvalError`] as [`eval`]; and when it is no mapping, or a value in it no primitive.
pub fn eval_map(
    token: &Token,
    contexts: &Contexts,
    functions: &dyn Functions,
) -> Result<Vec<(String, String)>, EvalError> {
    let mut entries = Vec::new();
    let mut bad = None;
    let mut add = |key: String, value: Value| {
        if value.is_primitive() {
            entries.push((key, value.to_text()));
        } else if bad.is_none() {
            bad = Some(wrong_kind(token, "a string", &value));
        }
    };
    match &token.kind {
        TokenKind::Null => {}
        TokenKind::Mapping(_) => each_entry(token, contexts, functions, &mut add)?,
        _ => match eval(token, contexts, functions)? {
            Value::Null => {}
            Value::Object(object) => {
                object.iter().for_each(|(key, value)| add(key.to_owned(), value.clone()));
            }
            other => return Err(wrong_kind(token, "a mapping", &other)),
        },
    }
    bad.map_or(Ok(entries), Err)
}

fn each_entry(
    token: &Token,
    contexts: &Contexts,
    functions: &dyn Functions,
    add: &mut dyn FnMut(String, Value),
) -> Result<(), EvalError> {
    for (key, value) in token.entries().unwrap_or_default() {
        if key.kind != TokenKind::Insert {
            add(eval_string(key, contexts, functions)?, eval(value, contexts, functions)?);
            continue;
        }
        match eval(value, contexts, functions)? {
            Value::Null => {}
            Value::Object(object) => {
                object.iter().for_each(|(key, value)| add(key.to_owned(), value.clone()));
            }
            other => return Err(wrong_kind(value, "a mapping", &other)),
        }
    }
    Ok(())
}
