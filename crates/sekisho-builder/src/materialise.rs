//! Files of the context, or of another stage, as a folder of this machine.

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use anyhow::Context as _;
use fs_err as fs;

use crate::copy::Match;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::files::{FileMap, Node, NodeKind};
use crate::origin::Origin;
use crate::upper;

impl Engine {
    /// Copies what was found to `folder`, where its paths are those in `files`; or, when `flat`, to
    /// `folder` itself.
    ///
    /// A copy, for the files of the host belong to somebody, change, and include what `.dockerignore`
    /// leaves out. Times are kept: that is what `make` goes by.
    pub(crate) fn materialise(
        &self,
        files: &FileMap,
        found: &Match,
        origin: &Origin,
        folder: &Path,
        flat: bool,
    ) -> Result<(), BuildError> {
        let mut folders = Vec::new();
        for (path, mut node) in found.all(files) {
            self.check()?;
            let relative = if flat { found.relative(path) } else { path };
            let disk = upper::on_disk(folder, relative);
            if let (Some(parent), false) = (disk.parent(), relative.is_empty()) {
                fs::create_dir_all(parent).context("cannot make a folder")?;
            }
            let mut original = path;
            if let NodeKind::HardLink { target } = &node.kind {
                original = target;
                node = files.get(target).context("a hard link leads nowhere")?;
            }
            match &node.kind {
                NodeKind::Directory => {
                    fs::create_dir_all(&disk).context("cannot make a folder")?;
                    folders.push((disk, node));
                    continue;
                }
                NodeKind::Symlink { target } => {
                    let target = std::ffi::OsStr::from_bytes(target);
                    symlink(target, &disk).context("cannot make a link")?;
                }
                NodeKind::File { .. } => {
                    let source = self.open_source(origin, node, original)?;
                    write(source, &disk).context("cannot copy a file")?;
                    self.settle(&disk, node).context("cannot copy a file")?;
                }
                // Devices and pipes are of no use in a mount.
                _ => {}
            }
        }
        // Last, for a folder may forbid writing.
        for (disk, node) in folders.iter().rev() {
            self.settle(disk, node).context("cannot make a folder")?;
        }
        Ok(())
    }

    fn settle(&self, disk: &Path, node: &Node) -> io::Result<()> {
        if self.isolation.has_owners() {
            let id = |id: u64| u32::try_from(id).ok();
            chown(disk, id(node.uid), id(node.gid))?;
        }
        fs::set_permissions(disk, std::fs::Permissions::from_mode(node.mode & 0o7777))
    }
}

fn write(mut source: std::fs::File, to: &Path) -> io::Result<()> {
    let mut out = std::fs::File::create(to)?;
    io::copy(&mut Read::by_ref(&mut source), &mut out)?;
    out.set_modified(source.metadata()?.modified()?)
}
