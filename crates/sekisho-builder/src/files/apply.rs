//! Puts a layer on top of others.

use std::collections::BTreeMap;

use super::{FileMap, Gone, ImagePath, IndexEntry, Node};

/// Entries that are put into the map at once: a tree that grows at its end is half empty, and one that is put
/// together of two is not.
const AT_ONCE: usize = 1 << 17;

/// Adds the entries of one layer, in whatever order they come.
pub(crate) struct Apply<'a> {
    map: &'a mut FileMap,
    /// Of the layer.
    number: u32,
    /// What comes in order waits here, and nothing in the map is at or after it but what lower layers have.
    run: Vec<(ImagePath, Node)>,
}

impl<'a> Apply<'a> {
    pub(crate) fn new(map: &'a mut FileMap, number: u32) -> Self {
        Self { map, number, run: Vec::new() }
    }

    pub(crate) fn entry(&mut self, IndexEntry { path, mut node }: IndexEntry) {
        node.layer = self.number;
        let in_order = self.run.last().is_none_or(|(last, _)| *last < path);
        if !in_order || self.run.len() >= AT_ONCE {
            self.flush();
        }
        if !node.is_directory() && !self.map.tree().is_empty() {
            self.map.remove_below(&path, |_| true);
        }
        self.run.push((path, node));
    }

    fn flush(&mut self) {
        // Where much is on one side and little on the other, it is dearer to put two together than to add to one.
        let map = self.map.tree();
        if self.run.len() * 8 < map.len() {
            map.extend(self.run.drain(..));
            return;
        }
        let mut run: BTreeMap<_, _> = std::mem::take(&mut self.run).into_iter().collect();
        if map.len() * 8 < run.len() {
            std::mem::swap(map, &mut run);
            for (path, lower) in run {
                map.entry(path).or_insert(lower);
            }
        } else {
            map.append(&mut run);
        }
    }

    /// Takes away what the layer takes away of lower ones.
    pub(crate) fn finish(mut self, gone: &Gone) {
        self.flush();
        let number = self.number;
        let lower = |node: &Node| node.layer != number;
        for folder in &gone.opaque {
            self.map.remove_below(folder, lower);
        }
        for path in &gone.removed {
            self.map.remove_below(path, lower);
            if self.map.get(path).is_some_and(lower) {
                self.map.tree().remove(path);
            }
        }
    }
}

impl FileMap {
    fn remove_below(&mut self, folder: &[u8], doomed: impl Fn(&Node) -> bool) {
        let below = self.below(folder).filter(|(_, node)| doomed(node));
        let doomed: Vec<_> = below.map(|(path, _)| path.clone()).collect();
        for path in doomed {
            self.tree().remove(&path);
        }
    }
}
