//! Objects: ordered as inserted, looked up without regard to case.

use std::collections::HashMap;

use super::value::Value;

/// A mapping that keeps insertion order. Keys ignore case, unless it was made
/// [`Object::case_sensitive`] (the `env` context on Linux).
#[derive(Clone, Debug, Default)]
pub struct Object {
    entries: Vec<(String, Value)>,
    /// Folded key → place in `entries`.
    index: HashMap<String, usize>,
    case_sensitive: bool,
}

impl Object {
    /// An empty object whose keys ignore case.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty object whose keys are told apart by case.
    pub fn case_sensitive() -> Self {
        Self { case_sensitive: true, ..Self::default() }
    }

    /// Whether keys are told apart by case.
    pub fn is_case_sensitive(&self) -> bool {
        self.case_sensitive
    }

    /// Sets `key`. A key that is there keeps its place and its spelling.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let key = key.into();
        let folded = self.folded(&key);
        if let Some(&place) = self.index.get(&folded) {
            self.entries[place].1 = value.into();
        } else {
            self.index.insert(folded, self.entries.len());
            self.entries.push((key, value.into()));
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(&self.folded(key)).map(|&place| &self.entries[place].1)
    }

    /// Whether `key` is there.
    pub fn contains_key(&self, key: &str) -> bool {
        self.index.contains_key(&self.folded(key))
    }

    /// Keys and values in insertion order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Values in insertion order.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn folded(&self, key: &str) -> String {
        if self.case_sensitive { key.to_owned() } else { fold(key) }
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.case_sensitive == other.case_sensitive && self.entries == other.entries
    }
}

impl<K: Into<String>> FromIterator<(K, Value)> for Object {
    fn from_iter<T: IntoIterator<Item = (K, Value)>>(entries: T) -> Self {
        let mut object = Self::new();
        for (key, value) in entries {
            object.insert(key, value);
        }
        object
    }
}

/// Upper case, character by character, so that the length in characters never changes.
///
/// A letter outside ASCII never becomes an ASCII one (`ı`, `ſ`), as ordinal comparison has it.
pub(crate) fn fold(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii() {
                return c.to_ascii_uppercase();
            }
            let mut upper = c.to_uppercase();
            match (upper.next(), upper.next()) {
                (Some(single), None) if !single.is_ascii() => single,
                _ => c,
            }
        })
        .collect()
}
