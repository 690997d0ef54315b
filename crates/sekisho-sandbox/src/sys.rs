//! The calls that no safe crate offers, each behind a safe function. The only unsafe code.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::spec::Used;

/// One instruction of a seccomp filter.
pub(crate) type Instruction = libc::sock_filter;

/// Bytes of the kernel's `struct stat`, at most; of `struct statx`.
const STAT_BYTES: usize = 256;

/// Leaves namespaces of the caller; `FILES`, the flag that can break memory safety, is refused.
#[expect(unsafe_code, reason = "rustix has no safe unshare, for the sake of one flag")]
pub(crate) fn unshare(flags: UnshareFlags) -> Result<()> {
    if flags.contains(UnshareFlags::FILES) {
        return Err(Errno::INVAL);
    }
    // SAFETY: only `FILES` can make a descriptor of one thread unknown to another, and it is refused
    // above. The other flags do not touch memory or descriptors.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Starts the loopback device of this process's network namespace: in a new one it is down.
#[expect(unsafe_code, reason = "an ioctl")]
pub(crate) fn raise_loopback() -> Result<()> {
    let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let flags = libc::c_short::try_from(libc::IFF_UP).map_err(|_| Errno::INVAL)?;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: the ioctl reads one `ifreq`, of which it takes the name, which ends with a zero, and the flags.
    let result =
        unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request)) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Closes every descriptor but the standard three. To be called where no value owns another one: first
/// thing in a process.
#[expect(unsafe_code, reason = "no safe crate closes what it does not own")]
pub(crate) fn close_all_but_standard() -> io::Result<()> {
    // SAFETY: the call takes three numbers; that nobody owns what it closes is the caller's word.
    match unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies this process; `None` in the copy. One with several threads is not copied: the copy would have one
/// of them, and the locks that the others held.
#[expect(unsafe_code, reason = "no safe crate copies a process")]
pub(crate) fn fork() -> Result<Option<Pid>> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))? != 1 {
        return Err(Errno::BUSY);
    }
    // SAFETY: with one thread nothing is in the middle of a change when the copy is made, so the copy is as
    // sound as the process is.
    match unsafe { libc::fork() } {
        ..0 => Err(errno()),
        0 => Ok(None),
        pid => Pid::from_raw(pid).map(Some).ok_or(Errno::SRCH),
    }
}

/// Makes files the standard input, output and error of this process.
#[expect(unsafe_code, reason = "of rustix's features only this one is missing")]
pub(crate) fn take_standard(files: [OwnedFd; 3]) -> Result<()> {
    for (number, file) in (0..).zip(&files) {
        // SAFETY: the call takes two numbers; what it closes is a standard stream, which no value owns.
        if unsafe { libc::dup2(file.as_raw_fd(), number) } < 0 {
            return Err(errno());
        }
    }
    Ok(())
}

/// Has `command` ignore no signal when it starts: what its starter ignores, as under `nohup`, it would
/// ignore too, and most programs cannot be stopped by it then.
#[expect(unsafe_code, reason = "no safe crate says what a new process does with signals")]
pub fn with_default_signals(command: &mut std::process::Command) -> &mut std::process::Command {
    let reset = || {
        // The last one of the standard. KILL and STOP are refused, for they are never ignored.
        for number in 1..=libc::SIGSYS {
            // SAFETY: the call takes two numbers, and may be made between fork and exec.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: `reset` makes no call but signal(2), and takes no memory and no lock.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, reset) }
}

/// Installs a filter on this thread and what it will start, and returns the end at which the calls that
/// it holds back are answered. Needs no-new-privileges.
#[expect(unsafe_code, reason = "no safe crate installs a filter with a listener")]
pub(crate) fn install_listener(program: &mut [Instruction]) -> Result<OwnedFd> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let mut last = Errno::INVAL;
    // A signal must not interrupt a call that is being answered, or it would be done twice; kernels
    // before 5.19 do not know how to wait.
    for flags in [
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ] {
        // SAFETY: `program` is valid for the call, and the kernel copies what it points to.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                std::ptr::from_ref(&program),
            )
        };
        match i32::try_from(fd) {
            Ok(fd) if fd >= 0 => {
                // SAFETY: the kernel has just made it for us, and nobody else knows it.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            _ => last = errno(),
        }
    }
    Err(last)
}

/// A call that is held back.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: u64,
    /// The thread that made it.
    pub(crate) pid: i32,
    pub(crate) number: i64,
    pub(crate) args: [u64; 6],
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel does it.
    Continue,
    /// It has been done, with this result.
    Value(i64),
    /// It fails.
    Error(Errno),
}

/// Takes the next held call; blocks when there is none.
#[expect(unsafe_code, reason = "an ioctl")]
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Held> {
    let data = libc::seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
    let mut held = libc::seccomp_notif { id: 0, pid: 0, flags: 0, data };
    // SAFETY: the ioctl writes one `seccomp_notif`, and wants it to be all zeros before.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            std::ptr::from_mut(&mut held),
        )
    };
    if result < 0 {
        return Err(errno());
    }
    let pid = i32::try_from(held.pid).map_err(|_| Errno::SRCH)?;
    Ok(Held { id: held.id, pid, number: held.data.nr.into(), args: held.data.args })
}

