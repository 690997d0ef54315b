//! The folder of a process in `/proc`, whichever way that counts.
//!
//! In a container the kernel refuses a fresh `/proc`, for the runtime masks parts of it, and the one of
//! outside is shown instead. There our processes have other numbers than those by which held calls name
//! them. The kernel tells the one of the other by a process's handle: `Pid:` of `/proc/self/fdinfo`.
//!
//! Sources: pidfd_open(2), proc_pid_fdinfo(5), proc_pid_status(5) for `NSpid`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Most folders that are kept open: those of the processes that called last.
const MAX_KNOWN: usize = 64;

/// `PIDFD_THREAD`, since Linux 6.9: before that only a process has a handle, and none of its threads.
const OF_A_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

pub(super) struct Processes {
    proc: OwnedFd,
    /// Open folders by our number, where `/proc` counts otherwise. A folder is of one process for ever: of
    /// one that ended nothing in it is found, whoever has its number then.
    foreign: Option<BTreeMap<i32, OwnedFd>>,
}

impl Processes {
    /// Of the `/proc` that is mounted.
    ///
    /// # Errors
    /// Where there is none that shows us.
    pub(super) fn open() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = rustix::fs::readlink("/proc/self", Vec::new())?;
        let ours = rustix::process::getpid().as_raw_pid().to_string();
        Ok(Self {
            proc: rustix::fs::open("/proc", flags, Mode::empty())?,
            foreign: (own.as_bytes() != ours.as_bytes()).then(BTreeMap::new),
        })
    }

    /// Opens what is below the folder of a process, or of a thread.
    pub(super) fn open_below(&mut self, pid: i32, path: &str, flags: OFlags) -> Result<OwnedFd> {
        let Some(known) = &mut self.foreign else {
            return rustix::fs::openat(&self.proc, format!("{pid}/{path}"), flags, Mode::empty());
        };
        let open = |folder: &OwnedFd| rustix::fs::openat(folder, path, flags, Mode::empty());
        if let Some(Ok(file)) = known.get(&pid).map(open) {
            return Ok(file);
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let (_, folder) = find(&self.proc, pid)?;
        let file = open(&folder);
        known.insert(pid, folder);
        file
    }

    /// The number by which `/proc` knows it.
    pub(super) fn number(&self, pid: i32) -> Result<i32> {
        match self.foreign {
            None => Ok(pid),
            Some(_) => find(&self.proc, pid).map(|(number, _)| number),
        }
    }
}

/// Number and folder of a process that has another number here.
fn find(proc: &OwnedFd, pid: i32) -> Result<(i32, OwnedFd)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = |number: i32| rustix::fs::openat(proc, number.to_string(), flags, Mode::empty());
    let ours = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    let handle = pidfd_open(ours, OF_A_THREAD).or_else(|_| pidfd_open(ours, PidfdFlags::empty()));
    let Ok(handle) = handle else {
        let number = search(proc, pid)?;
        return Ok((number, folder(number)?));
    };
    let number = number_of(proc, &handle)?;
    let folder = folder(number)?;
    // As long as it lives its number is nobody else's.
    if number_of(proc, &handle)? != number {
        return Err(Errno::SRCH);
    }
    Ok((number, folder))
}

/// What `/proc` says of a handle.
fn number_of(proc: &OwnedFd, handle: &OwnedFd) -> Result<i32> {
    let text = read(proc, &format!("self/fdinfo/{}", handle.as_raw_fd()))?;
    let number = field(&text, "Pid:").and_then(|rest| rest.trim().parse().ok());
    number.filter(|number| *number > 0).ok_or(Errno::SRCH)
}

/// A thread of ours, among all that `/proc` shows: those of our process namespace say which it is.
fn search(proc: &OwnedFd, tid: i32) -> Result<i32> {
    let namespace = |of: &str| rustix::fs::readlinkat(proc, format!("{of}/ns/pid"), Vec::new());
    let own = namespace("self")?;
    for process in numbers(proc, ".")? {
        if namespace(&process).ok().as_ref() != Some(&own) {
            continue;
        }
        for task in numbers(proc, &format!("{process}/task")).unwrap_or_default() {
            let status = read(proc, &format!("{process}/task/{task}/status")).unwrap_or_default();
            let innermost = field(&status, "NSpid:").and_then(|all| all.split_whitespace().last());
            if innermost.and_then(|number| number.parse().ok()) == Some(tid) {
                return task.parse().map_err(|_| Errno::SRCH);
            }
        }
    }
    Err(Errno::SRCH)
}

/// The names of a folder that are numbers.
fn numbers(proc: &OwnedFd, path: &str) -> Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(proc, path, flags, Mode::empty())?;
    let names = Dir::new(folder)?.filter_map(|entry| {
        let name = entry.ok()?.file_name().to_str().ok()?.to_owned();
        name.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
    });
    Ok(names.collect())
}

/// A file of some lines.
fn read(proc: &OwnedFd, path: &str) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(proc, path, flags, Mode::empty())?;
    let mut text = vec![0; 4096];
    let length = rustix::io::read(file.as_fd(), &mut text)?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_found_with_a_handle_and_without() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).unwrap();
        let process = rustix::process::getpid().as_raw_pid();
        let thread = std::thread::spawn(move || {
            let tid = rustix::thread::gettid().as_raw_pid();
            assert_ne!(tid, process);
            // Here `/proc` counts as we do.
            assert_eq!(find(&proc, tid).unwrap().0, tid);
            assert_eq!(search(&proc, tid), Ok(tid));
            assert_eq!(search(&proc, process), Ok(process));
            (proc, tid)
        });
        let (proc, tid) = thread.join().unwrap();
        assert_eq!(search(&proc, tid), Err(Errno::SRCH), "it ended");
    }

    #[test]
    fn a_folder_of_one_that_ended_is_not_anothers() {
        let mut processes = Processes::open().unwrap();
        processes.foreign = Some(BTreeMap::new());
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let open = |it: &mut Processes| it.open_below(pid, "cwd", OFlags::PATH).map(drop);
        assert_eq!((open(&mut processes), processes.number(pid)), (Ok(()), Ok(pid)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(open(&mut processes), Err(Errno::SRCH));
        assert_eq!(processes.number(pid), Err(Errno::SRCH));
    }
}
