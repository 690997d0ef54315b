//! Values and their conversions.

use std::sync::Arc;

use super::number;
use super::object::{Object, fold};

/// What an expression evaluates to.
///
/// `==` of Rust compares structure, for tests; [`Value::loosely_equals`] is the language's `==`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Also what a missing property is.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Every number is a double.
    Number(f64),
    /// Text.
    String(String),
    /// Shared: equality in the language is identity.
    Array(Arc<Vec<Self>>),
    /// Shared: equality in the language is identity.
    Object(Arc<Object>),
}

impl Value {
    /// A new array.
    pub fn array(items: impl IntoIterator<Item = Self>) -> Self {
        Self::Array(Arc::new(items.into_iter().collect()))
    }

    /// A new object with case-insensitive keys.
    pub fn object<K: Into<String>>(entries: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::Object(Arc::new(entries.into_iter().map(|(k, v)| (k.into(), v)).collect()))
    }

    /// False for null, `false`, 0, -0, NaN and the empty string; true for all else.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0.0 && !value.is_nan(),
            Self::String(value) => !value.is_empty(),
            Self::Array(_) | Self::Object(_) => true,
        }
    }

    /// To a number: null is 0, booleans 0 and 1, a string what it says or NaN, others NaN.
    pub fn to_number(&self) -> f64 {
        match self {
            Self::Null => 0.0,
            Self::Bool(value) => f64::from(u8::from(*value)),
            Self::Number(value) => *value,
            Self::String(value) => number::parse(value),
            Self::Array(_) | Self::Object(_) => f64::NAN,
        }
    }

    /// To a string: null is empty, numbers have 15 significant digits, an array is `Array`.
    pub fn to_text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) => number::format(*value),
            Self::String(value) => value.clone(),
            Self::Array(_) => "Array".to_owned(),
            Self::Object(_) => "Object".to_owned(),
        }
    }

    /// Not an array, not an object.
    pub fn is_primitive(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(value) = self { Some(value) } else { None }
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(value) = self { Some(value) } else { None }
    }

    /// Property `key` of an object; null where there is none.
    pub fn get(&self, key: &str) -> Self {
        self.as_object().and_then(|object| object.get(key)).cloned().unwrap_or_default()
    }

    /// What kind of value this is, in the words of error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "a sequence",
            Self::Object(_) => "a mapping",
        }
    }

    /// The language's `==`: strings ignore case, arrays and objects are compared by identity,
    /// different types as numbers.
    pub fn loosely_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::String(a), Self::String(b)) => equals_ignoring_case(a, b),
            (Self::Array(a), Self::Array(b)) => Arc::ptr_eq(a, b),
            (Self::Object(a), Self::Object(b)) => Arc::ptr_eq(a, b),
            _ => self.to_number() == other.to_number(),
        }
    }

    /// The language's order: strings ignoring case, otherwise numbers; `None` is "unordered",
    /// for which every comparison is false.
    pub fn loosely_compares(&self, other: &Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::String(a), Self::String(b)) => {
                // UTF-16 order, as ordinal comparison has it on the other implementation.
                Some(fold(a).encode_utf16().cmp(fold(b).encode_utf16()))
            }
            _ => self.to_number().partial_cmp(&other.to_number()),
        }
    }

    /// Bytes this value holds, roughly: for the evaluation's budget.
    pub(crate) fn weight(&self) -> usize {
        /// What a value costs beyond its text.
        const PER_VALUE: usize = 24;
        PER_VALUE
            + match self {
                Self::String(text) => text.len(),
                Self::Array(items) => items.iter().map(Self::weight).sum(),
                Self::Object(object) => object.iter().map(|(k, v)| k.len() + v.weight()).sum(),
                Self::Null | Self::Bool(_) | Self::Number(_) => 0,
            }
    }
}

/// Ordinal comparison that ignores case, also outside ASCII.
pub(crate) fn equals_ignoring_case(a: &str, b: &str) -> bool {
    a == b || fold(a) == fold(b)
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Self {
        Self::Object(Arc::new(value))
    }
}

impl From<Vec<Self>> for Value {
    fn from(value: Vec<Self>) -> Self {
        Self::Array(Arc::new(value))
    }
}
