//! Verification of the OIDC tokens that GitHub Actions issues to jobs.
//!
//! ```text
//!  token ─▶ Unverified ─▶ KeyObserved ─▶ decide ─▶ key ─▶ signature ─▶ Claims
//!          (limits, alg,   (kid, ages)   (pure)                       (audience, times, each claim)
//!           no foreign key)                 │ Fetch
//!                                           └──▶ discovery, JWKS: one request at a time
//! ```
//!
//! What is trusted is an issuer's exact address; its keys come from below that address or from
//! nowhere. One algorithm is known, RS256: a header that names another, or brings a key of its
//! own, is refused before any key is looked for. Source: GitHub's "OpenID Connect reference", RFC
//! 7515, RFC 7517, RFC 8725.

mod claims;
mod decide;
mod keys;
mod subject;
mod token;
mod verifier;

pub use claims::{Claims, RefType, RunnerEnvironment, Visibility, WorkflowRef};
pub use decide::{ASKED_EVERY, FRESH, KeyDecision, KeyObserved, USABLE, decide};
pub use keys::{Key, KeySet, KeySetError};
pub use subject::{Subject, SubjectContext};
pub use token::{MAX_TOKEN_BYTES, TokenError, Unverified};
pub use verifier::{Issuer, IssuerError, Verifier, VerifyError};

#[cfg(test)]
mod tests;
