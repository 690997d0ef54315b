//! The seccomp profile of a runner that builds images in its own container.
//!
//! Container runtimes let no ordinary user make a user namespace, nor mount in it: without that there is no
//! rootless builder. So nodes get a profile that refuses what the runtimes' own refuses, but for what makes
//! namespaces and mounts. Nobody gains a capability over the node by it: who makes a user namespace is root
//! in that alone, and the pod has no capability, no root and no new privileges.
//!
//! Source: <https://docs.docker.com/engine/security/seccomp/>, "Significant syscalls blocked by the default
//! profile"; the format: <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md>.

use serde_json::{Value, json};

/// Where the kubelet looks for it, below its folder `seccomp`: the name that a class has.
pub const SECCOMP_PROFILE: &str = "sekisho/rootless.json";

/// Refused to everybody. Of the kernel's code that only root of the machine can use for something, none can
/// be reached; nor can its keys, on which memory pages lie, the files that another process has open, and
/// io_uring, around which no filter sees. The memory of a user's own processes is not kept from him: a build
/// that is answered for its `chown` needs `process_vm_readv`.
const REFUSED: &[&str] = &[
    "_sysctl",
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "get_kernel_syms",
    "get_mempolicy",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mbind",
    "migrate_pages",
    "modify_ldt",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "pidfd_getfd",
    "process_madvise",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "uselib",
    "userfaultfd",
    "ustat",
    "vhangup",
    "vm86",
    "vm86old",
];

/// Sockets to a hypervisor's host.
const AF_VSOCK: u32 = 40;
/// `EPERM`.
const EPERM: u32 = 1;

/// The profile, as the runtime reads it.
pub fn seccomp_profile() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        // Others (x32) are ended: their numbers would go around the list.
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [
            { "names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM },
            {
                "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM,
                "args": [{ "index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_EQ" }]
            }
        ]
    })
}
