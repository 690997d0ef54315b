//! Brings an image to a registry.

use sekisho_oci::Descriptor;
use sekisho_registry::RegistryError;
use sekisho_types::ImageReference;

use crate::BuildError;
use crate::engine::{Engine, now};
use crate::image::{Documents, Layer};
use crate::progress::Event;
use crate::remote::{CallError, Upload};

/// Pushes layers, config and manifest; what the registry has is not sent, and of a base image not even
/// fetched.
pub(crate) fn push(
    engine: &mut Engine,
    destination: &ImageReference,
    chain: &[Layer],
    documents: &Documents,
) -> Result<(), BuildError> {
    let begun = now();
    engine.progress.event(Event::PushStarted { reference: destination.clone() });
    let failed = |error| failed(destination, error);
    let mut uploads: Vec<Upload> = Vec::new();
    for layer in chain {
        engine.check()?;
        let descriptor = &layer.descriptor;
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
        uploads.push(Upload { descriptor: descriptor.clone(), path });
    }
    let config = documents.parsed.config.clone();
    let path = engine.layers.store.blob_path(&config.digest);
    uploads.push(Upload { descriptor: config, path });
    engine.layers.remote.upload(destination, &uploads).map_err(failed)?;
    let pushed =
        engine.layers.remote.push_manifest(destination, &documents.manifest).map_err(failed)?;
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
