//! The deterministic writer.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::entry::{Entry, EntryKind};
use super::path::{self, PathProblem};
use super::read::AbsolutePaths;
use super::{BLOCK, header, pax};

/// What programs that know no PAX would call the records.
const PAX_NAME: &[u8] = b"PaxHeaders/records";

/// Why an entry cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output failed.
    #[error("layer cannot be written")]
    Output(#[source] io::Error),
    /// The data of an entry cannot be read.
    #[error("data of `{path}` cannot be read", path = path::display_path(path))]
    Data {
        /// Of the entry.
        path: Vec<u8>,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The data is not as long as the entry said: the file changed while it was read.
    #[error("data of `{path}` is not {size} bytes long", path = path::display_path(path))]
    Size {
        /// Of the entry.
        path: Vec<u8>,
        /// What the entry said, in bytes.
        size: u64,
    },
    /// The path or hard link target is not in the form of [`Entry::path`].
    #[error("`{path}` is no path of a layer: it {problem}", path = path::display_path(path))]
    Path {
        /// As given.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// A device number that a header cannot hold.
    #[error("device {major}:{minor} of `{path}` cannot be stored", path = path::display_path(path))]
    Device {
        /// Of the entry.
        path: Vec<u8>,
        /// Driver.
        major: u32,
        /// Unit.
        minor: u32,
    },
    /// A name of an extended attribute that PAX cannot hold.
    #[error("extended attribute `{name}` of `{path}` cannot be stored", name = path::display_path(name), path = path::display_path(path))]
    Xattr {
        /// Of the entry.
        path: Vec<u8>,
        /// Of the attribute.
        name: Vec<u8>,
    },
}

/// Writes a tar archive: the same entries in the same order give the same bytes.
///
/// ustar headers, with PAX records only for what does not fit into them. Owner names stay empty.
/// The caller gives the order; by path, a folder before what is in it, is best.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    buffer: Vec<u8>,
}

/// What is read of the data, and given to the output, at once.
const COPY_BUFFER_BYTES: usize = 128 * 1024;

impl<W: Write> Writer<W> {
    /// An archive that goes to `output`.
    pub fn new(output: W) -> Self {
        Self { output, buffer: vec![0; COPY_BUFFER_BYTES] }
    }

    /// Writes an entry that has no data: all but a [`EntryKind::File`] of more than 0 bytes.
    pub fn append(&mut self, entry: &Entry) -> Result<(), WriteError> {
        self.append_data(entry, &mut io::empty())
    }

    /// Writes an entry and its data, which must be exactly as long as the entry says.
    ///
    /// After an error of the data the archive is not usable.
    pub fn append_data(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), WriteError> {
        self.output.write_all(&headers(entry)?).map_err(WriteError::Output)?;
        let size = entry.size();
        let mut left = size;
        loop {
            // At the end one more byte is asked for: a file that grew must not pass unseen.
            let room = left.clamp(1, COPY_BUFFER_BYTES as u64);
            let buffer = &mut self.buffer[..usize::try_from(room).unwrap_or(1)];
            let read = match data.read(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(WriteError::Data { path: entry.path.clone(), source }),
            };
            match (left, read) {
                (0, 0) => break,
                (0, _) | (_, 0) => {
                    return Err(WriteError::Size { path: entry.path.clone(), size });
                }
                _ => {}
            }
            self.output.write_all(&buffer[..read]).map_err(WriteError::Output)?;
            left -= read as u64;
        }
        self.output.write_all(padding(size)).map_err(WriteError::Output)
    }

    /// Writes the end of the archive, and gives the output back, flushed.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.output.write_all(&[0; 2 * BLOCK]).map_err(WriteError::Output)?;
        self.output.flush().map_err(WriteError::Output)?;
        Ok(self.output)
    }
}

/// What fills the last block of data.
fn padding(size: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let used = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if used == 0 { &[] } else { &ZEROS[used..] }
}

