//! Writes a layer: tar, digest of it, compression, digest of that, and the index, all in one pass.
//!
//! ```text
//!  entries ──▶ tar ──▶ diffID, and a spill on the disk ──▶ compressed by other threads
//!                      └── all that the next step needs     └── all that a push needs
//! ```
//!
//! The end of the tar is not the end of the compression: see [`Written`].

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use fs_err as fs;
use sekisho_oci::Descriptor;
use sekisho_oci::layer::{self, WriteError, Writer};
use sekisho_types::{Digest, Sha256Writer};
use tokio_util::sync::CancellationToken;

use crate::ages::{self, Age};
use crate::compress;
use crate::context::Still;
use crate::files::{ImagePath, IndexEntry, IndexFile, IndexWriter, Node, NodeKind, Sum};
use crate::image::Layer;
use crate::options::Compression;
use crate::sparse::Holes;
use crate::spill::{Spill, SpillWriter};
use crate::store::{Kind, Store};

/// Most entries in one layer: what [`layer::Limits`] reads back by default.
pub(crate) const MAX_LAYER_ENTRIES: usize = 2_000_000;

/// How much of the tar is written to the spill at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where and how a layer is compressed.
#[derive(Clone, Debug)]
pub(crate) struct Press {
    /// Of the compressed file, which nobody has.
    pub(crate) path: PathBuf,
    pub(crate) how: Compression,
    /// Ends it.
    pub(crate) cancel: CancellationToken,
}

/// A compressed file, on the disk.
#[derive(Debug)]
struct Blob {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

/// Takes uncompressed bytes. A layer of one block is compressed at its end, and sees no disk before.
#[derive(Debug)]
pub(crate) struct Pressing {
    press: Press,
    small: Vec<u8>,
    large: Option<Large>,
}

#[derive(Debug)]
struct Large {
    spill: Arc<Spill>,
    writer: SpillWriter,
    thread: JoinHandle<io::Result<Blob>>,
}

impl Press {
    pub(crate) fn start(self) -> Pressing {
        Pressing { press: self, small: Vec::new(), large: None }
    }

    fn output(&self) -> io::Result<Sha256Writer<BufWriter<fs::File>>> {
        Ok(Sha256Writer::new(BufWriter::with_capacity(1 << 17, fs::File::create(&self.path)?)))
    }

    fn done(&self, output: Sha256Writer<BufWriter<fs::File>>) -> io::Result<Blob> {
        let (buffer, digest, size) = output.finish();
        buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Blob { path: self.path.clone(), digest, size })
    }
}

impl Pressing {
    fn grow(&mut self) -> io::Result<()> {
        let mut name = self.press.path.clone().into_os_string();
        name.push(".tar");
        let (spill, mut writer) = Spill::create(name.as_ref())?;
        let (press, source) = (self.press.clone(), Arc::clone(&spill));
        let work = move || {
            let output = press.output()?;
            let output = compress::stream(source, press.how, press.cancel.clone(), output)?;
            press.done(output)
        };
        let thread = std::thread::Builder::new().name("compress".to_owned()).spawn(work)?;
        writer.write_all(&std::mem::take(&mut self.small))?;
        self.large = Some(Large { spill, writer, thread });
        Ok(())
    }

    fn finish(self) -> io::Result<(Option<Arc<Spill>>, Pressed)> {
        let Self { press, small, large } = self;
        match large {
            Some(Large { spill, writer, thread }) => {
                writer.finish();
                Ok((Some(spill), Pressed::Running(thread)))
            }
            None => {
                let mut output = press.output()?;
                compress::whole(press.how, &small, &mut output)?;
                Ok((None, Pressed::Done(press.done(output)?)))
            }
        }
    }
}

