//! Image manifests and indexes.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use sekisho_types::Digest;

use crate::descriptor::Descriptor;
use crate::fold::{self, TwoWays};
use crate::json::{self, null_is_default};
use crate::media_type;
use crate::platform::Platform;

/// Largest manifest or index that is read or served, in bytes: distribution-spec 1.1 asks a
/// registry to take at least 4 MB.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// Most descriptors in one manifest or index. Docker stops at 127 layers; an index of many
/// platforms with attestations stays far below.
pub const MAX_DESCRIPTORS: usize = 4096;

/// The manifest of one image (or artifact).
///
/// Source: OCI image-spec 1.1, manifest.md; Docker's version 2 schema 2 has the same fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// What this document is; `None` only in old OCI manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// For an artifact: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, base first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// An OCI image manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Compact JSON; equal values give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_bytes(self)
    }
}

/// A list of manifests, one per platform.
///
/// Source: OCI image-spec 1.1, image-index.md; Docker calls it a manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// What this document is; `None` only in old OCI indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// For an artifact: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Manifests, or further indexes.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text by key.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl ImageIndex {
    /// An OCI image index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Compact JSON; equal values give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_bytes(self)
    }

    /// The entry that runs best where `host` is wanted; of equals the first.
    ///
    /// An entry without a platform is taken only when no other fits. Attestations carry the
    /// platform `unknown/unknown` and so are never chosen.
    pub fn choose(&self, host: &Platform) -> Option<&Descriptor> {
        let rank = |entry: &Descriptor| match &entry.platform {
            Some(platform) => platform.rank_for(host),
            None => Some(u32::MAX),
        };
        self.manifests
            .iter()
            .filter_map(|entry| Some((rank(entry)?, entry)))
            .min_by_key(|(rank, _)| *rank)
            .map(|(_, entry)| entry)
    }
}

/// What a registry serves under `/manifests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time is held, never a list of them")]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// A list of manifests.
    Index(ImageIndex),
}

/// What a descriptor is to the document that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The config blob.
    Config,
    /// A layer blob.
    Layer,
    /// A manifest in an index.
    Child,
    /// The manifest that the document says something about; it may be absent.
    Subject,
}

/// One descriptor that a document refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// What it points to.
    pub descriptor: &'a Descriptor,
    /// What for.
    pub role: Role,
    /// `false`: the content is fetched from elsewhere, and its absence is no error.
    pub distributable: bool,
}

impl Manifest {
    /// Everything that the document refers to, in its order.
    pub fn references(&self) -> Vec<Reference<'_>> {
        fn all<'a>(
            list: impl IntoIterator<Item = &'a Descriptor>,
            role: Role,
        ) -> impl Iterator<Item = Reference<'a>> {
            list.into_iter().map(move |descriptor| Reference {
                descriptor,
                role,
                distributable: descriptor.is_distributable(),
            })
        }
        match self {
            Self::Image(image) => all([&image.config], Role::Config)
                .chain(all(&image.layers, Role::Layer))
                .chain(all(&image.subject, Role::Subject))
                .collect(),
            Self::Index(index) => all(&index.manifests, Role::Child)
                .chain(all(&index.subject, Role::Subject))
                .collect(),
        }
    }

    /// The manifest that this one says something about.
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// What a referrers list shows as `artifactType`: the document's own, or for an image its
    /// config's media type.
    pub fn artifact_type(&self) -> Option<&str> {
        match self {
            Self::Image(image) => {
                Some(image.artifact_type.as_deref().unwrap_or(&image.config.media_type))
            }
            Self::Index(index) => index.artifact_type.as_deref(),
        }
    }

    /// The document's annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Image(image) => &image.annotations,
            Self::Index(index) => &index.annotations,
        }
    }
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Over [`MAX_MANIFEST_BYTES`].
    #[error("manifest of {bytes} bytes is larger than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge {
        /// What was given, in bytes.
        bytes: usize,
    },
    /// Neither an image manifest nor an index, of OCI or Docker's schema 2.
    #[error("`{content_type}` is no supported manifest type")]
    UnsupportedType {
        /// What was said.
        content_type: String,
    },
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("manifest does not parse")]
    Json(#[source] serde_json::Error),
    /// A field that others read as another one: CVE-2021-41190 in small.
    #[error("manifest is read in two ways: {0}")]
    TwoWays(TwoWays),
    /// `schemaVersion` is not 2.
    #[error("manifest has schemaVersion {found}, not 2")]
    SchemaVersion {
        /// What it says.
        found: u32,
    },
    /// The document says that it is something else than the content type says: CVE-2021-41190.
    #[error("manifest says mediaType `{media_type}` but was sent as `{content_type}`")]
    TypeMismatch {
        /// In the document.
        media_type: String,
        /// In the header.
        content_type: String,
    },
    /// Fields of an image manifest and of an index in one document: CVE-2021-41190.
    #[error("manifest has `{field}`, which does not belong into `{content_type}`")]
    Ambiguous {
        /// The field that does not belong.
        field: &'static str,
        /// In the header.
        content_type: String,
    },
    /// Over [`MAX_DESCRIPTORS`].
    #[error("manifest refers to {found} descriptors, more than {MAX_DESCRIPTORS}")]
    TooManyDescriptors {
        /// How many there are.
        found: usize,
    },
    /// Two layers or children with one digest and two sizes, or a size that no blob has.
    #[error("descriptor of {digest} has an impossible size of {size} bytes")]
    Size {
        /// Of the descriptor.
        digest: Digest,
        /// Of the descriptor.
        size: u64,
    },
}

