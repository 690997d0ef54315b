//! Words that every crate shares: digests, image references, severities, sizes, statements, hints.
//!
//! Nothing here does IO, and nothing here knows a protocol.

mod digest;
mod leaked;
mod reference;
mod severity;
mod size;
mod statement;

pub use digest::{Algorithm, Digest, DigestError, Sha256Writer};
pub use leaked::LeakedSecret;
pub use reference::{
    ImageReference, MAX_REPOSITORY_LEN, MAX_TAG_LEN, ReferenceError, RepositoryName, Tag,
};
pub use severity::{Severity, SeverityError};
pub use size::parse_size;
pub use statement::{Document, Statement, StatementKind, UNSIGNED};

/// An error with all that it was caused by: `this: because of that: because of …`.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The next step to take, shown under an error as `hint: …`.
///
/// An error that a user can act on implements this; the CLI renders it once, at the top.
pub trait Hint {
    /// One sentence in the imperative, without a full stop; `None` when there is nothing to add.
    fn hint(&self) -> Option<String>;
}