impl Write for Pressing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.large.is_none() && self.small.len() + bytes.len() > self.press.how.block_bytes() {
            self.grow()?;
        }
        match &mut self.large {
            Some(large) => large.writer.write(bytes),
            None => {
                self.small.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Pressed {
    Done(Blob),
    Running(JoinHandle<io::Result<Blob>>),
}

/// What is compressed, or will be; what it was made of is known.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) diff_id: Digest,
    /// The uncompressed bytes, of all but small layers.
    pub(crate) tar: Option<Arc<Spill>>,
    pressed: Pressed,
    media_type: &'static str,
}

impl Written {
    /// Ends what was written to `output`.
    fn end(output: Sha256Writer<BufWriter<Pressing>>) -> io::Result<Self> {
        let (buffer, diff_id, _) = output.finish();
        let pressing = buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
        let media_type = pressing.press.how.media_type();
        let (tar, pressed) = pressing.finish()?;
        Ok(Self { diff_id, tar, pressed, media_type })
    }

    /// Compresses other bytes, as they are.
    pub(crate) fn of(mut data: impl Read, press: Press) -> io::Result<Self> {
        let buffer = BufWriter::with_capacity(BUFFER_BYTES, press.start());
        let mut output = Sha256Writer::new(buffer);
        io::copy(&mut data, &mut output)?;
        Self::end(output)
    }

    /// Whether [`Self::publish`] waits for nobody.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.pressed, Pressed::Done(_))
    }

    /// Waits for the compression, and puts the result into the store.
    pub(crate) fn publish(self, store: &Store) -> anyhow::Result<Layer> {
        let blob = match self.pressed {
            Pressed::Done(blob) => blob,
            Pressed::Running(thread) => {
                let joined = thread.join();
                joined
                    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
                    .context("cannot compress a layer")?
            }
        };
        store.publish_blob(&blob.path, &blob.digest)?;
        let descriptor = Descriptor::new(self.media_type, blob.digest, blob.size);
        let (diff_id, age) = (self.diff_id, Age::default());
        Ok(Layer { diff_id, descriptor: Some(descriptor), origin: None, age })
    }
}

/// A layer being written.
pub(crate) struct Packer {
    tar: Writer<Sha256Writer<BufWriter<Pressing>>>,
    index: IndexWriter,
}

/// A layer whose tar is written, not yet in the store.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) written: Written,
    pub(crate) index: IndexFile,
}

