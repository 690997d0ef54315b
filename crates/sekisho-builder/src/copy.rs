//! COPY and ADD: which files, and where they go. No file is opened here.

mod select;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) use self::select::{Match, add_lay, content_key, found, select};
use crate::chmod::Chmod;
use crate::files::{self, FileMap, ImagePath, Known, Node, NodeKind};
use crate::pack::show;

/// Entries that are put together with the others at once; see [`Placer::recent`].
const AT_ONCE: usize = 1 << 17;

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
pub(crate) enum Pending<'a> {
    /// What is at a path among the sources of that number; it is changed on the way. There may be millions.
    Source {
        origin: usize,
        path: &'a ImagePath,
        node: &'a Node,
    },
    Made(Box<Made>),
}

/// What stands nowhere yet.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) node: Node,
    pub(crate) data: Data,
}

impl Pending<'_> {
    fn made(node: Node, data: Data) -> Self {
        Self::Made(Box::new(Made { node, data }))
    }

    pub(crate) fn is_directory(&self) -> bool {
        match self {
            Self::Source { node, .. } => node.is_directory(),
            Self::Made(made) => made.node.is_directory(),
        }
    }
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

impl Destination {
    /// What is among the sources, as it will be in the image.
    pub(crate) fn change(&self, node: &Node) -> Node {
        let mut node = node.clone();
        (node.mtime, node.stamp) = (crate::LAYER_EPOCH, None);
        (node.uid, node.gid) = match (self.owner, self.keep_owner) {
            (Some(owner), _) => owner,
            (None, true) => (node.uid, node.gid),
            (None, false) => (0, 0),
        };
        if let (Some(chmod), false) = (&self.chmod, matches!(node.kind, NodeKind::Symlink { .. })) {
            node.mode = chmod.apply(node.mode, node.is_directory());
        }
        node
    }
}

/// Collects the entries of one layer.
pub(crate) struct Placer<'a> {
    /// What is in the image below this layer.
    view: &'a FileMap,
    destination: &'a Destination,
    pending: BTreeMap<ImagePath, Pending<'a>>,
    /// What came last, and goes into that together: a tree that grows at its end is half empty.
    recent: BTreeMap<ImagePath, Pending<'a>>,
    /// Which of several sources what is placed comes from.
    pub(crate) origin: usize,
    /// Further names of an entry of this layer, by its path.
    links: HashMap<ImagePath, Vec<ImagePath>>,
}

impl<'a> Placer<'a> {
    /// Who is to own what is placed.
    pub(crate) fn owner(&self) -> Option<(u64, u64)> {
        self.destination.owner
    }

