//! What a build reports while it runs.

use std::time::Duration;

use sekisho_sandbox::{Stream, Used};
use sekisho_types::{Digest, ImageReference};

use crate::result::LayerInfo;

/// Sees every [`Event`], on the build's own thread: what it does there, the build waits for.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// Sees nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The Dockerfile was read; so many steps follow.
    Planned {
        /// Instructions of the stages that are needed, their FROM included.
        steps: usize,
    },
    /// A step began.
    StepStarted {
        /// From 1.
        number: usize,
        /// The stage's name, or its number from 0.
        stage: String,
        /// The instruction, on one line.
        text: String,
        /// Its line in the Dockerfile, from 1.
        line: u32,
    },
    /// A step ended well.
    StepFinished {
        /// From 1.
        number: usize,
        /// The result was there already.
        cached: bool,
        /// Since it began.
        duration: Duration,
        /// The layer it made.
        layer: Option<LayerInfo>,
        /// What a RUN used that was carried out.
        used: Option<Used>,
    },
    /// A RUN wrote a line.
    Log {
        /// The step.
        number: usize,
        /// Where it wrote it.
        stream: Stream,
        /// Without the newline; cut at [`MAX_LOG_LINE_BYTES`](crate::MAX_LOG_LINE_BYTES).
        line: String,
    },
    /// Something to know that is no error, in a sentence without a full stop.
    Note {
        /// The sentence.
        text: String,
    },
    /// A layer of a base image came from its registry.
    Pulled {
        /// The image.
        reference: ImageReference,
        /// Of the compressed bytes.
        digest: Digest,
        /// Compressed, in bytes.
        size_bytes: u64,
        /// It took so long.
        duration: Duration,
    },
    /// The image is complete, in the cache folder.
    Built {
        /// Of the manifest.
        manifest_digest: Digest,
        /// All layers and the config, compressed, in bytes.
        size_bytes: u64,
    },
    /// A push began.
    PushStarted {
        /// Where to.
        reference: ImageReference,
    },
    /// The registry has a layer or config.
    BlobPushed {
        /// Of its bytes.
        digest: Digest,
        /// In bytes.
        size_bytes: u64,
        /// It had it before.
        existed: bool,
    },
    /// The registry took the image.
    PushFinished {
        /// Where to.
        reference: ImageReference,
        /// Of the manifest.
        digest: Digest,
        /// Since the push began.
        duration: Duration,
    },
}
