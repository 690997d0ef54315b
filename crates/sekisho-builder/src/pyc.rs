//! Compiled Python, which names the time of its source.
//!
//! A `.pyc` of the usual kind is taken when the time and the size in its header are those of the source beside
//! it. In a layer the source has another time than the command saw, so the header gets that one; otherwise each
//! would be out of date in the image, and different in each build.
//!
//! Source: PEP 552 (the header: magic number, flags, time, size; each four bytes, little-endian) and PEP 3147
//! (names in `__pycache__`).

use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use fs_err as fs;

use crate::files::{Known, NodeKind};
use crate::upper::with_access;
use crate::{ages, pack};

/// Where Python keeps what it compiled.
pub(crate) const FOLDER: &str = "__pycache__";

const HEADER_BYTES: usize = 16;

/// The magic number ends so, that no text file begins like it.
const MAGIC_END: &[u8] = b"\r\n";

/// A source, as the command saw it and as it is in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) seen: i64,
    pub(crate) size: u64,
    /// Its time in its layer.
    pub(crate) in_layer: i64,
}

/// The name of the source of a compiled file.
fn source_name(compiled: &str) -> Option<String> {
    let (module, rest) = compiled.split_once('.')?;
    rest.ends_with(".pyc").then(|| format!("{module}.py"))
}

/// The header that a compiled file is to have, when it is up to date with its source and of the kind that says
/// so by a time.
fn header(now: [u8; HEADER_BYTES], source: Source) -> Option<[u8; HEADER_BYTES]> {
    // Both are cut to 32 bits there.
    let low = |number: u64| (number & 0xffff_ffff).to_le_bytes();
    let word = |number: u64| [low(number)[0], low(number)[1], low(number)[2], low(number)[3]];
    let right = now[2..4] == *MAGIC_END
        && now[4..8] == [0; 4]
        && now[8..12] == word(source.seen.cast_unsigned())
        && now[12..16] == word(source.size);
    let mut new = now;
    new[8..12].copy_from_slice(&word(source.in_layer.cast_unsigned()));
    (right && new != now).then_some(new)
}

/// A source that the same command left.
fn beside(path: &Path) -> anyhow::Result<Option<Source>> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // The time of a file with several names is that of the first.
    if !metadata.is_file() || metadata.nlink() > 1 {
        return Ok(None);
    }
    let (seen, size) = (metadata.mtime(), metadata.len());
    let mut in_layer = seen.min(crate::LAYER_EPOCH);
    let kind = NodeKind::File { size, digest: Known::default() };
    if ages::follows_content(path.as_os_str().as_encoded_bytes(), &kind, in_layer) {
        with_access(path, 0o400, || {
            in_layer = ages::of_content(pack::hash(&mut fs::File::open(path)?)?.0);
            Ok(())
        })?;
    }
    Ok(Some(Source { seen, size, in_layer }))
}

/// Sets the times in what was compiled in a folder. `below` knows sources of lower layers by their name.
pub(crate) fn settle(
    folder: &Path,
    below: &dyn Fn(&str) -> anyhow::Result<Option<Source>>,
) -> anyhow::Result<()> {
    let compiled = folder.join(FOLDER);
    if !fs::symlink_metadata(&compiled)?.is_dir() {
        return Ok(());
    }
    let mut entries = Vec::new();
    with_access(&compiled, 0o500, || {
        entries = fs::read_dir(&compiled)?.collect::<io::Result<Vec<_>>>()?;
        Ok(())
    })?;
    for entry in entries {
        let name = entry.file_name();
        let Some(source) = name.to_str().and_then(source_name) else { continue };
        let path = entry.path();
        if !entry.file_type()?.is_file() {
            continue;
        }
        let mut opened = None;
        with_access(&path, 0o600, || {
            opened = Some(fs::OpenOptions::new().read(true).write(true).open(&path)?);
            Ok(())
        })?;
        let Some(file) = opened else { continue };
        let mut now = [0; HEADER_BYTES];
        match file.file().read_exact_at(&mut now, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            other => other?,
        }
        let there = folder.join(&source);
        let source = match std::fs::symlink_metadata(&there) {
            Ok(_) => beside(&there)?,
            Err(_) => below(&source)?,
        };
        if let Some(new) = source.and_then(|source| header(now, source)) {
            file.file().write_all_at(&new, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sources() {
        assert_eq!(source_name("a.cpython-311.pyc").as_deref(), Some("a.py"));
        assert_eq!(source_name("a.cpython-311.opt-1.pyc").as_deref(), Some("a.py"));
        assert_eq!(source_name("a.cpython-311.pyc.139"), None, "half written");
        assert_eq!(source_name("a.pyc"), None);
    }

    #[test]
    fn only_what_is_up_to_date_gets_the_new_time() {
        let make = |flags: u32, time: u32, size: u32| {
            let mut header = *b"\xa7\x0d\r\n\0\0\0\0\0\0\0\0\0\0\0\0";
            header[4..8].copy_from_slice(&flags.to_le_bytes());
            header[8..12].copy_from_slice(&time.to_le_bytes());
            header[12..16].copy_from_slice(&size.to_le_bytes());
            header
        };
        let source = Source { seen: 1_700_000_000, size: 5, in_layer: 315_532_807 };
        let new = make(0, 315_532_807, 5);
        assert_eq!(header(make(0, 1_700_000_000, 5), source), Some(new));
        assert_eq!(header(new, source), None, "it is out of date for the command");
        assert_eq!(header(make(0, 1_700_000_000, 6), source), None, "of another source");
        assert_eq!(header(make(1, 1_700_000_000, 5), source), None, "by a hash");
        let mut text = make(0, 1_700_000_000, 5);
        text[2] = b' ';
        assert_eq!(header(text, source), None);
        // A long file, and a time before 1970, as Python cuts them.
        let long = Source { seen: -1, size: (1 << 32) + 5, in_layer: -1 };
        assert_eq!(header(make(0, u32::MAX, 5), long), None, "nothing is to be changed");
    }
}
