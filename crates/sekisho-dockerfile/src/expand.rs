//! Variables, quotes and escapes in a word.
//!
//! ```text
//! $name ${name}                   the value, or nothing
//! ${name:-word}  ${name-word}     word when unset (`:` also when empty)
//! ${name:+word}  ${name+word}     word when set (`:` and not empty), else nothing
//! ${name:?text}  ${name?text}     an error when unset (`:` also when empty)
//! ${name#glob}   ${name##glob}    without the shortest, longest start that fits
//! ${name%glob}   ${name%%glob}    without the shortest, longest end that fits
//! ${name/glob/word} ${name//…}    with the first, each part that fits replaced
//! ```
//!
//! A word may hold variables itself. `*` and `?` of a glob fit any characters; there are no classes.
//! The caller takes one snapshot of the variables per instruction: `ENV a=1 b=$a` uses the old `a`.

mod glob;
#[cfg(test)]
mod tests;

use std::iter::Peekable;
use std::str::Chars;

/// Largest result of one expansion, in bytes: variables can multiply each other.
pub const MAX_EXPANDED_BYTES: usize = 1024 * 1024;

/// Deepest `${a:-${b:-…}}`.
const DEPTH_MAX: usize = 64;

/// Longest value for `#`, `%` and `/`, in characters: their cost can grow with its square.
const GLOB_VALUE_CHARACTERS_MAX: usize = 4096;

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `${` without `}`, a quote without its end, an unknown modifier.
    #[error("{0}")]
    Syntax(String),
    /// `${name:?message}` of a variable that is not set.
    #[error("variable `{name}` is required: {message}")]
    Required {
        /// The variable.
        name: String,
        /// After the `?`, or a default.
        message: String,
    },
    /// The result is larger than [`MAX_EXPANDED_BYTES`], or a value too long for a glob.
    #[error("expansion is too large")]
    TooLarge,
}

/// What a name stands for; `None` when it is not set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Replaces variables, and removes quotes and escapes: one word in, one word out.
///
/// `escape` is [`crate::Dockerfile::escape`].
pub fn expand(raw: &str, escape: char, lookup: &Lookup<'_>) -> Result<String, ExpandError> {
    let mut words = Words { text: String::new(), split: None };
    Expander::new(raw, escape, lookup).until(None, false, &mut words)?;
    Ok(words.text)
}

/// As [`expand`], but blanks outside quotes, also those of a variable's value, separate words.
///
/// Docker does so for EXPOSE only.
pub fn expand_words(
    raw: &str,
    escape: char,
    lookup: &Lookup<'_>,
) -> Result<Vec<String>, ExpandError> {
    let mut words = Words { text: String::new(), split: Some(Vec::new()) };
    Expander::new(raw, escape, lookup).until(None, false, &mut words)?;
    words.end_word();
    Ok(words.split.unwrap_or_default())
}

