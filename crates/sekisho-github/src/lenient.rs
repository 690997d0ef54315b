//! Reading JSON whose keys and enum texts may be in any letter case.
//!
//! GitHub's services read their JSON case-insensitively, and their peers rely on it: one runner
//! writes `Failure`, another `FAILURE`, one Go client PascalCase bodies. Only the *field names of
//! our structs* and the *variants of our enums* are matched this way. Keys of maps (variable
//! names, outputs) are data and are left alone.
//!
//! Types that are read through here must not use `flatten` or `untagged`: serde buffers those
//! and does not tell which names it looks for.

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};
use serde_json::{Error, Map, Value};

/// Reads `T` from JSON bytes, field names and enum texts in any letter case.
///
/// A UTF-8 byte order mark before the JSON is skipped: some peers write one.
///
/// # Errors
/// When the bytes are not JSON, or not a `T`; two spellings of one field are a duplicate field.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    from_value(serde_json::from_slice(bytes)?)
}

/// Reads `T` from a JSON text; see [`from_slice`].
///
/// # Errors
/// As [`from_slice`].
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    from_slice(text.as_bytes())
}

/// Reads `T` from a JSON value; see [`from_slice`].
///
/// # Errors
/// As [`from_slice`].
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    T::deserialize(Lenient(value))
}

/// A JSON value that matches struct fields and enum variants ignoring ASCII case.
struct Lenient(Value);

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(map) => visitor.visit_map(Entries::new(map)),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(Entries::with_fields(map, fields)),
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(text) => {
                visitor.visit_enum(canonical(text, variants).into_deserializer())
            }
            other => other.deserialize_enum(name, variants, visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The known spelling of `text`, or `text` itself.
fn canonical(text: String, known: &[&'static str]) -> String {
    match known.iter().find(|k| k.eq_ignore_ascii_case(&text)) {
        Some(k) => (*k).to_owned(),
        None => text,
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Lenient(item))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries {
    entries: serde_json::map::IntoIter,
    fields: &'static [&'static str],
    value: Option<Value>,
}

impl Entries {
    fn new(map: Map<String, Value>) -> Self {
        Self::with_fields(map, &[])
    }

    fn with_fields(map: Map<String, Value>, fields: &'static [&'static str]) -> Self {
        Self { entries: map.into_iter(), fields, value: None }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(canonical(key, self.fields).into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(Lenient(value)),
            None => Err(de::Error::custom("value asked for before its key")),
        }
    }
}

/// Serde helpers for scalars that some peers write as strings.
pub mod scalar {
    use std::fmt;
    use std::marker::PhantomData;
    use std::str::FromStr;

    use serde::Deserialize;
    use serde::de::{Deserializer, Error, Visitor};

    /// Reads a boolean or the text `true`/`false` in any case.
    ///
    /// # Errors
    /// For anything else.
    pub fn bool_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        struct Bool;
        impl Visitor<'_> for Bool {
            type Value = bool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a boolean, or its text")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
                Ok(value)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
                match text {
                    t if t.eq_ignore_ascii_case("true") => Ok(true),
                    t if t.eq_ignore_ascii_case("false") => Ok(false),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Bool)
    }

    /// Reads an integer or its decimal text; protobuf JSON writes 64-bit numbers as text.
    ///
    /// # Errors
    /// For anything else, and for a number out of range.
    pub fn int_or_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr + TryFrom<i64> + TryFrom<u64>,
    {
        struct Int<T>(PhantomData<T>);
        impl<T: FromStr + TryFrom<i64> + TryFrom<u64>> Visitor<'_> for Int<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, or its decimal text")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
                T::try_from(value).map_err(|_| E::custom("integer out of range"))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
                T::try_from(value).map_err(|_| E::custom("integer out of range"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                text.parse().map_err(|_| wrong())
            }
        }
        deserializer.deserialize_any(Int(PhantomData))
    }

    /// Reads `null` as the default value.
    ///
    /// # Errors
    /// Only `T`'s own.
    pub fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: Default + Deserialize<'de>,
    {
        Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
    }

    /// Reads what [`int_or_text`] reads, or `null`. To be used with `#[serde(default)]`.
    ///
    /// # Errors
    /// As [`int_or_text`].
    pub fn some_int_or_text<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<i64>, D::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Int(#[serde(deserialize_with = "int_or_text")] i64);
        Option::<Int>::deserialize(deserializer).map(|int| int.map(|int| int.0))
    }

    /// Writes a boolean as `True` or `False`, as the runner configuration has it.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn bool_as_text<S: serde::Serializer>(
        value: &bool,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *value { "True" } else { "False" })
    }

    /// Writes an integer as its decimal text.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn int_as_text<S: serde::Serializer>(
        value: &impl fmt::Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outer {
        job_id: u32,
        inner: Vec<Inner>,
        #[serde(default)]
        names: BTreeMap<String, String>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner {
        level: Level,
        start_line: Option<u32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Level {
        Failure,
    }

    #[test]
    fn fields_and_variants_match_in_any_case_but_map_keys_are_data() {
        let text = "\u{feff}{\"JOBID\":7,\"Inner\":[{\"LEVEL\":\"FAILURE\",\"StartLine\":3}],\
                    \"names\":{\"JobId\":\"x\"}}";
        let want = Outer {
            job_id: 7,
            inner: vec![Inner { level: Level::Failure, start_line: Some(3) }],
            names: BTreeMap::from([("JobId".to_owned(), "x".to_owned())]),
        };
        assert_eq!(from_str::<Outer>(text).unwrap(), want);
    }

    #[test]
    fn two_spellings_of_one_field_are_refused() {
        let error = from_str::<Outer>("{\"jobId\":1,\"JobID\":2,\"inner\":[]}").unwrap_err();
        assert!(error.to_string().contains("duplicate field"), "{error}");
    }
}
