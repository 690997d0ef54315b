//! The programs, run step by step as the kernel would.

use super::*;

const ARCH_AT: u32 = 4;

/// What a program returns for a call.
fn run(program: &[(u16, u8, u8, u32)], number: i64, args: [u64; 6]) -> u32 {
    let arch = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7_u32 };
    let mut data = Vec::new();
    data.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
    data.extend_from_slice(&arch.to_le_bytes());
    data.extend_from_slice(&[0; 8]);
    args.iter().for_each(|arg| data.extend_from_slice(&arg.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let (code, jt, jf, k) = program[at];
        at += 1;
        let mut jump = |yes: bool| at += usize::from(if yes { jt } else { jf });
        match code {
            LOAD_WORD => {
                let k = k as usize;
                accumulator = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
            }
            JUMP_IF_EQUAL => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x05 => at += k as usize,
            0x54 => accumulator &= k,
            RETURN => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What the kernel does with a call: the strictest answer of all, which is the lowest number here.
fn verdict(number: i64, args: [u64; 6]) -> u32 {
    let answer = |program: &BpfProgram| {
        let steps: Vec<_> =
            program.iter().map(|step| (step.code, step.jt, step.jf, step.k)).collect();
        run(&steps, number, args)
    };
    programs().unwrap().iter().map(answer).min().unwrap()
}

#[track_caller]
fn check(number: i64, first: u64, want: Option<Errno>) {
    let want = match want {
        None => libc::SECCOMP_RET_ALLOW,
        Some(errno) => libc::SECCOMP_RET_ERRNO | errno.raw_os_error().unsigned_abs(),
    };
    assert_eq!(verdict(number, [first, 0, 0, 0, 0, 0]), want, "call {number}, {first:#x}");
}

#[test]
fn what_builds_need_passes_and_what_containers_lack_does_not() {
    for number in [
        libc::SYS_read,
        libc::SYS_openat,
        libc::SYS_execve,
        libc::SYS_clone,
        libc::SYS_wait4,
        libc::SYS_chroot,
        libc::SYS_fchownat,
        libc::SYS_setuid,
        libc::SYS_ptrace,
        libc::SYS_socket,
        libc::SYS_ioctl,
        libc::SYS_personality,
        libc::SYS_mknodat,
        libc::SYS_statx,
    ] {
        check(number, 0, None);
    }
    for number in [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_keyctl,
        libc::SYS_init_module,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_open_by_handle_at,
        libc::SYS_userfaultfd,
        libc::SYS_kexec_load,
    ] {
        check(number, 0, Some(Errno::PERM));
    }
    check(libc::SYS_clone3, 0, Some(Errno::NOSYS));
}

#[test]
fn arguments_are_looked_at() {
    let flag = |flag: i32| u64::from(flag.cast_unsigned());
    check(libc::SYS_clone, flag(libc::CLONE_VM | libc::SIGCHLD), None);
    for bit in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID] {
        check(libc::SYS_clone, flag(bit | libc::SIGCHLD), Some(Errno::PERM));
    }
    check(libc::SYS_socket, 2, None);
    check(libc::SYS_socket, AF_VSOCK, Some(Errno::PERM));
    check(libc::SYS_personality, 0xffff_ffff, None);
    check(libc::SYS_personality, 0x0040_0000, Some(Errno::PERM));
    let typing = verdict(libc::SYS_ioctl, [0, TIOCSTI, 0, 0, 0, 0]);
    assert_eq!(typing, libc::SECCOMP_RET_ERRNO | Errno::PERM.raw_os_error().unsigned_abs());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_other_way_of_calling_is_closed() {
    let want = libc::SECCOMP_RET_ERRNO | Errno::NOSYS.raw_os_error().unsigned_abs();
    assert_eq!(verdict(i64::from(X32_BIT) + libc::SYS_read, [0; 6]), want);
}

#[test]
fn held_calls_are_exactly_those_named() {
    let program = hold(&[10, 20, 30]).unwrap();
    let steps: Vec<_> = program.iter().map(|step| (step.code, step.jt, step.jf, step.k)).collect();
    for number in 0..40 {
        let want = match number {
            10 | 20 | 30 => libc::SECCOMP_RET_USER_NOTIF,
            _ => libc::SECCOMP_RET_ALLOW,
        };
        assert_eq!(run(&steps, number, [0; 6]), want, "{number}");
    }
    assert_eq!(hold(&[1; 256]).err(), Some(Errno::INVAL));
    assert_eq!(ARCH_AT, NUMBER_AT + 4);
}
