//! Cache mounts: folders that outlive builds, in the cache folder.
//!
//! ```text
//!  mounts-<kind>/<hex of key>/
//!    current          names of the layers, the topmost first
//!    layers/<name>/   in overlayfs form; never changed once it is here
//!    users            locked shared by every command that may read a layer
//!    turn             locked by the one command whose turn it is, with `sharing=locked`
//!    commit           locked while `current` changes
//! ```
//!
//! A command sees the layers that are current when it begins, and writes to a layer of its own. When it
//! ends, also when it failed, that goes on top of what is current then: commands at the same time do not
//! see each other, and what each wrote is there afterwards. Of a file that two wrote, the last one stays.
//! A command that is cancelled leaves the cache as it was.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use fs_err as fs;
use sekisho_sandbox::{Isolation, remove_tree};
use sekisho_types::Digest;

use crate::store::{Session, Store};
use crate::upper;

/// Layers that a cache may have before they become one. overlayfs can stack more, but every look-up of
/// an absent file asks each.
const MAX_LAYERS: usize = 16;

/// How often a command that waits for its turn looks again.
const TURN_INTERVAL: Duration = Duration::from_millis(20);

/// Who the folder belongs to when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A cache in use by one command.
#[derive(Debug)]
pub(crate) struct Lease {
    dir: PathBuf,
    /// Where each layer is, the topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// Holds `upper` and `work`.
    pub(crate) writable: PathBuf,
    /// The lowest of `lower` is not among the cache's layers yet.
    new_base: bool,
    users: fs::File,
    _turn: Option<fs::File>,
}

