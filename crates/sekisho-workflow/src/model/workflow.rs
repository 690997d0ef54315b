//! The top level of a workflow file.

use super::Workflow;
use crate::diagnostic::{Diagnostic, Position};

/// Reads and checks one workflow file.
///
/// `path` is its path in the repository, for diagnostics.
///
/// # Errors
/// Up to [`crate::diagnostic::MAX_DIAGNOSTICS`] errors, in the order of the file.
pub fn parse(path: &str, _text: &str) -> Result<Workflow, Vec<Diagnostic>> {
    Err(vec![Diagnostic::new(path, Position::START, "not implemented")])
}
