//! Dockerfile to build graph, cache keys.
//!
//! Nothing here does IO. [`parse`] reads the whole language, also what a builder does not support
//! (yet): every instruction arrives as a typed value with its [`Span`], so that a builder can refuse
//! it by name, line and column.
//!
//! - [`parse`]: text → [`Dockerfile`].
//! - [`expand`]: variables in a [`Word`].
//! - [`scope`]: which ARG and ENV an instruction sees.
//! - [`graph`]: which stages a target needs, in which order, and what each is based on.
//! - [`git`]: names of git repositories.
//! - [`mod@ignore`] reads `.dockerignore`.
//! - [`key`]: cache keys.
//! - [`lint`]: findings, as of `--check`; [`outline`]: what can be given to a build.

mod ast;
mod diagnostic;
pub mod expand;
pub mod git;
pub mod graph;
pub mod ignore;
pub mod key;
pub mod lint;
pub mod outline;
mod parse;
pub mod scope;
mod suggest;

pub use ast::{
    Add, Arg, CacheSharing, Check, Command, Copy, Dockerfile, Healthcheck, HealthcheckTest,
    Heredoc, Instruction, Mount, MountKind, Network, Pair, Run, Script, Security, Source, Span,
    Spanned, Stage, Word,
};
pub use diagnostic::Diagnostic;
pub use parse::{MAX_DOCKERFILE_BYTES, parse, syntax};
