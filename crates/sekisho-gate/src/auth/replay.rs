//! Tokens that were exchanged: each is taken once.

use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::Timestamp;
use sekisho_types::Digest;

/// Remembers tokens until some time after they expired, also through a restart.
///
/// One empty file per token, `<expiry>-<hash of issuer and jti>`: making it anew is what only one
/// can succeed in.
pub(crate) struct Exchanged {
    dir: PathBuf,
}

/// Longer than any skew that is tolerated, in seconds.
const KEPT_SECONDS: i64 = 300;

impl Exchanged {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn path(&self, issuer: &str, jti: &str, expires: i64) -> PathBuf {
        // Both hashed: neither is ours, and a jti is nothing to leave lying about.
        let hash = Digest::sha256(format!("{}:{issuer}{jti}", issuer.len()).as_bytes());
        self.dir.join(format!("{expires}-{}", hash.hex()))
    }

    /// Takes a token; `false` when it was taken before. Blocks.
    pub(crate) fn take(&self, issuer: &str, jti: &str, expires: i64) -> io::Result<bool> {
        let path = self.path(issuer, jti, expires);
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => file.sync_all().map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a token was taken. Blocks.
    pub(crate) fn contains(&self, issuer: &str, jti: &str, expires: i64) -> io::Result<bool> {
        self.path(issuer, jti, expires).try_exists()
    }

    /// Forgets tokens that expired. Blocks.
    pub(crate) fn expire(&self, now: Timestamp) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let expires =
                name.to_str().and_then(|name| name.split_once('-')?.0.parse::<i64>().ok());
            if expires.is_none_or(|expires| expires.saturating_add(KEPT_SECONDS) < now.as_second())
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_once_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let exchanged = Exchanged::open(dir.path()).unwrap();
        assert!(!exchanged.contains("i", "j", 100).unwrap());
        assert!(exchanged.take("i", "j", 100).unwrap());
        assert!(!exchanged.take("i", "j", 100).unwrap());
        assert!(exchanged.take("i", "../k", 100).unwrap(), "a jti is no path");
        assert!(exchanged.take("ij", "", 100).unwrap(), "issuer and jti do not run together");
        let exchanged = Exchanged::open(dir.path()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        exchanged.expire(at(400)).unwrap();
        assert!(exchanged.contains("i", "j", 100).unwrap());
        exchanged.expire(at(401)).unwrap();
        assert!(!exchanged.contains("i", "j", 100).unwrap());
    }
}
