//! One log as a file: `<number>.log`.
//!
//! ```text
//! log    = "SEKLOG1\n" · mark (8 bytes) · SHA-256 of the mark, 8 bytes of it · entries · zeros
//! entry  = mark · synced (u64) · length of the body (u32) · SHA-256 of those two and the body · body
//! ```
//!
//! Numbers are little-endian; of the mark, which nobody else knows, begins each entry. `synced` is how
//! much of the log was on the disk when the entry was written: what is damaged before that was
//! acknowledged, and what is damaged after it was not.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fs_err as fs;
use sha2::{Digest as _, Sha256};

/// A log of another form has another one.
const MAGIC: [u8; 8] = *b"SEKLOG1\n";

/// Bytes of the marks that begin a log, and each entry.
const MARK_BYTES: usize = 8;

/// Where the first entry is, in bytes.
pub(super) const FIRST: u64 = (MAGIC.len() + 2 * MARK_BYTES) as u64;

/// Bytes in front of an entry's body.
pub(super) const HEAD_BYTES: usize = MARK_BYTES + 8 + 4 + 32;

/// Largest body, in bytes: a few of the largest records.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// A log grows by so many bytes at once, which are zeros at first: within them a sync has nothing to say
/// about the file's size and place.
const GROWS_BY: u64 = 256 * 1024;

/// Why entries were not written.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing of them counts.
    Write(io::Error),
    /// They may be on the disk or not.
    Sync(io::Error),
}

impl Failed {
    pub(super) fn into_error(self) -> io::Error {
        match self {
            Self::Write(error) | Self::Sync(error) => error,
        }
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(super) struct LogFile {
    file: fs::File,
    number: u64,
    mark: [u8; MARK_BYTES],
    /// How long the file is.
    length: AtomicU64,
    /// Entries that are on the disk, or about to be, and not in their place.
    under_way: AtomicUsize,
}

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.log"))
}

/// The logs in a folder, the oldest first.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The body of each whole entry of a log.
///
/// # Errors
/// `InvalidData`: it is of another form, or what was acknowledged is damaged in it.
pub(super) fn read(folder: &Path, number: u64) -> io::Result<Vec<Vec<u8>>> {
    let path = path(folder, number);
    let bytes = fs::read(&path)?;
    let bodies = bodies(&bytes).map_err(|why| {
        let message = format!("write-ahead log `{}` {why}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })?;
    Ok(bodies.into_iter().map(<[u8]>::to_vec).collect())
}

/// Why a log is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(
        "is of another version: start the program that wrote it once more, which empties it as it ends \
         its first minute"
    )]
    Version,
    #[error(
        "is damaged at byte {0}, in what was acknowledged: the disk does not keep what it was given. \
         Keep a copy of the folder, then move the log away: what it says and is not in its place is lost"
    )]
    Damaged(usize),
}

/// The body of each whole entry, until one is not.
pub(super) fn bodies(bytes: &[u8]) -> Result<Vec<&[u8]>, Unreadable> {
    // The head is synced before anything follows it.
    let Some((head, entries)) = bytes.split_at_checked(MAGIC.len() + 2 * MARK_BYTES) else {
        return Ok(Vec::new());
    };
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let (magic, marks) = head.split_at(MAGIC.len());
    let (mark, sum) = marks.split_at(MARK_BYTES);
    if magic != MAGIC {
        return Err(Unreadable::Version);
    }
    if checksum(mark, b"")[..MARK_BYTES] != *sum {
        return Err(Unreadable::Damaged(MAGIC.len()));
    }
    let (mut bodies, mut left) = (Vec::new(), entries);
    while let Some((_, body, rest)) = entry(mark, left) {
        bodies.push(body);
        left = rest;
    }
    let end = bytes.len() - left.len();
    // An end that was torn has nothing behind it that knew it to be on the disk.
    let marks =
        (1..left.len().saturating_sub(MARK_BYTES)).filter(|at| left[*at..].starts_with(mark));
    for at in marks {
        if entry(mark, &left[at..]).is_some_and(|(synced, ..)| synced > end as u64) {
            return Err(Unreadable::Damaged(end));
        }
    }
    Ok(bodies)
}

/// An entry at the beginning of some bytes: how much was synced before it, its body, and what follows.
fn entry<'a>(mark: &[u8], bytes: &'a [u8]) -> Option<(u64, &'a [u8], &'a [u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let (found, head) = head.split_at(MARK_BYTES);
    if found != mark {
        return None;
    }
    let (numbers, sum) = head.split_at(12);
    let synced = u64::from_le_bytes(numbers[..8].try_into().ok()?);
    let length = usize::try_from(u32::from_le_bytes(numbers[8..].try_into().ok()?)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    (checksum(numbers, body)[..] == *sum).then_some((synced, body, rest))
}

fn checksum(numbers: &[u8], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(numbers).chain_update(body).finalize().into()
}

impl LogFile {
    /// A new log. Its name and head are durable, so that what is in it can be found.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<Self> {
        let path = path(folder, number);
        let file = fs::File::create_new(&path)?;
        let mark = RandomState::new().hash_one(number).to_le_bytes();
        let sum = checksum(&mark, b"");
        let head = [&MAGIC[..], &mark, &sum[..MARK_BYTES]].concat();
        let begun = (file.file().write_all_at(&head, 0))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::File::open(folder)?.sync_all());
        if let Err(error) = begun {
            // The next one takes this number.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        let (length, under_way) = (AtomicU64::new(FIRST), AtomicUsize::new(0));
        Ok(Self { file, number, mark, length, under_way })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Entries are about to be written.
    pub(super) fn enter(&self, entries: usize) {
        self.under_way.fetch_add(entries, Ordering::SeqCst);
    }

    /// One of them is in its place, or will not be.
    pub(super) fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
    }

    /// Writes entries of these bodies behind the others and syncs them; where the log ends then. One
    /// thread at a time.
    pub(super) fn append(&self, end: u64, bodies: &[Vec<u8>]) -> Result<u64, Failed> {
        let mut bytes = Vec::new();
        for body in bodies {
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            let numbers = [&end.to_le_bytes()[..], &length.to_le_bytes()].concat();
            bytes.extend_from_slice(&self.mark);
            bytes.extend_from_slice(&numbers);
            bytes.extend(checksum(&numbers, body));
            bytes.extend_from_slice(body);
        }
        let new_end = end + bytes.len() as u64;
        if new_end > self.length.load(Ordering::Relaxed) {
            let length = new_end.next_multiple_of(GROWS_BY);
            bytes.resize(usize::try_from(length - end).unwrap_or(bytes.len()), 0);
            self.length.store(length, Ordering::Relaxed);
        }
        if let Err(error) = self.file.file().write_all_at(&bytes, end) {
            // What was written in part must not come to life behind a later entry.
            self.length.store(end, Ordering::Relaxed);
            let cut = self.file.set_len(end).and_then(|()| self.file.sync_all());
            return Err(cut.map_or_else(Failed::Sync, |()| Failed::Write(error)));
        }
        self.file.sync_data().map_err(Failed::Sync)?;
        Ok(new_end)
    }
}
