//! The config of an image, and whether it speaks of the layers that there are.

use std::io::Read as _;

use sekisho_advisory::NotAssessed;
use sekisho_oci::{ImageConfig, ImageManifest, MAX_CONFIG_BYTES, media_type};
use sekisho_types::Digest;

use super::statements::Leaks;
use super::{Observer, invalid, missing, unreadable};
use crate::error::{ApiError, ApiResult, Code, OrFail as _};
use crate::push::facts::is_evidence_config;

impl Observer<'_> {
    /// The config of an image; `None` for an artifact, whose config must be a statement as a layer of its own
    /// would have to be. Tells the secrets in either.
    pub(super) fn config(
        &self,
        image: &ImageManifest,
        leaks: &mut Leaks,
        not_assessed: &mut Vec<NotAssessed>,
    ) -> ApiResult<Option<ImageConfig>> {
        if !media_type::is_image_config(&image.config.media_type) {
            let read = if is_evidence_config(&image.config) {
                self.statement(&image.config)?.map(|document| drop(leaks.take_of(document)))
            } else {
                Err(anyhow::anyhow!("`{}` is no config of an image", image.config.media_type))
            };
            if let Err(why) = read {
                let digest = &image.config.digest;
                let subject = format!("config {}", digest.short());
                not_assessed.push(unreadable(subject, &why, Some(digest.clone())));
            }
            return Ok(None);
        }
        if image.config.size > MAX_CONFIG_BYTES as u64 {
            let message = format!("an image config has at most {MAX_CONFIG_BYTES} bytes");
            return Err(ApiError::new(Code::ManifestInvalid, message));
        }
        let blob = self.view.open(&image.config.digest).or_fail("reading a config")?;
        let blob = blob.ok_or_else(|| missing(&image.config))?;
        let mut bytes = Vec::new();
        let mut reader = blob.reader(0).or_fail("reading a config")?;
        reader.read_to_end(&mut bytes).or_fail("reading a config")?;
        let config = ImageConfig::parse(&bytes).map_err(|error| invalid(&error))?;
        leaks.named.extend(self.analyses.inspector().text("(image config)", &bytes));
        Ok(Some(config))
    }
}

/// Whether the config names the layers that were found. It is the pusher's word: a runtime that
/// believes it looks for other content than was judged.
///
/// `found` are digests of uncompressed layers, with their places.
pub(super) fn names_layers(
    config: &ImageConfig,
    image: &ImageManifest,
    found: &[(usize, Digest)],
) -> anyhow::Result<()> {
    let (named, layers) = (&config.rootfs.diff_ids, image.layers.len());
    anyhow::ensure!(
        named.len() == layers,
        "its rootfs.diff_ids name {} layers, and there are {layers}",
        named.len(),
    );
    for (at, found) in found {
        let named = &named[*at];
        anyhow::ensure!(
            named == found,
            "its rootfs.diff_ids[{at}] is {named}, and layer {at} unpacks to {found}",
        );
    }
    Ok(())
}

/// The digests of all uncompressed layers; `None` when some were not read.
pub(super) fn whole(image: &ImageManifest, found: Vec<(usize, Digest)>) -> Option<Vec<Digest>> {
    let is_whole = found.len() == image.layers.len();
    is_whole.then(|| found.into_iter().map(|(_, digest)| digest).collect())
}

#[cfg(test)]
mod tests {
    use sekisho_oci::{Descriptor, Platform};

    use super::*;

    #[test]
    fn the_named_layers_are_those_that_were_found() {
        let digests: Vec<Digest> = (0..3_u8).map(|it| Digest::sha256(&[it])).collect();
        let layer = Descriptor::of(media_type::OCI_LAYER, b"x");
        let image = ImageManifest::new(
            Descriptor::of(media_type::OCI_CONFIG, b"{}"),
            vec![layer.clone(), layer],
        );
        let why = |named: &[usize], found: &[(usize, usize)]| {
            let mut config = ImageConfig::new(&Platform::host());
            config.rootfs.diff_ids = named.iter().map(|it| digests[*it].clone()).collect();
            let found: Vec<_> = found.iter().map(|(at, it)| (*at, digests[*it].clone())).collect();
            names_layers(&config, &image, &found).err().map(|it| it.to_string())
        };
        assert_eq!(why(&[0, 1], &[(0, 0), (1, 1)]), None);
        // One that lies elsewhere cannot be compared.
        assert_eq!(why(&[2, 1], &[(1, 1)]), None);
        let swapped = why(&[1, 0], &[(0, 0), (1, 1)]).unwrap();
        let (named, found) = (&digests[1], &digests[0]);
        assert_eq!(
            swapped,
            format!("its rootfs.diff_ids[0] is {named}, and layer 0 unpacks to {found}")
        );
        let fewer = "its rootfs.diff_ids name 1 layers, and there are 2";
        assert_eq!(why(&[0], &[(0, 0), (1, 1)]).as_deref(), Some(fewer));
        assert_eq!(whole(&image, vec![(1, digests[1].clone())]), None);
        let both = vec![(0, digests[0].clone()), (1, digests[1].clone())];
        assert_eq!(whole(&image, both), Some(digests[..2].to_vec()));
    }
}
