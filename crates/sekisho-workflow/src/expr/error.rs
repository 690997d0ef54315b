//! Why an expression is refused.

use thiserror::Error;

/// A wrong expression, in the words GitHub uses, so that a search for the message finds help.
///
/// `position` counts characters from 1, within `expression`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ExprError {
    /// A character or token that cannot stand here.
    #[error(
        "Unexpected symbol: '{symbol}'. Located at position {position} within expression: {expression}"
    )]
    UnexpectedSymbol {
        /// What stands there.
        symbol: String,
        /// Where.
        position: usize,
        /// The whole expression.
        expression: String,
    },
    /// The expression stops too early.
    #[error(
        "Unexpected end of expression: '{symbol}'. Located at position {position} within expression: {expression}"
    )]
    UnexpectedEnd {
        /// The last token.
        symbol: String,
        /// Where it stands.
        position: usize,
        /// The whole expression.
        expression: String,
    },
    /// A context that does not exist, or not here.
    #[error(
        "Unrecognized named-value: '{name}'. Located at position {position} within expression: {expression}"
    )]
    UnrecognizedNamedValue {
        /// The name.
        name: String,
        /// Where.
        position: usize,
        /// The whole expression.
        expression: String,
    },
    /// A function that does not exist, or not here.
    #[error(
        "Unrecognized function: '{name}'. Located at position {position} within expression: {expression}"
    )]
    UnrecognizedFunction {
        /// The name.
        name: String,
        /// Where.
        position: usize,
        /// The whole expression.
        expression: String,
    },
    /// Fewer arguments than the function needs, or an even number for `case`.
    #[error(
        "Too few parameters supplied: '{name}'. Located at position {position} within expression: {expression}"
    )]
    TooFewParameters {
        /// The function.
        name: String,
        /// Where.
        position: usize,
        /// The whole expression.
        expression: String,
    },
    /// More arguments than the function takes.
    #[error(
        "Too many parameters supplied: '{name}'. Located at position {position} within expression: {expression}"
    )]
    TooManyParameters {
        /// The function.
        name: String,
        /// Where.
        position: usize,
        /// The whole expression.
        expression: String,
    },
    /// An even number of arguments to `case`.
    #[error(
        "Even number of parameters supplied, requires an odd number of parameters: '{name}'. Located at position {position} within expression: {expression}"
    )]
    EvenParameters {
        /// The function.
        name: String,
        /// Where.
        position: usize,
        /// The whole expression.
        expression: String,
    },
    /// Nothing between `${{` and `}}`.
    #[error("An expression was expected")]
    Empty,
    /// Over [`super::MAX_EXPRESSION_CHARS`].
    #[error("Exceeded max expression length {}", super::MAX_EXPRESSION_CHARS)]
    TooLong,
    /// Over [`super::MAX_EXPRESSION_DEPTH`].
    #[error("Exceeded max expression depth {}", super::MAX_EXPRESSION_DEPTH)]
    TooDeep,
    /// Over [`super::MAX_EVALUATION_BYTES`].
    #[error("The maximum allowed memory size was exceeded")]
    TooMuchMemory,
    /// `format` got a broken format string.
    #[error("The following format string is invalid: {format}")]
    InvalidFormat {
        /// The format string.
        format: String,
    },
    /// `format` refers to an argument that is not there.
    #[error("The following format string references more arguments than were supplied: {format}")]
    FormatArgument {
        /// The format string.
        format: String,
    },
    /// `fromJSON` got something that is not JSON.
    #[error("Error parsing fromJson: {message}")]
    InvalidJson {
        /// What the JSON parser says.
        message: String,
    },
    /// A predicate of `case` that is not a boolean.
    #[error("case predicate must evaluate to a boolean value")]
    CasePredicate,
    /// `hashFiles` failed.
    #[error("hashFiles failed: {message}")]
    HashFiles {
        /// What the file system says.
        message: String,
    },
    /// A function that exists, but not in this place.
    #[error("The function '{name}' is not available here")]
    Unavailable {
        /// The function.
        name: String,
    },
}

impl ExprError {
    /// Where in the expression, in characters from 1; `None` for an error without a place.
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::UnexpectedSymbol { position, .. }
            | Self::UnexpectedEnd { position, .. }
            | Self::UnrecognizedNamedValue { position, .. }
            | Self::UnrecognizedFunction { position, .. }
            | Self::TooFewParameters { position, .. }
            | Self::TooManyParameters { position, .. }
            | Self::EvenParameters { position, .. } => Some(*position),
            Self::Empty
            | Self::TooLong
            | Self::TooDeep
            | Self::TooMuchMemory
            | Self::InvalidFormat { .. }
            | Self::FormatArgument { .. }
            | Self::InvalidJson { .. }
            | Self::CasePredicate
            | Self::HashFiles { .. }
            | Self::Unavailable { .. } => None,
        }
    }
}
