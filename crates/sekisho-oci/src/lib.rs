//! Manifests, indexes, configs, tar layers: bytes in, values out.
//!
//! Nothing here opens a file or a socket: readers and writers are given. What comes from outside is
//! held to limits, and is refused with an error that says which rule it broke.
//!
//! - [`parse_manifest`] turns bytes and a content type into an [`ImageManifest`] or an
//!   [`ImageIndex`]; [`ImageConfig::parse`] reads the config blob.
//! - Each of them has `to_bytes`, which gives the same bytes for the same value.
//! - [`layer`] writes tar layers deterministically, and walks foreign ones with care.

mod config;
mod descriptor;
pub mod dsse;
mod fold;
mod json;
pub mod layer;
mod manifest;
pub mod media_type;
mod platform;

pub use config::{
    ConfigError, Empty, Healthcheck, History, ImageConfig, MAX_CONFIG_BYTES, RootFs, RunConfig,
};
pub use descriptor::Descriptor;
pub use fold::TwoWays;
pub use manifest::{
    ImageIndex, ImageManifest, MAX_DESCRIPTORS, MAX_MANIFEST_BYTES, Manifest, ManifestError,
    Reference, Role, parse_manifest,
};
pub use platform::{Platform, PlatformError};