impl Lease {
    /// Takes a cache. `base` makes what a new one starts with; `wait` is asked while it is another
    /// command's turn, and its error ends the waiting.
    pub(crate) fn take<E: From<anyhow::Error>>(
        store: &Store,
        session: &Session,
        (isolation, key): (Isolation, &Digest),
        locked: bool,
        owner: Owner,
        base: impl FnOnce() -> Result<Option<PathBuf>, E>,
        wait: impl Fn() -> Result<(), E>,
    ) -> Result<Self, E> {
        let dir = store.mount_path(isolation, key);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir.join("layers"))
            .context("cannot make a folder for a cache mount")?;
        let turn = match locked {
            true => Some(take_turn(&dir.join("turn"), wait)?),
            false => None,
        };
        let users = open_lock(&dir.join("users")).context("cannot open a cache mount")?;
        users.file().lock_shared().context("cannot lock a cache mount")?;
        let mut lower = paths(&dir);
        let mut new_base = false;
        if lower.is_empty()
            && let Some(base) = base()?
        {
            lower.push(base);
            new_base = true;
        }
        let writable = session.folder("cache").context("cannot make a folder")?;
        make_upper(&writable, lower.first().map(PathBuf::as_path), isolation, owner)
            .context("cannot make a folder for a cache mount")?;
        Ok(Self { dir, lower, writable, new_base, users, _turn: turn })
    }

    /// Whether another lease is for the same cache.
    pub(crate) fn is_of(&self, store: &Store, isolation: Isolation, key: &Digest) -> bool {
        self.dir == store.mount_path(isolation, key)
    }

    /// Puts what the command wrote on top of the cache's content. `record` is told whether somebody else did
    /// so meanwhile; nobody does while it runs.
    pub(crate) fn commit(
        mut self,
        session: &Session,
        record: impl FnOnce(bool) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let turn = open_lock(&self.dir.join("commit")).context("cannot open a cache mount")?;
        turn.file().lock().context("cannot lock a cache mount")?;
        let now = paths(&self.dir);
        let leased = if self.new_base { &[] } else { self.lower.as_slice() };
        let others = now != leased;
        if others {
            // What it began with, if that was new, is not the beginning any more.
            (self.lower, self.new_base) = (now, false);
        }
        self.put_on_top(session)?;
        record(others)?;
        drop(turn);
        self.sweep()
    }

    fn put_on_top(&mut self, session: &Session) -> anyhow::Result<()> {
        let upper = self.writable.join("upper");
        let changed = fs::read_dir(&upper)?.next().is_some();
        if changed || self.lower.is_empty() || self.new_base {
            let layers = self.dir.join("layers");
            if self.new_base
                && let Some(base) = self.lower.pop()
            {
                self.lower.push(publish(&base, &layers)?);
            }
            self.lower.insert(0, publish(&upper, &layers)?);
            if self.lower.len() > MAX_LAYERS {
                let flat = session.folder("flat")?;
                for layer in self.lower.iter().rev() {
                    overlay_onto(layer, &flat)
                        .context("cannot merge the layers of a cache mount")?;
                }
                self.lower = vec![publish(&flat, &layers)?];
            }
            let names: Vec<_> =
                self.lower.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            let record = session.path("record");
            fs::write(&record, serde_json::to_vec(&names)?)?;
            fs::rename(&record, self.dir.join("current"))?;
        }
        Ok(())
    }

    /// Removes layers that are of no use any more, if nobody else is here.
    fn sweep(&self) -> anyhow::Result<()> {
        self.users.file().unlock()?;
        if self.users.file().try_lock().is_err() {
            return Ok(());
        }
        let current = current(&self.dir);
        for entry in fs::read_dir(self.dir.join("layers"))? {
            let entry = entry?;
            if !current.iter().any(|name| *name == *entry.file_name()) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn open_lock(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn take_turn<E: From<anyhow::Error>>(
    path: &Path,
    wait: impl Fn() -> Result<(), E>,
) -> Result<fs::File, E> {
    let file = open_lock(path).context("cannot open a cache mount")?;
    loop {
        match file.file().try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {
                wait()?;
                std::thread::sleep(TURN_INTERVAL);
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(anyhow::Error::new(error).context("cannot lock a cache mount").into());
            }
        }
    }
}

/// Names of the layers; a record that does not parse is none, which only empties the cache.
fn current(dir: &Path) -> Vec<OsString> {
    let names: Vec<String> = std::fs::read(dir.join("current"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let there = |name: &String| !name.contains('/') && dir.join("layers").join(name).is_dir();
    match names.iter().all(there) {
        true => names.into_iter().map(OsString::from).collect(),
        false => Vec::new(),
    }
}

/// Where the layers are, the topmost first.
fn paths(dir: &Path) -> Vec<PathBuf> {
    current(dir).into_iter().map(|name| dir.join("layers").join(name)).collect()
}

/// The upper folder looks like the layer below it, for it is what the command sees of the two.
fn make_upper(
    writable: &Path,
    below: Option<&Path>,
    isolation: Isolation,
    owner: Owner,
) -> io::Result<()> {
    let upper = writable.join("upper");
    fs::create_dir(&upper)?;
    fs::create_dir(writable.join("work"))?;
    let owner = match below {
        Some(below) => {
            let metadata = fs::metadata(below)?;
            Owner { mode: metadata.mode(), uid: metadata.uid(), gid: metadata.gid() }
        }
        None => owner,
    };
    if isolation.has_owners() {
        chown(&upper, Some(owner.uid), Some(owner.gid))?;
    }
    fs::set_permissions(&upper, std::fs::Permissions::from_mode(owner.mode & 0o7777))
}

fn publish(folder: &Path, layers: &Path) -> anyhow::Result<PathBuf> {
    // The session's name is unique among those that live, and `folder` is in it.
    let unique: Vec<_> =
        folder.components().rev().take(3).filter_map(|part| part.as_os_str().to_str()).collect();
    let mut target = layers.join(unique.join("-"));
    while target.exists() {
        target.as_mut_os_string().push("+");
    }
    fs::rename(folder, &target)?;
    Ok(target)
}

/// Puts a layer on top of a merged tree, by hard links: layers never change, so they may share files.
fn overlay_onto(layer: &Path, merged: &Path) -> io::Result<()> {
    let metadata = fs::metadata(layer)?;
    for entry in fs::read_dir(layer)? {
        let entry = entry?;
        let (from, to) = (entry.path(), merged.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&from)?;
        let there = fs::symlink_metadata(&to).ok();
        let is_folder = metadata.is_dir();
        let replaced = !is_folder || upper::is_opaque(&from)?;
        match there {
            Some(there) if there.is_dir() && replaced => remove_tree(&to)?,
            Some(there) if !there.is_dir() => fs::remove_file(&to)?,
            _ => {}
        }
        if upper::is_whiteout(&metadata) {
            continue;
        }
        if !is_folder {
            fs::hard_link(&from, &to)?;
            continue;
        }
        if !to.is_dir() {
            fs::create_dir(&to)?;
        }
        overlay_onto(&from, &to)?;
    }
    if fs::metadata(merged)?.uid() != metadata.uid()
        || fs::metadata(merged)?.gid() != metadata.gid()
    {
        chown(merged, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    fs::set_permissions(merged, metadata.permissions())
}
