//! The one way in which a file gets its final name.

use std::io::{self, Write as _};
use std::path::Path;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use tempfile::NamedTempFile;

/// What temporary files next to records are called, so that a listing can leave them out.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

/// The points at which a publication can be cut short, in order.
///
/// Production never stops at one; the crash tests stop at each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// All bytes are written, nothing is synced.
    Written,
    /// The bytes are on the disk, under the temporary name.
    Synced,
    /// The file has its final name.
    Renamed,
    /// The name is on the disk too.
    Durable,
}

#[cfg(test)]
impl Step {
    pub(crate) const ALL: [Self; 4] = [Self::Written, Self::Synced, Self::Renamed, Self::Durable];
}

/// Called after each step; an error stops there, as a crash would.
pub(crate) type Hook<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

/// The hook of production: goes on.
pub(crate) fn go_on(_: Step) -> io::Result<()> {
    Ok(())
}

/// Gives a finished temporary file its name: fsync, rename, fsync of the folder.
pub(crate) fn publish(file: NamedTempFile, target: &Path, hook: Hook<'_>) -> io::Result<()> {
    let folder = parent(target)?;
    hook(Step::Written)?;
    file.as_file().sync_all()?;
    hook(Step::Synced)?;
    file.persist(target).map_err(|error| error.error)?;
    hook(Step::Renamed)?;
    fs::File::open(folder)?.sync_all()?;
    hook(Step::Durable)
}

/// Replaces the file at `path` by `bytes`, all or nothing; folders above it are made.
///
/// The file is readable by its owner alone when `private`, else by everybody (less the umask).
pub fn write_atomic(path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
    write_atomic_with(path, bytes, private, &mut go_on)
}

/// As [`write_atomic`] for what can be made again: a crash leaves the old or the new bytes, but a power
/// cut may lose both.
pub(crate) fn note_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = parent(path)?;
    let mut file = in_folder(folder, || temporary(folder, 0o644))?;
    file.write_all(bytes)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

pub(crate) fn write_atomic_with(
    path: &Path,
    bytes: &[u8],
    private: bool,
    hook: Hook<'_>,
) -> io::Result<()> {
    let folder = parent(path)?;
    create_dir_durable(folder)?;
    let mut file = temporary(folder, if private { 0o600 } else { 0o644 })?;
    file.write_all(bytes)?;
    publish(file, path, hook)
}

/// A new temporary file in `folder` that goes away when it is dropped.
pub(crate) fn temporary(folder: &Path, mode: u32) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(TEMPORARY_PREFIX).make_in(folder, |path| {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(mode);
        options.open(path).map(fs::File::into_file)
    })
}

/// Makes a folder and those above it; each new name is synced, so that a file in it is as durable as
/// its own fsync says.
pub(crate) fn create_dir_durable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_dir_durable(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::File::open(above)?.sync_all()?,
        }
        return Ok(());
    }
    fs::create_dir_all(folder)
}

/// Does what needs a folder, and makes that where it is missing.
pub(crate) fn in_folder<T>(folder: &Path, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match work() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_dir() => {
            fs::create_dir_all(folder)?;
            work()
        }
        done => done,
    }
}

/// As [`in_folder`], for the folder of a file.
pub(crate) fn in_folder_of<T>(path: &Path, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match path.parent() {
        Some(folder) => in_folder(folder, work),
        None => work(),
    }
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path has no folder"))
}

/// `None` for what is not there.
pub(crate) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // NotADirectory: a repository `a` was asked for `a/_tags/x/y`; nothing is there either.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