    pub(crate) fn new(view: &'a FileMap, destination: &'a Destination) -> Self {
        let (pending, recent) = (BTreeMap::new(), BTreeMap::new());
        Self { view, destination, pending, recent, origin: 0, links: HashMap::new() }
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
        sources: &'a FileMap,
        one: &Match,
        many: bool,
    ) -> Result<(), CopyError> {
        let (target, into) = self.target(many)?;
        let Some((root_path, root)) = sources.entry(&one.root) else { return Ok(()) };
        let (target, into) = match &one.pivot {
            Some(pivot) => {
                for way in files::ancestors(&one.name) {
                    let to = files::join(&target, way);
                    match sources.entry(&files::join(pivot, way)) {
                        Some((path, node)) if node.is_directory() && !self.exists(&to) => {
                            self.put_source(sources, path, node, to)?;
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
            return self.put_source(sources, root_path, root, target);
        }
        // What is in a folder is copied, not the folder: only with --parents is it an entry like the others.
        if one.pivot.is_some() && !self.exists(&target) {
            self.put_source(sources, root_path, root, target.clone())?;
        } else {
            self.folder(&target)?;
        }
        for (path, node) in one.below(sources) {
            self.put_source(sources, path, node, files::join(&target, one.relative(path)))?;
        }
        Ok(())
    }

    fn exists(&self, path: &[u8]) -> bool {
        path.is_empty() || self.placed(path).is_some() || self.view.get(path).is_some()
    }

    /// What was placed there.
    fn placed(&self, path: &[u8]) -> Option<&Pending<'a>> {
        self.recent.get(path).or_else(|| self.pending.get(path))
    }

    fn insert(&mut self, path: ImagePath, new: Pending<'a>) {
        self.recent.insert(path, new);
        if self.recent.len() >= AT_ONCE {
            self.pending.append(&mut self.recent);
        }
    }

    fn put_source(
        &mut self,
        sources: &'a FileMap,
        path: &'a ImagePath,
        node: &'a Node,
        target: ImagePath,
    ) -> Result<(), CopyError> {
        // Another name of a file is that file; which name carries the data is decided at the end.
        let (path, node) = match &node.kind {
            NodeKind::HardLink { target: original } => {
                let found = sources.entry(original);
                found.ok_or_else(|| CopyError::NotFound(show(original)))?
            }
            _ => (path, node),
        };
        self.add(target, Pending::Source { origin: self.origin, path, node })
    }

    /// Adds an entry, and the folders on the way to it.
    pub(crate) fn put(&mut self, path: ImagePath, node: Node, data: Data) -> Result<(), CopyError> {
        self.add(path, Pending::made(node, data))
    }

    fn add(&mut self, path: ImagePath, new: Pending<'a>) -> Result<(), CopyError> {
        self.folders_to(&path)?;
        let there = self.placed(&path).map(Pending::is_directory);
        let there = there.or_else(|| self.view.get(&path).map(Node::is_directory));
        match (there, new.is_directory()) {
            (Some(true), false) => return Err(CopyError::IsAFolder(show(&path))),
            (Some(false), true) => return Err(CopyError::NotAFolder(show(&path))),
            _ => {}
        }
        // The root has no entry of its own.
        if !path.is_empty() {
            self.insert(path, new);
        }
        Ok(())
    }

    fn folders_to(&mut self, path: &[u8]) -> Result<(), CopyError> {
        files::ancestors(path).try_for_each(|ancestor| self.folder(ancestor))
    }

    /// Adds a file that is written here.
    pub(crate) fn put_bytes(&mut self, path: ImagePath, bytes: &[u8]) -> Result<(), CopyError> {
        let kind = NodeKind::File { size: bytes.len() as u64, digest: Known::default() };
        let node = self.destination.change(&Node::new(kind, 0o644));
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
        let node = Node { mtime: mtime.min(crate::LAYER_EPOCH), ..self.destination.change(node) };
        self.put(path, node, Data::File(from))
    }

    /// Adds another name of a file that was added before.
    pub(crate) fn put_link(&mut self, path: ImagePath, target: &[u8]) -> Result<(), CopyError> {
        let there = self.placed(target).cloned();
        let Some(there) = there.filter(|there| !there.is_directory()) else {
            return Err(CopyError::NotFound(show(target)));
        };
        self.links.entry(target.to_vec()).or_default().push(path.clone());
        self.add(path, there)
    }

    /// Makes sure that a folder is there, and in the layer: whoever unpacks the layer by itself needs
    /// its mode and owner.
    pub(crate) fn folder(&mut self, path: &[u8]) -> Result<(), CopyError> {
        if path.is_empty() {
            return Ok(());
        }
        if let Some(pending) = self.placed(path) {
            return match pending.is_directory() {
                true => Ok(()),
                false => Err(CopyError::NotAFolder(show(path))),
            };
        }
        let node = match self.view.get(path) {
            Some(node) if node.is_directory() => node.clone(),
            Some(_) => return Err(CopyError::NotAFolder(show(path))),
            None => {
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
        self.folders_to(path)?;
        self.insert(path.to_vec(), Pending::made(node, Data::None));
        Ok(())
    }

    /// The entries, in order. Files of an image that have several names become hard links again.
    pub(crate) fn finish(mut self) -> BTreeMap<ImagePath, Pending<'a>> {
        self.pending.append(&mut self.recent);
        let links = std::mem::take(&mut self.links).into_iter().map(|(target, mut names)| {
            names.push(target);
            names
        });
        let links: Vec<_> = links.chain(self.names()).collect();
        for mut names in links {
            // The first in order carries the data, for a link must come after what it names.
            names.sort();
            names.dedup();
            let Some((first, others)) = names.split_first() else { continue };
            for other in others {
                if let Some(pending) = self.pending.get_mut(other) {
                    let mut node = match pending {
                        Pending::Source { node, .. } => self.destination.change(node),
                        Pending::Made(made) => made.node.clone(),
                    };
                    node.kind = NodeKind::HardLink { target: first.clone() };
                    *pending = Pending::made(node, Data::None);
                }
            }
        }
        self.pending
    }

    /// Where one and the same file of the sources went, of those that went to several places. Files of a context
    /// have one name each.
    fn names(&self) -> Vec<Vec<ImagePath>> {
        if !self.destination.keep_owner {
            return Vec::new();
        }
        let source = |(target, pending)| match pending {
            &Pending::Source { origin, path, node: Node { kind: NodeKind::File { .. }, .. } } => {
                Some((origin, path, target))
            }
            _ => None,
        };
        let mut all: Vec<(usize, &ImagePath, &ImagePath)> =
            self.pending.iter().filter_map(source).collect();
        all.sort_unstable();
        let same = all.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1));
        let several = same.filter(|names| names.len() > 1);
        several.map(|names| names.iter().map(|(.., target)| (*target).clone()).collect()).collect()
    }
}

#[cfg(test)]
mod tests;
