//! Space that stays free on the gate's disk: for decisions, states and tags, so that what was begun can
//! be ended, and reads go on.

use std::path::{Path, PathBuf};

use crate::error::{ApiError, ApiResult, Code, OrFail as _};

/// How many bytes are taken in before the disk is looked at again.
pub(crate) const LOOK_EVERY_BYTES: u64 = 16 * 1024 * 1024;

/// How long a client waits before it comes again, in seconds.
const RETRY_AFTER_SECONDS: &str = "60";

const MIB: u64 = 1024 * 1024;

/// A folder, and how many bytes stay free there.
#[derive(Clone, Debug)]
pub(crate) struct Reserve {
    dir: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub(crate) fn new(dir: &Path, bytes: u64) -> Self {
        Self { dir: dir.to_owned(), bytes }
    }

    /// Whether more may come in. Does not wait for the disk.
    ///
    /// # Errors
    /// 503: less is free than what stays free.
    pub(crate) fn check(&self) -> ApiResult<()> {
        let stat = rustix::fs::statvfs(&self.dir).map_err(std::io::Error::from);
        let stat = stat.or_fail("looking at the disk")?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= self.bytes {
            return Ok(());
        }
        tracing::error!(free_bytes = free, "the gate takes nothing in: its disk is nearly full");
        let message = format!(
            "the gate has {} MiB of disk left and keeps {} MiB: it takes nothing in until there is more",
            free / MIB,
            self.bytes.div_ceil(MIB)
        );
        let error = ApiError::new(Code::Unavailable, message);
        Err(error.with_retry_after(RETRY_AFTER_SECONDS))
    }
}
