//! Walls around this very process, once it has all that it needs: for one that parses foreign bytes.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::sys;

/// What a parser may ask of the kernel whatever the arguments: to read and write what is open, memory,
/// the time, randomness for hash tables, and its end. No file can be opened or looked at by its name,
/// no socket made, no program or thread started.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Memory, but none that holds code: what the parser reads never runs.
const WITHOUT_CODE: &[i64] = &[libc::SYS_mmap, libc::SYS_mprotect];

/// Confines this process for good: whatever else it asks of the kernel ends it with `SIGSYS`.
///
/// It must have one thread, and own no open file but standard input, output and error: any other is
/// closed. It leaves the network as well, where the kernel lets an ordinary user do so; without that it
/// still cannot make a socket.
///
/// # Errors
/// The kernel is older than 5.9 or has no filters for system calls, or this architecture has no table.
pub fn confine_parser() -> io::Result<()> {
    leave()?;
    wall_in()
}

/// The part that the children of this process have too: no network, no privilege by a program that is
/// started, no file but the standard three.
pub(crate) fn leave() -> io::Result<()> {
    sys::close_all_but_standard()?;
    // Nobody reads its memory, and it leaves none behind.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    let _ = sys::unshare(UnshareFlags::NEWUSER);
    let _ = sys::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWIPC);
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// What is left for one that parses. No value may own a file beside the standard three any more.
pub(crate) fn wall_in() -> io::Result<()> {
    sys::close_all_but_standard()?;
    let filter = program().map_err(io::Error::other)?;
    seccompiler::apply_filter(&filter).map_err(io::Error::other)
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let rule = |argument, len, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, len, operator, value)?])
    };
    let mut rules: BTreeMap<i64, _> = ALLOWED.iter().map(|it| (*it, Vec::new())).collect();
    let code = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
    for call in WITHOUT_CODE {
        rules.insert(*call, vec![rule(2, SeccompCmpArgLen::Dword, code.clone(), 0)?]);
    }
    // To abort, but nobody else: its parent has the same user.
    let me = u64::from(std::process::id());
    let only_me = rule(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, me)?;
    rules.insert(libc::SYS_tgkill, vec![only_me]);
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}
