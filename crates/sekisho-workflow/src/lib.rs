//! GitHub workflow files, expressions, filters and `needs`: what runs, and when.
//!
//! Everything here is a pure function of its arguments: no IO, no clock, no environment. The hub
//! reads a file and calls [`model::parse`]; [`plan::expand`] flattens the workflow and what it
//! calls; [`plan::decide`] looks at a run and says what to do next. The runner evaluates the
//! [`token::Token`]s and step conditions it was sent with the same [`expr`] code.
//!
//! ```text
//! bytes ─ yaml ─▶ nodes ─ model ─▶ Workflow ─ plan::expand ─▶ Plan ─ plan::decide ─▶ actions
//!                   └─ token (scalars with ${{ }}) ─ expr (parse, check, evaluate)
//! ```

pub mod diagnostic;
pub mod expr;
pub mod filter;
pub mod model;
pub mod plan;
pub mod token;
pub mod yaml;

pub use diagnostic::{Diagnostic, Position};
