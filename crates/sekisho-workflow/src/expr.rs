//! GitHub's expression language: the text between `${{` and `}}`.
//!
//! Two steps, each its own function: [`parse`] text to an [`Expr`], [`evaluate`] it against
//! [`Contexts`]. [`Scope::parse`] parses what stands at a known place, and refuses a name that
//! does not exist there.
//!
//! The rules are those of the official runner (C#), not of the TypeScript editor support, where
//! the two differ: numbers print with 15 significant digits.

mod ast;
mod check;
mod context_data;
mod error;
mod eval;
mod functions;
mod json;
mod lexer;
mod number;
mod object;
mod parser;
mod value;

pub use ast::Expr;
pub use check::Scope;
pub use context_data::ContextData;
pub use error::ExprError;
pub use eval::{Contexts, evaluate};
pub use functions::{Functions, NoFunctions};
pub use object::Object;
pub use parser::parse;
pub use value::Value;

/// Longest expression, in characters.
pub const MAX_EXPRESSION_CHARS: usize = 21_000;

/// Deepest tree of nodes; a chain of `&&` or of `||` counts as one node.
pub const MAX_EXPRESSION_DEPTH: usize = 50;

/// Bytes that one evaluation may produce: strings made, values copied into new arrays.
pub const MAX_EVALUATION_BYTES: usize = 1024 * 1024;

/// Whether the expression calls `success()`, `failure()`, `cancelled()` or `always()`.
pub fn uses_status_function(expr: &Expr) -> bool {
    expr.uses_status_function()
}

#[cfg(test)]
mod tests;
