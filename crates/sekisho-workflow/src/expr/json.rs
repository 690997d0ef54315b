//! JSON in and out: `fromJSON`, `toJSON`, and conversion to and from `serde_json`.

use super::error::ExprError;
use super::eval::Evaluation;
use super::number;
use super::object::Object;
use super::value::Value;

/// Largest integer that a double holds exactly, and every smaller one with it.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_991.0;

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(value) => Self::Number(value.as_f64().unwrap_or(f64::NAN)),
            serde_json::Value::String(value) => Self::String(value.clone()),
            serde_json::Value::Array(items) => Self::array(items.iter().map(Self::from)),
            serde_json::Value::Object(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.as_str(), Self::from(value)));
                Self::from(entries.collect::<Object>())
            }
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        Self::from(&json)
    }
}

impl Value {
    /// As JSON. Whole numbers become integers; what JSON has no number for becomes its text.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Number(value) => number_to_json(*value),
            Self::String(value) => value.clone().into(),
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Object(object) => {
                object.iter().map(|(key, value)| (key.to_owned(), value.to_json())).collect()
            }
        }
    }
}

pub(super) fn number_to_json(value: f64) -> serde_json::Value {
    if value.fract() == 0.0 && value.abs() <= MAX_EXACT_INTEGER {
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53")]
        return (value as i64).into();
    }
    serde_json::Number::from_f64(value)
        .map_or_else(|| number::format(value).into(), serde_json::Value::Number)
}

/// What `toJSON` prints: two spaces of indent, empty arrays and objects on one line.
pub(super) fn pretty(value: &Value, evaluation: &mut Evaluation<'_>) -> Result<String, ExprError> {
    let mut text = String::new();
    write(value, 0, &mut text, evaluation)?;
    Ok(text)
}

fn write(
    value: &Value,
    indent: usize,
    text: &mut String,
    evaluation: &mut Evaluation<'_>,
) -> Result<(), ExprError> {
    let before = text.len();
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(value) => text.push_str(&number::format(*value)),
        Value::String(value) => text.push_str(&quoted(value)),
        Value::Array(items) if items.is_empty() => text.push_str("[]"),
        Value::Object(object) if object.is_empty() => text.push_str("{}"),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                line(index, indent + 1, text);
                write(item, indent + 1, text, evaluation)?;
            }
            line(0, indent, text);
            text.push(']');
            return evaluation.charge(2 * (indent + 1));
        }
        Value::Object(object) => {
            text.push('{');
            for (index, (key, item)) in object.iter().enumerate() {
                line(index, indent + 1, text);
                text.push_str(&quoted(key));
                text.push_str(": ");
                evaluation.charge(key.len() + 2 * indent + 4)?;
                write(item, indent + 1, text, evaluation)?;
            }
            line(0, indent, text);
            text.push('}');
            return Ok(());
        }
    }
    evaluation.charge(text.len() - before)
}

fn line(index: usize, indent: usize, text: &mut String) {
    if index > 0 {
        text.push(',');
    }
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", indent));
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
