//! What extension headers (PAX, GNU) say about the entry that follows them.

use super::entry::{Entry, EntryKind};
use super::header::Header;
use super::path::{PathProblem, normalise};
use super::pax::{self, Records};
use super::read::{Limits, ReadError, Source};

/// The extensions that were read since the last entry.
#[derive(Debug, Default)]
pub(super) struct Pending {
    records: Option<Records>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    bytes: usize,
}

impl Pending {
    /// Something waits for its entry.
    pub(super) fn is_some(&self) -> bool {
        self.records.is_some() || self.long_path.is_some() || self.long_link.is_some()
    }

    /// Takes an extension header in; `false` when `header` is an entry.
    pub(super) fn take_extension(
        &mut self,
        header: &Header,
        source: &mut Source<'_>,
        limits: &Limits,
        offset: u64,
    ) -> Result<bool, ReadError> {
        if !matches!(header.kind, b'x' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let malformed = |problem| ReadError::Malformed { offset, problem };
        let size = usize::try_from(header.size).unwrap_or(usize::MAX);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > limits.header_bytes {
            let limit = limits.header_bytes as u64;
            return Err(ReadError::Limit { what: "header bytes for one entry", limit });
        }
        let data = source.take(size)?;
        // Programs differ in which of two wins.
        let twice = match header.kind {
            b'x' => self.records.replace(pax::parse(&data).map_err(malformed)?).is_some(),
            b'L' => self.long_path.replace(until_nul(data)).is_some(),
            b'K' => self.long_link.replace(until_nul(data)).is_some(),
            _ => {
                pax::check_global(&data).map_err(malformed)?;
                false
            }
        };
        if twice { Err(malformed("extension header stands twice")) } else { Ok(true) }
    }

    /// The entry of `header`, and the length of its data in bytes.
    pub(super) fn entry(
        &mut self,
        header: Header,
        limits: &Limits,
        offset: u64,
    ) -> Result<(Entry, u64), ReadError> {
        let records = self.records.take().unwrap_or_default();
        let malformed = |problem| ReadError::Malformed { offset, problem };
        if records.sparse || header.kind == b'S' {
            return Err(ReadError::Unsupported { offset, what: "sparse file".to_owned() });
        }
        let clash = (records.path.is_some() && self.long_path.is_some())
            || (records.link.is_some() && self.long_link.is_some());
        if clash {
            return Err(malformed("name stands in a PAX record and in a GNU header"));
        }
        let raw_path = records.path.or(self.long_path.take()).unwrap_or(header.path);
        let raw_link = records.link.or(self.long_link.take()).unwrap_or(header.link);
        let longest = raw_path.len().max(raw_link.len());
        if longest > limits.path_bytes {
            let limit = limits.path_bytes as u64;
            return Err(ReadError::Limit { what: "bytes in a path", limit });
        }
        let size = records.size.unwrap_or(header.size);
        let kind =
            kind(&header_kind(header.kind, &raw_path), raw_link, header.device, size, limits)
                .map_err(|problem| problem.at(offset))?;
        let path = clean(&raw_path, limits)?;
        if path.is_empty() && kind != EntryKind::Directory {
            return Err(ReadError::UnsafePath { path: raw_path, problem: PathProblem::Empty });
        }
        let entry = Entry {
            path,
            kind,
            mode: header.mode,
            uid: records.uid.unwrap_or(header.uid),
            gid: records.gid.unwrap_or(header.gid),
            mtime: records.mtime.unwrap_or(header.mtime),
            xattrs: records.xattrs,
        };
        let size = entry.size();
        Ok((entry, size))
    }
}

/// Before POSIX a folder was a file whose name ends in `/`.
fn header_kind(kind: u8, path: &[u8]) -> u8 {
    match kind {
        0 if path.ends_with(b"/") => b'5',
        0 | b'7' => b'0',
        other => other,
    }
}

/// Why an entry's kind is refused, before its offset is known.
enum Refusal {
    Malformed(&'static str),
    Unsupported(String),
    Path(ReadError),
}

impl Refusal {
    fn at(self, offset: u64) -> ReadError {
        match self {
            Self::Malformed(problem) => ReadError::Malformed { offset, problem },
            Self::Unsupported(what) => ReadError::Unsupported { offset, what },
            Self::Path(error) => error,
        }
    }
}

fn kind(
    kind: &u8,
    link: Vec<u8>,
    device: (u64, u64),
    size: u64,
    limits: &Limits,
) -> Result<EntryKind, Refusal> {
    // A link has no data whatever its header says: GNU tar and Go agree. For other kinds programs
    // differ in whether data follows, and so in what comes next.
    if size != 0 && matches!(kind, b'3'..=b'6') {
        return Err(Refusal::Malformed("entry that is no file has a size"));
    }
    let number = |value: u64| {
        u32::try_from(value).map_err(|_| Refusal::Malformed("device number is out of range"))
    };
    Ok(match kind {
        b'0' => EntryKind::File { size },
        b'1' => {
            let target = clean(&link, limits).map_err(Refusal::Path)?;
            if target.is_empty() {
                let problem = PathProblem::Empty;
                return Err(Refusal::Path(ReadError::UnsafePath { path: link, problem }));
            }
            EntryKind::HardLink { target }
        }
        b'2' if link.is_empty() => return Err(Refusal::Malformed("symbolic link leads nowhere")),
        b'2' => EntryKind::Symlink { target: link },
        b'3' => EntryKind::CharDevice { major: number(device.0)?, minor: number(device.1)? },
        b'4' => EntryKind::BlockDevice { major: number(device.0)?, minor: number(device.1)? },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => {
            return Err(Refusal::Unsupported(format!(
                "type `{}`",
                char::from(*other).escape_default()
            )));
        }
    })
}

fn clean(path: &[u8], limits: &Limits) -> Result<Vec<u8>, ReadError> {
    normalise(path, limits.absolute_paths)
        .map_err(|problem| ReadError::UnsafePath { path: path.to_vec(), problem })
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    data.truncate(end);
    data
}
