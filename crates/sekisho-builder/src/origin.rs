//! Where a COPY, ADD or mount takes its files from.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use sekisho_dockerfile::key::Key;
use sekisho_types::Digest;

use crate::context::Context;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::files::{FileMap, ImagePath, Node};
use crate::hashed::record;
use crate::image::Layer;
use crate::layers::chain_key;
use crate::store::Kind;

/// A tree of files that is not the image being built.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A folder of this machine: the build context, a named one, a git checkout.
    Context(Arc<Context>),
    /// An earlier stage, or an image.
    Layers(Vec<Layer>),
}

impl Origin {
    /// Whether it is an image's, whose owners and hard links mean something.
    pub(crate) fn is_image(&self) -> bool {
        matches!(self, Self::Layers(_))
    }

    /// The folder of this machine, if it is one.
    pub(crate) fn context(&self) -> Option<&Context> {
        match self {
            Self::Context(context) => Some(context),
            Self::Layers(_) => None,
        }
    }

    /// What is known of its content without looking at any file: a chain's layers.
    pub(crate) fn add_to(&self, key: Key) -> Key {
        match self {
            Self::Context(_) => key,
            Self::Layers(chain) => key.digest("from", &chain_key(chain)),
        }
    }
}

impl Engine {
    /// The files to choose from.
    pub(crate) fn sources(&self, origin: &Origin) -> Result<Arc<FileMap>, BuildError> {
        match origin {
            Origin::Context(context) => Ok(Arc::clone(&context.files)),
            Origin::Layers(chain) => self.layers.view(chain),
        }
    }

    /// Opens a regular file of an origin; `node` is what [`Engine::sources`] says of it.
    pub(crate) fn open_source(
        &self,
        origin: &Origin,
        node: &Node,
        path: &ImagePath,
    ) -> Result<std::fs::File, BuildError> {
        match origin {
            Origin::Context(context) => context.open_file(path),
            Origin::Layers(chain) => {
                Ok(self.layers.open(chain, node, path, self.isolation)?.into())
            }
        }
    }

    /// The build context, listed when it is first needed.
    pub(crate) fn main_context(&self) -> Result<Origin, BuildError> {
        let mut listed = self.context.lock().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        if listed.is_none() {
            let context = Context::open(&self.options.context_dir, &self.options.dockerfile)?;
            *listed = Some(Arc::new(context));
        }
        let context = listed.as_ref().context("the context was not listed")?;
        Ok(Origin::Context(Arc::clone(context)))
    }

    /// Whether it is the build context, and no named one.
    pub(crate) fn is_main(&self, context: &Arc<Context>) -> bool {
        let listed = self.context.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        listed.as_ref().is_some_and(|main| Arc::ptr_eq(main, context))
    }

    /// Reads what is known of the context's files, for who is about to read many of them.
    pub(crate) fn recall(&self, context: &Context) {
        let key = hashed_key(&self.options.context_dir);
        let store = &self.layers.store;
        context.remember(|| record::read(&store.bytes(Kind::Hashed, &key)?));
    }

    /// Writes down what was learned of the context's files, for the next build.
    pub(crate) fn keep_hashed(&self) -> Result<(), BuildError> {
        let listed = self.context.lock().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        let Some(context) = listed.as_ref() else { return Ok(()) };
        let (store, session) = (&self.layers.store, &self.layers.session);
        let key = hashed_key(&self.options.context_dir);
        context.write_hashed(|write| {
            store.put(session, Kind::Hashed, &key, |to| Ok(write(to)?))?;
            store.keep_latest(Kind::Hashed, MAX_HASHED)
        })?;
        Ok(())
    }
}

/// Contexts whose files' digests are remembered.
const MAX_HASHED: usize = 32;

/// By the folder's place; what is known of it is known by inode.
fn hashed_key(context: &Path) -> Digest {
    let path = context.canonicalize().unwrap_or_else(|_| context.to_owned());
    Key::new("sekisho.hashed.v1").text("context", &path.to_string_lossy()).finish()
}
