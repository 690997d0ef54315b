//! What the inspector says of the layers of an image.

use std::io;

use sekisho_advisory::NotAssessed;
use sekisho_oci::{ImageManifest, media_type};
use sekisho_types::Digest;
use serde_json::Value;

use super::{Observer, unreadable};
use crate::error::{ApiResult, OrFail as _};
use crate::push::facts::is_evidence;

/// What is known about the layers of one image.
#[derive(Default)]
pub(super) struct Layers {
    /// The analyses, base first.
    pub(super) values: Vec<Value>,
    /// Of their uncompressed bytes, with their places among the layers.
    pub(super) diff_ids: Vec<(usize, Digest)>,
    /// Those that could not be analysed.
    pub(super) not_assessed: Vec<NotAssessed>,
}

impl Observer<'_> {
    /// The analyses of an image's layers, base first, and what could not be analysed.
    pub(super) fn layers(&self, image: &ImageManifest) -> ApiResult<Layers> {
        let Layers { mut values, mut diff_ids, mut not_assessed } = Layers::default();
        for (at, layer) in image.layers.iter().enumerate() {
            let subject = || format!("layer {}", layer.digest.short());
            let digest = Some(layer.digest.clone());
            if is_evidence(layer) {
                if let Err(why) = self.statement(layer)? {
                    not_assessed.push(unreadable(subject(), &why, digest));
                }
                continue;
            }
            if !media_type::is_tar_layer(&layer.media_type) {
                let why = anyhow::anyhow!("`{}` is no layer of an image", layer.media_type);
                not_assessed.push(unreadable(subject(), &why, digest));
                continue;
            }
            if self.view.size(&layer.digest).or_fail("looking for a layer")?.is_none() {
                let why = anyhow::anyhow!("it lies elsewhere and was not pushed");
                not_assessed.push(unreadable(subject(), &why, digest));
                continue;
            }
            let open = || match self.view.open(&layer.digest)? {
                Some(blob) => blob.reader(0),
                None => Err(io::Error::new(io::ErrorKind::NotFound, "the layer has gone")),
            };
            match self.analyses.of(&layer.digest, open).or_fail("reading a layer")? {
                Ok(value) => match self.analyses.inspector().diff_id(&value) {
                    Ok(diff_id) => {
                        diff_ids.push((at, diff_id));
                        values.push(value);
                    }
                    Err(error) => not_assessed.push(unreadable(subject(), &error, digest)),
                },
                Err(error) => not_assessed.push(unreadable(subject(), &error, digest)),
            }
        }
        Ok(Layers { values, diff_ids, not_assessed })
    }
}
