//! Why policies could not be loaded, and where in their text.

use std::fmt;

use miette::Diagnostic;

use super::MAX_POLICY_BYTES;

/// A place in the text of the policies, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why policies could not be loaded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// More than [`MAX_POLICY_BYTES`].
    #[error("the policies have {0} bytes, more than {MAX_POLICY_BYTES}")]
    TooLarge(usize),
    /// No Cedar, or against the schema: an attribute that does not exist, a comparison that cannot be.
    #[error("{}{message}", at(*place))]
    Invalid {
        /// Where, when Cedar says so.
        place: Option<Place>,
        /// What Cedar says.
        message: String,
    },
    /// A rule without one of the annotations that explain it.
    #[error("{}the policy `{policy}` has no `@{annotation}`", at(*place))]
    Annotation {
        /// Where the policy begins.
        place: Option<Place>,
        /// Its `@id`, or its position.
        policy: String,
        /// `id`, `mode`, `message`, `fix` or `docs`.
        annotation: &'static str,
    },
    /// An annotation that nobody reads: a misspelt one, most often.
    #[error("{}the policy `{policy}` has `@{annotation}`, which means nothing here", at(*place))]
    UnknownAnnotation {
        /// Where the policy begins.
        place: Option<Place>,
        /// Its `@id`, or its position.
        policy: String,
        /// What it says.
        annotation: String,
    },
    /// A `@mode` that is none.
    #[error(
        "{}the policy `{policy}` has the mode `{mode}`; use `enforce`, `quarantine`, `warn` or `audit`",
        at(*place)
    )]
    Mode {
        /// Where the policy begins.
        place: Option<Place>,
        /// Its `@id`.
        policy: String,
        /// What it says.
        mode: String,
    },
    /// Two policies with one `@id`.
    #[error("{}there are two policies `{policy}`", at(*place))]
    Duplicate {
        /// Where the second one begins.
        place: Option<Place>,
        /// Their `@id`.
        policy: String,
    },
}

impl PolicyError {
    /// Where in the text, as far as it is known.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::TooLarge(_) => None,
            Self::Invalid { place, .. }
            | Self::Annotation { place, .. }
            | Self::UnknownAnnotation { place, .. }
            | Self::Mode { place, .. }
            | Self::Duplicate { place, .. } => *place,
        }
    }
}

fn at(place: Option<Place>) -> String {
    place.map_or_else(String::new, |place| format!("{place}: "))
}

/// An error of Cedar's, with the place that its first label names.
pub(super) fn invalid(text: &str, error: &dyn Diagnostic) -> PolicyError {
    let offset = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let place = offset.and_then(|offset| place_of(text, offset));
    PolicyError::Invalid { place, message: error.to_string() }
}

/// The place of a byte in a text.
pub(crate) fn place_of(text: &str, offset: usize) -> Option<Place> {
    text.get(..offset).map(|before| Place {
        line: before.matches('\n').count() + 1,
        column: before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1,
    })
}

/// Where each policy of a text that parses begins. A policy ends with a semicolon, which else stands
/// in strings and comments alone.
pub(super) fn places_of_policies(text: &str) -> Vec<Place> {
    let mut places = Vec::new();
    let mut chars = text.char_indices().peekable();
    let mut inside = false;
    while let Some((offset, c)) = chars.next() {
        match c {
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
                continue;
            }
            ';' => inside = false,
            c if c.is_whitespace() => {}
            _ if !inside => {
                inside = true;
                places.extend(place_of(text, offset));
            }
            _ => {}
        }
        if c == '"' {
            while let Some((_, c)) = chars.next() {
                match c {
                    '\\' => drop(chars.next()),
                    '"' => break,
                    _ => {}
                }
            }
        }
    }
    places
}
