//! ADD of a local archive.

use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use fs_err as fs;
use sekisho_oci::layer::{self, EntryKind};

use crate::copy::{CopyError, Data, Placer};
use crate::files::{self, FileMap, Node, NodeKind};
use crate::pack;

/// Beginnings of compressions that are not read.
const FOREIGN: [(&[u8], &str); 2] = [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")];

/// Where a tar header says so.
const USTAR: std::ops::Range<usize> = 257..262;

/// Data of archives, between reading them and writing the layer.
pub(crate) struct Spool {
    path: PathBuf,
    file: fs::File,
    length: u64,
}

impl Spool {
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let file = fs::File::create(&path)?;
        Ok(Self { path, file, length: 0 })
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
    let mut start = Vec::new();
    file.take(16).read_to_end(&mut start)?;
    file.rewind()?;
    if FOREIGN.iter().any(|(magic, _)| start.starts_with(magic)) {
        // Whether there is a tar inside cannot be seen, so `unpack` has to say that it cannot.
        return Ok(true);
    }
    let mut head = Vec::new();
    let budget = layer::Limits::default().total_bytes;
    let read = layer::decompress(&mut *file, budget)
        .and_then(|decoder| decoder.take(512).read_to_end(&mut head));
    file.rewind()?;
    Ok(read.is_ok() && head.get(USTAR) == Some(b"ustar"))
}

/// Places what is in an archive below `target`.
pub(crate) fn unpack(
    mut file: std::fs::File,
    target: &[u8],
    view: &FileMap,
    placer: &mut Placer<'_>,
    spool: &mut Spool,
) -> anyhow::Result<()> {
    let mut start = Vec::new();
    (&mut file).take(16).read_to_end(&mut start)?;
    file.rewind()?;
    for (magic, name) in FOREIGN {
        if start.starts_with(magic) {
            bail!("{name} is not supported yet; use gzip, zstd or no compression");
        }
    }
    placer.folder(target)?;
    let limits = layer::Limits {
        absolute_paths: layer::AbsolutePaths::MakeRelative,
        ..layer::Limits::default()
    };
    let place = |path: &[u8]| -> Result<Vec<u8>, CopyError> {
        let whole = files::join(target, path);
        view.resolve(&whole, false).map_err(|_| CopyError::Loop(pack::show(&whole)))
    };
    layer::read(io::BufReader::new(file), &limits, &mut |entry, data| {
        if entry.path.is_empty() {
            return Ok(());
        }
        let path = place(&entry.path).map_err(io::Error::other)?;
        let node = Node::from_entry(entry, None);
        let data = match &entry.kind {
            EntryKind::File { .. } => {
                let offset = spool.length;
                spool.length += io::copy(data, &mut spool.file)?;
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
    .context("it is damaged, or holds what cannot be unpacked")?;
    spool.file.flush()?;
    Ok(())
}
