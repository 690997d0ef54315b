//! Facts judged outside of a push: for tests of policies.

use sekisho_policy::{Policies, Verdict};

use crate::push::decide::{Facts, decide};

/// Judges facts in the form that a gate keeps them in: `identity`, `target`, `contents` and `now`.
///
/// # Errors
/// They are no such facts.
pub fn judge(policies: &Policies, facts: serde_json::Value) -> serde_json::Result<Verdict> {
    let facts: Facts = serde_json::from_value(facts)?;
    Ok(decide(policies, &facts))
}
