//! Values as a job request carries them: template tokens and context data.

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A template token: a literal, a sequence, a mapping or an expression, not yet evaluated.
pub type Token = Value;

/// How deep context data may be nested: event payloads stay far below, and each level of it takes
/// up to three of the 128 levels that the JSON reader allows.
pub const MAX_CONTEXT_DEPTH: usize = 32;

/// A value of a context: `{"t":N,…}` on the wire, or a bare JSON scalar.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ContextData {
    /// `null`, or absent.
    #[default]
    Null,
    /// `t` 0.
    String(String),
    /// `t` 1.
    Array(Vec<Self>),
    /// `t` 2: keys match in any case; ordered.
    Dictionary(Vec<(String, Self)>),
    /// `t` 3.
    Bool(bool),
    /// `t` 4.
    Number(f64),
    /// `t` 5: keys match exactly; ordered.
    CaseSensitiveDictionary(Vec<(String, Self)>),
}

impl ContextData {
    /// The member `name` of a dictionary, in the way its kind compares keys.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let (entries, exact) = match self {
            Self::Dictionary(entries) => (entries, false),
            Self::CaseSensitiveDictionary(entries) => (entries, true),
            Self::Null | Self::String(_) | Self::Array(_) | Self::Bool(_) | Self::Number(_) => {
                return None;
            }
        };
        let same = |key: &str| if exact { key == name } else { key.eq_ignore_ascii_case(name) };
        entries.iter().find(|(key, _)| same(key)).map(|(_, value)| value)
    }

    /// The text, when this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Plain JSON as context data; objects become case-insensitive dictionaries.
    pub fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Self::Number(n.as_f64().unwrap_or(f64::NAN)),
            Value::String(s) => Self::String(s.clone()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from_json).collect()),
            Value::Object(map) => {
                Self::Dictionary(map.iter().map(|(k, v)| (k.clone(), Self::from_json(v))).collect())
            }
        }
    }

    /// Plain JSON, as `event.json` has it. A number without a fraction becomes an integer.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Number(n) => number(*n),
            Self::String(s) => Value::String(s.clone()),
            Self::Array(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Dictionary(entries) | Self::CaseSensitiveDictionary(entries) => {
                Value::Object(entries.iter().map(|(k, v)| (k.clone(), v.to_json())).collect())
            }
        }
    }

    fn from_wire(value: Value, depth: usize) -> Result<Self, String> {
        if depth == 0 {
            return Err(format!("context data is nested deeper than {MAX_CONTEXT_DEPTH}"));
        }
        let mut map = match value {
            Value::Object(map) => map,
            Value::Array(_) => return Err("a bare array is not context data".to_owned()),
            scalar => return Ok(Self::from_json(&scalar)),
        };
        let kind = map.remove("t").and_then(|t| t.as_u64()).unwrap_or(0);
        let mut entries = || match map.remove("d") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.into_iter().map(|item| Self::entry(item, depth)).collect()
            }
            Some(_) => Err("`d` of a dictionary is not an array".to_owned()),
        };
        match kind {
            0 => match map.remove("s") {
                None => Ok(Self::String(String::new())),
                Some(Value::String(s)) => Ok(Self::String(s)),
                Some(_) => Err("`s` is not a string".to_owned()),
            },
            1 => match map.remove("a") {
                None | Some(Value::Null) => Ok(Self::Array(Vec::new())),
                Some(Value::Array(items)) => {
                    let items = items.into_iter().map(|item| Self::from_wire(item, depth - 1));
                    items.collect::<Result<_, _>>().map(Self::Array)
                }
                Some(_) => Err("`a` is not an array".to_owned()),
            },
            2 => entries().map(Self::Dictionary),
            3 => Ok(Self::Bool(map.get("b").and_then(Value::as_bool).unwrap_or(false))),
            4 => Ok(Self::Number(map.get("n").and_then(Value::as_f64).unwrap_or(0.0))),
            5 => entries().map(Self::CaseSensitiveDictionary),
            other => Err(format!("unknown kind of context data: {other}")),
        }
    }

    fn entry(item: Value, depth: usize) -> Result<(String, Self), String> {
        let Value::Object(mut item) = item else {
            return Err("an entry of a dictionary is not an object".to_owned());
        };
        let Some(Value::String(key)) = item.remove("k") else {
            return Err("an entry of a dictionary has no `k`".to_owned());
        };
        let value = item.remove("v").unwrap_or(Value::Null);
        Ok((key, Self::from_wire(value, depth - 1)?))
    }
}