/// The variables of a word that `lookup` does not know, in order, each once. One that the word has
/// something else for (`${a:-b}`) is not among them, nor is any of a word that cannot be expanded.
pub fn unset(raw: &str, escape: char, lookup: &Lookup<'_>) -> Vec<String> {
    let mut words = Words { text: String::new(), split: None };
    let mut expander = Expander::new(raw, escape, lookup);
    if expander.until(None, false, &mut words).is_err() {
        return Vec::new();
    }
    let mut names = Vec::new();
    for name in expander.unset {
        let special = name.len() == 1 && !name.chars().all(char::is_alphanumeric) && name != "_";
        if !special && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What was expanded so far.
struct Words {
    text: String,
    /// Finished words, when blanks separate.
    split: Option<Vec<String>>,
}

impl Words {
    fn push(&mut self, character: char) -> Result<(), ExpandError> {
        if self.text.len() >= MAX_EXPANDED_BYTES {
            return Err(ExpandError::TooLarge);
        }
        self.text.push(character);
        Ok(())
    }

    /// Text that is not quoted.
    fn bare(&mut self, text: &str) -> Result<(), ExpandError> {
        for character in text.chars() {
            if self.split.is_some() && character.is_whitespace() {
                self.end_word();
            } else {
                self.push(character)?;
            }
        }
        Ok(())
    }

    fn end_word(&mut self) {
        if let Some(words) = &mut self.split
            && !self.text.is_empty()
        {
            words.push(std::mem::take(&mut self.text));
        }
    }
}

struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a Lookup<'a>,
    depth: usize,
    /// Names that were looked up for nothing.
    unset: Vec<String>,
}

fn syntax<T>(message: impl Into<String>) -> Result<T, ExpandError> {
    Err(ExpandError::Syntax(message.into()))
}

impl<'a> Expander<'a> {
    fn new(raw: &'a str, escape: char, lookup: &'a Lookup<'a>) -> Self {
        Self { rest: raw.chars().peekable(), escape, lookup, depth: 0, unset: Vec::new() }
    }

    /// Expands up to `stop`, or to the end. With `keep_escapes` an escape stays in front of its
    /// character, for a glob.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
        words: &mut Words,
    ) -> Result<(), ExpandError> {
        while let Some(character) = self.rest.next() {
            match character {
                _ if Some(character) == stop => return Ok(()),
                '\'' => self.single_quoted(words)?,
                '"' => self.double_quoted(words)?,
                '$' => {
                    let value = self.variable()?;
                    words.bare(&value)?;
                }
                _ if character == self.escape => {
                    // At the very end it escapes nothing, and is dropped.
                    let Some(next) = self.rest.next() else { break };
                    if keep_escapes {
                        words.push('\\')?;
                    }
                    words.push(next)?;
                }
                _ => words.bare(character.encode_utf8(&mut [0; 4]))?,
            }
        }
        match stop {
            Some(stop) => syntax(format!("`{stop}` is missing at the end of a variable")),
            None => Ok(()),
        }
    }

    fn single_quoted(&mut self, words: &mut Words) -> Result<(), ExpandError> {
        for character in self.rest.by_ref() {
            if character == '\'' {
                return Ok(());
            }
            words.push(character)?;
        }
        syntax("single quote does not end")
    }

    fn double_quoted(&mut self, words: &mut Words) -> Result<(), ExpandError> {
        while let Some(character) = self.rest.next() {
            match character {
                '"' => return Ok(()),
                '$' => {
                    for character in self.variable()?.chars() {
                        words.push(character)?;
                    }
                }
                _ if character == self.escape => match self.rest.peek() {
                    Some(next) if matches!(next, '"' | '$') || *next == self.escape => {
                        words.push(*next)?;
                        self.rest.next();
                    }
                    _ => words.push(character)?,
                },
                _ => words.push(character)?,
            }
        }
        syntax("double quote does not end")
    }

    /// What follows a `$`.
    fn variable(&mut self) -> Result<String, ExpandError> {
        if self.rest.peek() != Some(&'{') {
            let name = self.name();
            return Ok(match name.as_str() {
                "" => "$".to_owned(),
                _ => self.value(&name),
            });
        }
        self.rest.next();
        let name = self.name();
        if name.is_empty() {
            return syntax("`${` without the name of a variable");
        }
        let Some(mut modifier) = self.rest.next() else {
            return syntax(format!("`}}` is missing after `${{{name}`"));
        };
        if modifier == '}' {
            return Ok(self.value(&name));
        }
        let colon = modifier == ':';
        if colon {
            modifier = self.rest.next().unwrap_or('}');
        }
        match modifier {
            '-' | '+' | '?' => self.substitute(&name, colon, modifier),
            '#' | '%' if !colon => self.trim(&name, modifier),
            '/' if !colon => self.replace(&name),
            _ => {
                let colon = if colon { ":" } else { "" };
                syntax(format!("unknown modifier `{colon}{modifier}` of `${{{name}`"))
            }
        }
    }

    /// A name, or a positional or special parameter of a shell, which is never set.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let Some(first) = self.rest.peek().copied() else { return name };
        if "@*#?-$!".contains(first) {
            self.rest.next();
            name.push(first);
            return name;
        }
        let positional = first.is_ascii_digit();
        let fits = |c: &char| match positional {
            true => c.is_ascii_digit(),
            false => *c == '_' || c.is_ascii_alphanumeric(),
        };
        while let Some(character) = self.rest.next_if(fits) {
            name.push(character);
        }
        name
    }

    /// The text after a modifier, expanded, up to `stop`.
    fn argument(&mut self, stop: char, keep_escapes: bool) -> Result<String, ExpandError> {
        if self.depth == DEPTH_MAX {
            return Err(ExpandError::TooLarge);
        }
        self.depth += 1;
        let mut words = Words { text: String::new(), split: None };
        self.until(Some(stop), keep_escapes, &mut words)?;
        self.depth -= 1;
        Ok(words.text)
    }

    fn substitute(
        &mut self,
        name: &str,
        colon: bool,
        modifier: char,
    ) -> Result<String, ExpandError> {
        let word = self.argument('}', false)?;
        let value = (self.lookup)(name).filter(|value| !colon || !value.is_empty());
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let default = if colon { "it is not set or empty" } else { "it is not set" };
                let message = if word.is_empty() { default.to_owned() } else { word };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// The value, or nothing.
    fn value(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    fn value_for_glob(&mut self, name: &str) -> Result<Vec<char>, ExpandError> {
        let value: Vec<char> = self.value(name).chars().collect();
        if value.len() > GLOB_VALUE_CHARACTERS_MAX {
            return Err(ExpandError::TooLarge);
        }
        Ok(value)
    }

    fn trim(&mut self, name: &str, modifier: char) -> Result<String, ExpandError> {
        let longest = self.rest.next_if_eq(&modifier).is_some();
        let pattern = self.argument('}', true)?;
        let value = self.value_for_glob(name)?;
        Ok(glob::trim(&value, &pattern, modifier == '#', longest).iter().collect())
    }

    fn replace(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.argument('/', true)?;
        let word = self.argument('}', false)?;
        let value = self.value_for_glob(name)?;
        let replaced = glob::replace(&value, &pattern, &word, all);
        if replaced.len() > MAX_EXPANDED_BYTES { Err(ExpandError::TooLarge) } else { Ok(replaced) }
    }
}
