//! Layers of a chain: their bytes, their indexes, their trees, each made when first needed.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail};
use fs_err as fs;
use sekisho_dockerfile::key::Key;
use sekisho_oci::layer::{self, EntryKind};
use sekisho_sandbox::Isolation;
use sekisho_types::Digest;

use crate::BuildError;
use crate::files::{FileMap, ImagePath, LayerIndex, Node, NodeKind};
use crate::image::Layer;
use crate::pack::Packed;
use crate::remote::Remote;
use crate::store::{Kind, Session, Store};
use crate::tree;

/// Largest file that is read into memory: `/etc/passwd` and the like.
const MAX_SMALL_FILE_BYTES: u64 = 4 << 20;

/// Access to layers, and what was read of them in this build.
pub(crate) struct Layers {
    pub(crate) store: Store,
    pub(crate) session: Session,
    pub(crate) remote: Remote,
    views: Mutex<HashMap<Digest, Arc<FileMap>>>,
    /// One for each thing that is being made: stages side by side want the same base.
    making: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

/// What a chain of layers is, whatever made it.
pub(crate) fn chain_key(chain: &[Layer]) -> Digest {
    let ids = chain.iter().map(|layer| layer.diff_id.to_string());
    Key::new("sekisho.chain.v1").list("layers", ids).finish()
}

impl Layers {
    pub(crate) fn new(store: Store, session: Session, remote: Remote) -> Self {
        Self { store, session, remote, views: Mutex::default(), making: Mutex::default() }
    }

    /// Puts a packed layer into the store.
    pub(crate) fn publish(&self, packed: Packed) -> anyhow::Result<Layer> {
        let descriptor = packed.descriptor();
        let Packed { path, diff_id, digest, index, .. } = packed;
        self.store.publish_blob(&path, &digest)?;
        self.store.put_record(&self.session, Kind::Index, &diff_id, &index)?;
        Ok(Layer { diff_id, descriptor, origin: None })
    }

    /// What only one thread at a time may make.
    fn turn(&self, what: &str, digest: &Digest) -> Arc<Mutex<()>> {
        Arc::clone(lock(&self.making).entry(format!("{what} {digest}")).or_default())
    }

    /// Makes sure that the layer's bytes are in the store.
    pub(crate) fn blob(&self, layer: &Layer) -> Result<PathBuf, BuildError> {
        let descriptor = &layer.descriptor;
        let turn = self.turn("blob", &descriptor.digest);
        let _turn = lock(&turn);
        if !self.store.has_blob(&descriptor.digest, descriptor.size) {
            let path = self.session.path("pull");
            self.remote.fetch(layer.origin.as_ref(), descriptor, &path)?;
            self.store.publish_blob(&path, &descriptor.digest)?;
        }
        Ok(self.store.blob_path(&descriptor.digest))
    }

    fn check(layer: &Layer, found: &Digest) -> anyhow::Result<()> {
        if layer.diff_id != *found {
            bail!(
                "layer {} unpacks to {found}, but the image's config says {}",
                layer.descriptor.digest,
                layer.diff_id
            );
        }
        Ok(())
    }

    /// The files of a layer.
    pub(crate) fn index(&self, layer: &Layer) -> Result<LayerIndex, BuildError> {
        let turn = self.turn("index", &layer.diff_id);
        let _turn = lock(&turn);
        if let Some(index) = self.store.record(Kind::Index, &layer.diff_id) {
            return Ok(index);
        }
        let blob = self.blob(layer)?;
        let (index, found) = tree::ingest(&blob, None)
            .with_context(|| format!("cannot read layer {}", layer.descriptor.digest))?;
        Self::check(layer, &found)?;
        self.store.put_record(&self.session, Kind::Index, &layer.diff_id, &index)?;
        Ok(index)
    }