/// Answers a held call. That its thread is gone by now is no error.
#[expect(unsafe_code, reason = "an ioctl")]
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<()> {
    let (val, error, flags) = match answer {
        Answer::Continue => (0, 0, 1),
        Answer::Value(value) => (value, 0, 0),
        Answer::Error(errno) => (0, -errno.raw_os_error(), 0),
    };
    let mut response = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the ioctl reads one `seccomp_notif_resp`.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            std::ptr::from_mut(&mut response),
        )
    };
    match result {
        0.. => Ok(()),
        _ if errno() == Errno::NOENT => Ok(()),
        _ => Err(errno()),
    }
}

/// Copies from another process's memory; the number of bytes that could be read.
#[expect(unsafe_code, reason = "no safe crate reads another process's memory")]
pub(crate) fn read_memory(pid: i32, address: u64, to: &mut [u8]) -> Result<usize> {
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let remote = foreign(address, to.len())?;
    // SAFETY: `local` names exactly the buffer; `remote` is looked at by the kernel in the other process
    // alone, and is an error when it is not there.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| errno())
}

/// Copies to another process's memory, all or nothing.
#[expect(unsafe_code, reason = "no safe crate writes another process's memory")]
pub(crate) fn write_memory(pid: i32, address: u64, from: &[u8]) -> Result<()> {
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = foreign(address, from.len())?;
    // SAFETY: `local` is only read; `remote` is in the other process, which asked for it to be written.
    let wrote =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(wrote) {
        Ok(wrote) if wrote == from.len() => Ok(()),
        Ok(_) => Err(Errno::FAULT),
        Err(_) => Err(errno()),
    }
}

fn foreign(address: u64, len: usize) -> Result<libc::iovec> {
    let address = usize::try_from(address).map_err(|_| Errno::FAULT)?;
    Ok(libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: len })
}

/// Soft and hard limit of the real-time run time of a process.
#[expect(unsafe_code, reason = "rustix reads another process's limit only by setting it")]
pub(crate) fn runtime_limit(pid: i32) -> Result<(u64, u64)> {
    let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: no new limit is given; the old one is written to `now`.
    let result = unsafe {
        libc::prlimit64(pid, libc::RLIMIT_RTTIME, std::ptr::null(), std::ptr::from_mut(&mut now))
    };
    if result == 0 { Ok((now.rlim_cur, now.rlim_max)) } else { Err(errno()) }
}

/// Sets the soft limit that [`runtime_limit`] reads.
#[expect(unsafe_code, reason = "as `runtime_limit`")]
pub(crate) fn set_runtime_limit(pid: i32, soft: u64, hard: u64) -> Result<()> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the new limit is read, and no old one is wanted.
    let result =
        unsafe { libc::prlimit64(pid, libc::RLIMIT_RTTIME, &raw const new, std::ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// What the children that were waited for used, and those that they waited for.
#[expect(unsafe_code, reason = "rustix has no getrusage")]
pub(crate) fn children_used() -> Result<Used> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes a whole `struct rusage` there.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    if result != 0 {
        return Err(errno());
    }
    // SAFETY: all of it was zero, which every field may be, before it was written.
    let usage = unsafe { usage.assume_init() };
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    let ms = |time: libc::timeval| number(time.tv_sec) * 1000 + number(time.tv_usec) / 1000;
    let cpu_ms = ms(usage.ru_utime) + ms(usage.ru_stime);
    Ok(Used { cpu_ms, peak_rss_bytes: number(usage.ru_maxrss) * 1024 })
}

/// The kernel's own `struct stat` of an open file, as bytes.
#[expect(unsafe_code, reason = "the bytes are wanted as the kernel writes them")]
pub(crate) fn stat_bytes(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut buffer = [0_u64; STAT_BYTES / 8];
    // SAFETY: the buffer is larger than `struct stat` and aligned for it; the path ends with a zero.
    let result = unsafe {
        libc::syscall(
            libc::SYS_newfstatat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            buffer.as_mut_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    let bytes = buffer.iter().flat_map(|word| word.to_ne_bytes());
    if result == 0 { Ok(bytes.take(size_of::<libc::stat>()).collect()) } else { Err(errno()) }
}

/// The kernel's own `struct statx` of an open file, as bytes.
#[expect(unsafe_code, reason = "the bytes are wanted as the kernel writes them")]
pub(crate) fn statx_bytes(fd: BorrowedFd<'_>, mask: u32) -> Result<Vec<u8>> {
    let mut buffer = [0_u64; STAT_BYTES / 8];
    // SAFETY: `struct statx` has 256 bytes, and the buffer is aligned for it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_statx,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            mask,
            buffer.as_mut_ptr(),
        )
    };
    let bytes = buffer.iter().flat_map(|word| word.to_ne_bytes());
    if result == 0 { Ok(bytes.collect()) } else { Err(errno()) }
}

fn errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
