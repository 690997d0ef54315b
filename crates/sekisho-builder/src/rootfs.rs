//! The files of an image, in a folder or a tar file: `--output type=local|tar`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::Context as _;
use fs_err as fs;
use sekisho_oci::layer::{Entry, Writer};

use crate::BuildError;
use crate::engine::Engine;
use crate::files::{FileMap, ImagePath, Node, NodeKind};
use crate::image::Layer;

/// One thing to be written.
enum Item<'a> {
    /// With the path that its data is found under.
    Node(&'a Node, &'a ImagePath),
    /// Another name of something that was written before.
    Link(ImagePath),
}

/// Calls `write` for everything in the image, a folder before what is in it, and the first name of a
/// file before its others.
fn each(
    view: &FileMap,
    mut write: impl FnMut(&ImagePath, Item<'_>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let mut first: HashMap<&ImagePath, ImagePath> = HashMap::new();
    for (path, node) in view.iter().filter(|(path, _)| !path.is_empty()) {
        let named = match &node.kind {
            NodeKind::HardLink { target } => target,
            NodeKind::File { .. } => path,
            _ => {
                write(path, Item::Node(node, path))?;
                continue;
            }
        };
        match (first.get(named), view.get(named)) {
            (Some(name), _) => write(path, Item::Link(name.clone()))?,
            (None, Some(original)) => {
                write(path, Item::Node(original, named))?;
                first.insert(named, path.clone());
            }
            (None, None) => return Err(anyhow::anyhow!("a hard link leads nowhere").into()),
        }
    }
    Ok(())
}

/// Writes the files below `folder`. They belong to who builds; devices are left out.
pub(crate) fn local(engine: &Engine, folder: &Path, chain: &[Layer]) -> Result<(), BuildError> {
    let view = engine.layers.view(chain)?;
    fs::create_dir_all(folder).context("cannot make a folder")?;
    let mut modes = Vec::new();
    each(&view, |path, item| {
        engine.check()?;
        let disk = folder.join(OsStr::from_bytes(path));
        let is_folder = matches!(item, Item::Node(node, _) if node.is_directory());
        make_room(&disk, is_folder).context("cannot replace a file")?;
        let (node, original) = match item {
            Item::Link(name) => {
                let name = folder.join(OsStr::from_bytes(&name));
                fs::hard_link(name, &disk).context("cannot make a hard link")?;
                return Ok(());
            }
            Item::Node(node, original) => (node, original),
        };
        match &node.kind {
            NodeKind::Directory => {
                if !disk.is_dir() {
                    fs::create_dir(&disk).context("cannot make a folder")?;
                }
                modes.push((disk, node.mode));
            }
            NodeKind::Symlink { target } => {
                symlink(OsStr::from_bytes(target), &disk).context("cannot make a link")?;
            }
            NodeKind::File { .. } => {
                let mut source = engine.layers.open(chain, node, original, engine.isolation)?;
                let mut out = fs::File::create(&disk).context("cannot write a file")?;
                io::copy(&mut source, &mut out).context("cannot write a file")?;
                let mode = std::fs::Permissions::from_mode(node.mode & 0o7777);
                out.set_permissions(mode).context("cannot write a file")?;
                crate::upper::set_time(&disk, node.mtime).context("cannot date a file")?;
            }
            _ => {}
        }
        Ok(())
    })?;
    // Last, for a folder may forbid writing.
    for (disk, mode) in modes.into_iter().rev() {
        let mode = std::fs::Permissions::from_mode(mode & 0o7777);
        fs::set_permissions(&disk, mode).context("cannot set a mode")?;
    }
    Ok(())
}

/// Removes what stands where something else is to be.
fn make_room(disk: &Path, is_folder: bool) -> io::Result<()> {
    match std::fs::symlink_metadata(disk) {
        Ok(there) if there.is_dir() && is_folder => Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir_all(disk),
        Ok(_) => fs::remove_file(disk),
        Err(_) => Ok(()),
    }
}

/// Writes the files as one archive, with their owners and modes; same image, same bytes.
pub(crate) fn tar<W: Write>(
    engine: &Engine,
    writer: &mut Writer<W>,
    below: &str,
    chain: &[Layer],
) -> Result<(), BuildError> {
    let view = engine.layers.view(chain)?;
    let place = |path: &[u8]| crate::files::join(below.as_bytes(), path);
    if !below.is_empty() {
        let mut folder = Entry::directory(below.to_owned());
        folder.mtime = crate::LAYER_EPOCH;
        writer.append(&folder).context("cannot write the archive")?;
    }
    each(&view, |path, item| {
        engine.check()?;
        let written = match item {
            Item::Link(name) => {
                let kind = NodeKind::HardLink { target: place(&name) };
                let node = Node::new(kind, 0o644);
                writer.append(&node.to_entry(&place(path)))
            }
            Item::Node(node, original) => {
                let entry = node.to_entry(&place(path));
                match &node.kind {
                    NodeKind::File { .. } => {
                        let mut source =
                            engine.layers.open(chain, node, original, engine.isolation)?;
                        writer.append_data(&entry, &mut source)
                    }
                    _ => writer.append(&entry),
                }
            }
        };
        Ok(written.context("cannot write the archive")?)
    })
}
