//! What the inspector says of the layers of an image.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sekisho_advisory::NotAssessed;
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_types::Digest;
use serde_json::Value;

use super::{Observer, unreadable};
use crate::error::{ApiResult, OrFail as _};
use crate::inspector::Statement;
use crate::push::facts::is_evidence;

/// What is known about the layers of one image.
#[derive(Default)]
pub(super) struct Layers {
    /// The analyses, base first.
    pub(super) values: Vec<Value>,
    /// Of their uncompressed bytes, with their places among the layers.
    pub(super) diff_ids: Vec<(usize, Digest)>,
    /// What those say that are statements.
    pub(super) statements: Vec<Statement>,
    /// Those that could not be analysed.
    pub(super) not_assessed: Vec<NotAssessed>,
}

/// Layers that are read at once where they were not read while they came; two, so that one that waits for its
/// storage keeps no other.
fn readers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(2, 8)
}

impl Observer<'_> {
    /// The analyses of an image's layers, base first, and what could not be analysed.
    pub(super) fn layers(&self, image: &ImageManifest) -> ApiResult<Layers> {
        let Layers { mut values, mut diff_ids, mut statements, mut not_assessed } =
            Layers::default();
        let mut tars = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let mut cannot = |why: &anyhow::Error| {
                not_assessed.push(unreadable(subject(layer), why, Some(layer.digest.clone())));
            };
            if is_evidence(layer) {
                match self.statement(layer)? {
                    Ok(statement) => statements.push(statement),
                    Err(why) => cannot(&why),
                }
            } else if !media_type::is_tar_layer(&layer.media_type) {
                cannot(&anyhow::anyhow!("`{}` is no layer of an image", layer.media_type));
            } else if self.view.size(&layer.digest).or_fail("looking for a layer")?.is_none() {
                cannot(&anyhow::anyhow!("it lies elsewhere and was not pushed"));
            } else {
                tars.push((at, layer));
            }
        }
        for ((at, layer), read) in tars.iter().zip(self.read(&tars)) {
            let value = read.or_fail("reading a layer")?;
            let of_value = |value: Value| Ok((self.analyses.inspector().diff_id(&value)?, value));
            match value.and_then(of_value) {
                Ok((diff_id, value)) => {
                    diff_ids.push((*at, diff_id));
                    values.push(value);
                }
                Err(why) => {
                    let digest = Some(layer.digest.clone());
                    not_assessed.push(unreadable(subject(layer), &why, digest));
                }
            }
        }
        Ok(Layers { values, diff_ids, statements, not_assessed })
    }

    /// Reads layers beside each other; what each says, in their order.
    fn read(&self, layers: &[(usize, &Descriptor)]) -> Vec<io::Result<anyhow::Result<Value>>> {
        let (next, read) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some((at, layer)) = layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let said = self.read_one(&layer.digest);
                read.lock().unwrap_or_else(PoisonError::into_inner).push((*at, said));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..readers().min(layers.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut read = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        read.sort_by_key(|(at, _)| *at);
        read.into_iter().map(|(_, said)| said).collect()
    }

    fn read_one(&self, layer: &Digest) -> io::Result<anyhow::Result<Value>> {
        self.analyses.of(layer, || match self.view.open(layer)? {
            Some(blob) => blob.reader(0),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the layer has gone")),
        })
    }
}

fn subject(layer: &Descriptor) -> String {
    format!("layer {}", layer.digest.short())
}