/// The fields that tell the two kinds of document apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    manifests: Option<IgnoredAny>,
}

/// Reads a manifest or index that was sent as `content_type`.
///
/// Unknown fields are tolerated, unless other readers take them for known ones. If the document has a `mediaType`, it must equal the content type.
/// The caller keeps the bytes: a digest is of them, never of what [`ImageManifest::to_bytes`] gives.
pub fn parse_manifest(bytes: &[u8], content_type: &str) -> Result<Manifest, ManifestError> {
    if bytes.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLarge { bytes: bytes.len() });
    }
    let essence = media_type::essence(content_type);
    let is_index = media_type::is_index(&essence);
    if !is_index && !media_type::is_image_manifest(&essence) {
        return Err(ManifestError::UnsupportedType { content_type: essence });
    }
    let two_ways = fold::in_two_ways(bytes, fold::DOCUMENT).map_err(ManifestError::Json)?;
    if let Some(found) = two_ways {
        return Err(ManifestError::TwoWays(found));
    }
    let probe: Probe = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if probe.schema_version != 2 {
        return Err(ManifestError::SchemaVersion { found: probe.schema_version });
    }
    if let Some(media_type) = probe.media_type.filter(|said| *said != essence) {
        return Err(ManifestError::TypeMismatch { media_type, content_type: essence });
    }
    let foreign = if is_index {
        [("config", probe.config.is_some()), ("layers", probe.layers.is_some())]
    } else {
        [("manifests", probe.manifests.is_some()), ("manifests", false)]
    };
    if let Some((field, _)) = foreign.into_iter().find(|(_, present)| *present) {
        return Err(ManifestError::Ambiguous { field, content_type: essence });
    }
    let manifest = if is_index {
        Manifest::Index(serde_json::from_slice(bytes).map_err(ManifestError::Json)?)
    } else {
        Manifest::Image(serde_json::from_slice(bytes).map_err(ManifestError::Json)?)
    };
    validate(&manifest)?;
    Ok(manifest)
}

fn validate(manifest: &Manifest) -> Result<(), ManifestError> {
    let references = manifest.references();
    if references.len() > MAX_DESCRIPTORS {
        return Err(ManifestError::TooManyDescriptors { found: references.len() });
    }
    let mut sizes: BTreeMap<&Digest, u64> = BTreeMap::new();
    for Reference { descriptor: Descriptor { digest, size, .. }, .. } in references {
        let known = *sizes.entry(digest).or_insert(*size);
        // The specification's sizes are signed 64-bit.
        if known != *size || i64::try_from(*size).is_err() {
            return Err(ManifestError::Size { digest: digest.clone(), size: *size });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
