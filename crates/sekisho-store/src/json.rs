//! JSON records: one file, written all or nothing.

use std::io;
use std::path::Path;

use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::{found, write_atomic};

/// Largest record that is read, in bytes: a record is a description, never content.
pub const MAX_RECORD_BYTES: u64 = 16 * 1024 * 1024;

/// Writes `value` to `path`, all or nothing; folders above it are made.
pub fn write<T: Serialize + ?Sized>(path: &Path, value: &T) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    bytes.push(b'\n');
    write_atomic(path, &bytes, false)
}

/// Reads what [`write()`] wrote; `None` when there is no such file.
///
/// # Errors
/// The file cannot be read, is over [`MAX_RECORD_BYTES`], or does not parse; the path is named.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(metadata) = found(fs::metadata(path))? else { return Ok(None) };
    if metadata.len() > MAX_RECORD_BYTES {
        return Err(bad(path, "record is larger than 16 MiB"));
    }
    let Some(bytes) = found(fs::read(path))? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(path, &error.to_string()))
}

fn bad(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: {what}", path.display()))
}
