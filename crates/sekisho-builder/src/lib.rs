//! Builds container images from Dockerfiles: no daemon, no privilege.
//!
//! ```text
//!  Dockerfile ── parse, graph ──▶ stages that the target needs, in order
//!    for each instruction:
//!      decide   (pure)  state + instruction ──▶ new metadata, and an Action
//!      key              layers so far + what the action can see ──▶ a digest
//!      results/<key>?   hit: the layer is known, nothing is done
//!      act              COPY: files ──▶ layer        RUN: sandbox ──▶ upper ──▶ layer
//!  config + manifest ──▶ store ──▶ registry, OCI layout
//! ```
//!
//! - Keys are made of content: of the layers below, never of an image's tag or of when something was
//!   built. So a step whose inputs come out the same is a hit, whatever happened before.
//! - The same inputs give the same layers, byte for byte: entries sorted, times fixed
//!   ([`LAYER_EPOCH`]), owners explicit, gzip without a time.
//! - A COPY needs only the index of the layers below it. Layers are fetched and unpacked when the first
//!   RUN, or a push, needs them.
//! - The cache folder is shared without locks; see `store`.

mod adding;
mod agent;
mod ages;
mod ahead;
mod archive;
mod arguments;
mod beside;
mod binfmt;
mod cache_mount;
mod cancel;
mod checks;
mod chmod;
mod compress;
mod context;
mod contexts;
mod copy;
mod copying;
mod decide;
mod drive;
mod engine;
mod engines;
mod error;
mod fetch;
mod files;
mod finish;
mod frontend;
#[doc(hidden)]
pub mod fuzzing;
mod git;
mod golden;
mod hashed;
mod image;
mod layers;
mod looking;
mod materialise;
mod mounting;
mod names;
mod options;
mod origin;
mod output;
mod pack;
mod pattern;
mod progress;
mod provenance;
mod push;
mod pyc;
mod reading;
mod remote;
mod result;
mod results;
mod room;
mod rootfs;
mod run;
mod schedule;
mod slots;
mod sparse;
mod spill;
mod stages;
mod stamps;
mod steps;
mod store;
mod tree;
mod turns;
mod upper;
mod users;

use std::sync::Arc;

use anyhow::Context as _;
use sekisho_sandbox::Control;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use engines::{Engine, Entitlement};
pub use error::{BuildError, StepFailed};
pub use golden::{Base, BaseOptions, DebianOptions, GOLDEN_REGISTRY, SUITES};
pub use options::{
    BuildOptions, Compression, CompressionKind, ContextInput, Credential, NamedContext, Output,
    Registries, Secret,
};
pub use progress::{Event, Progress, Silent};
pub use provenance::Provenance;
pub use result::{BuildResult, LayerInfo, PlatformResult, StepResult};

pub use checks::Checked;
pub use sekisho_registry::Keyring;
pub use sekisho_sandbox::{Network, Stream, Used};

/// Whether a text names a git repository rather than a folder.
pub fn is_git(text: &str) -> bool {
    !matches!(sekisho_dockerfile::git::GitRef::parse(text), Ok(None))
}

/// Whether a file is a tar archive, compressed or not; leaves it at its beginning.
///
/// # Errors
/// It cannot be read.
pub fn is_archive(file: &mut std::fs::File) -> anyhow::Result<bool> {
    archive::is_archive(file)
}

/// Takes an archive of a context in, as large as a context may be while the disk has room.
///
/// # Errors
/// It is larger, or cannot be read or written.
pub fn receive(from: impl std::io::Read, to: &mut std::fs::File) -> std::io::Result<()> {
    room::receive(from, to, context::MAX_CONTEXT_BYTES)
}

/// Golden bases: what is there, and making more.
pub mod base {
    pub use crate::golden::{hint, list, make, suite};
}

/// Room in the cache folder.
pub mod cache {
    pub use crate::store::{CacheLimit, InUse, Pruned};

    /// Removes what was used longest ago until the folder has no more than `keep` bytes.
    ///
    /// # Errors
    /// [`InUse`], or the folder cannot be read or changed.
    pub fn prune(folder: &std::path::Path, keep: u64) -> anyhow::Result<Pruned> {
        crate::store::Store::open(folder)?.prune(keep)
    }
}

/// Longest line of a RUN's output that is passed on, in bytes; the rest is cut.
pub const MAX_LOG_LINE_BYTES: usize = 16 << 10;

/// Time of every file in a layer that is made here, unless it is older: 1980-01-01, the first day that
/// a zip file can hold. One for all, so that the same content is the same layer in every build,
/// whatever the image's own time is.
pub const LAYER_EPOCH: i64 = 315_532_800;

/// Builds the image, and pushes it where the options say.
///
/// The work is done on a thread of its own; `progress` is called there. Dropping the future cancels the
/// build, and waits the moment until nothing of it is left.
///
/// # Errors
/// [`BuildError`] by variant; a refusal by policy is [`BuildError::Denied`].
pub async fn build(
    options: BuildOptions,
    progress: Arc<dyn Progress>,
) -> Result<BuildResult, BuildError> {
    let cancel = options.cancel.child_token();
    apart(cancel, |control, cancel, handle| engine::run(options, progress, control, cancel, handle))
        .await
}

/// Reads the Dockerfile that a build with these options would, and looks at it. Builds nothing, and
/// asks no registry: variables of base images are not known. A context of elsewhere is fetched as a build fetches it,
/// and nothing else is made in the cache folder. Dropping the future ends it like that of [`build`].
///
/// # Errors
/// The context, the Dockerfile or a `.dockerignore` cannot be read.
pub async fn check(
    options: BuildOptions,
    progress: Arc<dyn Progress>,
) -> Result<Checked, BuildError> {
    let cancel = options.cancel.child_token();
    apart(cancel, |_, cancel, handle| checks::run(options, progress, cancel, handle)).await
}

/// Works on a thread of its own, until the future is dropped.
async fn apart<T: Send + 'static>(
    cancel: CancellationToken,
    work: impl FnOnce(Control, CancellationToken, Handle) -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    let control = Control::new().context("cannot prepare the sandbox")?;
    let handle = Handle::current();
    let (send, mut receive) = oneshot::channel();
    let worker = {
        let (control, cancel) = (control.clone(), cancel.clone());
        move || {
            // The receiver is gone when the build was dropped; then nobody wants to know.
            let _ = send.send(work(control, cancel, handle));
        }
    };
    let thread = std::thread::Builder::new().name("build".to_owned()).spawn(worker);
    let thread = thread.context("cannot start a thread")?;
    let guard = Guard { cancel: cancel.clone(), control, thread: Some(thread) };
    // Both arms are cancel-safe: a token, and a receiver that is polled again below.
    let result = tokio::select! {
        result = &mut receive => result,
        () = cancel.cancelled() => {
            guard.control.kill();
            receive.await
        }
    };
    result.unwrap_or_else(|_| Err(anyhow::anyhow!("the build's thread panicked").into()))
}

/// Ends the build with its future.
struct Guard {
    cancel: CancellationToken,
    control: Control,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.control.kill();
        if let Some(thread) = self.thread.take() {
            // It looks at the token between files, and every wait of its ends with it. A panic in it was
            // seen by the receiver.
            let _ = thread.join();
        }
    }
}
