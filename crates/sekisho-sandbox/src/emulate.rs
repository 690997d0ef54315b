//! `chown`, `setuid` and `stat` where there is one user: the calls are held back and answered here.
//!
//! ```text
//!  command ── chown(2) ──▶ seccomp filter ── held ──▶ pid 1: finds the file through `/proc`,
//!     ▲                                                writes its owner to an attribute
//!     └────────────────────── 0 ◀──────────────────────┘
//! ```
//!
//! - An owner stands in the file's own attribute ([`crate::Owner`]); a link cannot have one, so links are
//!   remembered by path until the sandbox ends.
//! - Who a process says it is ([`identity`]) is a number that fork and exec hand on: the soft limit of
//!   real-time run time, which means nothing to a process without real-time scheduling.
//! - A call that would get the same answer from the kernel is left to the kernel.
//!
//! Nothing here decides what a process *may* do: the kernel does, and for it all of them are one user.
//! A process that has become another user is therefore not kept from root's files of the image.

mod calls;
mod identity;
mod processes;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use self::identity::Identity;
use self::processes::Processes;
use crate::owner::{MAX_VALUE_BYTES, OWNER_ATTRIBUTE, Owner};
use crate::sys::{self, Answer};

pub(crate) use self::calls::HELD;

/// Longest path that the kernel takes, with its end.
const MAX_PATH_BYTES: usize = 4096;

/// Most links and special files whose owners are remembered.
const MAX_LINKS: usize = 1 << 18;

/// Most identities at once. A build has a few; a program that tries out all gets no more.
const MAX_IDENTITIES: usize = 4096;

/// The soft limit that says "the identity with number 0"; lower ones say the others. 2^62 microseconds,
/// which nothing runs for.
const IDENTITY_BASE: u64 = 1 << 62;

/// Answers held calls. One for each sandbox.
pub(crate) struct Emulator {
    listener: OwnedFd,
    processes: Processes,
    root: OwnedFd,
    /// Number 0 is what everything starts as.
    identities: Vec<Identity>,
    links: BTreeMap<Vec<u8>, Owner>,
    /// Somebody changed the root: `/` may mean something else.
    chrooted: bool,
}

/// How a call names a file.
#[derive(Clone, Copy)]
struct Name {
    folder: i32,
    /// Address of the path; `None`: the descriptor itself.
    path: Option<u64>,
    follow: bool,
    /// An empty path means the descriptor.
    may_be_empty: bool,
}

impl Emulator {
    /// In the sandbox's own root, with its `/proc` mounted.
    ///
    /// # Errors
    /// Where there is no `/proc` that shows us.
    pub(crate) fn new(listener: OwnedFd) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            listener,
            processes: Processes::open()?,
            root: rustix::fs::open("/", flags, Mode::empty())?,
            identities: vec![Identity::default()],
            links: BTreeMap::new(),
            chrooted: false,
        })
    }

    pub(crate) fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    /// Owners of links and special files, by path from the root.
    pub(crate) fn into_links(self) -> Vec<(Vec<u8>, Owner)> {
        self.links.into_iter().collect()
    }

    /// Takes one held call and answers it.
    pub(crate) fn serve(&mut self) -> Result<()> {
        let held = match sys::receive(self.listener.as_fd()) {
            Ok(held) => held,
            // Its thread died before we looked, or a signal came.
            Err(Errno::NOENT | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error),
        };
        let answer = self.decide(&held).unwrap_or_else(Answer::Error);
        sys::answer(self.listener.as_fd(), held.id, answer)
    }

    /// Opens what a call names, as the calling thread would find it, without reading it.
    fn open(&mut self, pid: i32, name: Name) -> Result<OwnedFd> {
        let path = match name.path {
            Some(address) => read_path(pid, address)?,
            None => Vec::new(),
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let last = if name.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        if path.is_empty() {
            if !name.may_be_empty {
                return Err(Errno::NOENT);
            }
            return self.open_base(pid, name.folder, flags);
        }
        if path.starts_with(b"/") && self.chrooted {
            let root = self.processes.open_below(pid, "root", flags)?;
            let resolve = rustix::fs::ResolveFlags::IN_ROOT;
            return rustix::fs::openat2(root, path, flags | last, Mode::empty(), resolve);
        }
        let base = match path.starts_with(b"/") {
            true => self.root.try_clone().map_err(|_| Errno::MFILE)?,
            false => self.open_base(pid, name.folder, flags)?,
        };
        let mut path = self.own_proc(pid, &path).unwrap_or(path);
        if name.follow {
            let link = rustix::fs::readlinkat(&base, path.as_slice(), Vec::new()).ok();
            path = link.and_then(|to| self.own_proc(pid, to.as_bytes())).unwrap_or(path);
        }
        rustix::fs::openat(base, path, flags | last, Mode::empty())
    }

    fn open_base(&mut self, pid: i32, folder: i32, flags: OFlags) -> Result<OwnedFd> {
        if folder == CWD.as_raw_fd() {
            return self.processes.open_below(pid, "cwd", flags);
        }
        if folder < 0 {
            return Err(Errno::BADF);
        }
        self.processes.open_below(pid, &format!("fd/{folder}"), flags)
    }

    /// A path by which a process means itself, as one that means it to us too; `None` for all others.
    fn own_proc(&self, pid: i32, path: &[u8]) -> Option<Vec<u8>> {
        let rest = means_itself(path)?;
        let number = self.processes.number(pid).ok()?;
        Some([format!("/proc/{number}").as_bytes(), &rest].concat())
    }

    /// Whose it was made by an earlier `chown`, or by the image.
    fn owner(&self, file: &OwnedFd) -> Option<Owner> {
        let mut value = [0; MAX_VALUE_BYTES];
        match rustix::fs::getxattr(by_fd(file), OWNER_ATTRIBUTE, &mut value) {
            Ok(length) => Owner::from_attribute(value.get(..length)?),
            Err(_) if self.links.is_empty() => None,
            Err(_) => self.links.get(&path_of(file)?).copied(),
        }
    }

    /// Gives a file to somebody: for the kernel to us again, which makes it forget setuid bits and
    /// capabilities and copies it up, and then by the attribute.
    fn give(&mut self, file: &OwnedFd, owner: Owner) -> Result<()> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
        let (root, wheel) = (Uid::from_raw(0), Gid::from_raw(0));
        match rustix::fs::chownat(file, "", Some(root), Some(wheel), flags) {
            Ok(()) => {}
            // A pipe, a terminal, or a file of `/proc`: whose it is matters to nobody later.
            Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => return Ok(()),
            Err(error) => return Err(error),
        }
        let stat = rustix::fs::fstat(file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => {
                let value = owner.to_attribute();
                let flags = XattrFlags::empty();
                match rustix::fs::setxattr(by_fd(file), OWNER_ATTRIBUTE, value.as_bytes(), flags) {
                    // In memory, such as `/dev/shm`: gone with the sandbox.
                    Err(Errno::OPNOTSUPP) => Ok(()),
                    other => other,
                }
            }
            _ => {
                // A pipe or socket has no path.
                let Some(path) = path_of(file) else { return Ok(()) };
                if self.links.len() >= MAX_LINKS && !self.links.contains_key(&path) {
                    return Err(Errno::NOSPC);
                }
                self.links.insert(path, owner);
                Ok(())
            }
        }
    }

    fn identity_number(&self, pid: i32) -> Result<usize> {
        let (soft, _) = sys::runtime_limit(pid)?;
        let number =
            IDENTITY_BASE.checked_sub(soft).and_then(|number| usize::try_from(number).ok());
        Ok(number.filter(|number| *number < self.identities.len()).unwrap_or(0))
    }

    fn set_identity(&mut self, pid: i32, new: Identity) -> Result<()> {
        let number = match self.identities.iter().position(|known| *known == new) {
            Some(number) => number,
            None if self.identities.len() >= MAX_IDENTITIES => return Err(Errno::AGAIN),
            None => {
                self.identities.push(new);
                self.identities.len() - 1
            }
        };
        let (_, hard) = sys::runtime_limit(pid)?;
        let soft = IDENTITY_BASE - u64::try_from(number).map_err(|_| Errno::INVAL)?;
        if soft > hard {
            return Err(Errno::PERM);
        }
        sys::set_runtime_limit(pid, soft, hard)
    }
}

