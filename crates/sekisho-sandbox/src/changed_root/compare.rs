//! What a command changed: the files before and after, by what the kernel says of them.
//!
//! Every change of a file, of its owner or mode, or of its place in a folder sets its change time, which no
//! program can set otherwise. So a walk is enough, and no content is read. What changed is moved out, in
//! the form in which overlayfs would have left it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use super::copy::{OPAQUE, dress};

/// What the kernel says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    folder: bool,
    mode: u32,
    uid: u32,
    gid: u32,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            folder: metadata.is_dir(),
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The files of a root at some time, by path from it, a folder before what is in it.
#[derive(Debug)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Stamp>);

impl Snapshot {
    /// Of everything but `left_out`, and what is in those.
    pub(super) fn take(root: &Path, left_out: &BTreeSet<PathBuf>) -> io::Result<Self> {
        let mut all = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder))? {
                let entry = entry?;
                let path = folder.join(entry.file_name());
                if left_out.contains(&path) {
                    continue;
                }
                let stamp = Stamp::of(&fs::symlink_metadata(entry.path())?);
                if stamp.folder {
                    folders.push(path.clone());
                }
                all.insert(path, stamp);
            }
        }
        Ok(Self(all))
    }

    /// As if these had not been there.
    pub(super) fn without<'p>(mut self, paths: impl Iterator<Item = &'p PathBuf>) -> Self {
        for path in paths {
            self.0.remove(path);
        }
        self
    }

    /// Those of some folders that are still as they were.
    pub(super) fn unchanged<'p>(
        &self,
        root: &Path,
        folders: impl Iterator<Item = &'p Path>,
    ) -> Vec<PathBuf> {
        let is_same = |path: &&Path| {
            let now = fs::symlink_metadata(root.join(path)).map(|now| Stamp::of(&now));
            now.is_ok_and(|now| self.0.get(*path) == Some(&now))
        };
        folders.filter(is_same).map(Path::to_owned).collect()
    }

    /// Takes these as they are now.
    pub(super) fn renew(&mut self, root: &Path, paths: Vec<PathBuf>) -> io::Result<()> {
        for path in paths {
            let now = Stamp::of(&fs::symlink_metadata(root.join(&path))?);
            self.0.insert(path, now);
        }
        Ok(())
    }

    /// Waits until the clock that dates changes has moved on: what changes from then on is seen.
    pub(super) fn settle(&self, scratch: &Path) -> io::Result<()> {
        let latest = self.0.values().map(|stamp| stamp.changed).max().unwrap_or_default();
        let path = scratch.join("clock");
        loop {
            fs::write(&path, [])?;
            let metadata = fs::symlink_metadata(&path)?;
            if (metadata.ctime(), metadata.ctime_nsec()) > latest {
                return fs::remove_file(&path);
            }
            fs::remove_file(&path)?;
            // It moves on at each tick, 250 times a second or so.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Moves what changed since `before` from `root` to `upper`, which is empty.
pub(super) fn move_changes(
    root: &Path,
    before: &Snapshot,
    left_out: &BTreeSet<PathBuf>,
    upper: &Path,
) -> io::Result<()> {
    let now = Snapshot::take(root, left_out)?;
    // Folders that are others than before, whatever they are called: nothing in them is what it was.
    let mut replaced: BTreeSet<&Path> = BTreeSet::new();
    for (path, stamp) in &now.0 {
        let inside = path.parent().is_some_and(|parent| replaced.contains(parent));
        let old = before.0.get(path).filter(|_| !inside);
        if stamp.folder && old.is_none_or(|old| !old.folder || old.inode != stamp.inode) {
            replaced.insert(path);
        }
        if old == Some(stamp) {
            continue;
        }
        folders(upper, path)?;
        let (from, to) = (root.join(path), upper.join(path));
        if !stamp.folder {
            fs::rename(&from, &to)?;
            continue;
        }
        if !to.is_dir() {
            fs::create_dir(&to)?;
        }
        let hides = before.0.get(path).is_some_and(|old| old.folder) && replaced.contains(&**path);
        if hides && !inside {
            rustix::fs::setxattr(&to, OPAQUE, b"y", XattrFlags::empty())?;
        }
    }
    for (path, _) in before.0.iter().filter(|(path, _)| !now.0.contains_key(*path)) {
        let parent = path.parent().unwrap_or(Path::new(""));
        // What is gone with its folder is gone with the mark of that.
        let folder =
            parent.as_os_str().is_empty() || now.0.get(parent).is_some_and(|now| now.folder);
        if folder && !replaced.contains(parent) {
            folders(upper, path)?;
            let none = Mode::empty();
            rustix::fs::mknodat(CWD, upper.join(path), FileType::CharacterDevice, none, 0)?;
        }
    }
    // Innermost first, for making something in a folder dates it.
    for (path, _) in now.0.iter().rev().filter(|(_, stamp)| stamp.folder) {
        let to = upper.join(path);
        if to.is_dir() {
            dress(&root.join(path), &to, &fs::symlink_metadata(root.join(path))?)?;
        }
    }
    dress(root, upper, &fs::symlink_metadata(root)?)
}

/// Makes the folders on the way to `path`; how they look is seen to at the end.
fn folders(upper: &Path, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| fs::create_dir_all(upper.join(parent)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

    use super::*;
    use crate::changed_root::copy::{Copier, is_opaque};

    /// One line for each entry: its path, and what it is.
    fn list(root: &Path) -> Vec<String> {
        let all = Snapshot::take(root, &BTreeSet::new()).unwrap();
        let line = |path: &PathBuf| {
            let disk = root.join(path);
            let metadata = fs::symlink_metadata(&disk).unwrap();
            let kind = metadata.file_type();
            let what = match () {
                () if kind.is_char_device() => "gone".to_owned(),
                () if kind.is_symlink() => {
                    format!("-> {}", fs::read_link(&disk).unwrap().display())
                }
                () if kind.is_dir() && is_opaque(&disk) => "folder, hides".to_owned(),
                () if kind.is_dir() => format!("folder {:o}", metadata.mode() & 0o7777),
                () => fs::read_to_string(&disk).unwrap(),
            };
            format!("{} {what}", path.display())
        };
        all.0.keys().map(line).collect()
    }

    #[test]
    fn what_changed_is_moved_out_as_overlayfs_would_leave_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, upper) = (dir.path().join("root"), dir.path().join("upper"));
        fs::create_dir(&upper).unwrap();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for path in
            ["a/same", "a/new-text", "a/gone", "b/x", "c/y/z", "d/e", "f", "out/q", "mode/m"]
        {
            write(path, "old");
        }
        let left_out = BTreeSet::from([PathBuf::from("out")]);
        let before = Snapshot::take(&root, &left_out).unwrap();
        before.settle(dir.path()).unwrap();
        write("a/new-text", "new");
        // The same text is still a change, and so is a mode.
        write("b/x", "old");
        fs::remove_file(root.join("a/gone")).unwrap();
        // The old one lives on, or its inode's number could be the new one's.
        fs::rename(root.join("c"), root.join("out/c")).unwrap();
        write("c/w", "other");
        fs::rename(root.join("d"), root.join("moved")).unwrap();
        fs::remove_file(root.join("f")).unwrap();
        write("f/g", "in a folder now");
        write("out/more", "left out");
        std::os::unix::fs::symlink("f", root.join("l")).unwrap();
        fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o700)).unwrap();
        move_changes(&root, &before, &left_out, &upper).unwrap();
        assert_eq!(
            list(&upper),
            [
                "a folder 755",
                "a/gone gone",
                "a/new-text new",
                "b folder 755",
                "b/x old",
                "c folder, hides",
                "c/w other",
                "d gone",
                "f folder 755",
                "f/g in a folder now",
                "l -> f",
                "mode folder 700",
                "moved folder 755",
                "moved/e old",
            ]
        );
    }

    #[test]
    fn trees_are_copied_onto_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (low, high, to) = (dir.path().join("l"), dir.path().join("h"), dir.path().join("to"));
        for path in [low.join("a"), low.join("b/c"), low.join("x"), high.join("b"), to.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        for (path, text) in [("a/1", "low"), ("a/2", "low"), ("b/c/3", "low"), ("x/4", "low")] {
            fs::write(low.join(path), text).unwrap();
        }
        fs::hard_link(low.join("a/1"), low.join("a/link")).unwrap();
        std::os::unix::fs::symlink("/", low.join("up")).unwrap();
        // Hides a folder, and puts a folder where a link was.
        rustix::fs::setxattr(high.join("b"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
        fs::create_dir(high.join("up")).unwrap();
        fs::write(high.join("up/new"), "high").unwrap();
        fs::write(high.join("x"), "a file now").unwrap();
        let check = || Ok(());
        let mut copier = Copier::new(&check);
        copier.tree(&low, &to).unwrap();
        copier.tree(&high, &to).unwrap();
        assert_eq!(
            list(&to),
            [
                "a folder 755",
                "a/1 low",
                "a/2 low",
                "a/link low",
                "b folder 755",
                "up folder 755",
                "up/new high",
                "x a file now",
            ]
        );
        let inode = |path: &str| fs::metadata(to.join(path)).unwrap().ino();
        assert_eq!(inode("a/1"), inode("a/link"));
        assert_ne!(inode("a/1"), fs::metadata(low.join("a/1")).unwrap().ino());
        let stop = || Err(io::ErrorKind::Interrupted.into());
        assert!(Copier::new(&stop).tree(&low, &to).is_err());
    }
}
