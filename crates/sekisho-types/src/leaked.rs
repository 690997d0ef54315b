//! Secrets that were found where they do not belong.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A secret in a layer, a statement or an image's config: where it is, and never what it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeakedSecret {
    /// What it is: `github-token`, `private-key`, …
    pub kind: String,
    /// The `diff_id` of the layer, or the digest of the statement; `None` for the image's config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// The file, relative to the image's root.
    pub path: String,
    /// The line it begins on, from 1.
    pub line: u64,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// Equal secrets of one plane have equal fingerprints, and nobody without the plane's key can
    /// make one. Empty where there was no key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// It lies among tests, examples or documentation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sample: bool,
}

impl fmt::Display for LeakedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, path, line, offset, .. } = self;
        write!(f, "{kind} in `{path}`, line {line} (byte {offset})")?;
        if let Some(layer) = &self.layer {
            write!(f, " of layer {}", layer.short())?;
        }
        if !self.fingerprint.is_empty() {
            write!(f, ", fingerprint {}", self.fingerprint)?;
        }
        Ok(())
    }
}
