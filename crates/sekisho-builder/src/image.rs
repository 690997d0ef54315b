//! Config, history and manifest of a finished stage.

use jiff::Timestamp;
use sekisho_oci::{
    Descriptor, History, ImageConfig, ImageManifest, Platform, RootFs, RunConfig, media_type,
};
use sekisho_types::{Digest, ImageReference};
use serde::{Deserialize, Serialize};

use crate::options::LayerInfo;

/// What the history names as the maker of a layer.
const COMMENT: &str = "sekisho";

/// A layer of an image, which need not be on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Of the uncompressed bytes.
    pub(crate) diff_id: Digest,
    /// Of the compressed bytes.
    pub(crate) descriptor: Descriptor,
    /// Where it can be had when it is not in the store.
    pub(crate) origin: Option<ImageReference>,
}

impl Layer {
    pub(crate) fn info(&self) -> LayerInfo {
        LayerInfo {
            digest: self.descriptor.digest.clone(),
            diff_id: self.diff_id.clone(),
            size_bytes: self.descriptor.size,
        }
    }
}

/// Seconds since 1970 as the config writes them.
pub(crate) fn time(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// One instruction's line of history.
pub(crate) fn history(created: i64, created_by: String, made_layer: bool) -> History {
    History {
        created: time(created),
        created_by: Some(created_by),
        author: None,
        comment: Some(COMMENT.to_owned()),
        empty_layer: !made_layer,
    }
}

/// Everything that makes an image.
pub(crate) struct Parts<'a> {
    pub(crate) platform: &'a Platform,
    pub(crate) created: i64,
    pub(crate) author: Option<String>,
    pub(crate) config: RunConfig,
    pub(crate) history: Vec<History>,
    pub(crate) layers: &'a [Layer],
}

/// Bytes of the config, and of the manifest that names it.
pub(crate) struct Documents {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) parsed: ImageManifest,
}

/// Same parts, same bytes.
pub(crate) fn documents(parts: Parts<'_>) -> Documents {
    let config = ImageConfig {
        created: time(parts.created),
        author: parts.author,
        config: parts.config,
        rootfs: RootFs {
            diff_ids: parts.layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            ..RootFs::default()
        },
        history: parts.history,
        ..ImageConfig::new(parts.platform)
    }
    .to_bytes();
    let layers = parts.layers.iter().map(|layer| Descriptor {
        media_type: oci_layer_type(&layer.descriptor.media_type),
        ..layer.descriptor.clone()
    });
    let manifest =
        ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), layers.collect());
    Documents { config, manifest: manifest.to_bytes(), parsed: manifest }
}

/// An OCI manifest names OCI types, also for layers that came under Docker's names.
fn oci_layer_type(given: &str) -> String {
    match given {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_plain_oci() {
        let layer = Layer {
            diff_id: Digest::sha256(b"tar"),
            descriptor: Descriptor::of(media_type::DOCKER_LAYER_GZIP, b"gz"),
            origin: None,
        };
        let platform = Platform::new("linux", "amd64");
        let parts = || Parts {
            platform: &platform,
            created: 1_700_000_000,
            author: None,
            config: RunConfig::default(),
            history: vec![history(1_700_000_000, "COPY a /".to_owned(), true)],
            layers: std::slice::from_ref(&layer),
        };
        let (one, two) = (documents(parts()), documents(parts()));
        assert_eq!(one.manifest, two.manifest);
        let config = ImageConfig::parse(&one.config).unwrap();
        assert_eq!(config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(config.rootfs.diff_ids, std::slice::from_ref(&layer.diff_id));
        assert_eq!(one.parsed.layers[0].media_type, media_type::OCI_LAYER_GZIP);
        assert_eq!(one.parsed.config.digest, Digest::sha256(&one.config));
    }
}
