//! Verdicts on a push: Cedar policies over typed facts.
//!
//! Two questions, each a plain function: may this identity push here
//! ([`Policies::may_push`], asked before the first byte and again at the end), and may this content
//! ship ([`Policies::may_ship`]).
//!
//! A rule is a Cedar `forbid` with `@id`, `@mode("enforce"|"warn")`, `@message`, `@fix` and `@docs`.
//! An enforced rule that matches denies; one that warns is told and lets pass. Without any
//! `permit` everything is denied; a policy that cannot be evaluated denies too.
//!
//! Facts are on the schema (`policies/schema.cedarschema`): a policy that misspells one is an error
//! with its line when it is loaded.

mod entities;
mod exceptions;
mod facts;
mod policies;
mod verdict;

pub use exceptions::{
    Exception, Exceptions, ExceptionsError, MAX_DAYS, MAX_EXCEPTIONS, MAX_EXCEPTIONS_BYTES,
};
pub use facts::{Base, Content, Identity, Target};
pub use policies::{MAX_POLICY_BYTES, Place, Policies, PolicyError};
pub use verdict::{Decision, Mode, Reason, Verdict};

#[cfg(test)]
mod tests;
