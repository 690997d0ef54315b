//! Times of copied files, as a command with a cache mount sees them.
//!
//! What a command sees of a layer is long ago, if not all of it equally long; see `ages`. But with a cache
//! mount results outlive the build: a source that changed and looks older than they do is taken as
//! unchanged, and the image is silently wrong.
//!
//! So each cache mount remembers the files of COPY and ADD that its last command saw, by digest; see `after`
//! for one that failed. The next command sees those that differ as just written, in a layer of its own on top; all
//! others as they are, which is older than any result. This is as if the sources were one folder
//! that is worked in, also when they go back to what they were before the last build. What is committed
//! has the fixed time again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Context as _;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use sekisho_dockerfile::key::Key;
use sekisho_types::Digest;

use crate::copy::Match;
use crate::engine::{Engine, Progressed};
use crate::error::BuildError;
use crate::files::{self, FileMap, ImagePath, NodeKind, Sum};
use crate::origin::Origin;
use crate::store::Kind;

/// Digests of files by path, in the form that messages show.
pub(crate) type Seen = BTreeMap<String, Sum>;

/// The copied files of a view: those of the layers at these places of its chain.
fn copied(view: &FileMap, layers: &BTreeSet<u32>) -> BTreeMap<ImagePath, Sum> {
    view.iter()
        .filter(|(_, node)| layers.contains(&node.layer))
        .filter_map(|(path, node)| match &node.kind {
            NodeKind::File { digest, .. } => Some((path.clone(), digest.get()?)),
            _ => None,
        })
        .collect()
}

/// The files that a cache has not seen as they are now. A cache that was never used has no results.
fn changed(now: &BTreeMap<ImagePath, Sum>, seen: &[Seen]) -> BTreeSet<ImagePath> {
    let differs = |(path, sum): &(&ImagePath, &Sum)| {
        let name = files::display(path);
        seen.iter().any(|seen| seen.get(&name) != Some(*sum))
    };
    now.iter().filter(differs).map(|(path, _)| path.clone()).collect()
}

/// What a cache has seen after a command. One that failed may not have come to a file that changed, and beside
/// others nobody knows whose results are there: then only what was the same before counts as seen.
fn after(before: Option<Seen>, mut saw: Seen, sure: bool) -> Seen {
    if let (Some(before), false) = (before, sure) {
        saw.retain(|name, digest| before.get(name) == Some(digest));
    }
    saw
}

impl Engine {
    fn seen_key(&self, cache: &Digest) -> Digest {
        Key::new("sekisho.seen.v1")
            .digest("cache", cache)
            .text("isolation", self.isolation.name())
            .finish()
    }

    fn copied(&self, now: &Progressed) -> Result<BTreeMap<ImagePath, Sum>, BuildError> {
        let places = (0..).zip(&now.chain);
        let places = places.filter(|(_, layer)| now.copied.contains(&layer.diff_id));
        let places = places.map(|(at, _)| at).collect();
        Ok(copied(&*self.layers.view(&now.chain)?, &places))
    }

    /// A tree to be put on top, with what changed since the caches were used; none when nothing did.
    pub(crate) fn stamped(
        &self,
        caches: &[Digest],
        now: &Progressed,
    ) -> Result<Option<PathBuf>, BuildError> {
        let record = |cache| self.layers.store.record(Kind::Seen, &self.seen_key(cache));
        let seen: Vec<Seen> = caches.iter().filter_map(record).collect();
        if seen.is_empty() || now.copied.is_empty() {
            return Ok(None);
        }
        let changed = changed(&self.copied(now)?, &seen);
        if changed.is_empty() {
            return Ok(None);
        }
        let view = self.layers.view(&now.chain)?;
        let mut paths = changed.clone();
        for path in &changed {
            paths.extend(files::ancestors(path).map(<[u8]>::to_vec));
        }
        let folder = self.layers.session.folder("stamped").context("cannot make a folder")?;
        let origin = Origin::Layers(now.chain.clone());
        self.materialise(&view, &Match::of(paths), &origin, &folder, false)?;
        let just = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: just, last_modification: just };
        for path in &changed {
            let disk = crate::upper::on_disk(&folder, path);
            rustix::fs::utimensat(CWD, &disk, &times, AtFlags::SYMLINK_NOFOLLOW)
                .context("cannot date a file")?;
        }
        Ok(Some(folder))
    }

    /// Remembers what a command saw; `sure` when all that is in the cache was made of it.
    pub(crate) fn saw(&self, cache: &Digest, now: &Progressed, sure: bool) -> anyhow::Result<()> {
        let saw = self.copied(now)?.into_iter();
        let saw: Seen = saw.map(|(path, digest)| (files::display(&path), digest)).collect();
        let (store, key) = (&self.layers.store, self.seen_key(cache));
        let seen = after(store.record(Kind::Seen, &key), saw, sure);
        store.put_record(&self.layers.session, Kind::Seen, &key, &seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_may_not_have_come_to_stays_new() {
        let seen = |pairs: &[(&str, &str)]| -> Seen {
            let digest = |text: &str| Sum::of(text.as_bytes());
            pairs.iter().map(|(path, text)| ((*path).to_owned(), digest(text))).collect()
        };
        let (before, saw) = (seen(&[("a", "1"), ("b", "1")]), seen(&[("a", "1"), ("b", "2")]));
        assert_eq!(after(Some(before.clone()), saw.clone(), true), saw);
        assert_eq!(after(Some(before), saw.clone(), false), seen(&[("a", "1")]));
        assert_eq!(after(None, saw.clone(), false), saw, "all results are of these");
    }

    #[test]
    fn what_a_cache_has_not_seen_is_new() {
        let digest = |text: &str| Sum::of(text.as_bytes());
        let now: BTreeMap<ImagePath, Sum> =
            [("a", "1"), ("b", "2"), ("c", "3")].map(|(p, t)| (p.into(), digest(t))).into();
        let seen = |pairs: &[(&str, &str)]| -> Seen {
            pairs.iter().map(|(path, text)| ((*path).to_owned(), digest(text))).collect()
        };
        let names = |seen: &[Seen]| -> Vec<String> {
            changed(&now, seen).iter().map(|path| files::display(path)).collect()
        };
        assert_eq!(names(&[]), [""; 0], "a new cache has nothing that could be older");
        assert_eq!(names(&[seen(&[("a", "1"), ("b", "old"), ("gone", "x")])]), ["b", "c"]);
        let whole = seen(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(names(std::slice::from_ref(&whole)), [""; 0]);
        assert_eq!(names(&[whole, seen(&[("a", "1")])]), ["b", "c"], "of two caches each counts");
    }
}
