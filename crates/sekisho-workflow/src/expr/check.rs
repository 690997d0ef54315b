//! Which names an expression may use where it stands.

use super::ast::Expr;
use super::error::ExprError;
use super::functions::Function;
use super::parser;

/// The contexts and special functions that exist at one place of a workflow file.
///
/// The general functions (`contains`, `format`, …) exist everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Context names, in lower case.
    pub contexts: &'static [&'static str],
    /// `success()`, `failure()`, `cancelled()` and `always()` exist.
    pub status_functions: bool,
    /// `hashFiles()` exists.
    pub hash_files: bool,
}

impl Scope {
    /// A place with these contexts and no special function.
    pub const fn new(contexts: &'static [&'static str]) -> Self {
        Self { contexts, status_functions: false, hash_files: false }
    }

    /// The same place with the status functions.
    #[must_use]
    pub const fn with_status_functions(self) -> Self {
        Self { status_functions: true, ..self }
    }

    /// The same place with `hashFiles()`.
    #[must_use]
    pub const fn with_hash_files(self) -> Self {
        Self { hash_files: true, ..self }
    }

    /// Parses `text` as an expression that stands here.
    ///
    /// # Errors
    /// [`ExprError`] for wrong syntax, and for a name that does not exist here; whichever comes
    /// first in the text.
    pub fn parse(&self, text: &str) -> Result<Expr, ExprError> {
        parser::parse_within(text, Some(self))
    }

    pub(super) fn has_context(&self, name: &str) -> bool {
        self.contexts.iter().any(|context| context.eq_ignore_ascii_case(name))
    }

    pub(super) fn has_function(&self, function: Function) -> bool {
        if function.is_status() {
            self.status_functions
        } else if function == Function::HashFiles {
            self.hash_files
        } else {
            true
        }
    }
}
