//! Archives: ADD of a local one, and one that is the build context.

use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use fs_err as fs;
use sekisho_oci::layer::{self, EntryKind};
use sekisho_sandbox::Isolation;
use tokio_util::sync::CancellationToken;

use crate::ages::Age;
use crate::cancel::Cancellable;
use crate::copy::{CopyError, Data, Placer};
use crate::files::{self, FileMap, Node, NodeKind};
use crate::tree::Unpacker;
use crate::{pack, room, sparse};

/// How a bzip2 file begins.
const BZIP2: &[u8] = b"BZh";

/// How an xz file begins.
const XZ: &[u8] = b"\xfd7zXZ\0";

/// Most memory for reading xz, in KiB: what its highest level needs, which is 65 MiB, and some.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// Above whatever is wrong in particular.
const DAMAGED: &str = "it is damaged, or holds what cannot be unpacked";

/// Where a tar header says so, unless it is of an old archive.
const USTAR: std::ops::Range<usize> = 257..262;

/// Data of archives, between reading them and writing the layer.
pub(crate) struct Spool {
    path: PathBuf,
    file: fs::File,
    length: u64,
    chunk: sparse::Chunk,
}

impl Spool {
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let file = fs::File::create(&path)?;
        Ok(Self { path, file, length: 0, chunk: sparse::Chunk::default() })
    }

    /// The data of a file that was put at `offset`.
    pub(crate) fn reader(&self, offset: u64, node: &Node) -> io::Result<impl Read + use<>> {
        let size = match node.kind {
            NodeKind::File { size, .. } => size,
            _ => 0,
        };
        let mut file = fs::File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file.take(size))
    }
}

/// Whether a file is a tar archive, compressed or not. Leaves it at its beginning.
pub(crate) fn is_archive(file: &mut std::fs::File) -> anyhow::Result<bool> {
    let mut head = Vec::new();
    let read = opened(file.try_clone()?).and_then(|reader| {
        let budget = layer::Limits::default().total_bytes;
        layer::decompress(reader, budget)?.take(512).read_to_end(&mut head)
    });
    file.rewind()?;
    Ok(read.is_ok() && (head.get(USTAR) == Some(b"ustar") || layer::is_header(&head)))
}

/// The file, without the compressions that layers do not have; the others are read with the archive.
pub(crate) fn opened<F: Read + io::Seek + 'static>(mut file: F) -> io::Result<Box<dyn Read>> {
    let mut start = Vec::new();
    (&mut file).take(6).read_to_end(&mut start)?;
    file.rewind()?;
    let reader = io::BufReader::new(file);
    Ok(match start.as_slice() {
        start if start.starts_with(BZIP2) => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
        XZ => Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY_KIB)),
        _ => Box::new(reader),
    })
}

/// Unpacks an archive into a folder of this machine, as files of whoever builds: names that mark removed
/// files in a layer are plain names here, and devices are left out.
pub(crate) fn extract(
    file: std::fs::File,
    cancel: &CancellationToken,
    folder: &Path,
) -> anyhow::Result<()> {
    let mut unpacker = Unpacker::open(folder, Isolation::SingleId, Age::default())?;
    let input = Cancellable { input: opened(file)?, cancel };
    layer::read(input, &limits(), &mut |entry, data| {
        let entry = layer::Entry { uid: 0, gid: 0, ..entry.clone() };
        unpacker.entry(&entry, data)
    })
    .map_err(named)?;
    unpacker.finish()
}

/// With what is wrong above what is wrong in particular, unless it is this machine.
fn named(error: layer::ReadError) -> anyhow::Error {
    let full = room::is_full(&error);
    let error = anyhow::Error::from(error);
    if full { error } else { error.context(DAMAGED) }
}

/// Also of archives whose paths begin at the root.
fn limits() -> layer::Limits {
    layer::Limits { absolute_paths: layer::AbsolutePaths::MakeRelative, ..layer::Limits::default() }
}

/// Places what is in an archive below `target`: as `--chown` says, or else whose the archive says.
pub(crate) fn unpack(
    file: std::fs::File,
    cancel: &CancellationToken,
    target: &[u8],
    view: &FileMap,
    placer: &mut Placer<'_>,
    spool: &mut Spool,
) -> anyhow::Result<()> {
    placer.folder(target)?;
    let place = |path: &[u8]| -> Result<Vec<u8>, CopyError> {
        let whole = files::join(target, path);
        view.resolve(&whole, false).map_err(|_| CopyError::Loop(pack::show(&whole)))
    };
    let input = Cancellable { input: opened(file)?, cancel };
    layer::read(input, &limits(), &mut |entry, data| {
        if entry.path.is_empty() {
            return Ok(());
        }
        let path = place(&entry.path).map_err(io::Error::other)?;
        let mut node = Node::from_entry(entry, None);
        if let Some(owner) = placer.owner() {
            (node.uid, node.gid) = owner;
        }
        let data = match &entry.kind {
            EntryKind::File { .. } => {
                let offset = spool.length;
                spool.length = sparse::append(data, spool.file.file(), offset, &mut spool.chunk)?;
                Data::Spool { offset }
            }
            EntryKind::HardLink { target } => {
                let target = place(target).map_err(io::Error::other)?;
                return placer.put_link(path, &target).map_err(io::Error::other);
            }
            _ => Data::None,
        };
        placer.put(path, node, data).map_err(io::Error::other)
    })
    .map_err(named)?;
    Ok(())
}
