//! Which system calls a command may not make.
//!
//! What Docker's default profile keeps from a container without added capabilities: loading code into
//! the kernel, mounting, leaving namespaces, looking into the kernel, setting clocks. Most of it would
//! fail anyway for want of a capability; the filter keeps the kernel's code for it out of reach.
//!
//! Source: <https://docs.docker.com/engine/security/seccomp/>, "Significant syscalls blocked by the
//! default profile", and capabilities(7) for what each needs.

use std::collections::BTreeMap;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::sys::Instruction;

/// Refused with `EPERM`, whatever the arguments.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

/// The same, known to x86-64 alone.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS__sysctl,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_sysfs,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

/// The bits of `clone` that make namespaces.
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The bits of it that are namespaces, each tried alone: a rule asks for one value under a mask.
const NAMESPACE_BITS: u32 = 32;

/// `ioctl` that types into a terminal (linux/tty.h).
const TIOCSTI: u64 = 0x5412;

/// Sockets to a hypervisor's host.
const AF_VSOCK: u64 = 40;

/// The execution domains that change nothing dangerous: Linux, 32-bit `uname`, and the question.
const PERSONALITIES: [u64; 4] = [0, 0x0008, 0x2_0000, 0xffff_ffff];

/// Every system call number from here on is of the x32 way of calling, which no image uses, and which
/// would go around the tables.
#[cfg(target_arch = "x86_64")]
const X32_BIT: u32 = 0x4000_0000;

// linux/bpf_common.h and linux/seccomp.h.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
#[cfg(target_arch = "x86_64")]
const JUMP_IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;
const NUMBER_AT: u32 = 0;

/// Programs to install, in order. Every one has its say on every call; the strictest wins.
///
/// # Errors
/// On an architecture that the tables are not for.
pub(crate) fn programs() -> Result<Vec<BpfProgram>, seccompiler::Error> {
    let arch: TargetArch =
        std::env::consts::ARCH.try_into().map_err(seccompiler::Error::Backend)?;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_HERE).map(|number| (*number, Vec::new())).collect();
    refused.extend(conditional().map_err(seccompiler::Error::Backend)?);
    // Its flags are in memory, where no filter looks. The C library then uses `clone`.
    let unknown = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut programs = Vec::new();
    for (rules, errno) in [(refused, Errno::PERM), (unknown, Errno::NOSYS)] {
        let errno = SeccompAction::Errno(errno.raw_os_error().unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch)
            .map_err(seccompiler::Error::Backend)?;
        programs.push(filter.try_into().map_err(seccompiler::Error::Backend)?);
    }
    #[cfg(target_arch = "x86_64")]
    programs.push(no_x32());
    Ok(programs)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn conditional() -> Result<Rules, seccompiler::BackendError> {
    let rule = |arg, length, op, value| {
        SeccompRule::new(vec![SeccompCondition::new(arg, length, op, value)?])
    };
    let mut namespaces = Vec::new();
    for bit in (0..NAMESPACE_BITS).map(|bit| 1_u64 << bit).filter(|bit| NAMESPACES & bit != 0) {
        namespaces.push(rule(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?);
    }
    let personality = PERSONALITIES
        .into_iter()
        .map(|value| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value))
        .collect::<Result<Vec<_>, _>>()?;
    let dword = SeccompCmpArgLen::Dword;
    Ok(BTreeMap::from([
        (libc::SYS_clone, namespaces),
        (libc::SYS_ioctl, vec![rule(1, dword.clone(), SeccompCmpOp::Eq, TIOCSTI)?]),
        (libc::SYS_socket, vec![rule(0, dword, SeccompCmpOp::Eq, AF_VSOCK)?]),
        (libc::SYS_personality, vec![SeccompRule::new(personality)?]),
    ]))
}

fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(target_arch = "x86_64")]
fn no_x32() -> BpfProgram {
    let refuse = libc::SECCOMP_RET_ERRNO | Errno::NOSYS.raw_os_error().unsigned_abs();
    vec![
        step(LOAD_WORD, 0, 0, NUMBER_AT),
        step(JUMP_IF_NOT_LESS, 0, 1, X32_BIT),
        step(RETURN, 0, 0, refuse),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Holds these calls back for whoever has the listener. At most 255. Calls of another architecture do
/// not get here: the programs above end who makes them.
pub(crate) fn hold(numbers: &[i64]) -> Result<Vec<Instruction>, Errno> {
    let count = u8::try_from(numbers.len()).map_err(|_| Errno::INVAL)?;
    let mut program = vec![step(LOAD_WORD, 0, 0, NUMBER_AT)];
    for (left, number) in (0..count).rev().zip(numbers) {
        let number = u32::try_from(*number).map_err(|_| Errno::INVAL)?;
        // Past the other comparisons, and past the return that lets a call pass.
        program.push(step(JUMP_IF_EQUAL, left + 1, 0, number));
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    let copy =
        |step: sock_filter| Instruction { code: step.code, jt: step.jt, jf: step.jf, k: step.k };
    Ok(program.into_iter().map(copy).collect())
}

#[cfg(test)]
mod tests;
