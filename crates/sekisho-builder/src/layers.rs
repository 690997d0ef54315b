//! Layers of a chain: their bytes, their indexes, their trees, each made when first needed.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail};
use fs_err as fs;
use sekisho_dockerfile::key::Key;
use sekisho_oci::Descriptor;
use sekisho_oci::layer::{self, EntryKind};
use sekisho_sandbox::Isolation;
use sekisho_types::Digest;

use crate::BuildError;
use crate::ages::Age;
use crate::beside;
use crate::files::{Apply, FileMap, ImagePath, IndexFile, Node, NodeKind, read_entries};
use crate::image::Layer;
use crate::pack::{Packed, Press, Written};
use crate::remote::Remote;
use crate::slots::{Slots, lock};
use crate::spill::Spill;
use crate::store::{Kind, Session, Store};
use crate::tree;

/// Largest file that is read into memory: `/etc/passwd` and the like.
const MAX_SMALL_FILE_BYTES: u64 = 4 << 20;

/// A layer that was made in this build.
enum Fresh {
    /// Being compressed.
    Tar(Arc<Spill>),
    Packed(Box<Descriptor>),
}

/// Access to layers, and what was read of them in this build.
pub(crate) struct Layers {
    pub(crate) store: Store,
    pub(crate) session: Session,
    pub(crate) remote: Remote,
    views: Mutex<HashMap<Digest, Arc<FileMap>>>,
    /// Layers that were made in this build, by diffID.
    fresh: Mutex<HashMap<Digest, Fresh>>,
    /// Layers whose trees will be wanted, by diffID.
    expected: Mutex<HashMap<Digest, Isolation>>,
    /// One for each thing that is being made: stages side by side want the same base.
    making: Slots<String, ()>,
}

/// What a chain of layers is, whatever made it.
pub(crate) fn chain_key(chain: &[Layer]) -> Digest {
    let ids = chain.iter().map(|layer| layer.diff_id.to_string());
    Key::new("sekisho.chain.v1").list("layers", ids).finish()
}

impl Layers {
    pub(crate) fn new(store: Store, session: Session, remote: Remote) -> Self {
        let (views, fresh, making) = (Mutex::default(), Mutex::default(), Slots::default());
        Self { store, session, remote, views, fresh, expected: Mutex::default(), making }
    }

    /// Says that the trees of these layers will be wanted: who reads one for its index makes its tree at once.
    /// Gives those whose bytes are not here.
    pub(crate) fn expect(&self, chain: &[Layer], isolation: Isolation) -> Vec<Layer> {
        let new = |layer: &&Layer| match layer.packed() {
            Ok(packed) => !self.store.has_blob(&packed.digest, packed.size),
            Err(_) => false,
        };
        let new: Vec<Layer> = chain.iter().filter(new).cloned().collect();
        lock(&self.expected).extend(new.iter().map(|layer| (layer.diff_id.clone(), isolation)));
        new
    }

    /// Makes a layer known whose compression may still be going on.
    pub(crate) fn begin(&self, packed: Packed) -> anyhow::Result<(Layer, Option<Written>)> {
        let Packed { written, index } = packed;
        self.store.publish_record(&index.path, Kind::Index, &written.diff_id)?;
        if written.is_done() {
            return Ok((written.publish(&self.store)?, None));
        }
        let (diff_id, age) = (written.diff_id.clone(), Age::default());
        let layer = Layer { diff_id, descriptor: None, origin: None, age };
        if let Some(tar) = &written.tar {
            let tar = Fresh::Tar(Arc::clone(tar));
            lock(&self.fresh).entry(layer.diff_id.clone()).or_insert(tar);
        }
        Ok((layer, Some(written)))
    }

    /// Waits for the compression of a layer; what it was made of is then freed.
    pub(crate) fn settle(&self, written: Written) -> anyhow::Result<Layer> {
        let layer = written.publish(&self.store)?;
        let packed = Fresh::Packed(Box::new(layer.packed()?.clone()));
        lock(&self.fresh).insert(layer.diff_id.clone(), packed);
        Ok(layer)
    }

    /// The layer with its compressed form, once nothing is being compressed any more.
    pub(crate) fn settled(&self, mut layer: Layer) -> Layer {
        if let (None, Some(Fresh::Packed(descriptor))) =
            (&layer.descriptor, lock(&self.fresh).get(&layer.diff_id))
        {
            layer.descriptor = Some(Descriptor::clone(descriptor));
        }
        layer
    }