/// JSON has no NaN: it becomes null. Integers that a double holds exactly stay integers.
fn number(n: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if n.fract() == 0.0 && n.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "checked: integral and within 2^53")]
        let integer = n as i64;
        return Value::from(integer);
    }
    serde_json::Number::from_f64(n).map_or(Value::Null, Value::Number)
}

impl From<&str> for ContextData {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for ContextData {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

struct Entry<'a>(&'a str, &'a ContextData);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("k", self.0)?;
        map.serialize_entry("v", self.1)?;
        map.end()
    }
}

impl Serialize for ContextData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tagged = |t: u8, payload: &'static str| (t, payload);
        let (t, payload) = match self {
            Self::Null => return serializer.serialize_unit(),
            Self::String(text) => return serializer.serialize_str(text),
            Self::Bool(b) => return serializer.serialize_bool(*b),
            Self::Array(_) => tagged(1, "a"),
            Self::Dictionary(_) => tagged(2, "d"),
            Self::Number(_) => tagged(4, "n"),
            Self::CaseSensitiveDictionary(_) => tagged(5, "d"),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("t", &t)?;
        match self {
            Self::Array(items) => map.serialize_entry(payload, items)?,
            Self::Number(n) => map.serialize_entry(payload, n)?,
            Self::Dictionary(entries) | Self::CaseSensitiveDictionary(entries) => {
                let entries: Vec<_> = entries.iter().map(|(k, v)| Entry(k, v)).collect();
                map.serialize_entry(payload, &entries)?;
            }
            Self::Null | Self::String(_) | Self::Bool(_) => {}
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for ContextData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_wire(value, MAX_CONTEXT_DEPTH).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_documented_example() {
        let text = r#"{"t":2,"d":[{"k":"repository","v":"acme/app"},{"k":"n","v":{"t":4,"n":2.0}},{"k":"event","v":{"t":2,"d":[{"k":"after","v":null}]}},{"k":"list","v":{"t":1,"a":[true]}}]}"#;
        let data: ContextData = serde_json::from_str(text).unwrap();
        assert_eq!(data.get("Repository"), Some(&ContextData::from("acme/app")));
        assert_eq!(data.get("n"), Some(&ContextData::Number(2.0)));
        assert_eq!(serde_json::to_string(&data).unwrap(), text);
        let json = r#"{"repository":"acme/app","n":2,"event":{"after":null},"list":[true]}"#;
        assert_eq!(data.to_json().to_string(), json);
    }

    #[test]
    fn absent_payloads_are_empty() {
        let data: ContextData = serde_json::from_str(r#"{"t":2}"#).unwrap();
        assert_eq!(data, ContextData::Dictionary(Vec::new()));
        let data: ContextData = serde_json::from_str(r#"{"t":0}"#).unwrap();
        assert_eq!(data, ContextData::from(""));
    }

    #[test]
    fn too_deep_is_refused() {
        let mut text = "1".to_owned();
        for _ in 0..MAX_CONTEXT_DEPTH {
            text = format!(r#"{{"t":1,"a":[{text}]}}"#);
        }
        let error = serde_json::from_str::<ContextData>(&text).unwrap_err();
        assert!(error.to_string().contains("nested deeper"), "{error}");
    }
}