/// Attributes cannot be had through a descriptor that only names a file, but through its link.
fn by_fd(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Of a path by which a process means itself, what is below its folder of `/proc`; `None` of all others.
fn means_itself(path: &[u8]) -> Option<Vec<u8>> {
    for (name, means) in [
        ("/proc/self", ""),
        ("/proc/thread-self", ""),
        ("/dev/fd", "/fd"),
        ("/dev/stdin", "/fd/0"),
        ("/dev/stdout", "/fd/1"),
        ("/dev/stderr", "/fd/2"),
    ] {
        let rest = path.strip_prefix(name.as_bytes());
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with(b"/")) {
            return Some([means.as_bytes(), rest].concat());
        }
    }
    None
}

/// Where a file is, from the root, without the leading `/`.
fn path_of(file: &OwnedFd) -> Option<Vec<u8>> {
    let path = PathBuf::from(by_fd(file)).read_link().ok()?;
    path.as_os_str().as_bytes().strip_prefix(b"/").map(<[u8]>::to_vec)
}

/// A path in another process, without its end. Read by pages, for the next one may not be there.
fn read_path(pid: i32, address: u64) -> Result<Vec<u8>> {
    const PAGE: u64 = 4096;
    let mut path = vec![0; MAX_PATH_BYTES];
    let mut have = 0;
    while have < MAX_PATH_BYTES {
        let at = address.checked_add(have as u64).ok_or(Errno::FAULT)?;
        let in_page = usize::try_from(PAGE - at % PAGE).map_err(|_| Errno::FAULT)?;
        // Most paths are short.
        let want = in_page.min(MAX_PATH_BYTES - have).min(256);
        let read = sys::read_memory(pid, at, &mut path[have..have + want])?;
        if read == 0 {
            return Err(Errno::FAULT);
        }
        if let Some(end) = path[have..have + read].iter().position(|byte| *byte == 0) {
            path.truncate(have + end);
            return Ok(path);
        }
        have += read;
    }
    Err(Errno::NAMETOOLONG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_calls_itself_is_its_own() {
        for (path, want) in [
            ("/proc/self", Some("")),
            ("/proc/self/fd/3", Some("/fd/3")),
            ("/proc/thread-self/cwd", Some("/cwd")),
            ("/dev/stdout", Some("/fd/1")),
            ("/dev/fd/9", Some("/fd/9")),
            ("/proc/selfish", None),
            ("/proc/7", None),
            ("/dev/null", None),
        ] {
            let rest = means_itself(path.as_bytes());
            assert_eq!(rest.as_deref(), want.map(str::as_bytes), "{path}");
        }
    }
}