    /// The layer in the compression that was asked for. One of a base image stays as it is, unless forced.
    pub(crate) fn compressed(&self, layer: Layer, press: Press) -> Result<Layer, BuildError> {
        let how = press.how;
        if layer.packed().is_ok() && layer.is_as_wanted(how) {
            return Ok(layer);
        }
        let key = Key::new("sekisho.compressed.v1").digest("layer", &layer.diff_id);
        let key = key.text("as", how.media_type()).finish();
        let known = self.store.record::<Descriptor>(Kind::Compressed, &key);
        let known = known.filter(|known| self.store.has_blob(&known.digest, known.size));
        if let Some(descriptor) = known {
            return Ok(Layer { descriptor: Some(descriptor), origin: None, ..layer });
        }
        let file = fs::File::open(self.blob(&layer)?).context("a layer is gone")?;
        let plain = layer::decompress(file, layer::Limits::default().total_bytes);
        let written = plain.and_then(|plain| Written::of(plain, press));
        let written = written.context("cannot compress a layer")?;
        Self::check(&layer, &written.diff_id)?;
        let made = written.publish(&self.store)?;
        self.store.put_record(&self.session, Kind::Compressed, &key, made.packed()?)?;
        Ok(made)
    }

    /// Says that a layer is used.
    pub(crate) fn lease(&self, layer: &Layer) {
        self.session.lease(&layer.diff_id);
        if let Some(descriptor) = &layer.descriptor {
            self.session.lease(&descriptor.digest);
        }
    }

    /// What only one thread at a time may make.
    fn turn(&self, what: &str, digest: &Digest) -> Arc<Mutex<()>> {
        self.making.of(format!("{what} {digest}"))
    }

    /// Makes sure that the layer's bytes are in the store.
    pub(crate) fn blob(&self, layer: &Layer) -> Result<PathBuf, BuildError> {
        let layer = &self.settled(layer.clone());
        self.lease(layer);
        let descriptor = layer.packed()?;
        if self.store.has_blob(&descriptor.digest, descriptor.size) {
            return Ok(self.store.blob_path(&descriptor.digest));
        }
        let turn = self.turn("blob", &descriptor.digest);
        let _turn = lock(&turn);
        // Who had the turn before us may have brought it.
        if !self.store.has_blob(&descriptor.digest, descriptor.size) {
            let path = self.session.path("pull");
            self.remote.fetch(layer.origin.as_ref(), descriptor, &path)?;
            self.store.publish_blob(&path, &descriptor.digest)?;
        }
        Ok(self.store.blob_path(&descriptor.digest))
    }

    /// The uncompressed bytes of a layer that was just made, as long as they are kept.
    fn tar(&self, layer: &Layer) -> Option<Box<dyn Read>> {
        match lock(&self.fresh).get(&layer.diff_id) {
            Some(Fresh::Tar(tar)) => Some(Box::new(tar.reader())),
            _ => None,
        }
    }

    /// Copies one file out of a layer.
    fn extract(&self, layer: &Layer, path: &[u8], to: &Path) -> Result<(), BuildError> {
        if let Some(tar) = self.tar(layer) {
            return Ok(extract(tar, path, to)?);
        }
        let blob = fs::File::open(self.blob(layer)?).context("a layer is gone")?;
        Ok(extract(blob, path, to)?)
    }

    fn check(layer: &Layer, found: &Digest) -> anyhow::Result<()> {
        if layer.diff_id != *found {
            bail!(
                "layer {} unpacks to {found}, but the image's config says {}",
                layer.packed()?.digest,
                layer.diff_id
            );
        }
        Ok(())
    }

    fn ingest(
        &self,
        blob: &Path,
        tree: Option<(&Path, Isolation, Age)>,
    ) -> Result<(IndexFile, Digest), BuildError> {
        let cancel = self.remote.cancel();
        match tree::ingest(blob, tree, self.session.path("index"), cancel) {
            Err(_) if cancel.is_cancelled() => Err(BuildError::Cancelled),
            other => {
                let what = if tree.is_some() { "unpack" } else { "read" };
                Ok(other.with_context(|| format!("cannot {what} layer {}", blob.display()))?)
            }
        }
    }

    /// Where the index of a layer is, which is made when there is none.
    fn index(&self, layer: &Layer) -> Result<PathBuf, BuildError> {
        let path = self.store.record_path(Kind::Index, &layer.diff_id);
        if path.is_file() {
            return Ok(path);
        }
        let expected = lock(&self.expected).get(&layer.diff_id).copied();
        if let Some(isolation) = expected {
            self.tree(layer, isolation)?;
        }
        let turn = self.turn("layer", &layer.diff_id);
        let _turn = lock(&turn);
        if !path.is_file() {
            self.make_index(layer)?;
        }
        Ok(path)
    }

