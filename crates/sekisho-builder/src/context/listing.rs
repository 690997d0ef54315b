//! Lists a folder by several threads: a `stat` of each file is most of what a build that changes nothing does.
//!
//! Threads take folders from one heap until it is empty and nobody works on one any more. What each finds is
//! put together at the end, in order, so that nothing depends on who was first.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;
use sekisho_dockerfile::ignore::Ignore;

use super::{MAX_CONTEXT_BYTES, MAX_CONTEXT_FILES, MAX_DEPTH};
use crate::BuildError;
use crate::beside;
use crate::files::{self, FileMap, ImagePath, Known, Node, NodeKind};
use crate::hashed::Stamp;

/// Most threads: the kernel's locks are what more of them would wait for.
const THREADS_MAX: usize = 4;

/// A folder that is to be looked at, and how deep it lies.
type Folder = (ImagePath, usize);

/// Opens what is below the root that is listed.
pub(super) type Open<'a> = &'a (dyn Fn(&[u8], OFlags) -> rustix::io::Result<OwnedFd> + Sync);

/// Says that something below the root cannot be read.
pub(super) type Failed<'a> = &'a (dyn Fn(&[u8], Errno) -> BuildError + Sync);

pub(super) struct Listing<'a> {
    open: Open<'a>,
    failed: Failed<'a>,
    ignore: &'a Ignore,
    /// Of all that was looked at.
    count: AtomicU64,
    bytes: AtomicU64,
    heap: Mutex<Heap>,
    /// There is more on the heap, or no more to come.
    changed: Condvar,
}

#[derive(Default)]
struct Heap {
    folders: Vec<Folder>,
    /// Threads that may still put something there.
    busy: usize,
    failure: Option<BuildError>,
}

/// What one thread found.
#[derive(Default)]
struct Found {
    files: Vec<(ImagePath, Node)>,
    /// Folders that are ignored, and there only for what an exception brings back.
    ignored: Vec<(ImagePath, Node)>,
}

impl<'a> Listing<'a> {
    pub(super) fn new(open: Open<'a>, failed: Failed<'a>, ignore: &'a Ignore) -> Self {
        let heap = Heap { folders: vec![(Vec::new(), 0)], ..Heap::default() };
        Self {
            open,
            failed,
            ignore,
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            heap: Mutex::new(heap),
            changed: Condvar::new(),
        }
    }

    /// Everything below the root, which is itself a part of it.
    pub(super) fn run(self) -> Result<FileMap, BuildError> {
        let mut all = std::thread::scope(|scope| {
            let mut mine = Found::default();
            // Most contexts are a folder or two, for which no thread need be started.
            while self.heap().folders.len() == 1 {
                self.one(&mut mine);
            }
            let more = self.heap().folders.len().min(beside::cores().min(THREADS_MAX));
            let others: Vec<_> = (1..more).map(|_| scope.spawn(|| self.work())).collect();
            let mut all = vec![self.work(), mine];
            // A panic of theirs is ours.
            all.extend(others.into_iter().map(|other| {
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }));
            all
        });
        if let Some(failure) = self.heap().failure.take() {
            return Err(failure);
        }
        // The mode of the folder itself is an accident of whoever made it.
        let root = (Vec::new(), Node::new(NodeKind::Directory, 0o755));
        let ignored: Vec<_> = all.iter_mut().flat_map(|one| one.ignored.drain(..)).collect();
        // One list: pieces of many would stay where each thread has its memory.
        let mut found = vec![root];
        all.into_iter().for_each(|mut one| found.append(&mut one.files));
        let mut files = FileMap::of(found);
        let mut back = ignored;
        back.retain(|(path, _)| files.below(path).next().is_some());
        if !back.is_empty() {
            files = files.and(back);
        }
        Ok(files)
    }

    fn heap(&self) -> MutexGuard<'_, Heap> {
        // It is as it should be after each of the few changes that are made to it.
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists folders until there are none.
    fn work(&self) -> Found {
        let mut found = Found::default();
        while self.one(&mut found) {}
        found
    }

    /// Lists one folder, and waits for it if need be; false when there will be no more.
    fn one(&self, found: &mut Found) -> bool {
        let mut heap = self.heap();
        let folder = loop {
            match heap.folders.pop() {
                Some(folder) => break folder,
                None if heap.busy == 0 => return false,
                None => heap = self.changed.wait(heap).unwrap_or_else(PoisonError::into_inner),
            }
        };
        heap.busy += 1;
        drop(heap);
        let listed = self.list(&folder, found);
        let mut heap = self.heap();
        heap.busy -= 1;
        match listed {
            Ok(below) if heap.failure.is_none() => heap.folders.extend(below),
            Ok(_) => {}
            Err(error) => {
                heap.folders.clear();
                heap.failure.get_or_insert(error);
            }
        }
        self.changed.notify_all();
        true
    }

    /// Lists one folder; gives those in it.
    fn list(&self, (folder, depth): &Folder, found: &mut Found) -> Result<Vec<Folder>, BuildError> {
        if *depth > MAX_DEPTH {
            let limit = MAX_DEPTH as u64;
            return Err(BuildError::ContextLimit { what: "nested folders", limit });
        }
        let error = |error| (self.failed)(folder, error);
        let fd = (self.open)(folder, OFlags::RDONLY | OFlags::DIRECTORY).map_err(error)?;
        let mut below = Vec::new();
        for entry in Dir::read_from(&fd).map_err(error)? {
            let entry = entry.map_err(error)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = files::join(folder, name.to_bytes());
            let stat = match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                // It went away while we were looking.
                Err(Errno::NOENT) => continue,
                other => other.map_err(|error| (self.failed)(&path, error))?,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let text = String::from_utf8_lossy(&path);
            let ignored = !self.ignore.is_empty() && self.ignore.is_ignored(&text);
            if ignored && (kind != FileType::Directory || self.ignore.can_skip(&text)) {
                continue;
            }
            let size = u64::try_from(stat.st_size).unwrap_or_default();
            self.count(if kind == FileType::RegularFile { size } else { 0 })?;
            let node_kind = match kind {
                FileType::RegularFile => NodeKind::File { size, digest: Known::default() },
                FileType::Directory => NodeKind::Directory,
                FileType::Symlink => {
                    let target = rustix::fs::readlinkat(&fd, name, Vec::new())
                        .map_err(|error| (self.failed)(&path, error))?;
                    NodeKind::Symlink { target: target.into_bytes() }
                }
                // Sockets, pipes, devices: no part of a context.
                _ => continue,
            };
            let mode = if kind == FileType::Symlink { 0o777 } else { stat.st_mode & 0o7777 };
            let mut node = Node::new(node_kind, mode);
            if kind == FileType::RegularFile {
                node.stamp = Some(Box::new(Stamp::of(&stat)));
            }
            if kind == FileType::Directory {
                below.push((path.clone(), depth + 1));
            }
            match ignored {
                true => found.ignored.push((path, node)),
                false => found.files.push((path, node)),
            }
        }
        Ok(below)
    }

    fn count(&self, bytes: u64) -> Result<(), BuildError> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count > MAX_CONTEXT_FILES {
            return Err(BuildError::ContextLimit { what: "files", limit: MAX_CONTEXT_FILES });
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > MAX_CONTEXT_BYTES {
            return Err(BuildError::ContextLimit { what: "bytes", limit: MAX_CONTEXT_BYTES });
        }
        Ok(())
    }
}
