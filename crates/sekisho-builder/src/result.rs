//! What came of a build.

use sekisho_sandbox::Used;
use sekisho_types::{Digest, ImageReference};
use serde::Serialize;

use crate::golden::Base;

/// A finished image.
#[derive(Clone, Debug, Serialize)]
pub struct BuildResult {
    /// Of the manifest, or of the index of several platforms: the image's name for ever.
    pub manifest_digest: Digest,
    /// Of the config.
    pub config_digest: Digest,
    /// Base first; of the first platform, like the config.
    pub layers: Vec<LayerInfo>,
    /// One for each platform, in the order they were asked for.
    pub platforms: Vec<PlatformResult>,
    /// Golden bases that it is made on, and what is in them.
    pub bases: Vec<Base>,
    /// In the order of the Dockerfile.
    pub steps: Vec<StepResult>,
    /// Where it was pushed.
    pub pushed: Vec<ImageReference>,
}

/// The image for one platform.
#[derive(Clone, Debug, Serialize)]
pub struct PlatformResult {
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Of the manifest.
    pub manifest_digest: Digest,
    /// Of the config.
    pub config_digest: Digest,
    /// Base first.
    pub layers: Vec<LayerInfo>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerInfo {
    /// Of the compressed bytes.
    pub digest: Digest,
    /// Of the uncompressed bytes.
    pub diff_id: Digest,
    /// Compressed, in bytes.
    pub size_bytes: u64,
}

/// One instruction that was carried out.
#[derive(Clone, Debug, Serialize)]
pub struct StepResult {
    /// From 1.
    pub number: usize,
    /// The stage's name, or its number from 0; after its platform where there are several.
    pub stage: String,
    /// The instruction, on one line.
    pub text: String,
    /// Its line in the Dockerfile, from 1.
    pub line: u32,
    /// The result was there already.
    pub cached: bool,
    /// How long it took.
    pub duration_ms: u64,
    /// The layer it made.
    pub layer: Option<LayerInfo>,
    /// What a RUN used that was carried out.
    pub used: Option<Used>,
    /// Of that time, what its sandbox took, from its making to its end.
    pub sandbox_us: Option<u64>,
}
