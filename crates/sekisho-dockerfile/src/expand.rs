//! Variables, quotes and escapes in a word.

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// `${` without `}`, a quote without its end, …
    #[error("{0}")]
    Syntax(&'static str),
    /// `${name:?message}` of a variable that is not set.
    #[error("variable `{name}` is required: {message}")]
    Required {
        /// The variable.
        name: String,
        /// After the `?`, or a default.
        message: String,
    },
    /// The result is larger than [`MAX_EXPANDED_BYTES`].
    #[error("expansion is larger than {MAX_EXPANDED_BYTES} bytes")]
    TooLarge,
}

/// Largest result of one expansion, in bytes: variables can multiply each other.
pub const MAX_EXPANDED_BYTES: usize = 1024 * 1024;

/// What a name stands for; `None` when it is not set.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Replaces variables, and removes quotes and escapes: one word in, one word out.
pub fn expand(raw: &str, escape: char, lookup: &Lookup<'_>) -> Result<String, ExpandError> {
    let _ = (raw, escape, lookup);
    unimplemented!("the expansion")
}

/// As [`expand`], but blanks outside quotes, also those of a variable's value, separate words.
///
/// Docker does so for EXPOSE only.
pub fn expand_words(
    raw: &str,
    escape: char,
    lookup: &Lookup<'_>,
) -> Result<Vec<String>, ExpandError> {
    let _ = (raw, escape, lookup);
    unimplemented!("the expansion")
}
