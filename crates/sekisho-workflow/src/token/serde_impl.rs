//! The wire encoding of tokens.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::{Token, TokenKind};
use crate::diagnostic::Position;

/// Deepest token read; the YAML reader's own limit is lower.
const MAX_DEPTH: usize = 100;

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        encode(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        decode(&json, 0).map_err(D::Error::custom)
    }
}

fn encode(token: &Token) -> Json {
    let placed = token.file.is_some() || token.at.is_some();
    let (kind, payload) = match &token.kind {
        TokenKind::Null if !placed => return Json::Null,
        TokenKind::Bool(value) if !placed => return (*value).into(),
        TokenKind::String(text) if !placed => return text.clone().into(),
        TokenKind::Number(value) if !placed && value.is_finite() => return number(*value),
        TokenKind::String(text) => (0, Some(("lit", Json::from(text.clone())))),
        TokenKind::Sequence(items) => {
            (1, Some(("seq", items.iter().map(encode).collect())).filter(|_| !items.is_empty()))
        }
        TokenKind::Mapping(entries) => {
            (2, Some(("map", encode_entries(entries))).filter(|_| !entries.is_empty()))
        }
        TokenKind::Expression(text) => (3, Some(("expr", Json::from(text.clone())))),
        TokenKind::Insert => (4, Some(("directive", Json::from("insert")))),
        TokenKind::Bool(value) => (5, Some(("bool", (*value).into()))),
        TokenKind::Number(value) => (6, Some(("num", number(*value)))),
        TokenKind::Null => (7, None),
    };
    let mut fields = Map::new();
    fields.insert("type".to_owned(), kind.into());
    if let Some(file) = token.file {
        fields.insert("file".to_owned(), file.into());
    }
    if let Some(at) = token.at {
        fields.insert("line".to_owned(), at.line.into());
        fields.insert("col".to_owned(), at.column.into());
    }
    if let Some((name, value)) = payload {
        fields.insert(name.to_owned(), value);
    }
    Json::Object(fields)
}

fn encode_entries(entries: &[(Token, Token)]) -> Json {
    entries
        .iter()
        .map(|(key, value)| {
            let mut entry = Map::new();
            entry.insert("Key".to_owned(), encode(key));
            entry.insert("Value".to_owned(), encode(value));
            Json::Object(entry)
        })
        .collect()
}

fn number(value: f64) -> Json {
    crate::expr::Value::Number(value).to_json()
}

fn decode(json: &Json, depth: usize) -> Result<Token, String> {
    if depth > MAX_DEPTH {
        return Err(format!("template token nested deeper than {MAX_DEPTH}"));
    }
    let fields = match json {
        Json::Null => return Ok(Token::new(TokenKind::Null)),
        Json::Bool(value) => return Ok(Token::new(TokenKind::Bool(*value))),
        Json::String(text) => return Ok(Token::string(text)),
        Json::Number(value) => {
            return Ok(Token::new(TokenKind::Number(value.as_f64().unwrap_or(f64::NAN))));
        }
        Json::Array(_) => return Err("a template token is never a bare array".to_owned()),
        Json::Object(fields) => fields,
    };
    let kind = match fields.get("type").map_or(Some(0), Json::as_i64) {
        Some(0) => TokenKind::String(text(fields, "lit")),
        Some(1) => TokenKind::Sequence(
            list(fields, "seq")?
                .iter()
                .map(|item| decode(item, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Some(2) => TokenKind::Mapping(
            list(fields, "map")?
                .iter()
                .map(|entry| decode_entry(entry, depth + 1))
                .collect::<Result<_, _>>()?,
        ),
        Some(3) => TokenKind::Expression(text(fields, "expr")),
        Some(4) => match text(fields, "directive").as_str() {
            "insert" => TokenKind::Insert,
            other => return Err(format!("unknown template directive `{other}`")),
        },
        Some(5) => TokenKind::Bool(fields.get("bool").and_then(Json::as_bool).unwrap_or_default()),
        Some(6) => TokenKind::Number(decode_number(fields.get("num"))),
        Some(7) => TokenKind::Null,
        _ => {
            let kind = fields.get("type").unwrap_or(&Json::Null);
            return Err(format!("unknown template token type {kind}"));
        }
    };
    let small = |name: &str| {
        fields.get(name).and_then(Json::as_u64).and_then(|value| u32::try_from(value).ok())
    };
    let at = small("line").map(|line| Position { line, column: small("col").unwrap_or(1) });
    Ok(Token { kind, file: small("file"), at })
}

fn decode_entry(json: &Json, depth: usize) -> Result<(Token, Token), String> {
    // Other runners' servers have been seen to write small letters.
    let side = |upper: &str, lower: &str| json.get(upper).or_else(|| json.get(lower));
    let key = side("Key", "key").ok_or("a template mapping entry needs `Key`")?;
    let value = side("Value", "value").unwrap_or(&Json::Null);
    Ok((decode(key, depth)?, decode(value, depth)?))
}

fn text(fields: &Map<String, Json>, name: &str) -> String {
    fields.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(fields: &'a Map<String, Json>, name: &str) -> Result<&'a [Json], String> {
    match fields.get(name) {
        None | Some(Json::Null) => Ok(&[]),
        Some(Json::Array(items)) => Ok(items),
        Some(_) => Err(format!("template token field `{name}` must be an array")),
    }
}

fn decode_number(json: Option<&Json>) -> f64 {
    match json {
        None | Some(Json::Null) => 0.0,
        // JSON has no infinity and no NaN; they travel as text.
        Some(Json::String(text)) => crate::expr::Value::from(text.as_str()).to_number(),
        Some(other) => other.as_f64().unwrap_or(f64::NAN),
    }
}
