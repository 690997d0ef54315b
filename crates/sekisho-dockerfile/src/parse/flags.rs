//! `--name=value` in front of the arguments of an instruction.

use crate::ast::{Span, Word};
use crate::parse::{Fail, Input};
use crate::suggest;

/// One flag, without its quotes.
#[derive(Debug)]
struct Flag {
    name: String,
    value: Option<String>,
    offset: usize,
}

/// The flags of one instruction; each is to be taken once.
#[derive(Debug)]
pub(super) struct Flags<'a> {
    input: &'a Input<'a>,
    flags: Vec<Flag>,
}

impl<'a> Flags<'a> {
    /// Takes the flags off; gives them, and the offset of what follows.
    pub(super) fn split(input: &'a Input<'a>) -> (Self, usize) {
        let mut flags = Vec::new();
        let mut at = input.offset;
        loop {
            let rest = &input.line.text[at..];
            at += rest.len() - rest.trim_start().len();
            let rest = &input.line.text[at..];
            if !rest.starts_with("--") {
                break;
            }
            let (word, length) = flag_word(rest);
            // `--` alone ends the flags.
            if let Some(text) = word.strip_prefix("--").filter(|text| !text.is_empty()) {
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (text, None),
                };
                flags.push(Flag { name: name.to_owned(), value, offset: at });
                at += length;
            } else {
                at += length;
                let rest = &input.line.text[at..];
                at += rest.len() - rest.trim_start().len();
                break;
            }
        }
        (Self { input, flags }, at)
    }

    /// Checks that there are no flags but `known`, and that only `repeatable` stand twice.
    pub(super) fn allow(&self, known: &[&str], repeatable: &[&str]) -> Result<(), Fail> {
        for (index, flag) in self.flags.iter().enumerate() {
            if !known.contains(&flag.name.as_str()) {
                let message = format!("unknown flag `--{}` of {}", flag.name, self.input.name);
                let fail = Fail::new(flag.offset, message);
                return Err(match suggest::nearest(&flag.name, known.iter().copied()) {
                    Some(near) => fail.hint(format!("did you mean `--{near}`?")),
                    None if known.is_empty() => {
                        fail.hint(format!("{} has no flags", self.input.name))
                    }
                    None => fail.hint(format!("known are `--{}`", known.join("`, `--"))),
                });
            }
            let twice = self.flags[..index].iter().any(|earlier| earlier.name == flag.name);
            if twice && !repeatable.contains(&flag.name.as_str()) {
                return Err(Fail::new(flag.offset, format!("flag `--{}` stands twice", flag.name)));
            }
        }
        Ok(())
    }

    /// All values of a flag, each with its offset.
    pub(super) fn values(&self, name: &str) -> Result<Vec<(usize, &str)>, Fail> {
        self.flags
            .iter()
            .filter(|flag| flag.name == name)
            .map(|flag| match flag.value.as_deref() {
                Some(value) if !value.is_empty() => Ok((flag.offset, value)),
                _ => Err(Fail::new(flag.offset, format!("flag `--{name}` needs a value"))),
            })
            .collect()
    }

    /// The value of a flag that stands once at most.
    pub(super) fn value(&self, name: &str) -> Result<Option<(usize, &str)>, Fail> {
        Ok(self.values(name)?.into_iter().next())
    }

    /// The same, as a word.
    pub(super) fn word(&self, name: &str) -> Result<Option<Word>, Fail> {
        Ok(self.value(name)?.map(|(offset, value)| self.as_word(offset, value)))
    }

    /// All values as words.
    pub(super) fn words(&self, name: &str) -> Result<Vec<Word>, Fail> {
        let values = self.values(name)?;
        Ok(values.into_iter().map(|(offset, value)| self.as_word(offset, value)).collect())
    }

    fn as_word(&self, offset: usize, value: &str) -> Word {
        Word { raw: value.to_owned(), span: self.input.line.span(offset) }
    }

    /// `--name`, `--name=true`, `--name=false`; `None` when it does not stand.
    pub(super) fn switch(&self, name: &str) -> Result<Option<bool>, Fail> {
        let Some(flag) = self.flags.iter().find(|flag| flag.name == name) else {
            return Ok(None);
        };
        match flag.value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => {
                let message = format!("flag `--{name}` is either `true` or `false`");
                Err(Fail::new(flag.offset, message))
            }
        }
    }

    /// Where a flag stands.
    pub(super) fn span(&self, offset: usize) -> Span {
        self.input.line.span(offset)
    }
}

/// A word without its quotes and escapes, and how many bytes it took.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return (word, at),
            None if matches!(character, '"' | '\'') => quote = Some(character),
            Some(end) if end == character => quote = None,
            // The backslash escapes here whatever the escape character of the file is.
            _ if character == '\\' => word.extend(characters.next().map(|(_, next)| next)),
            _ => word.push(character),
        }
    }
    (word, text.len())
}