    /// Reads a layer for its index, in its turn.
    fn make_index(&self, layer: &Layer) -> Result<(), BuildError> {
        let blob = self.blob(layer)?;
        let (index, found) = self.ingest(&blob, None)?;
        Self::check(layer, &found)?;
        Ok(self.store.publish_record(&index.path, Kind::Index, &layer.diff_id)?)
    }

    /// Makes an index anew that was found to be none. Others read it meanwhile: it is replaced, not removed.
    fn mend_index(&self, layer: &Layer) -> Result<(), BuildError> {
        let path = self.store.record_path(Kind::Index, &layer.diff_id);
        let turn = self.turn("layer", &layer.diff_id);
        let _turn = lock(&turn);
        // Who had the turn before us may have mended it.
        let read = || read_entries(&path, &mut |_| {});
        if read().is_err() {
            self.make_index(layer)?;
            read().context("the index of a layer cannot be read back")?;
        }
        Ok(())
    }

    /// The indexes of some layers, made side by side.
    fn indexes(&self, layers: &[Layer]) -> Result<Vec<PathBuf>, BuildError> {
        beside::each(layers, beside::cores(), |layer| self.index(layer)).into_iter().collect()
    }

    /// The layer unpacked, for overlayfs.
    pub(crate) fn tree(&self, layer: &Layer, isolation: Isolation) -> Result<PathBuf, BuildError> {
        let path = self.store.tree_path(isolation, layer);
        self.session.lease(&layer.diff_id);
        if path.is_dir() {
            return Ok(path);
        }
        let turn = self.turn("layer", &layer.diff_id);
        let _turn = lock(&turn);
        if path.is_dir() {
            return Ok(path);
        }
        let folder = self.session.folder("tree").context("cannot make a folder")?;
        if let Some(mut tar) = self.tar(layer) {
            // Written by us, and indexed then.
            tree::unpack(&mut tar, &folder, (isolation, layer.age))
                .context("cannot unpack a layer")?;
        } else {
            let blob = self.blob(layer)?;
            let (index, found) = self.ingest(&blob, Some((&folder, isolation, layer.age)))?;
            Self::check(layer, &found)?;
            self.store.publish_record(&index.path, Kind::Index, &layer.diff_id)?;
        }
        crate::upper::set_time(&folder, crate::LAYER_EPOCH).context("cannot date a folder")?;
        Ok(self.store.publish_tree(&folder, isolation, layer)?)
    }

    /// All files of a chain.
    pub(crate) fn view(&self, chain: &[Layer]) -> Result<Arc<FileMap>, BuildError> {
        // From the longest beginning of the chain on that is known.
        let known = |length: usize| {
            let key = chain_key(chain.get(..length)?);
            Some((length, Arc::clone(lock(&self.views).get(&key)?)))
        };
        let (length, view) = (0..=chain.len()).rev().find_map(known).unwrap_or_default();
        if length == chain.len() && length > 0 {
            return Ok(view);
        }
        let mut view = FileMap::clone(&view);
        if length == 0 {
            view.insert(Vec::new(), Node::new(NodeKind::Directory, 0o755));
        }
        let new = chain.get(length..).unwrap_or_default();
        for ((at, index), layer) in (length..).zip(self.indexes(new)?).zip(new) {
            let at = u32::try_from(at).context("there are too many layers")?;
            let mut apply = Apply::new(&mut view, at);
            match read_entries(&index, &mut |entry| apply.entry(entry)) {
                Ok(gone) => apply.finish(&gone),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.mend_index(layer)?;
                    return self.view(chain);
                }
                Err(error) => return Err(anyhow::Error::from(error).into()),
            }
        }
        let view = Arc::new(view);
        lock(&self.views).insert(chain_key(chain), Arc::clone(&view));
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
        let layer = chain.get(node.layer as usize).context("a file is of no layer of its chain")?;
        let tree = self.tree(layer, isolation)?;
        let disk = crate::upper::on_disk(&tree, path);
        match fs::File::open(&disk) {
            // An ordinary user's tree holds the image's modes, and some let nobody read.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let out = self.session.path("file");
                self.extract(layer, path, &out)?;
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
        let layer = chain.get(*layer as usize).context("a file is of no layer of its chain")?;
        let out = self.session.path("file");
        self.extract(layer, &path, &out)?;
        let bytes = fs::read(&out).context("cannot read back a file")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Copies one file out of a layer.
fn extract(blob: impl Read, wanted: &[u8], to: &Path) -> anyhow::Result<()> {
    let limits = layer::Limits {
        absolute_paths: layer::AbsolutePaths::MakeRelative,
        ..layer::Limits::default()
    };
    let mut found = false;
    layer::read(blob, &limits, &mut |entry, data| {
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
