//! Results of steps: from an earlier build, or kept for later ones.

use std::time::Duration;

use sekisho_sandbox::Used;
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::error::BuildError;
use crate::image::Layer;
use crate::pack::Written;
use crate::store::Kind;
use crate::turns::Turn;

/// A layer that a step made, with its compression if that still goes on; `None` when nothing changed.
pub(crate) type Made = Option<(Layer, Option<Written>)>;

/// What a step made; the value of a cache key.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    layer: Option<Layer>,
}

/// What a step came to.
pub(crate) struct Done {
    pub(crate) layer: Option<Layer>,
    pub(crate) cached: bool,
    /// The layer is still being compressed; nobody but a push needs to wait for it.
    pub(crate) rest: Option<Rest>,
    /// What a RUN used.
    pub(crate) used: Option<Used>,
    /// How long its sandbox took, from its making to its end.
    pub(crate) sandbox: Option<Duration>,
}

/// A compression that goes on, and the cache keys under which its layer is kept then.
pub(crate) struct Rest {
    written: Written,
    keys: Vec<Digest>,
    /// The step's, until then.
    turn: Option<Turn>,
}

/// What is known of a step before it is carried out.
pub(crate) enum Known {
    /// All of it, from an earlier build or from a step beside it.
    Done(Box<Done>),
    /// Nothing, and it is ours to carry out.
    Nothing(Option<Turn>),
}

impl Done {
    /// Nothing was made that was not there.
    pub(crate) fn known(layer: Option<Layer>, cached: bool) -> Self {
        Self { layer, cached, rest: None, used: None, sandbox: None }
    }
}

impl Engine {
    /// The result of an earlier build, if its layer is still there.
    pub(crate) fn cached(&self, key: &Digest) -> Option<Done> {
        if self.options.no_cache || self.fresh {
            return None;
        }
        let store = &self.layers.store;
        let Record { layer } = store.record(Kind::Result, key)?;
        let there = |layer: &Layer| {
            layer.packed().is_ok_and(|packed| store.has_blob(&packed.digest, packed.size))
        };
        if !layer.as_ref().is_none_or(there) {
            return None;
        }
        if let Some(layer) = &layer {
            self.layers.lease(layer);
        }
        Some(Done::known(layer, true))
    }

    /// The same, also of a step beside this one that is waited for; or the turn to carry out the instruction of
    /// that line.
    pub(crate) fn known(&self, key: &Digest, line: u32) -> Result<Known, BuildError> {
        let mut turn = None;
        if !self.options.no_cache && !self.fresh {
            let mut done = self.cached(key);
            if done.is_none() {
                turn = Some(self.turns.take(key));
                // Who had it may have been ended.
                self.check()?;
                done = self.cached(key);
            }
            if let Some(done) = done {
                return Ok(Known::Done(Box::new(done)));
            }
        }
        self.missed(line);
        Ok(Known::Nothing(turn))
    }

    /// Keeps a result under some keys, once its layer is compressed.
    pub(crate) fn remember(
        &self,
        keys: &[&Digest],
        made: Made,
        turn: Option<Turn>,
    ) -> Result<Done, BuildError> {
        let keys: Vec<Digest> = keys.iter().map(|key| (*key).clone()).collect();
        match made {
            Some((layer, Some(written))) => {
                let rest = Some(Rest { written, keys, turn });
                Ok(Done { rest, ..Done::known(Some(layer), false) })
            }
            made => self.keep(&keys, made.map(|(layer, _)| layer)),
        }
    }

    fn keep(&self, keys: &[Digest], layer: Option<Layer>) -> Result<Done, BuildError> {
        let record = Record { layer };
        for key in keys {
            self.layers.store.put_record(&self.layers.session, Kind::Result, key, &record)?;
        }
        Ok(Done::known(record.layer, false))
    }

    /// Waits for what of a step is still going on.
    pub(crate) fn complete(&self, done: Done) -> Result<Done, BuildError> {
        let Some(Rest { written, keys, turn: _turn }) = done.rest else { return Ok(done) };
        match self.layers.settle(written) {
            Err(_) if self.stop.is_cancelled() => Err(BuildError::Cancelled),
            layer => Ok(Done {
                used: done.used,
                sandbox: done.sandbox,
                ..self.keep(&keys, Some(layer?))?
            }),
        }
    }
}
