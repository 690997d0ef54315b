//! What a statement about an image says: in the scanner that reads it, and in the gate that judges by it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Digest, LeakedSecret};

/// What stands for a signer where nobody signed who is known: no attestor has this name.
pub const UNSIGNED: &str = "unsigned";

/// What a document is, by its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatementKind {
    /// SPDX or CycloneDX, with its list of parts.
    Sbom,
    /// SLSA provenance that names a builder.
    Provenance,
    /// Anything else.
    #[default]
    Other,
}

/// What a document says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What it is.
    pub kind: StatementKind,
    /// Of which manifests it speaks; `None`: of what the manifest that holds it refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subjects: Option<BTreeSet<Digest>>,
    /// Names of those who signed it, of those that are known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub signers: BTreeSet<String>,
}

/// What was pushed as a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it says.
    pub statement: Statement,
    /// Secrets in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<LeakedSecret>,
    /// Further ones, which are not named.
    #[serde(default)]
    pub more_secrets: u64,
}
