//! Brings an image to a registry.

use sekisho_types::ImageReference;

use crate::BuildError;
use crate::engine::Engine;
use crate::image::{Documents, Layer};

/// Pushes layers, config and manifest; what the registry has is not sent.
pub(crate) fn push(
    engine: &mut Engine,
    destination: &ImageReference,
    chain: &[Layer],
    documents: &Documents,
) -> Result<(), BuildError> {
    let _ = (engine, chain, documents);
    Err(BuildError::Push {
        reference: Box::new(destination.clone()),
        source: anyhow::anyhow!("pushing is not there yet"),
    })
}
