//! Brings an image to a registry.

use sekisho_oci::{Descriptor, media_type};
use sekisho_registry::{Pushed, RegistryError};
use sekisho_types::{Digest, ImageReference};

use crate::BuildError;
use crate::engine::{Engine, now};
use crate::finish::Images;
use crate::progress::Event;
use crate::remote::{CallError, Standing, Upload};

/// Pushes layers, configs, manifests and index; what the registry has is not sent, and of a base image
/// not even fetched. The name comes last. Where it leads to this image already, nothing is pushed, unless the
/// registry decides at each push what may be there: it then decides with what it knows today.
pub(crate) fn push(
    engine: &Engine,
    destination: &ImageReference,
    images: &Images,
) -> Result<(), BuildError> {
    let begun = now();
    engine.progress.event(Event::PushStarted { reference: destination.clone() });
    let failed = |error| failed(destination, error);
    let remote = &engine.layers.remote;
    let manifests = images.all().map(|image| image.documents.manifest.as_slice());
    let root = Digest::sha256(images.root().0);
    let standing = remote.standing(destination, &root, manifests).map_err(failed)?;
    let pushed = match standing {
        Standing::Named => {
            all_existed(engine, images);
            Ok(Pushed { digest: root, warnings: Vec::new() })
        }
        Standing::New | Standing::There => {
            let is_there = standing == Standing::There;
            if !is_there {
                push_blobs(engine, destination, images)?;
            }
            match push_manifests(engine, destination, images) {
                // One that lost blobs of what it has.
                Err(CallError::Registry(error))
                    if may_lack_blobs(&error) && (is_there || remote.assumed(destination)) =>
                {
                    push_blobs(engine, destination, images)?;
                    push_manifests(engine, destination, images)
                }
                pushed => {
                    if is_there {
                        all_existed(engine, images);
                    }
                    pushed
                }
            }
        }
    };
    let pushed = pushed.map_err(failed)?;
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

/// Whether a manifest may have been refused for what it names.
fn may_lack_blobs(error: &RegistryError) -> bool {
    match error {
        RegistryError::NotFound { .. } => true,
        RegistryError::Refused { code, .. } => matches!(
            code.as_str(),
            "" | "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" | "MANIFEST_INVALID" | "MANIFEST_UNKNOWN"
        ),
        _ => false,
    }
}

fn push_manifests(
    engine: &Engine,
    destination: &ImageReference,
    images: &Images,
) -> Result<Pushed, CallError> {
    let remote = &engine.layers.remote;
    if images.index.is_some() {
        for image in images.all() {
            let manifest = &image.documents.manifest;
            let by_digest = ImageReference {
                tag: None,
                digest: Some(Digest::sha256(manifest)),
                ..destination.clone()
            };
            remote.push_manifest(&by_digest, manifest, media_type::OCI_MANIFEST)?;
        }
    }
    let (root, media_type) = images.root();
    remote.push_manifest(destination, root, media_type)
}

fn push_blobs(
    engine: &Engine,
    destination: &ImageReference,
    images: &Images,
) -> Result<(), BuildError> {
    let failed = |error| failed(destination, error);
    let mut uploads: Vec<Upload> = Vec::new();
    for layer in images.all().flat_map(|image| &image.chain) {
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
    for image in images.all() {
        let config = image.documents.parsed.config.clone();
        let path = engine.layers.store.blob_path(&config.digest);
        uploads.push(Upload { descriptor: config, path, origin: None });
    }
    engine.layers.remote.upload(destination, &uploads).map_err(failed)
}

fn all_existed(engine: &Engine, images: &Images) {
    for image in images.all() {
        let parsed = &image.documents.parsed;
        parsed.layers.iter().chain([&parsed.config]).for_each(|blob| existed(engine, blob));
    }
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
