//! Texts of a context that we read ourselves: the Dockerfile, and what leaves files out.
//!
//! A context may be somebody else's. A link in it leads to what is in it, and never to a file of this machine,
//! whose lines a message would show.

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sekisho_dockerfile::ignore::Ignore;

use crate::BuildError;

/// Largest `.dockerignore`, in bytes.
const MAX_IGNORE_BYTES: u64 = 1 << 20;

/// A text of the context; `None` where there is none. A path from the root was named by whoever builds, and may be
/// anywhere.
pub(crate) fn read(context: &Path, path: &Path, limit: u64) -> Result<Option<String>, BuildError> {
    let shown = context.join(path);
    let failed = |source: std::io::Error| BuildError::Context { path: shown.clone(), source };
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(context, folder, Mode::empty())
        .map_err(|error| super::failed(context, error))?;
    let opened = match path.is_absolute() {
        true => std::fs::File::open(path),
        false => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
                Err(Errno::XDEV) => return Err(BuildError::Outside { path: shown }),
                other => other.map(Into::into).map_err(Into::into),
            }
        }
    };
    let file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(ErrorKind::IsADirectory.into()));
    }
    if !path.is_absolute() && !metadata.is_file() {
        return Err(failed(Errno::INVAL.into()));
    }
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(failed)?;
    match text.len() as u64 > limit {
        true => Err(failed(ErrorKind::FileTooLarge.into())),
        false => Ok(Some(text)),
    }
}

/// What leaves files out, and where it stands: `<Dockerfile>.dockerignore`, or else the context's own.
pub(crate) fn ignore(
    context: &Path,
    dockerfile: &Path,
) -> Result<Option<(PathBuf, String)>, BuildError> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), PathBuf::from(".dockerignore")] {
        if let Some(text) = read(context, &path, MAX_IGNORE_BYTES)? {
            return Ok(Some((context.join(path), text)));
        }
    }
    Ok(None)
}

/// The same, understood.
pub(crate) fn read_ignore(context: &Path, dockerfile: &Path) -> Result<Ignore, BuildError> {
    match ignore(context, dockerfile)? {
        None => Ok(Ignore::default()),
        Some((path, text)) => {
            Ignore::parse(&text).map_err(|source| BuildError::Ignore { path, source })
        }
    }
}
