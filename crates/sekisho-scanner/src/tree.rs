//! The package files of an image, layer by layer, as a container runtime would unpack them.

use std::collections::BTreeMap;

use sekisho_advisory::{NotAssessed, Reason};
use sekisho_types::Digest;

use crate::index::{ANALYSER, Facts, Found, LayerIndex};

/// Most links that are followed for one path, as in Linux.
const MAX_LINKS: usize = 40;

/// A file in the merged tree.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) facts: Facts,
    /// The layer the file is of.
    pub(crate) layer: Digest,
    /// Packages that an older version of the file already had, with their lowest layer.
    older: BTreeMap<Found, Digest>,
}

impl Held {
    /// The lowest layer that has this package in this version, in this file.
    pub(crate) fn layer_of(&self, found: &Found) -> &Digest {
        self.older.get(found).unwrap_or(&self.layer)
    }
}

/// The state after some layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: BTreeMap<String, Held>,
    links: BTreeMap<String, String>,
    pub(crate) not_assessed: Vec<NotAssessed>,
}

impl Tree {
    /// Puts a layer on top. Its whiteouts act on lower layers only, so they go first.
    pub(crate) fn apply(&mut self, layer: &LayerIndex) {
        if layer.analyser != ANALYSER {
            self.not_assessed.push(NotAssessed {
                reason: Reason::StaleIndex,
                subject: "layer".to_owned(),
                detail: format!("its index is of version {}, not {ANALYSER}", layer.analyser),
                path: None,
                layer: Some(layer.diff_id.clone()),
            });
        }
        for directory in &layer.opaque {
            let directory = self.resolve(directory);
            self.remove_below(&directory);
        }
        for path in &layer.removed {
            let path = self.resolve_parent(path);
            self.remove(&path);
        }
        for path in &layer.directories {
            self.links.remove(path);
        }
        for path in &layer.others {
            let path = self.resolve_parent(path);
            self.remove(&path);
        }
        for (path, target) in &layer.links {
            let path = self.resolve_parent(path);
            self.remove(&path);
            self.links.insert(path, target.clone());
        }
        for (path, facts) in &layer.files {
            self.put(path, facts, &layer.diff_id);
        }
        self.not_assessed.extend(layer.not_assessed.iter().cloned().map(|mut entry| {
            entry.layer = Some(layer.diff_id.clone());
            entry
        }));
    }

    fn put(&mut self, path: &str, facts: &Facts, layer: &Digest) {
        let path = self.resolve_parent(path);
        let older = match (self.files.get(&path), facts) {
            (Some(held), Facts::Packages { found, .. }) => held.known_of(found),
            _ => BTreeMap::new(),
        };
        self.remove(&path);
        if *facts != Facts::Absent {
            self.files.insert(path, Held { facts: facts.clone(), layer: layer.clone(), older });
        }
    }

    fn remove(&mut self, path: &str) {
        self.files.remove(path);
        self.links.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, directory: &str) {
        if directory.is_empty() {
            self.files.clear();
            self.links.clear();
            return;
        }
        remove_below(&mut self.files, directory);
        remove_below(&mut self.links, directory);
    }

    /// Where a path really leads. Links are followed inside the image; `..` stops at its root. A
    /// path of too many links stays as it is and then names no file.
    pub(crate) fn resolve(&self, path: &str) -> String {
        let mut left: Vec<String> = path.rsplit('/').map(str::to_owned).collect();
        let mut done: Vec<String> = Vec::new();
        let mut followed = 0;
        while let Some(component) = left.pop() {
            match component.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => done.push(component),
            }
            if let Some(target) = self.links.get(&done.join("/")) {
                followed += 1;
                if followed > MAX_LINKS {
                    return path.to_owned();
                }
                if target.starts_with('/') {
                    done.clear();
                } else {
                    done.pop();
                }
                left.extend(target.rsplit('/').map(str::to_owned));
            }
        }
        done.join("/")
    }

    /// As [`resolve`](Self::resolve), but the last component may itself be a link.
    fn resolve_parent(&self, path: &str) -> String {
        match path.rsplit_once('/') {
            Some((parent, name)) => match self.resolve(parent) {
                parent if parent.is_empty() => name.to_owned(),
                parent => format!("{parent}/{name}"),
            },
            None => path.to_owned(),
        }
    }

    /// Whether the path is a link or below one, wherever it leads.
    pub(crate) fn is_redirected(&self, path: &str) -> bool {
        self.resolve(path) != path
    }

    /// The file at a path, links followed.
    pub(crate) fn file(&self, path: &str) -> Option<(String, &Held)> {
        let path = self.resolve(path);
        let held = self.files.get(&path)?;
        Some((path, held))
    }
}

impl Held {
    /// Which of `found` this file has too, with their lowest layers.
    fn known_of(&self, found: &[Found]) -> BTreeMap<Found, Digest> {
        let Facts::Packages { found: mine, .. } = &self.facts else { return BTreeMap::new() };
        found
            .iter()
            .filter(|package| mine.binary_search(package).is_ok())
            .map(|package| (package.clone(), self.layer_of(package).clone()))
            .collect()
    }
}

fn remove_below<V>(map: &mut BTreeMap<String, V>, directory: &str) {
    let (first, end) = (format!("{directory}/"), format!("{directory}0")); // '0' follows '/'.
    let gone: Vec<_> = map.range(first..end).map(|(path, _)| path.clone()).collect();
    for path in gone {
        map.remove(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(links: &[(&str, &str)]) -> Tree {
        let links = links.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Tree { links, ..Tree::default() }
    }

    #[test]
    fn links_are_followed_inside_the_image() {
        let tree = tree(&[
            ("lib", "usr/lib"),
            ("etc/os-release", "../usr/lib/os-release"),
            ("var/lib/dpkg", "/data/../../dpkg"),
            ("a", "b"),
            ("b", "a"),
        ]);
        for (path, want) in [
            ("lib/apk/db/installed", "usr/lib/apk/db/installed"),
            ("etc/os-release", "usr/lib/os-release"),
            ("var/lib/dpkg/status", "dpkg/status"),
            ("a/x", "a/x"),
            ("x/y", "x/y"),
        ] {
            assert_eq!(tree.resolve(path), want, "{path}");
        }
        assert_eq!(tree.resolve_parent("etc/os-release"), "etc/os-release");
        assert_eq!(tree.resolve_parent("lib/x"), "usr/lib/x");
    }
}
