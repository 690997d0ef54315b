//! Config, history and manifest of a finished stage.

use anyhow::Context as _;
use jiff::Timestamp;
use sekisho_oci::{
    Descriptor, History, ImageConfig, ImageManifest, Platform, RootFs, RunConfig, media_type,
};
use sekisho_types::{Digest, ImageReference};
use serde::{Deserialize, Serialize};

use crate::ages::Age;
use crate::options::Compression;
use crate::result::LayerInfo;

/// What the history names as the maker of a layer.
const COMMENT: &str = "sekisho";

/// A layer of an image, which need not be on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// Of the uncompressed bytes.
    pub(crate) diff_id: Digest,
    /// Of the compressed bytes; `None` while they are being compressed.
    pub(crate) descriptor: Option<Descriptor>,
    /// Where it can be had when it is not in the store.
    pub(crate) origin: Option<ImageReference>,
    /// How commands of this build see its times; nothing of the layer itself.
    #[serde(skip)]
    pub(crate) age: Age,
}

impl Layer {
    /// Of the compressed bytes.
    ///
    /// # Errors
    /// They are not there yet: see [`crate::layers::Layers::settled`].
    pub(crate) fn packed(&self) -> anyhow::Result<&Descriptor> {
        let known = self.descriptor.as_ref();
        known.with_context(|| format!("layer {} is not compressed yet", self.diff_id))
    }

    /// Whether it is pushed as it is: in the compression that was asked for, or a base image's.
    pub(crate) fn is_as_wanted(&self, how: Compression) -> bool {
        let given = self.descriptor.as_ref().map(|packed| packed.media_type.as_str());
        given.is_some_and(|given| {
            oci_layer_type(given) == how.media_type()
                || media_type::is_nondistributable(given)
                || (self.origin.is_some() && !how.force)
        })
    }

    pub(crate) fn info(&self) -> anyhow::Result<LayerInfo> {
        let Descriptor { digest, size, .. } = self.packed()?;
        let (digest, diff_id) = (digest.clone(), self.diff_id.clone());
        Ok(LayerInfo { digest, diff_id, size_bytes: *size })
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
///
/// # Errors
/// A layer is not compressed yet.
pub(crate) fn documents(parts: Parts<'_>) -> anyhow::Result<Documents> {
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
    let layers = parts.layers.iter().map(|layer| {
        let packed = layer.packed()?;
        Ok(Descriptor { media_type: oci_layer_type(&packed.media_type), ..packed.clone() })
    });
    let layers = layers.collect::<anyhow::Result<Vec<_>>>()?;
    let manifest = ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), layers);
    Ok(Documents { config, manifest: manifest.to_bytes(), parsed: manifest })
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
            descriptor: Some(Descriptor::of(media_type::DOCKER_LAYER_GZIP, b"gz")),
            origin: None,
            age: Age::default(),
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
        let (one, two) = (documents(parts()).unwrap(), documents(parts()).unwrap());
        assert_eq!(one.manifest, two.manifest);
        let config = ImageConfig::parse(&one.config).unwrap();
        assert_eq!(config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(config.rootfs.diff_ids, std::slice::from_ref(&layer.diff_id));
        assert_eq!(one.parsed.layers[0].media_type, media_type::OCI_LAYER_GZIP);
        assert_eq!(one.parsed.config.digest, Digest::sha256(&one.config));
    }
}
