//! COPY and ADD: which files, and where they go. No file is opened here.

mod select;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) use self::select::{Match, add_lay, content_key, found, select};
use crate::chmod::Chmod;
use crate::files::{self, FileMap, ImagePath, Node, NodeKind};
use crate::pack::show;

/// Why files cannot be copied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyError {
    #[error("`{0}` is not there")]
    NotFound(String),
    #[error("`{0}` is no valid pattern")]
    Pattern(String),
    #[error("`{0}` leads through too many symbolic links")]
    Loop(String),
    #[error("more than one file goes to `{0}`, so it must end with `/`")]
    NotAFolderName(String),
    #[error("the URL `{0}` names no file, so the destination must")]
    NoName(String),
    #[error("`{0}` is no folder in the image")]
    NotAFolder(String),
    #[error("`{0}` is a folder in the image, and a file cannot take its place")]
    IsAFolder(String),
}

/// Where an entry's data comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    None,
    /// The file of that path among the sources of that number.
    Source {
        origin: usize,
        path: ImagePath,
    },
    /// A file of this machine, made for this build.
    File(std::path::PathBuf),
    /// A here-document.
    Bytes(Arc<[u8]>),
    /// A stretch of the session's spool file.
    Spool {
        offset: u64,
    },
}

/// An entry of the layer to be.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) node: Node,
    pub(crate) data: Data,
}

/// Where things go, and how they are changed on the way.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// Absolute and clean.
    pub(crate) path: String,
    /// It was written with `/` at its end.
    pub(crate) is_folder: bool,
    /// `--chown`; also for folders made on the way.
    pub(crate) owner: Option<(u64, u64)>,
    /// `--chmod`.
    pub(crate) chmod: Option<Chmod>,
    /// Without `--chown`: keep the owner (other stages), or give everything to root (the context).
    pub(crate) keep_owner: bool,
}

/// Collects the entries of one layer.
pub(crate) struct Placer<'a> {
    /// What is in the image below this layer.
    view: &'a FileMap,
    destination: &'a Destination,
    pub(crate) pending: BTreeMap<ImagePath, Pending>,
    /// Which of several sources what is placed comes from.
    pub(crate) origin: usize,
    /// Destinations of one file of the sources that has several names.
    names: HashMap<(usize, ImagePath), Vec<ImagePath>>,
    /// Further names of an entry of this layer, by its path.
    links: HashMap<ImagePath, Vec<ImagePath>>,
}

impl<'a> Placer<'a> {
    pub(crate) fn new(view: &'a FileMap, destination: &'a Destination) -> Self {
        Self {
            view,
            destination,
            pending: BTreeMap::new(),
            origin: 0,
            names: HashMap::new(),
            links: HashMap::new(),
        }
    }

    /// Where the destination really is, and whether things go into it rather than take its place.
    ///
    /// `many`: more than one thing goes there.
    pub(crate) fn target(&self, many: bool) -> Result<(ImagePath, bool), CopyError> {
        let written = &self.destination.path;
        let path = self
            .view
            .resolve(written.as_bytes(), true)
            .map_err(|_| CopyError::Loop(written.clone()))?;
        let exists = path.is_empty() || self.view.get(&path).is_some_and(Node::is_directory);
        if many && !exists && !self.destination.is_folder {
            return Err(CopyError::NotAFolderName(written.clone()));
        }
        Ok((path, exists || self.destination.is_folder))
    }

    /// Places what was found.
    pub(crate) fn place(
        &mut self,
        sources: &FileMap,
        one: &Match,
        many: bool,
    ) -> Result<(), CopyError> {
        let (target, into) = self.target(many)?;
        let Some(root) = sources.get(&one.root) else { return Ok(()) };
        let (target, into) = match &one.pivot {
            Some(pivot) => {
                for way in files::ancestors(&one.name) {
                    let to = files::join(&target, way);
                    match sources.get(&files::join(pivot, way)) {
                        Some(node) if node.is_directory() && !self.exists(&to) => {
                            self.put(to, self.change(node), Data::None)?;
                        }
                        _ => self.folder(&to)?,
                    }
                }
                (files::join(&target, &one.name), false)
            }
            None => (target, into),
        };
        if !root.is_directory() {
            let target = if into { files::join(&target, &one.name) } else { target };
            return self.put_source(sources, &one.root, target);
        }
        // What is in a folder is copied, not the folder: only with --parents is it an entry like the others.
        if one.pivot.is_some() && !self.exists(&target) {
            self.put(target.clone(), self.change(root), Data::None)?;
        } else {
            self.folder(&target)?;
        }
        for path in &one.below {
            let relative = path.get(one.root.len()..).unwrap_or_default();
            let relative = relative.strip_prefix(b"/").unwrap_or(relative);
            self.put_source(sources, path, files::join(&target, relative))?;
        }
        Ok(())
    }

    fn exists(&self, path: &[u8]) -> bool {
        path.is_empty() || self.pending.contains_key(path) || self.view.get(path).is_some()
    }

