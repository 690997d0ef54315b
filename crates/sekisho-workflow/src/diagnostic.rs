//! What is wrong with a file, and where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Errors reported for one file; the rest is noise that the first ones cause.
pub const MAX_DIAGNOSTICS: usize = 10;

/// Longest message kept, in characters: a message may quote foreign text.
pub const MAX_MESSAGE_CHARS: usize = 500;

/// A place in a file: line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl Default for Position {
    fn default() -> Self {
        Self::START
    }
}

/// One error in a workflow file, shown as `path:line:column: message`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file, relative to its repository.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// One sentence, at most [`MAX_MESSAGE_CHARS`] long.
    pub message: String,
}

impl Diagnostic {
    /// A diagnostic, its message cut to [`MAX_MESSAGE_CHARS`].
    pub fn new(path: impl Into<String>, at: Position, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((cut, _)) = message.char_indices().nth(MAX_MESSAGE_CHARS) {
            message.truncate(cut);
        }
        Self { path: path.into(), line: at.line, column: at.column, message }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.message)
    }
}

impl std::error::Error for Diagnostic {}

/// Gathers diagnostics of one file, up to [`MAX_DIAGNOSTICS`].
#[derive(Debug)]
pub(crate) struct Collector {
    path: String,
    found: Vec<Diagnostic>,
}

impl Collector {
    pub(crate) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), found: Vec::new() }
    }

    pub(crate) fn push(&mut self, at: Position, message: impl Into<String>) {
        if !self.is_full() {
            self.found.push(Diagnostic::new(self.path.clone(), at, message));
        }
    }

    /// Whether nothing more is kept, so that nothing more need be looked for.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= MAX_DIAGNOSTICS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// In the order of the file, which is how people read it.
    pub(crate) fn into_vec(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|d| (d.line, d.column));
        self.found
    }
}

/// The known name nearest to `name`, if it is near enough to be a slip of the keyboard.
///
/// Near enough: at most a third of the letters differ (optimal string alignment distance).
pub(crate) fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.chars().flat_map(char::to_lowercase).take(64).collect();
    let allowed = (name.len() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            (distance(&name, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean `x`?)`, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    suggest(name, known).map(|best| format!("; did you mean `{best}`?")).unwrap_or_default()
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
