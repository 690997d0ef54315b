//! Secrets become `***` before anything is written anywhere.
//!
//! A secret is looked for as it is and in the forms in which programs print it: base64 at each of
//! its three alignments, inside JSON, XML, URLs, expressions and shell quotes, and line by line
//! where it has more than one line. All are literals, found in one pass over the text.

mod forms;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use regex::Regex;

/// What stands where a secret was.
pub(crate) const MASK: &str = "***";
/// Most literals; a secret has about fifteen. A job that adds more masks is stopped, for its log
/// could not be trusted any more.
const MAX_LITERALS: usize = 50_000;
/// Largest secret, in bytes: GitHub's limit is 48 KiB.
const MAX_SECRET_LEN: usize = 64 * 1024;
/// Most patterns in a job message.
const MAX_PATTERNS: usize = 100;
/// Size of one compiled pattern, in bytes.
const MAX_PATTERN_SIZE: usize = 1024 * 1024;

/// Finds secrets in text.
#[derive(Default)]
pub(crate) struct Masker {
    literals: HashSet<Vec<u8>>,
    /// Literals by their first four bytes; the longest first.
    by_head: HashMap<[u8; 4], Vec<Vec<u8>>>,
    /// Literals shorter than four bytes.
    short: Vec<Vec<u8>>,
    /// First bytes of any literal: most of a text is passed over by this table alone.
    first: Vec<bool>,
    patterns: Vec<Regex>,
    longest: usize,
}

/// A mask that cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MaskError {
    #[error("more than {MAX_LITERALS} forms of secrets are to be masked")]
    TooMany,
    #[error("a secret is longer than {MAX_SECRET_LEN} bytes")]
    TooLong,
    #[error("a mask pattern is not a regular expression we can use")]
    Pattern,
}

impl Masker {
    /// Masks `secret` in all its forms from now on. Blank text is not a secret.
    pub(crate) fn add(&mut self, secret: &str) -> Result<(), MaskError> {
        if secret.len() > MAX_SECRET_LEN {
            return Err(MaskError::TooLong);
        }
        let lines = secret.lines().filter(|line| line.len() < secret.len());
        for value in std::iter::once(secret).chain(lines) {
            if value.trim().is_empty() {
                continue;
            }
            for form in forms::of(value) {
                self.insert(form)?;
            }
        }
        Ok(())
    }

    /// Masks what a regular expression matches.
    pub(crate) fn add_pattern(&mut self, pattern: &str) -> Result<(), MaskError> {
        if self.patterns.len() >= MAX_PATTERNS {
            return Err(MaskError::TooMany);
        }
        let regex = regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_SIZE).build();
        self.patterns.push(regex.map_err(|_| MaskError::Pattern)?);
        Ok(())
    }

    /// The text with every secret in it replaced.
    pub(crate) fn mask<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let ranges = self.ranges(text.as_bytes());
        if ranges.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = String::with_capacity(text.len());
        let mut end = 0;
        for range in ranges {
            // Literals are whole UTF-8 texts, so they begin and end between characters.
            masked.push_str(&text[end..range.start]);
            masked.push_str(MASK);
            end = range.end;
        }
        masked.push_str(&text[end..]);
        Cow::Owned(masked)
    }

    /// Whether there is a secret in the text.
    pub(crate) fn finds(&self, text: &str) -> bool {
        !self.ranges(text.as_bytes()).is_empty()
    }

    /// Length of the longest literal, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Where the secrets are: in order, not overlapping, not touching.
    pub(crate) fn ranges(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        if !self.literals.is_empty() {
            for (at, byte) in text.iter().enumerate() {
                if self.first[usize::from(*byte)]
                    && let Some(len) = self.literal_at(&text[at..])
                {
                    found.push(at..at + len);
                }
            }
        }
        if let (false, Ok(text)) = (self.patterns.is_empty(), std::str::from_utf8(text)) {
            for pattern in &self.patterns {
                let matches = pattern.find_iter(text).map(|m| m.range());
                found.extend(matches.filter(|range| !range.is_empty()));
            }
            found.sort_by_key(|range| range.start);
        }
        merge(found)
    }

    fn literal_at(&self, text: &[u8]) -> Option<usize> {
        let head: Option<[u8; 4]> = text.get(..4).and_then(|head| head.try_into().ok());
        let candidates = head.and_then(|head| self.by_head.get(&head));
        let long = candidates.and_then(|c| c.iter().find(|literal| text.starts_with(literal)));
        let short = || self.short.iter().find(|literal| text.starts_with(literal));
        long.or_else(short).map(Vec::len)
    }

    fn insert(&mut self, literal: String) -> Result<(), MaskError> {
        let literal = literal.into_bytes();
        if self.literals.contains(&literal) {
            return Ok(());
        }
        if self.literals.len() >= MAX_LITERALS {
            return Err(MaskError::TooMany);
        }
        if self.first.is_empty() {
            self.first = vec![false; 256];
        }
        self.first[usize::from(literal[0])] = true;
        self.longest = self.longest.max(literal.len());
        self.literals.insert(literal.clone());
        let head: Option<[u8; 4]> = literal.get(..4).and_then(|head| head.try_into().ok());
        let list = match head {
            Some(head) => self.by_head.entry(head).or_default(),
            None => &mut self.short,
        };
        let place = list.partition_point(|other| other.len() >= literal.len());
        list.insert(place, literal);
        Ok(())
    }
}

/// Joins ranges, sorted by their start, that overlap or touch.
fn merge(ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").field("literals", &self.literals.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
