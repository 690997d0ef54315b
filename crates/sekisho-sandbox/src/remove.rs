//! Removing what a command has left, whatever modes it set.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};

/// Removes a folder and everything in it, also folders that nobody may enter, such as overlayfs's own
/// work folder. Links are removed, not followed. That it is absent already is no error.
///
/// # Errors
/// The first thing that could not be removed, such as a file of another user.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match remove_below(CWD, path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        // Where the folder was there may be a link by now: it is what goes.
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) if path.is_symlink() => {
            Ok(unlinkat(CWD, path, AtFlags::empty())?)
        }
        Err(error) => Err(error.into()),
    }
}

fn remove_below(parent: impl std::os::fd::AsFd, name: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(&parent, name, flags, Mode::empty()) {
        Err(rustix::io::Errno::ACCESS) => {
            // Ours, or chmod fails. A link cannot be meant: opening that is another error.
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(&parent, name, flags, Mode::empty())?
        }
        other => other?,
    };
    // Listing, entering and writing need a bit each; opening needed only the first.
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&folder, Mode::RWXU)?;
    }
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            _ => false,
        };
        if is_folder {
            remove_below(&folder, as_path(name))?;
        } else {
            unlinkat(&folder, name, AtFlags::empty())?;
        }
    }
    unlinkat(&parent, name, AtFlags::REMOVEDIR)
}

fn as_path(name: &std::ffi::CStr) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_folders_place_goes_and_what_it_names_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, link) = (folder.path().join("kept"), folder.path().join("link"));
        std::fs::create_dir(&kept).unwrap();
        std::os::unix::fs::symlink(&kept, &link).unwrap();
        remove_tree(&link).unwrap();
        assert!(!link.is_symlink() && kept.is_dir());
        remove_tree(&link).unwrap();
    }
}
