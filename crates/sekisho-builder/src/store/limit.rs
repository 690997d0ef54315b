//! How large a cache folder may become.

use std::io;
use std::path::Path;

/// What part of its disk a cache folder may take, and at most.
const PART: u64 = 4;
const MOST_BYTES: u64 = 100 << 30;

/// What the cache folder may take when a build begins: what was used longest ago goes first. Looked at once an
/// hour, and not while another build is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheLimit {
    /// A quarter of its disk, and 100 GiB at most.
    #[default]
    Share,
    /// So many bytes.
    Bytes(u64),
    /// As much as there is.
    Off,
}

impl CacheLimit {
    pub(super) fn bytes(self, folder: &Path) -> io::Result<Option<u64>> {
        Ok(match self {
            Self::Off => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Share => {
                let disk = rustix::fs::statvfs(folder)?;
                share(disk.f_blocks.saturating_mul(disk.f_frsize))
            }
        })
    }
}

/// Of a disk that does not say how large it is, nothing is known.
fn share(disk: u64) -> Option<u64> {
    (disk > 0).then_some((disk / PART).min(MOST_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_takes_a_quarter_of_its_disk_unless_told_otherwise() {
        assert_eq!(share(40 << 30), Some(10 << 30));
        assert_eq!(share(4 << 40), Some(100 << 30));
        assert_eq!(share(0), None);
        let dir = tempfile::tempdir().unwrap();
        let of = |limit: CacheLimit| limit.bytes(dir.path()).unwrap();
        assert!(of(CacheLimit::default()).is_some_and(|bytes| (1..=MOST_BYTES).contains(&bytes)));
        assert_eq!((of(CacheLimit::Bytes(7)), of(CacheLimit::Off)), (Some(7), None));
        assert!(CacheLimit::Share.bytes(&dir.path().join("none")).is_err());
    }
}