impl Packed {
    /// Puts it into the store, with its index.
    pub(crate) fn publish(self, store: &Store) -> anyhow::Result<Layer> {
        store.publish_record(&self.index.path, Kind::Index, &self.written.diff_id)?;
        self.written.publish(store)
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
    pub(crate) fn new(press: Press) -> Result<Self, PackError> {
        let mut name = press.path.clone().into_os_string();
        name.push(".index");
        let index = IndexWriter::create(name.into()).map_err(PackError::Io)?;
        let buffer = BufWriter::with_capacity(BUFFER_BYTES, press.start());
        Ok(Self { tar: Writer::new(Sha256Writer::new(buffer)), index })
    }

    /// Adds an entry. Give them in order of their paths, a folder before what is in it.
    ///
    /// The digest of a file that the node names already must be that of the data. Gives the entry's time.
    pub(crate) fn add(
        &mut self,
        path: ImagePath,
        node: Node,
        data: &mut dyn Read,
    ) -> Result<i64, PackError> {
        if !ages::follows_content(&path, &node.kind, node.mtime) {
            return self.add_dated(path, node, data);
        }
        // The time stands before the data.
        let mut content = Vec::new();
        if let NodeKind::File { digest, .. } = &node.kind
            && digest.get().is_none()
        {
            data.read_to_end(&mut content).map_err(PackError::Io)?;
            digest.get_or(hash(&mut content.as_slice()).map_err(PackError::Io)?.0);
        }
        self.add_dated(path, dated(node), &mut content.chain(data))
    }

    fn add_dated(
        &mut self,
        path: ImagePath,
        node: Node,
        data: &mut dyn Read,
    ) -> Result<i64, PackError> {
        let entry = self.entry(&path, &node)?;
        if let NodeKind::File { size, digest } = &node.kind {
            let mut hashing = Hashing { data, hash: Sha256Writer::new(io::sink()) };
            let written = self.tar.append_data(&entry, &mut hashing);
            let (_, found, count) = hashing.hash.finish_bytes();
            written.map_err(|error| changed(&entry, error))?;
            let found = Sum::from_bytes(found);
            if digest.get_or(found) != found || count != *size {
                return Err(PackError::Changed(entry.display_path()));
            }
        } else {
            self.tar.append(&entry).map_err(PackError::Write)?;
        }
        let mtime = node.mtime;
        self.index.entry(IndexEntry { path, node }).map_err(PackError::Io)?;
        Ok(mtime)
    }

    /// Adds a file that need not be hashed, for it lies as it lay when that was done.
    pub(crate) fn add_still(
        &mut self,
        path: ImagePath,
        node: Node,
        still: &Still,
    ) -> Result<(), PackError> {
        let follows = ages::follows_content(&path, &node.kind, node.mtime);
        let node = if follows { dated(node) } else { node };
        let entry = self.entry(&path, &node)?;
        let mut data = still.file.try_clone().and_then(Holes::new).map_err(PackError::Io)?;
        let written = self.tar.append_data(&entry, &mut data);
        written.map_err(|error| changed(&entry, error))?;
        if !still.is_still().map_err(PackError::Io)? {
            return Err(PackError::Changed(entry.display_path()));
        }
        self.index.entry(IndexEntry { path, node }).map_err(PackError::Io)
    }

    /// One more entry, if there may be one.
    fn entry(&self, path: &[u8], node: &Node) -> Result<layer::Entry, PackError> {
        if self.index.count() >= MAX_LAYER_ENTRIES {
            return Err(PackError::TooMany);
        }
        let entry = node.to_entry(path);
        if entry.is_whiteout_name() {
            return Err(PackError::WhiteoutName(entry.display_path()));
        }
        Ok(entry)
    }

    /// Adds the mark that `path` of a lower layer is gone.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), PackError> {
        self.mark(layer::whiteout(path))?;
        self.index.removed(path.to_vec());
        Ok(())
    }

    /// Adds the mark that what lower layers have in this folder is gone.
    pub(crate) fn make_opaque(&mut self, folder: &[u8]) -> Result<(), PackError> {
        self.mark(layer::opaque(folder))?;
        self.index.opaque(folder.to_vec());
        Ok(())
    }

    fn mark(&mut self, path: ImagePath) -> Result<(), PackError> {
        let mut entry = layer::Entry::file(path, 0);
        entry.mode = 0;
        entry.mtime = crate::LAYER_EPOCH;
        self.tar.append(&entry).map_err(PackError::Write)
    }

    /// Ends the tar.
    pub(crate) fn finish(self) -> Result<Packed, PackError> {
        let output = self.tar.finish().map_err(PackError::Write)?;
        let written = Written::end(output).map_err(PackError::Io)?;
        let index = self.index.finish().map_err(PackError::Io)?;
        Ok(Packed { written, index })
    }
}

/// Python source with the time of its content.
fn dated(mut node: Node) -> Node {
    if let NodeKind::File { digest, .. } = &node.kind
        && let Some(sum) = digest.get()
    {
        node.mtime = ages::of_content(sum);
    }
    node
}

/// A file has another length than its entry says.
fn changed(entry: &layer::Entry, error: WriteError) -> PackError {
    match error {
        WriteError::Size { .. } => PackError::Changed(entry.display_path()),
        other => PackError::Write(other),
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
pub(crate) fn hash(data: &mut dyn Read) -> io::Result<(Sum, u64)> {
    let mut hash = Sha256Writer::new(io::sink());
    io::copy(data, &mut hash)?;
    let (_, sum, size) = hash.finish_bytes();
    Ok((Sum::from_bytes(sum), size))
}

/// For messages.
pub(crate) fn show(path: &[u8]) -> String {
    format!("/{}", crate::files::display(path))
}