    /// The layer unpacked, for overlayfs.
    pub(crate) fn tree(&self, layer: &Layer, isolation: Isolation) -> Result<PathBuf, BuildError> {
        let turn = self.turn("tree", &layer.diff_id);
        let _turn = lock(&turn);
        let path = self.store.tree_path(isolation, &layer.diff_id);
        if path.is_dir() {
            return Ok(path);
        }
        let blob = self.blob(layer)?;
        let folder = self.session.folder("tree").context("cannot make a folder")?;
        let (index, found) = tree::ingest(&blob, Some((&folder, isolation)))
            .with_context(|| format!("cannot unpack layer {}", layer.descriptor.digest))?;
        Self::check(layer, &found)?;
        crate::upper::set_time(&folder, crate::LAYER_EPOCH).context("cannot date a folder")?;
        self.store.put_record(&self.session, Kind::Index, &layer.diff_id, &index)?;
        Ok(self.store.publish_tree(&folder, isolation, &layer.diff_id)?)
    }

    /// All files of a chain.
    pub(crate) fn view(&self, chain: &[Layer]) -> Result<Arc<FileMap>, BuildError> {
        let key = chain_key(chain);
        if let Some(view) = lock(&self.views).get(&key) {
            return Ok(Arc::clone(view));
        }
        let view = match chain.split_last() {
            None => {
                let mut empty = FileMap::default();
                empty.insert(Vec::new(), Node::new(NodeKind::Directory, 0o755));
                empty
            }
            Some((last, below)) => {
                let mut view = FileMap::clone(&*self.view(below)?);
                view.apply(self.index(last)?, below.len());
                view
            }
        };
        let view = Arc::new(view);
        lock(&self.views).insert(key, Arc::clone(&view));
        Ok(view)
    }

    /// Opens a regular file of a chain; `path` is in the form that a view's resolution gives.
    pub(crate) fn open(
        &self,
        chain: &[Layer],
        node: &Node,
        path: &ImagePath,
        isolation: Isolation,
    ) -> Result<fs::File, BuildError> {
        let layer = chain.get(node.layer).context("a file is of no layer of its chain")?;
        let tree = self.tree(layer, isolation)?;
        let disk = crate::upper::on_disk(&tree, path);
        match fs::File::open(&disk) {
            // An ordinary user's tree holds the image's modes, and some let nobody read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let blob = self.blob(layer)?;
                let out = self.session.path("file");
                extract(&blob, path, &out)?;
                Ok(fs::File::open(&out).context("cannot read back a file")?)
            }
            other => Ok(other.context("cannot read a file of an earlier stage")?),
        }
    }

    /// A small text file of a chain, without unpacking the layer for it; empty when it is not there.
    pub(crate) fn text(&self, chain: &[Layer], path: &str) -> Result<String, BuildError> {
        let view = self.view(chain)?;
        let Ok(path) = view.resolve(path.as_bytes(), true) else { return Ok(String::new()) };
        let Some(Node { kind: NodeKind::File { size, .. }, layer, .. }) = view.get(&path) else {
            return Ok(String::new());
        };
        if *size > MAX_SMALL_FILE_BYTES {
            return Err(anyhow::anyhow!("`{}` is too large", crate::pack::show(&path)).into());
        }
        let layer = chain.get(*layer).context("a file is of no layer of its chain")?;
        let blob = self.blob(layer)?;
        let out = self.session.path("file");
        extract(&blob, &path, &out)?;
        let bytes = fs::read(&out).context("cannot read back a file")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Nothing that these locks guard is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies one file out of a layer.
fn extract(blob: &std::path::Path, wanted: &[u8], to: &std::path::Path) -> anyhow::Result<()> {
    let limits = layer::Limits {
        absolute_paths: layer::AbsolutePaths::MakeRelative,
        ..layer::Limits::default()
    };
    let mut found = false;
    layer::read(fs::File::open(blob)?, &limits, &mut |entry, data| {
        if entry.path == wanted && matches!(entry.kind, EntryKind::File { .. }) {
            io::copy(data, &mut fs::File::create(to)?)?;
            found = true;
        }
        Ok(())
    })?;
    if !found {
        bail!("`{}` is not in its layer", crate::pack::show(wanted));
    }
    Ok(())
}
