//! Brings an image to a registry.

use sekisho_oci::{Descriptor, media_type};
use sekisho_registry::RegistryError;
use sekisho_types::{Digest, ImageReference};

use crate::BuildError;
use crate::engine::{Engine, now};
use crate::finish::Images;
use crate::progress::Event;
use crate::remote::{CallError, Upload};

/// Pushes layers, configs, manifests and index; what the registry has is not sent, and of a base image
/// not even fetched. The name comes last.
pub(crate) fn push(
    engine: &Engine,
    destination: &ImageReference,
    images: &Images,
) -> Result<(), BuildError> {
    let begun = now();
    engine.progress.event(Event::PushStarted { reference: destination.clone() });
    let failed = |error| failed(destination, error);
    let mut uploads: Vec<Upload> = Vec::new();
    for layer in images.images.iter().flat_map(|image| &image.chain) {
        engine.check()?;
        let descriptor = layer.packed()?;
        if uploads.iter().any(|upload| upload.descriptor.digest == descriptor.digest) {
            continue;
        }
        // What is here is asked for and sent in one go; what is not may be there already.
        let here = engine.layers.store.has_blob(&descriptor.digest, descriptor.size);
        if !here {
            let has =
                engine.layers.remote.has(destination, &descriptor.digest, layer.origin.as_ref());
            if has.map_err(failed)? {
                existed(engine, descriptor);
                continue;
            }
        }
        let path = engine.layers.blob(layer)?;
        let (descriptor, origin) = (descriptor.clone(), layer.origin.clone());
        uploads.push(Upload { descriptor, path, origin });
    }
    for image in &images.images {
        let config = image.documents.parsed.config.clone();
        let path = engine.layers.store.blob_path(&config.digest);
        uploads.push(Upload { descriptor: config, path, origin: None });
    }
    let remote = &engine.layers.remote;
    remote.upload(destination, &uploads).map_err(failed)?;
    let (root, media_type) = images.root();
    if images.index.is_some() {
        for image in &images.images {
            let manifest = &image.documents.manifest;
            let by_digest = ImageReference {
                tag: None,
                digest: Some(Digest::sha256(manifest)),
                ..destination.clone()
            };
            let pushed = remote.push_manifest(&by_digest, manifest, media_type::OCI_MANIFEST);
            pushed.map_err(failed)?;
        }
    }
    let pushed = remote.push_manifest(destination, root, media_type).map_err(failed)?;
    for warning in pushed.warnings {
        engine.remark(warning);
    }
    engine.progress.event(Event::PushFinished {
        reference: destination.clone(),
        digest: pushed.digest,
        duration: begun.elapsed(),
    });
    Ok(())
}

fn existed(engine: &Engine, descriptor: &Descriptor) {
    engine.progress.event(Event::BlobPushed {
        digest: descriptor.digest.clone(),
        size_bytes: descriptor.size,
        existed: true,
    });
}

fn failed(destination: &ImageReference, error: CallError) -> BuildError {
    let reference = Box::new(destination.clone());
    match error {
        CallError::Cancelled => BuildError::Cancelled,
        CallError::Registry(RegistryError::Denied { message, detail }) => {
            BuildError::Denied { reference, message, detail }
        }
        CallError::Registry(error) => BuildError::Push { reference, source: error.into() },
    }
}
