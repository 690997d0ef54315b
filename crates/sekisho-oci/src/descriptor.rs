//! Content descriptors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use sekisho_types::Digest;

use crate::json::null_is_default;
use crate::media_type;
use crate::platform::Platform;

/// What a piece of content is, and how to recognise it.
///
/// Source: OCI image-spec 1.1, descriptor.md. The digest is validated while parsing; a negative
/// size is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// Of the content's bytes.
    pub digest: Digest,
    /// Length of the content, in bytes.
    pub size: u64,
    /// Where else the content may be found. Never fetched: see CVE-2020-15157.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, in base64, when it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What the manifest in question is an artifact of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// For a manifest in an index: what it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor with the three fields that are required.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            artifact_type: None,
            platform: None,
        }
    }

    /// A descriptor of `bytes`.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::sha256(bytes), bytes.len() as u64)
    }

    /// Whether a registry may expect the content to be pushed.
    pub fn is_distributable(&self) -> bool {
        !media_type::is_nondistributable(&self.media_type)
    }
}
