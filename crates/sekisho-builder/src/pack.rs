//! Writes a layer: tar, digest of it, gzip, digest of that, and the index, all in one pass.

use std::io::{self, BufWriter, Read};
use std::path::PathBuf;

use fs_err as fs;
use sekisho_oci::layer::{self, WriteError, Writer};
use sekisho_oci::{Descriptor, media_type};
use sekisho_types::{Digest, Sha256Writer};

use crate::files::{ImagePath, IndexEntry, LayerIndex, Node, NodeKind};
use crate::gzip::ParallelGzip;

/// Most entries in one layer: what [`layer::Limits`] reads back by default.
pub(crate) const MAX_LAYER_ENTRIES: usize = 2_000_000;

type Output = Sha256Writer<ParallelGzip<Sha256Writer<BufWriter<fs::File>>>>;

/// A layer being written.
pub(crate) struct Packer {
    tar: Writer<Output>,
    path: PathBuf,
    index: LayerIndex,
}

/// A written layer, not yet in the store.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) path: PathBuf,
    pub(crate) diff_id: Digest,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) index: LayerIndex,
}

impl Packed {
    /// As a manifest has it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new(media_type::OCI_LAYER_GZIP, self.digest.clone(), self.size)
    }
}

/// Why a layer cannot be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    #[error("cannot write the layer")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Write(WriteError),
    #[error("a layer cannot have more than {MAX_LAYER_ENTRIES} entries")]
    TooMany,
    #[error("a layer cannot hold `{0}`: names that begin with `.wh.` mark removed files")]
    WhiteoutName(String),
    #[error("`{0}` changed while the image was built")]
    Changed(String),
}

impl Packer {
    pub(crate) fn create(path: PathBuf) -> Result<Self, PackError> {
        let file = fs::File::create(&path).map_err(PackError::Io)?;
        let file = Sha256Writer::new(BufWriter::with_capacity(1 << 17, file));
        let gzip = ParallelGzip::new(file);
        let tar = Writer::new(Sha256Writer::new(gzip));
        Ok(Self { tar, path, index: LayerIndex::default() })
    }

    /// Adds an entry. Give them in order of their paths, a folder before what is in it.
    ///
    /// The digest of a file that the node names already must be that of the data.
    pub(crate) fn add(
        &mut self,
        path: &[u8],
        node: &Node,
        data: &mut dyn Read,
    ) -> Result<(), PackError> {
        if self.index.entries.len() >= MAX_LAYER_ENTRIES {
            return Err(PackError::TooMany);
        }
        let entry = node.to_entry(path);
        if entry.is_whiteout_name() {
            return Err(PackError::WhiteoutName(entry.display_path()));
        }
        let mut node = node.clone();
        if let NodeKind::File { size, digest } = &mut node.kind {
            let mut hashing = Hashing { data, hash: Sha256Writer::new(io::sink()) };
            let written = self.tar.append_data(&entry, &mut hashing);
            let (_, found, count) = hashing.hash.finish();
            match written {
                Err(WriteError::Size { .. }) => {
                    return Err(PackError::Changed(entry.display_path()));
                }
                other => other.map_err(PackError::Write)?,
            }
            let expected = digest.get_or_insert_with(|| found.clone());
            if *expected != found || count != *size {
                return Err(PackError::Changed(entry.display_path()));
            }
        } else {
            self.tar.append(&entry).map_err(PackError::Write)?;
        }
        self.index.entries.push(IndexEntry { path: path.to_vec(), node });
        Ok(())
    }

    /// Adds the mark that `path` of a lower layer is gone.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), PackError> {
        self.mark(layer::whiteout(path))?;
        self.index.removed.push(path.to_vec());
        Ok(())
    }

    /// Adds the mark that what lower layers have in this folder is gone.
    pub(crate) fn make_opaque(&mut self, folder: &[u8]) -> Result<(), PackError> {
        self.mark(layer::opaque(folder))?;
        self.index.opaque.push(folder.to_vec());
        Ok(())
    }

    fn mark(&mut self, path: ImagePath) -> Result<(), PackError> {
        let mut entry = layer::Entry::file(path, 0);
        entry.mode = 0;
        entry.mtime = crate::LAYER_EPOCH;
        self.tar.append(&entry).map_err(PackError::Write)
    }

    /// Ends the layer; the file is on the disk.
    pub(crate) fn finish(self) -> Result<Packed, PackError> {
        let output = self.tar.finish().map_err(PackError::Write)?;
        let (gzip, diff_id, _) = output.finish();
        let (buffer, digest, size) = gzip.finish().map_err(PackError::Io)?.finish();
        let file = buffer.into_inner().map_err(|error| PackError::Io(error.into_error()))?;
        file.sync_all().map_err(PackError::Io)?;
        Ok(Packed { path: self.path, diff_id, digest, size, index: self.index })
    }
}

struct Hashing<'a> {
    data: &'a mut dyn Read,
    hash: Sha256Writer<io::Sink>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.data.read(buffer)?;
        io::Write::write_all(&mut self.hash, &buffer[..read])?;
        Ok(read)
    }
}

/// SHA-256 of a file's bytes.
pub(crate) fn hash(data: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256Writer::new(io::sink());
    io::copy(data, &mut hash)?;
    let (_, digest, size) = hash.finish();
    Ok((digest, size))
}

/// For messages.
pub(crate) fn show(path: &[u8]) -> String {
    format!("/{}", crate::files::display(path))
}
