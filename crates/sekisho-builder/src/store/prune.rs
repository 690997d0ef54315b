//! Room in the cache: what was used longest ago goes first.
//!
//! A build notes at its end which layers it used, by the time of `used/<hex>`. Nothing goes while a build is
//! in the folder: each holds the lock of `users`, shared, and who removes must have it alone. What is removed
//! is made or fetched again when it is wanted; golden bases, which need not be made the same again, stay.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use fs_err as fs;
use rustix::fs::{Timestamps, UTIME_NOW};
use sekisho_oci::ImageManifest;
use sekisho_sandbox::remove_tree;
use serde::Serialize;

use super::{CHECKOUTS, CacheLimit, INDEXES, Kind, PACKAGES, Store, now};
use crate::golden::Base;

/// Locked shared by each build.
const USERS: &str = "users";

/// Times of use.
pub(super) const USED: &str = "used";

/// Its time says when the folder was last held to a limit by a build.
const HELD: &str = "held";

/// How often a build does that: all files have to be counted for it.
const INTERVAL: Duration = Duration::from_hours(1);

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// How many layers, trees, mounts, packages and checkouts.
    pub removed: usize,
    /// What they took, in bytes.
    pub freed_bytes: u64,
    /// What is left, in bytes.
    pub kept_bytes: u64,
}

/// Another build is in the folder.
#[derive(Debug, thiserror::Error)]
#[error("a build is using the cache, so nothing was removed")]
pub struct InUse;

/// One thing that can go.
struct Thing<T> {
    what: T,
    bytes: u64,
    /// Seconds since 1970.
    used: i64,
}

/// What has to go so that no more than `keep` bytes are left, of which `fixed` stay anyway; and what stays.
fn choose<T>(mut things: Vec<Thing<T>>, fixed: u64, keep: u64) -> (Vec<Thing<T>>, Vec<Thing<T>>) {
    things.sort_by_key(|thing| thing.used);
    let mut total = things.iter().fold(fixed, |sum, thing| sum.saturating_add(thing.bytes));
    let mut count = 0;
    for thing in &things {
        if total <= keep {
            break;
        }
        total = total.saturating_sub(thing.bytes);
        count += 1;
    }
    let stay = things.split_off(count);
    (things, stay)
}

/// A build's share of the lock.
pub(super) fn enter(root: &Path) -> anyhow::Result<fs::File> {
    let file = lock(root)?;
    file.file().lock_shared().context("cannot lock the cache folder")?;
    Ok(file)
}

fn lock(root: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).open(root.join(USERS))
}

/// Notes that things were used.
pub(super) fn note(root: &Path, names: &BTreeSet<String>) -> io::Result<()> {
    let just = rustix::fs::Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: just, last_modification: just };
    for name in names {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false);
        rustix::fs::futimens(file.open(root.join(USED).join(name))?.file(), &times)?;
    }
    Ok(())
}

impl Store {
    /// Removes what was used longest ago until no more than `keep` bytes are left.
    pub(crate) fn prune(&self, keep: u64) -> anyhow::Result<Pruned> {
        let alone = lock(&self.root)?;
        if alone.file().try_lock().is_err() {
            return Err(InUse.into());
        }
        let looking = "cannot look through the cache folder";
        let (things, fixed) = self.things().context(looking)?;
        let total = things.iter().map(|thing| thing.bytes).sum::<u64>() + fixed;
        let mut pruned = Pruned { kept_bytes: total, ..Pruned::default() };
        // What is removed half is not to be found under its name.
        let away = tempfile::Builder::new().prefix("prune-").tempdir_in(self.tmp())?.keep();
        let (go, stay) = choose(things, fixed, keep);
        for (number, Thing { what, bytes, .. }) in go.into_iter().enumerate() {
            fs::rename(what, away.join(number.to_string()))
                .context("cannot remove from the cache")?;
            pruned.removed += 1;
            pruned.freed_bytes += bytes;
            pruned.kept_bytes -= bytes;
        }
        remove_tree(&away).context("cannot remove from the cache")?;
        self.forget_uses(&stay).context(looking)?;
        Ok(pruned)
    }