    fn put_source(
        &mut self,
        sources: &FileMap,
        path: &ImagePath,
        target: ImagePath,
    ) -> Result<(), CopyError> {
        let Some(node) = sources.get(path) else { return Ok(()) };
        // Another name of a file is that file; which name carries the data is decided at the end.
        let (node, path) = match &node.kind {
            NodeKind::HardLink { target: original } => match sources.get(original) {
                Some(found) => (found, original),
                None => return Err(CopyError::NotFound(show(original))),
            },
            _ => (node, path),
        };
        let data = match node.kind {
            NodeKind::File { .. } => {
                let (origin, path) = (self.origin, path.clone());
                // Files of a context have one name each, and there may be a million.
                if self.destination.keep_owner {
                    self.names.entry((origin, path.clone())).or_default().push(target.clone());
                }
                Data::Source { origin, path }
            }
            _ => Data::None,
        };
        self.put(target, self.change(node), data)
    }

    /// The node as it will be in the image.
    fn change(&self, node: &Node) -> Node {
        let mut node = node.clone();
        (node.mtime, node.stamp) = (crate::LAYER_EPOCH, None);
        (node.uid, node.gid) = match (self.destination.owner, self.destination.keep_owner) {
            (Some(owner), _) => owner,
            (None, true) => (node.uid, node.gid),
            (None, false) => (0, 0),
        };
        if let (Some(chmod), false) =
            (&self.destination.chmod, matches!(node.kind, NodeKind::Symlink { .. }))
        {
            node.mode = chmod.apply(node.mode, node.is_directory());
        }
        node
    }

    /// Adds an entry, and the folders on the way to it.
    pub(crate) fn put(&mut self, path: ImagePath, node: Node, data: Data) -> Result<(), CopyError> {
        for ancestor in files::ancestors(&path) {
            self.folder(ancestor)?;
        }
        let there = self.pending.get(&path).map(|pending| &pending.node);
        match (there.or_else(|| self.view.get(&path)), node.is_directory()) {
            (Some(there), false) if there.is_directory() => {
                return Err(CopyError::IsAFolder(show(&path)));
            }
            (Some(there), true) if !there.is_directory() => {
                return Err(CopyError::NotAFolder(show(&path)));
            }
            _ => {}
        }
        if path.is_empty() {
            // The root has no entry of its own.
            return Ok(());
        }
        self.pending.insert(path, Pending { node, data });
        Ok(())
    }

    /// Adds a file that is written here.
    pub(crate) fn put_bytes(&mut self, path: ImagePath, bytes: &[u8]) -> Result<(), CopyError> {
        let kind = NodeKind::File { size: bytes.len() as u64, digest: None };
        let node = self.change(&Node::new(kind, 0o644));
        self.put(path, node, Data::Bytes(bytes.into()))
    }

    /// Adds a file that was fetched.
    pub(crate) fn put_file(
        &mut self,
        path: ImagePath,
        node: &Node,
        from: std::path::PathBuf,
        mtime: i64,
    ) -> Result<(), CopyError> {
        let node = Node { mtime: mtime.min(crate::LAYER_EPOCH), ..self.change(node) };
        self.put(path, node, Data::File(from))
    }

    /// Adds another name of a file that was added before.
    pub(crate) fn put_link(&mut self, path: ImagePath, target: &[u8]) -> Result<(), CopyError> {
        let there = self.pending.get(target).cloned();
        let Some(Pending { node, data }) = there.filter(|there| !there.node.is_directory()) else {
            return Err(CopyError::NotFound(show(target)));
        };
        self.links.entry(target.to_vec()).or_default().push(path.clone());
        self.put(path, node, data)
    }

    /// Makes sure that a folder is there, and in the layer: whoever unpacks the layer by itself needs
    /// its mode and owner.
    pub(crate) fn folder(&mut self, path: &[u8]) -> Result<(), CopyError> {
        if path.is_empty() {
            return Ok(());
        }
        if let Some(pending) = self.pending.get(path) {
            return match pending.node.is_directory() {
                true => Ok(()),
                false => Err(CopyError::NotAFolder(show(path))),
            };
        }
        let node = match self.view.get(path) {
            Some(node) if node.is_directory() => node.clone(),
            Some(_) => return Err(CopyError::NotAFolder(show(path))),
            None => {
                for ancestor in files::ancestors(path) {
                    self.folder(ancestor)?;
                }
                let (uid, gid) = self.destination.owner.unwrap_or_default();
                // As BuildKit of today, unlike that of Docker 20.10: with the mode that files are to have, unless
                // it is said by changes (`Copy` in https://github.com/tonistiigi/fsutil, copy/copy.go).
                let mode = match self.destination.chmod {
                    Some(Chmod::Octal(mode)) => mode,
                    Some(Chmod::Symbolic(_)) | None => 0o755,
                };
                Node { uid, gid, ..Node::new(NodeKind::Directory, mode) }
            }
        };
        for ancestor in files::ancestors(path) {
            self.folder(ancestor)?;
        }
        self.pending.insert(path.to_vec(), Pending { node, data: Data::None });
        Ok(())
    }

    /// The entries, in order. Files of an image that have several names become hard links again.
    pub(crate) fn finish(mut self) -> BTreeMap<ImagePath, Pending> {
        let links = self.links.into_iter().map(|(target, mut names)| {
            names.push(target);
            names
        });
        for mut names in links.chain(self.names.into_values()) {
            // The first in order carries the data, for a link must come after what it names.
            names.sort();
            names.dedup();
            let Some((first, others)) = names.split_first() else { continue };
            for other in others {
                if let Some(pending) = self.pending.get_mut(other) {
                    pending.node.kind = NodeKind::HardLink { target: first.clone() };
                    pending.data = Data::None;
                }
            }
        }
        self.pending
    }
}

#[cfg(test)]
mod tests;
