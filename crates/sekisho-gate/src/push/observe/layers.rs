//! What the inspector says of the layers of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sekisho_advisory::NotAssessed;
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_types::{Digest, Statement};
use serde_json::Value;

use super::statements::Leaks;
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
    /// What those say that are statements.
    pub(super) statements: Vec<Statement>,
    /// The secrets in those.
    pub(super) leaks: Leaks,
    /// Those that could not be analysed.
    pub(super) not_assessed: Vec<NotAssessed>,
}

/// Layers of one manifest that are read at once where they were not read while they came. Two, so that one that
/// waits for its storage keeps no other; few, so that one manifest never takes all processes that read layers.
fn readers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(2, 4)
}

/// What each digest says, read once however often it is named, some beside each other.
///
/// The outer error says nothing about a layer, but that it could not be read now: then no further one is begun.
fn read<T: Send>(
    digests: &BTreeSet<&Digest>,
    one: impl Fn(&Digest) -> io::Result<T> + Sync,
) -> io::Result<BTreeMap<Digest, T>> {
    let digests: Vec<&Digest> = digests.iter().copied().collect();
    let next = AtomicUsize::new(0);
    let said = Mutex::new(Ok(BTreeMap::new()));
    let work = || {
        while let Some(digest) = digests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let of_it = one(digest);
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            match (of_it, &mut *said) {
                (Ok(of_it), Ok(all)) => drop(all.insert((*digest).clone(), of_it)),
                (Err(error), all @ Ok(_)) => {
                    // No further one is begun.
                    next.store(digests.len(), Ordering::Relaxed);
                    *all = Err(error);
                }
                // The first error is the answer.
                (_, Err(_)) => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..readers().min(digests.len()) {
            scope.spawn(work);
        }
        work();
    });
    said.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Observer<'_> {
    /// The analyses of an image's layers, base first, and what could not be analysed.
    pub(super) fn layers(&self, image: &ImageManifest) -> ApiResult<Layers> {
        let Layers { mut values, mut diff_ids, mut statements, mut leaks, mut not_assessed } =
            Layers::default();
        let mut tars = Vec::new();
        for (at, layer) in image.layers.iter().enumerate() {
            let mut cannot = |why: &anyhow::Error| {
                not_assessed.push(unreadable(subject(layer), why, Some(layer.digest.clone())));
            };
            if is_evidence(layer) {
                match self.statement(layer)? {
                    Ok(document) => statements.push(leaks.take_of(document)),
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
        let distinct = tars.iter().map(|(_, layer)| &layer.digest).collect();
        let read = read(&distinct, |digest| self.read_one(digest)).or_fail("reading a layer")?;
        for (at, layer) in tars {
            match &read[&layer.digest] {
                Ok((diff_id, value)) => {
                    diff_ids.push((at, diff_id.clone()));
                    values.push(value.clone());
                }
                Err(why) => {
                    let digest = Some(layer.digest.clone());
                    not_assessed.push(unreadable(subject(layer), why, digest));
                }
            }
        }
        Ok(Layers { values, diff_ids, statements, leaks, not_assessed })
    }

    fn read_one(&self, layer: &Digest) -> io::Result<anyhow::Result<(Digest, Value)>> {
        let value = self.analyses.of(layer, || match self.view.open(layer)? {
            Some(blob) => blob.reader(0),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the layer has gone")),
        })?;
        Ok(value.and_then(|value| Ok((self.analyses.inspector().diff_id(&value)?, value))))
    }
}

fn subject(layer: &Descriptor) -> String {
    format!("layer {}", layer.digest.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(count: usize) -> Vec<Digest> {
        (0..count).map(|at| Digest::sha256(at.to_string().as_bytes())).collect()
    }

    #[test]
    fn each_is_read_once_by_some_at_a_time() {
        let all = digests(64);
        let named: Vec<&Digest> = all.iter().chain(&all).collect();
        let (reads, now, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let one = |digest: &Digest| {
            reads.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(digest.to_string())
        };
        let said = read(&named.into_iter().collect(), one).unwrap();
        assert_eq!(reads.into_inner(), 64);
        assert!(most.into_inner() <= 4);
        assert_eq!(said.len(), 64);
        assert!(said.iter().all(|(digest, text)| digest.to_string() == *text));
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let all = digests(64);
        let reads = AtomicUsize::new(0);
        let one = |_: &Digest| -> io::Result<()> {
            reads.fetch_add(1, Ordering::SeqCst);
            Err(io::Error::other("the storage is away"))
        };
        let error = read(&all.iter().collect(), one).unwrap_err();
        assert_eq!(error.to_string(), "the storage is away");
        // Each reader may have begun one, none a second.
        assert!(reads.into_inner() <= readers());
    }
}
