//! The seccomp profile of a runner's pod: an ordinary user builds under it, and not under the runtimes' own.

use std::collections::BTreeMap;
use std::process::Output;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use sekisho_sandbox::Isolation;
use tempfile::TempDir;

use crate::unprivileged::tests_as;

/// The user of a runner's pod.
const UID: u32 = 1001;

/// Refused, and not a call of each machine that runs this: of another one, or of kernels that are gone.
const ELSEWHERE: &[&str] = &[
    "_sysctl",
    "clock_adjtime64",
    "clock_settime64",
    "create_module",
    "get_kernel_syms",
    "ioperm",
    "iopl",
    "modify_ldt",
    "query_module",
    "stime",
    "sysfs",
    "uselib",
    "ustat",
    "vm86",
    "vm86old",
];

macro_rules! numbers {
    ($($name:ident)*) => { [$((stringify!($name), libc::$name)),*] };
}

/// What the profile refuses, as this machine counts calls.
fn refused() -> BTreeMap<i64, Vec<SeccompRule>> {
    let known = numbers![
        SYS_acct SYS_add_key SYS_bpf SYS_clock_adjtime SYS_clock_settime SYS_delete_module
        SYS_fanotify_init SYS_finit_module SYS_get_mempolicy SYS_init_module SYS_io_uring_enter
        SYS_io_uring_register SYS_io_uring_setup SYS_kcmp SYS_kexec_file_load SYS_kexec_load SYS_keyctl
        SYS_lookup_dcookie SYS_mbind SYS_migrate_pages SYS_move_pages SYS_nfsservctl
        SYS_open_by_handle_at SYS_perf_event_open SYS_pidfd_getfd SYS_process_madvise SYS_quotactl SYS_quotactl_fd SYS_reboot
        SYS_request_key SYS_set_mempolicy SYS_set_mempolicy_home_node SYS_settimeofday SYS_swapoff
        SYS_swapon SYS_syslog SYS_userfaultfd SYS_vhangup
    ];
    let profile = sekisho_install::seccomp_profile();
    let names = profile["syscalls"][0]["names"].as_array().unwrap();
    let names: Vec<&str> = names.iter().map(|name| name.as_str().unwrap()).collect();
    for (name, _) in known {
        assert!(names.contains(&name.trim_start_matches("SYS_")), "{name} is not refused");
    }
    // What is not tried here is named, so that nothing which a build needs is refused unseen.
    let tried = known.map(|(name, _)| name.trim_start_matches("SYS_"));
    let rest: Vec<&str> = names.iter().copied().filter(|name| !tried.contains(name)).collect();
    assert_eq!(rest, ELSEWHERE);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        known.iter().map(|(_, number)| (*number, Vec::new())).collect();
    let vsock = &profile["syscalls"][1]["args"][0];
    let value = vsock["value"].as_u64().unwrap();
    let length = SeccompCmpArgLen::Dword;
    let condition = SeccompCondition::new(0, length, SeccompCmpOp::Eq, value).unwrap();
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![condition]).unwrap()]);
    rules
}

fn program(rules: BTreeMap<i64, Vec<SeccompRule>>) -> BpfProgram {
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap().try_into().unwrap()
}

/// The tests of the sandbox, as the user of a pod: without new privileges, and behind the filter.
fn behind(program: BpfProgram) -> Output {
    let dir = TempDir::new().unwrap();
    let mut tests = tests_as(UID, &dir, &["sandbox::", "emulation::"]);
    // A filter is for a thread, and for what it starts.
    let run = move || {
        seccompiler::apply_filter(&program).unwrap();
        tests.output().unwrap()
    };
    std::thread::spawn(run).join().unwrap()
}

#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn a_user_of_a_pod_builds_with_the_profile_of_the_nodes_and_not_with_the_runtimes() {
    if Isolation::choose() != Isolation::Privileged {
        println!("skipped: needs root");
        return;
    }
    let output = behind(program(refused()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("test result: ok."), "{text}");
    // What the runtimes refuse beside that to who has no CAP_SYS_ADMIN.
    let mut theirs = refused();
    for number in [libc::SYS_unshare, libc::SYS_mount, libc::SYS_setns, libc::SYS_pivot_root] {
        theirs.insert(number, Vec::new());
    }
    let bits = [libc::CLONE_NEWUSER, libc::CLONE_NEWNS].map(|bit| {
        let bit = u64::from(bit.unsigned_abs());
        let operator = SeccompCmpOp::MaskedEq(bit);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, bit).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    });
    theirs.insert(libc::SYS_clone, bits.into());
    let output = behind(program(theirs));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("test result: FAILED."), "{text}");
}