    /// The same when a build begins: seldom, and not when others are here.
    pub(crate) fn hold_to(&self, limit: CacheLimit) -> anyhow::Result<()> {
        let limit =
            limit.bytes(&self.root).context("cannot look at the disk of the cache folder")?;
        let Some(limit) = limit else { return Ok(()) };
        let held = self.root.join(HELD);
        let age = |at: SystemTime| now().duration_since(at).unwrap_or_default();
        let lately = std::fs::metadata(&held).and_then(|there| there.modified());
        if lately.is_ok_and(|at| age(at) < INTERVAL) {
            return Ok(());
        }
        match self.prune(limit) {
            Err(error) if error.is::<InUse>() => return Ok(()),
            // A build does not fail for it.
            Err(error) => tracing::warn!("the cache is not held to its limit: {error:#}"),
            Ok(_) => {}
        }
        Ok(fs::write(&held, "")?)
    }

    fn last_use(&self, name: &str) -> i64 {
        // A tree's name may say its age too.
        let layer = name.split('.').next().unwrap_or(name);
        std::fs::metadata(self.root.join(USED).join(layer)).map_or(0, |there| there.mtime())
    }

    /// All that can go, and what the rest takes.
    fn things(&self) -> anyhow::Result<(Vec<Thing<PathBuf>>, u64)> {
        let bases = self.of_bases()?;
        let (mut things, mut fixed) = (Vec::new(), 0);
        let one = |path: PathBuf| -> anyhow::Result<Thing<PathBuf>> {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // The time in a tree is its image's; that of its last change is not.
            let made = fs::symlink_metadata(&path)?.ctime();
            let written = std::fs::metadata(path.join("current")).map_or(0, |there| there.ctime());
            let used = made.max(written).max(self.last_use(&name));
            Ok(Thing { bytes: size(&path)?, what: path, used })
        };
        for entry in fs::read_dir(&self.root)? {
            let folder = entry?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let folder = if name == "blobs" { folder.join("sha256") } else { folder };
            let goes = matches!(name.as_str(), "blobs" | INDEXES | PACKAGES | CHECKOUTS)
                || name.starts_with("trees-")
                || name.starts_with("mounts-");
            if !goes {
                fixed += size(&folder)?;
                continue;
            }
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                let named = path.file_name().unwrap_or_default().to_string_lossy();
                if name == "blobs" && bases.contains(&*named) {
                    fixed += size(&path)?;
                } else {
                    things.push(one(path)?);
                }
            }
        }
        Ok((things, fixed))
    }

    /// Blobs of golden bases.
    fn of_bases(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for base in self.records::<Base>(Kind::Base)? {
            names.insert(base.manifest_digest.hex().to_owned());
            let Ok(bytes) = std::fs::read(self.blob_path(&base.manifest_digest)) else { continue };
            let manifest: ImageManifest = serde_json::from_slice(&bytes)?;
            let parts = manifest.layers.into_iter().chain([manifest.config]);
            names.extend(parts.map(|part| part.digest.hex().to_owned()));
        }
        Ok(names)
    }

    /// Times of what is not here any more.
    fn forget_uses(&self, things: &[Thing<PathBuf>]) -> anyhow::Result<()> {
        let name = |thing: &Thing<PathBuf>| Some(thing.what.file_name()?.to_str()?.to_owned());
        let there: BTreeSet<String> = things.iter().filter_map(name).collect();
        for entry in fs::read_dir(self.root.join(USED))? {
            let entry = entry?;
            let gone = entry.file_name().to_str().is_none_or(|used| {
                let after = there.range(used.to_owned()..).next();
                after.is_none_or(|name| !name.starts_with(used))
            });
            if gone {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// What a file or folder takes on the disk. Names of one file share it.
fn size(path: &Path) -> io::Result<u64> {
    use io::ErrorKind::{NotFound, PermissionDenied};
    let metadata = match std::fs::symlink_metadata(path) {
        // What is in a folder that may be listed, and not entered.
        Err(error) if matches!(error.kind(), NotFound | PermissionDenied) => return Ok(0),
        other => other?,
    };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return Ok(own / metadata.nlink().max(1));
    }
    let entries = match fs::read_dir(path) {
        // A folder that nobody may list.
        Err(error) if error.kind() == PermissionDenied => return Ok(own),
        other => other?,
    };
    entries.into_iter().try_fold(own, |sum, entry| Ok(sum + size(&entry?.path())?))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use sekisho_sandbox::Isolation;
    use sekisho_types::Digest;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_until_it_fits() {
        let chosen = |fixed, keep| -> Vec<&str> {
            let things = [("new", 30, 300), ("old", 10, 100), ("middle", 20, 200)];
            let things = things.map(|(what, bytes, used)| Thing { what, bytes, used });
            let (go, stay) = choose(things.into(), fixed, keep);
            assert_eq!(go.len() + stay.len(), 3);
            go.into_iter().map(|thing| thing.what).collect()
        };
        assert_eq!(chosen(5, 65), [""; 0]);
        assert_eq!(chosen(5, 64), ["old"]);
        assert_eq!(chosen(5, 54), ["old", "middle"]);
        assert_eq!(chosen(5, 0), ["old", "middle", "new"], "what is fixed stays");
    }

    #[test]
    fn a_cache_gets_as_small_as_it_should_and_not_while_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let session = store.session().unwrap();
        let put = |text: &str| store.put_blob(&session, &[text.as_bytes(), &[0; 100_000]].concat());
        let (one, two) = (put("one").unwrap(), put("two").unwrap());
        let tree = store.root.join(super::super::trees(Isolation::Privileged)).join(one.hex());
        fs::create_dir_all(tree.join("a")).unwrap();
        fs::write(tree.join("a/file"), [0; 50_000]).unwrap();
        symlink("/", tree.join("link")).unwrap();
        // An image may have a folder that an ordinary user's look cannot enter.
        fs::create_dir(tree.join("shut")).unwrap();
        fs::write(tree.join("shut/file"), "x").unwrap();
        fs::set_permissions(tree.join("shut"), Permissions::from_mode(0o644)).unwrap();
        let error = store.prune(0).unwrap_err();
        assert!(error.is::<InUse>(), "{error}");
        session.lease(&one);
        drop(session);
        // The other was not used since, in the second that followed.
        let file =
            fs::File::options().write(true).open(store.root.join(USED).join(one.hex())).unwrap();
        file.file().set_modified(now() + Duration::from_secs(5)).unwrap();
        let all = store.prune(u64::MAX).unwrap();
        assert_eq!((all.removed, all.freed_bytes), (0, 0));
        let some = store.prune(all.kept_bytes - 1).unwrap();
        assert_eq!(some.removed, 1);
        assert!(!store.blob_path(&two).exists() && store.blob_path(&one).exists() && tree.exists());
        assert_eq!(some.kept_bytes + some.freed_bytes, all.kept_bytes);
        let checkout = store.checkout_path(&two);
        fs::create_dir(&checkout).unwrap();
        let none = store.prune(0).unwrap();
        assert_eq!(none.removed, 3);
        assert!(!store.blob_path(&one).exists() && !tree.exists() && !checkout.exists());
        assert_eq!(fs::read_dir(store.root.join(USED)).unwrap().count(), 0);
        assert_eq!(fs::read_dir(store.tmp()).unwrap().count(), 0);
        // Held to a limit once, and then not for a while.
        let hold = |digest: &Digest| {
            store.hold_to(CacheLimit::Bytes(0)).unwrap();
            store.blob_path(digest).exists()
        };
        let again = || store.put_blob(&store.session().unwrap(), b"again").unwrap();
        assert!(!hold(&again()));
        assert!(hold(&again()));
    }
}
