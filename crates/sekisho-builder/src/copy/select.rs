//! Which files a source means, and a digest of them.

use sekisho_dockerfile::ignore::Ignore;
use sekisho_dockerfile::key::Key;
use sekisho_types::Digest;

use super::CopyError;
use crate::files::{self, FileMap, ImagePath, Node, NodeKind, Sum};
use crate::pattern;

/// A path of the sources, and what is there.
pub(crate) type Source<'s> = (&'s ImagePath, &'s Node);

/// One source that was found.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    /// Its last component as written or matched.
    pub(super) name: Vec<u8>,
    /// Where it is, links resolved.
    pub(crate) root: ImagePath,
    /// What patterns leave out of what is below it.
    left_out: Ignore,
    /// Of what is below it these alone, in order.
    only: Option<Vec<ImagePath>>,
    /// `--parents`: the folder that `name`, now a whole path, starts from.
    pub(crate) pivot: Option<ImagePath>,
}

impl Match {
    /// These paths, from the root.
    pub(crate) fn of(paths: impl IntoIterator<Item = ImagePath>) -> Self {
        let only = Some(paths.into_iter().collect());
        Self { only, ..Self::at(Vec::new(), Vec::new()) }
    }

    fn at(name: Vec<u8>, root: ImagePath) -> Self {
        Self { name, root, left_out: Ignore::default(), only: None, pivot: None }
    }

    /// What is below it, in order; nothing for anything but a folder.
    pub(crate) fn below<'s>(&self, sources: &'s FileMap) -> impl Iterator<Item = Source<'s>> {
        let all = self.only.is_none().then(|| sources.below(&self.root));
        let some = self.only.iter().flatten().filter_map(|path| sources.entry(path));
        all.into_iter().flatten().chain(some).filter(|(path, _)| {
            let left_out = &self.left_out;
            left_out.is_empty()
                || !left_out.is_ignored(&String::from_utf8_lossy(self.relative(path)))
        })
    }

    /// It, and what is below it.
    pub(crate) fn all<'s>(&self, sources: &'s FileMap) -> impl Iterator<Item = Source<'s>> {
        sources.entry(&self.root).into_iter().chain(self.below(sources))
    }

    /// From it on, to something below it; empty for itself.
    pub(crate) fn relative<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let relative = path.get(self.root.len()..).unwrap_or_default();
        relative.strip_prefix(b"/").unwrap_or(relative)
    }

    /// Leaves out what patterns fit, by paths from the source on. False: nothing is left.
    pub(crate) fn exclude(&mut self, sources: &FileMap, ignore: &Ignore) -> bool {
        if ignore.is_empty() {
            return true;
        }
        // A folder is what the patterns start from; a file stands for itself.
        let itself = self.below(sources).next().is_none()
            && ignore.is_ignored(&String::from_utf8_lossy(&self.name));
        self.left_out = ignore.clone();
        !itself
    }
}

/// Finds a source, which may be a pattern.
///
/// With `parents`, names are paths from `/./` on, or from the root.
pub(crate) fn select(
    sources: &FileMap,
    written: &str,
    parents: bool,
) -> Result<Vec<Match>, CopyError> {
    let mut matches = matches(sources, written)?;
    if parents {
        let pivot = written.split_once("/./").map_or("/", |(pivot, _)| pivot);
        let depth = files::absolute("/", pivot).split('/').filter(|part| !part.is_empty()).count();
        for (one, path) in &mut matches {
            let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
            let (pivot, name) = parts.split_at(depth.min(parts.len().saturating_sub(1)));
            one.pivot = Some(pivot.join(&b'/'));
            one.name = name.join(&b'/');
        }
    }
    Ok(matches.into_iter().map(|(one, _)| one).collect())
}

/// Each with its path as written or matched.
fn matches(sources: &FileMap, written: &str) -> Result<Vec<(Match, ImagePath)>, CopyError> {
    let clean = files::absolute("/", written);
    let clean = &clean[1..];
    if !pattern::is_pattern(clean) {
        let one = found(sources, clean.as_bytes(), written)?;
        return Ok(vec![(one, clean.as_bytes().to_vec())]);
    }
    let bad = || CopyError::Pattern(written.to_owned());
    let mut matches = Vec::new();
    for (path, _) in sources.iter() {
        if pattern::matches(clean, path).ok_or_else(bad)? {
            matches.push((found(sources, path, written)?, path.clone()));
        }
    }
    Ok(matches)
}

pub(crate) fn found(sources: &FileMap, path: &[u8], written: &str) -> Result<Match, CopyError> {
    let root = sources.resolve(path, true).map_err(|_| CopyError::Loop(written.to_owned()))?;
    if sources.get(&root).is_none() {
        return Err(CopyError::NotFound(written.to_owned()));
    }
    Ok(Match::at(files::file_name(path).to_vec(), root))
}

/// Adds how the files of a context lie that were found: names, modes, links and stamps of all of them. `None`
/// when one is of a kind that has no stamp.
pub(crate) fn add_lay(mut key: Key, sources: &FileMap, one: &Match) -> Option<Key> {
    key = key.bytes("match", &one.name).bytes("pivot", one.pivot.as_deref().unwrap_or_default());
    let mut entry = Vec::new();
    for (path, node) in one.all(sources) {
        entry.clear();
        entry.extend_from_slice(&node.mode.to_be_bytes());
        match (&node.kind, &node.stamp) {
            (NodeKind::File { .. }, Some(stamp)) => {
                entry.push(b'f');
                stamp.write_to(&mut entry);
            }
            (NodeKind::Directory, _) => entry.push(b'd'),
            (NodeKind::Symlink { target }, _) => {
                entry.push(b'l');
                entry.extend_from_slice(target);
            }
            _ => return None,
        }
        key = key.bytes("path", path.get(one.root.len()..).unwrap_or_default());
        key = key.bytes("lay", &entry);
    }
    Some(key)
}

/// What the matches hold: paths, modes, links, data; owners only where they are kept; no times.
///
/// `digest` gives that of a file's data.
pub(crate) fn content_key<E>(
    sources: &FileMap,
    matches: &[Match],
    keep_owner: bool,
    mut digest: impl FnMut(&ImagePath) -> Result<Sum, E>,
) -> Result<Digest, E> {
    let mut key = Key::new("sekisho.copy-content.v1");
    for one in matches {
        key =
            key.bytes("match", &one.name).bytes("pivot", one.pivot.as_deref().unwrap_or_default());
        for (path, node) in one.all(sources) {
            let relative = path.get(one.root.len()..).unwrap_or_default();
            key = key.bytes("path", relative).number("mode", node.mode.into());
            if keep_owner {
                key = key.number("uid", node.uid).number("gid", node.gid);
            }
            for (name, value) in &node.xattrs {
                key = key.bytes(name, value);
            }
            key = match &node.kind {
                NodeKind::File { .. } => key.digest("file", &digest(path)?.digest()),
                NodeKind::Directory => key.flag("folder", true),
                NodeKind::Symlink { target } => key.bytes("link", target),
                NodeKind::HardLink { target } => key.digest("file", &digest(target)?.digest()),
                NodeKind::CharDevice { major, minor } => {
                    key.number("char", u64::from(*major) << 32 | u64::from(*minor))
                }
                NodeKind::BlockDevice { major, minor } => {
                    key.number("block", u64::from(*major) << 32 | u64::from(*minor))
                }
                NodeKind::Fifo => key.flag("fifo", true),
            };
        }
    }
    Ok(key.finish())
}
