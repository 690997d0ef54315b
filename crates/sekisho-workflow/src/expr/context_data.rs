//! Contexts on the wire: the typed JSON of a job message's `contextData`.
//!
//! ```text
//! bare JSON scalar, or {"t":0,"s":"…"} string · {"t":1,"a":[…]} array
//! {"t":2,"d":[{"k":"…","v":…}]} dictionary, keys ignore case · {"t":3,"b":true} · {"t":4,"n":1.5}
//! {"t":5,"d":[…]} dictionary, keys told apart by case
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value as Json, json};

use super::json::number_to_json;
use super::object::Object;
use super::value::Value;

/// A [`Value`] in the `contextData` encoding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContextData(pub Value);

impl From<Value> for ContextData {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl From<ContextData> for Value {
    fn from(data: ContextData) -> Self {
        data.0
    }
}

impl From<super::Contexts> for BTreeMap<String, ContextData> {
    fn from(contexts: super::Contexts) -> Self {
        contexts.iter().map(|(name, value)| (name.to_owned(), ContextData(value.clone()))).collect()
    }
}

impl Serialize for ContextData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        encode(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ContextData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        decode(&json).map(Self).map_err(D::Error::custom)
    }
}

fn encode(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(value) => json!({"t": 4, "n": number_to_json(*value)}),
        Value::String(value) => Json::String(value.clone()),
        Value::Array(items) if items.is_empty() => json!({"t": 1}),
        Value::Array(items) => json!({"t": 1, "a": items.iter().map(encode).collect::<Vec<_>>()}),
        Value::Object(object) => {
            let t = if object.is_case_sensitive() { 5 } else { 2 };
            if object.is_empty() {
                return json!({"t": t});
            }
            let entries: Vec<Json> =
                object.iter().map(|(k, v)| json!({"k": k, "v": encode(v)})).collect();
            json!({"t": t, "d": entries})
        }
    }
}

fn decode(json: &Json) -> Result<Value, String> {
    match json {
        Json::Null => Ok(Value::Null),
        Json::Bool(value) => Ok(Value::Bool(*value)),
        Json::Number(value) => Ok(Value::Number(value.as_f64().unwrap_or(f64::NAN))),
        Json::String(value) => Ok(Value::String(value.clone())),
        Json::Array(_) => Err("context data is never a bare array".to_owned()),
        Json::Object(fields) => decode_typed(fields),
    }
}

fn decode_typed(fields: &serde_json::Map<String, Json>) -> Result<Value, String> {
    let kind = fields.get("t").map_or(Some(0), Json::as_i64);
    let list = |name: &str| match fields.get(name) {
        None | Some(Json::Null) => Ok(&[] as &[Json]),
        Some(Json::Array(items)) => Ok(items.as_slice()),
        Some(_) => Err(format!("context data field `{name}` must be an array")),
    };
    match kind {
        Some(0) => {
            Ok(Value::String(fields.get("s").and_then(Json::as_str).unwrap_or_default().to_owned()))
        }
        Some(1) => {
            let items = list("a")?.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
            Ok(Value::from(items))
        }
        Some(kind @ (2 | 5)) => {
            let mut object = if kind == 5 { Object::case_sensitive() } else { Object::new() };
            for entry in list("d")? {
                let key = entry.get("k").and_then(Json::as_str);
                let key = key.ok_or("a dictionary entry of context data needs a key `k`")?;
                object.insert(key, decode(entry.get("v").unwrap_or(&Json::Null))?);
            }
            Ok(Value::Object(Arc::new(object)))
        }
        Some(3) => Ok(Value::Bool(fields.get("b").and_then(Json::as_bool).unwrap_or_default())),
        Some(4) => Ok(Value::Number(decode_number(fields.get("n")))),
        _ => Err(format!("unknown context data type {}", fields.get("t").unwrap_or(&Json::Null))),
    }
}

fn decode_number(json: Option<&Json>) -> f64 {
    match json {
        None | Some(Json::Null) => 0.0,
        Some(Json::String(text)) => super::number::parse(text),
        Some(other) => other.as_f64().unwrap_or(f64::NAN),
    }
}
