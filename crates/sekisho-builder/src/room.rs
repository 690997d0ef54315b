//! Room on the disk. What anybody's archive unpacks to is known only when it is there: so it is looked at while
//! it is written, and the machine keeps some for everything else that it does.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write as _};

use sekisho_sandbox::MIN_FREE_BYTES;

/// How much is written between two looks, in bytes.
const STRIDE_BYTES: u64 = 64 << 20;

/// What to do about a full disk.
pub(crate) const HINT: &str =
    "make room on the disk of the cache folder, or name another folder with `--cache-dir`";

/// Counts what is written, and looks at the disk now and then.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// Until the next look.
    left: u64,
}

impl Room {
    /// Before so many bytes are written to a file.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] when the disk has less than [`MIN_FREE_BYTES`].
    pub(crate) fn take(&mut self, file: &File, bytes: usize) -> io::Result<()> {
        if let Some(left) = self.left.checked_sub(bytes as u64) {
            self.left = left;
            return Ok(());
        }
        self.left = STRIDE_BYTES;
        let disk = rustix::fs::fstatvfs(file)?;
        enough(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// Copies all there is, but no more than so many bytes, and while the disk has room.
pub(crate) fn receive(mut from: impl Read, to: &mut File, limit: u64) -> io::Result<()> {
    // What is small is taken on any disk.
    let (mut room, mut size) = (Room { left: STRIDE_BYTES }, 0_u64);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            return Ok(());
        };
        size += read as u64;
        if size > limit {
            let message = format!("it has more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        room.take(to, read)?;
        to.write_all(piece)?;
    }
}

pub(crate) fn enough(free: u64) -> io::Result<()> {
    if free >= MIN_FREE_BYTES {
        return Ok(());
    }
    let (free, least) = (free >> 20, MIN_FREE_BYTES >> 20);
    let message = format!("the disk has {free} MiB left, and {least} MiB are to stay free");
    Err(io::Error::new(io::ErrorKind::StorageFull, message))
}

/// Whether it is the disk that an error is about.
pub(crate) fn is_full(mut error: &(dyn Error + 'static)) -> bool {
    loop {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        match error.source() {
            Some(source) => error = source,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_the_disk_stays_free() {
        assert!(enough(MIN_FREE_BYTES).is_ok());
        let error = enough(MIN_FREE_BYTES - 1).unwrap_err();
        let want = "the disk has 511 MiB left, and 512 MiB are to stay free";
        assert_eq!(error.to_string(), want);
        let above = anyhow::Error::from(error).context("cannot unpack");
        assert!(is_full(above.as_ref()));
        assert!(!is_full(&io::Error::other("no")));
    }

    #[test]
    fn what_comes_in_has_a_limit() {
        let mut file = tempfile::tempfile().unwrap();
        receive([7; 100_000].as_slice(), &mut file, 100_000).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 100_000);
        let error = receive(io::repeat(0), &mut file, 100_000).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 100000 bytes");
        assert!(file.metadata().unwrap().len() <= 200_000);
    }
}
