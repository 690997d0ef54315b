//! Text → [`Dockerfile`].

use crate::ast::Dockerfile;
use crate::diagnostic::Diagnostic;

/// Largest Dockerfile, in bytes: generated ones of a few hundred KiB exist.
pub const MAX_DOCKERFILE_BYTES: usize = 4 * 1024 * 1024;

/// Reads a Dockerfile; `file` is its name for diagnostics.
///
/// The first mistake ends the reading of its instruction, not of the file: all mistakes are
/// returned, in order of their lines, and there is at least one.
pub fn parse(file: &str, text: &str) -> Result<Dockerfile, Vec<Diagnostic>> {
    let _ = (file, text);
    unimplemented!("the parser")
}
