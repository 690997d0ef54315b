//! What was built becomes images: configs, manifests, an index for several platforms.

use std::sync::PoisonError;

use anyhow::Context as _;
use sekisho_oci::{Descriptor, ImageIndex, media_type};
use sekisho_types::Digest;

use crate::engine::{Engine, Progressed};
use crate::image::{self, Documents, Layer, Parts};
use crate::progress::Event;
use crate::result::{BuildResult, PlatformResult};
use crate::{BuildError, output, provenance, push};

/// One platform's image.
pub(crate) struct Image {
    pub(crate) platform: sekisho_oci::Platform,
    pub(crate) chain: Vec<Layer>,
    pub(crate) documents: Documents,
}

/// Everything that is pushed or written.
pub(crate) struct Images {
    /// At least one, in the order that was asked for.
    pub(crate) images: Vec<Image>,
    /// Statements about each of them, in the same form.
    pub(crate) statements: Vec<Image>,
    /// Whether there is more than one, or it is to look so.
    pub(crate) several: bool,
    /// The bytes of the index, when there is one.
    pub(crate) index: Option<Vec<u8>>,
}

impl Images {
    /// With the statements about them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Image> + Clone {
        self.images.iter().chain(&self.statements)
    }

    /// What the image's name is to lead to.
    pub(crate) fn root(&self) -> (&[u8], &'static str) {
        match (&self.index, self.images.first()) {
            (Some(index), _) => (index, media_type::OCI_INDEX),
            (None, Some(image)) => (&image.documents.manifest, media_type::OCI_MANIFEST),
            (None, None) => (&[], media_type::OCI_MANIFEST),
        }
    }
}

/// Writes configs and manifests of what was built.
pub(crate) fn finish(engine: &Engine, built: &[Progressed]) -> Result<BuildResult, BuildError> {
    let mut images = Vec::new();
    for target in built {
        let mut config = target.state.config.clone();
        config.labels.extend(engine.options.labels.clone());
        let settled = target.chain.iter().map(|layer| {
            engine.check()?;
            let layer = engine.layers.settled(layer.clone());
            engine.layers.compressed(layer, engine.press())
        });
        let chain = settled.collect::<Result<Vec<Layer>, BuildError>>()?;
        let documents = image::documents(Parts {
            platform: &target.platform,
            created: engine.options.created,
            author: target.state.author.clone(),
            config,
            history: target.history.clone(),
            layers: &chain,
        })?;
        images.push(Image { platform: target.platform.clone(), chain, documents });
    }
    finish_images(engine, images)
}

/// Pushes images, whoever built them, and writes what else was asked for.
pub(crate) fn finish_images(
    engine: &Engine,
    images: Vec<Image>,
) -> Result<BuildResult, BuildError> {
    engine.check()?;
    let store = &engine.layers.store;
    let (mut results, mut size_bytes) = (Vec::new(), 0);
    for Image { platform, chain, documents } in &images {
        let config_digest = store.put_blob(&engine.layers.session, &documents.config)?;
        let manifest_digest = store.put_blob(&engine.layers.session, &documents.manifest)?;
        size_bytes += documents.parsed.layers.iter().map(|layer| layer.size).sum::<u64>();
        size_bytes += documents.parsed.config.size;
        results.push(PlatformResult {
            platform: platform.to_string(),
            manifest_digest,
            config_digest,
            layers: chain.iter().map(Layer::info).collect::<anyhow::Result<_>>()?,
        });
    }
    let statements = engine.provenance(&images)?;
    for Image { documents, .. } in &statements {
        store.put_blob(&engine.layers.session, &documents.config)?;
        store.put_blob(&engine.layers.session, &documents.manifest)?;
    }
    let several = images.len() > 1 || engine.options.always_index()?;
    let index = (several || !statements.is_empty()).then(|| index(&images, &statements));
    if let Some(index) = &index {
        store.put_blob(&engine.layers.session, index)?;
    }
    let images = Images { images, statements, several, index };
    let manifest_digest = Digest::sha256(images.root().0);
    let event = Event::Built { manifest_digest: manifest_digest.clone(), size_bytes };
    engine.progress.event(event);
    for destination in &engine.options.destinations {
        push::push(engine, destination, &images)?;
    }
    for output in &engine.options.outputs {
        output::write(engine, output, &images)?;
    }
    if engine.options.outputs.is_empty() && engine.options.destinations.is_empty() {
        // The image is to stay here, so it must all be here.
        for layer in images.images.iter().flat_map(|image| &image.chain) {
            engine.layers.blob(layer)?;
        }
    }
    let first = results.first().context("nothing was built")?.clone();
    Ok(BuildResult {
        manifest_digest,
        config_digest: first.config_digest,
        layers: first.layers,
        platforms: results,
        bases: engine.bases.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        steps: engine.steps(),
        pushed: engine.options.destinations.clone(),
    })
}

fn index(images: &[Image], statements: &[Image]) -> Vec<u8> {
    let describe = |image: &Image| {
        let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &image.documents.manifest);
        descriptor.platform = Some(image.platform.clone());
        descriptor
    };
    let about = images.iter().zip(statements).map(|(image, statement)| {
        let subject = Digest::sha256(&image.documents.manifest);
        Descriptor { annotations: provenance::annotations(&subject), ..describe(statement) }
    });
    ImageIndex::new(images.iter().map(describe).chain(about).collect()).to_bytes()
}
