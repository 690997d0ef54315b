//! The functions: their names, arities and what they compute.

use super::error::ExprError;
use super::eval::Evaluation;
use super::json;
use super::object::fold;
use super::value::Value;

/// What the caller of an evaluation supplies: what depends on the job and the machine.
pub trait Functions {
    /// `success`, `failure`, `cancelled` or `always` (lower case); `None` where it does not exist.
    fn status(&self, name: &str) -> Option<bool>;

    /// `hashFiles(patterns…)`.
    ///
    /// # Errors
    /// What the file system says, as a sentence.
    fn hash_files(&self, patterns: &[String]) -> Result<String, String>;
}

/// For places where neither status functions nor `hashFiles` exist.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFunctions;

impl Functions for NoFunctions {
    fn status(&self, _name: &str) -> Option<bool> {
        None
    }

    fn hash_files(&self, _patterns: &[String]) -> Result<String, String> {
        Err("`hashFiles` is not available here".to_owned())
    }
}

/// Most arguments a variadic function takes.
const MAX_ARGUMENTS: usize = 255;

/// A known function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Join,
    ToJson,
    FromJson,
    HashFiles,
    Case,
    Success,
    Failure,
    Cancelled,
    Always,
}

impl Function {
    /// By name, whose case does not matter.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "contains" => Self::Contains,
            "startswith" => Self::StartsWith,
            "endswith" => Self::EndsWith,
            "format" => Self::Format,
            "join" => Self::Join,
            "tojson" => Self::ToJson,
            "fromjson" => Self::FromJson,
            "hashfiles" => Self::HashFiles,
            "case" => Self::Case,
            "success" => Self::Success,
            "failure" => Self::Failure,
            "cancelled" => Self::Cancelled,
            "always" => Self::Always,
            _ => return None,
        })
    }

    /// Depends on the job's status.
    pub(super) fn is_status(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled | Self::Always)
    }

    /// Fewest and most arguments.
    pub(super) fn arity(self) -> (usize, usize) {
        match self {
            Self::Contains | Self::StartsWith | Self::EndsWith => (2, 2),
            Self::Format | Self::HashFiles => (1, MAX_ARGUMENTS),
            Self::Join => (1, 2),
            Self::ToJson | Self::FromJson => (1, 1),
            Self::Case => (3, MAX_ARGUMENTS),
            Self::Success | Self::Failure | Self::Cancelled | Self::Always => (0, 0),
        }
    }

    fn status_name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            _ => "always",
        }
    }
}

/// Calls a function whose arguments are evaluated; `case`, the lazy one, is not among them.
pub(super) fn call(
    function: Function,
    arguments: &[Value],
    evaluation: &mut Evaluation<'_>,
) -> Result<Value, ExprError> {
    let argument = |index: usize| arguments.get(index).unwrap_or(&Value::Null);
    match function {
        Function::Contains => Ok(Value::Bool(contains(argument(0), argument(1)))),
        Function::StartsWith => {
            Ok(Value::Bool(text_test(argument(0), argument(1), |a, b| a.starts_with(b))))
        }
        Function::EndsWith => {
            Ok(Value::Bool(text_test(argument(0), argument(1), |a, b| a.ends_with(b))))
        }
        Function::Format => format(&argument(0).to_text(), &arguments[1..], evaluation),
        Function::Join => join(argument(0), arguments.get(1), evaluation),
        Function::ToJson => {
            let text = json::pretty(argument(0), evaluation)?;
            Ok(Value::String(text))
        }
        Function::FromJson => {
            let text = argument(0).to_text();
            evaluation.charge(text.len())?;
            let json: serde_json::Value = serde_json::from_str(&text)
                .map_err(|error| ExprError::InvalidJson { message: error.to_string() })?;
            let value = Value::from(&json);
            evaluation.charge(value.weight())?;
            Ok(value)
        }
        Function::HashFiles => {
            let patterns: Vec<String> = arguments.iter().map(Value::to_text).collect();
            let hash = evaluation.functions.hash_files(&patterns);
            hash.map(Value::String).map_err(|message| ExprError::HashFiles { message })
        }
        Function::Success | Function::Failure | Function::Cancelled | Function::Always => {
            let name = function.status_name();
            let status = evaluation.functions.status(name);
            status.map(Value::Bool).ok_or_else(|| ExprError::Unavailable { name: name.to_owned() })
        }
        // Reached through `Evaluation::case` only.
        Function::Case => Err(ExprError::Unavailable { name: "case".to_owned() }),
    }
}

fn contains(search: &Value, item: &Value) -> bool {
    match search {
        Value::Array(items) => items.iter().any(|element| element.loosely_equals(item)),
        _ => text_test(search, item, |a, b| a.contains(b)),
    }
}

/// Compares two primitives as text, ignoring case; false for arrays and objects.
fn text_test(a: &Value, b: &Value, test: impl Fn(&str, &str) -> bool) -> bool {
    a.is_primitive() && b.is_primitive() && test(&fold(&a.to_text()), &fold(&b.to_text()))
}

fn join(
    items: &Value,
    separator: Option<&Value>,
    evaluation: &mut Evaluation<'_>,
) -> Result<Value, ExprError> {
    let Value::Array(items) = items else {
        let text = if items.is_primitive() { items.to_text() } else { String::new() };
        return Ok(Value::String(text));
    };
    let separator = separator.map_or_else(
        || ",".to_owned(),
        |s| if s.is_primitive() { s.to_text() } else { ",".into() },
    );
    let mut joined = String::new();
    for (index, item) in items.iter().enumerate() {
        let before = joined.len();
        if index > 0 {
            joined.push_str(&separator);
        }
        joined.push_str(&item.to_text());
        evaluation.charge(joined.len() - before)?;
    }
    Ok(Value::String(joined))
}

fn format(
    pattern: &str,
    arguments: &[Value],
    evaluation: &mut Evaluation<'_>,
) -> Result<Value, ExprError> {
    let invalid = || ExprError::InvalidFormat { format: pattern.to_owned() };
    let mut text = String::new();
    let mut charged = 0;
    let mut rest = pattern;
    while let Some(brace) = rest.find(['{', '}']) {
        text.push_str(&rest[..brace]);
        let (opens, after) = (rest.as_bytes()[brace] == b'{', &rest[brace + 1..]);
        if after.starts_with(if opens { '{' } else { '}' }) {
            text.push(if opens { '{' } else { '}' });
            rest = &after[1..];
            continue;
        }
        let close = after.find('}').filter(|_| opens).ok_or_else(invalid)?;
        let digits = &after[..close];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        // `{0}}` is a placeholder and then a brace that closes nothing: the loop finds it.
        let index: usize = digits.parse().map_err(|_| invalid())?;
        let value = arguments
            .get(index)
            .ok_or_else(|| ExprError::FormatArgument { format: pattern.to_owned() })?;
        text.push_str(&value.to_text());
        evaluation.charge(text.len() - charged)?;
        charged = text.len();
        rest = &after[close + 1..];
    }
    text.push_str(rest);
    evaluation.charge(text.len() - charged)?;
    Ok(Value::String(text))
}