/// The header block of an entry, after its PAX records where it needs some.
fn headers(entry: &Entry) -> Result<Vec<u8>, WriteError> {
    let mut path = checked(&entry.path, entry.kind == EntryKind::Directory)?;
    if entry.kind == EntryKind::Directory {
        path.extend_from_slice(if path.is_empty() { b"./" } else { b"/" });
    }
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut block = [0; BLOCK];
    block[header::MAGIC].copy_from_slice(b"ustar\x0000");
    block[header::TYPE] = match entry.kind {
        EntryKind::File { .. } => b'0',
        EntryKind::HardLink { .. } => b'1',
        EntryKind::Symlink { .. } => b'2',
        EntryKind::CharDevice { .. } => b'3',
        EntryKind::BlockDevice { .. } => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    };
    put_path(&mut block, &path, &mut records);
    let link = match &entry.kind {
        EntryKind::HardLink { target } => checked(target, false)?,
        EntryKind::Symlink { target } if target.is_empty() || target.contains(&0) => {
            let problem = if target.is_empty() { PathProblem::Empty } else { PathProblem::Nul };
            return Err(WriteError::Path { path: target.clone(), problem });
        }
        EntryKind::Symlink { target } => target.clone(),
        _ => Vec::new(),
    };
    put_text(&mut block[header::LINK], &link, b"linkpath", &mut records);
    // The mode always fits: seven digits for four.
    let _ = header::put_octal(&mut block[header::MODE], u64::from(entry.mode & 0o7777));
    put_number(&mut block[header::UID], entry.uid, b"uid", &mut records);
    put_number(&mut block[header::GID], entry.gid, b"gid", &mut records);
    put_number(&mut block[header::SIZE], entry.size(), b"size", &mut records);
    match u64::try_from(entry.mtime) {
        Ok(mtime) => put_number(&mut block[header::MTIME], mtime, b"mtime", &mut records),
        Err(_) => {
            records.insert(b"mtime".to_vec(), entry.mtime.to_string().into_bytes());
            put_number(&mut block[header::MTIME], 0, b"mtime", &mut BTreeMap::new());
        }
    }
    if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } =
        entry.kind
    {
        let fits = header::put_octal(&mut block[header::DEV_MAJOR], u64::from(major))
            && header::put_octal(&mut block[header::DEV_MINOR], u64::from(minor));
        if !fits {
            return Err(WriteError::Device { path: entry.path.clone(), major, minor });
        }
    }
    for (name, value) in &entry.xattrs {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
            return Err(WriteError::Xattr { path: entry.path.clone(), name: name.clone() });
        }
        records.insert(pax::xattr_key(name), value.clone());
    }
    header::put_checksum(&mut block);
    let mut bytes = pax_header(records);
    bytes.extend_from_slice(&block);
    Ok(bytes)
}

fn checked(path: &[u8], may_be_root: bool) -> Result<Vec<u8>, WriteError> {
    let fail = |problem| WriteError::Path { path: path.to_vec(), problem };
    if path.is_empty() {
        return if may_be_root { Ok(Vec::new()) } else { Err(fail(PathProblem::Empty)) };
    }
    let clean = path::normalise(path, AbsolutePaths::Reject).map_err(fail)?;
    if clean == path { Ok(clean) } else { Err(fail(PathProblem::NotNormal)) }
}

/// Into the name, the prefix and the name, or a record.
fn put_path(block: &mut [u8; BLOCK], path: &[u8], records: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    let name_len = header::NAME.len();
    if path.is_ascii() && path.len() > name_len {
        // The last `/` that leaves a prefix that fits, and something more than a `/` after it.
        let limit = header::PREFIX.len().min(path.len() - 2);
        let at = path[..=limit].iter().rposition(|b| *b == b'/');
        if let Some(at) =
            at.filter(|at| (1..=limit).contains(at) && path.len() - at - 1 <= name_len)
        {
            block[header::PREFIX][..at].copy_from_slice(&path[..at]);
            block[..path.len() - at - 1].copy_from_slice(&path[at + 1..]);
            return;
        }
    }
    put_text(&mut block[header::NAME], path, b"path", records);
}

/// Into the field if it fits, else into a record, with an excerpt in the field for programs that
/// know no PAX.
///
/// Text beyond ASCII needs a record, where it is known to be UTF-8. What is not UTF-8 has no right
/// place at all; in the field all programs take it as it is, in a record some do not.
fn put_text(field: &mut [u8], text: &[u8], key: &[u8], records: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    let is_utf8 = std::str::from_utf8(text).is_ok();
    if text.len() <= field.len() && (text.is_ascii() || !is_utf8) {
        field[..text.len()].copy_from_slice(text);
        return;
    }
    records.insert(key.to_vec(), text.to_vec());
    if !is_utf8 {
        records.insert(b"hdrcharset".to_vec(), b"BINARY".to_vec());
    }
    for (to, from) in field.iter_mut().zip(text) {
        *to = if from.is_ascii() { *from } else { b'_' };
    }
}

fn put_number(field: &mut [u8], value: u64, key: &[u8], records: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    if !header::put_octal(field, value) {
        records.insert(key.to_vec(), value.to_string().into_bytes());
        let _ = header::put_octal(field, 0);
    }
}

/// The `x` entry that goes in front; nothing when there are no records.
fn pax_header(records: BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    if records.is_empty() {
        return Vec::new();
    }
    let mut data = Vec::new();
    for (key, value) in records {
        pax::put(&mut data, &key, &value);
    }
    let mut block = [0; BLOCK];
    block[..PAX_NAME.len()].copy_from_slice(PAX_NAME);
    block[header::MAGIC].copy_from_slice(b"ustar\x0000");
    block[header::TYPE] = b'x';
    for (field, value) in [
        (header::MODE, 0o644),
        (header::UID, 0),
        (header::GID, 0),
        (header::SIZE, data.len() as u64),
        (header::MTIME, 0),
    ] {
        // Records of an entry are far below the 8 GiB that the field holds.
        let _ = header::put_octal(&mut block[field], value);
    }
    header::put_checksum(&mut block);
    let pad = padding(data.len() as u64);
    [&block[..], &data, pad].concat()
}
