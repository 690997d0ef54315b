//! One pattern, compiled.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_PATTERN_BYTES, PatternError, PatternProblem};

/// Largest compiled pattern, in bytes: many times what [`MAX_PATTERN_BYTES`] of plain text needs.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;

/// A glob pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    negated: bool,
    regex: Regex,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`] for a pattern that is malformed or beyond the limits.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let fail = |problem| PatternError { pattern: text.chars().take(80).collect(), problem };
        if text.len() > MAX_PATTERN_BYTES {
            return Err(fail(PatternProblem::TooLong));
        }
        let (negated, glob) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        if glob.is_empty() {
            return Err(fail(PatternProblem::Empty));
        }
        let source = translate(glob).map_err(fail)?;
        let regex = RegexBuilder::new(&source)
            .size_limit(MAX_COMPILED_BYTES)
            .dot_matches_new_line(true)
            .build()
            .map_err(|_| fail(PatternProblem::TooComplex))?;
        Ok(Self { text: text.to_owned(), negated, regex })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it begins with `!`.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether the glob, its `!` aside, matches the whole of `name`.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

/// The glob as a regular expression. The `regex` crate runs in linear time on any pattern.
fn translate(glob: &str) -> Result<String, PatternProblem> {
    let mut source = String::from("^(?:");
    let mut chars = glob.chars().peekable();
    // Whether something stands before that `?` and `+` can repeat.
    let mut repeatable = false;
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                let mut stars = 1;
                while chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                if stars == 1 {
                    source.push_str("[^/]*");
                } else if chars.next_if_eq(&'/').is_some() {
                    source.push_str("(?:.*/)?");
                } else {
                    source.push_str(".*");
                }
                repeatable = false;
            }
            '?' | '+' => {
                if !repeatable {
                    return Err(PatternProblem::NothingToRepeat);
                }
                source.push(c);
                repeatable = false;
            }
            '[' => {
                source.push_str(&class(&mut chars)?);
                repeatable = true;
            }
            '\\' => {
                let escaped = chars.next().ok_or(PatternProblem::TrailingEscape)?;
                source.push_str(&regex::escape(&escaped.to_string()));
                repeatable = true;
            }
            _ => {
                source.push_str(&regex::escape(&c.to_string()));
                repeatable = true;
            }
        }
    }
    source.push_str(")$");
    Ok(source)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, PatternProblem> {
    let mut members = Vec::new();
    loop {
        match chars.next() {
            None => return Err(PatternProblem::UnclosedClass),
            Some(']') => break,
            Some('\\') => members.push(chars.next().ok_or(PatternProblem::UnclosedClass)?),
            Some(c) => members.push(c),
        }
    }
    let mut source = String::from("[");
    let mut index = 0;
    while index < members.len() {
        let from = members[index];
        let range = members.get(index + 1) == Some(&'-') && index + 2 < members.len();
        let to = if range { members[index + 2] } else { from };
        if from > to {
            return Err(PatternProblem::EmptyClass);
        }
        source.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(from), u32::from(to)));
        index += if range { 3 } else { 1 };
    }
    source.push(']');
    if members.is_empty() { Err(PatternProblem::EmptyClass) } else { Ok(source) }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
