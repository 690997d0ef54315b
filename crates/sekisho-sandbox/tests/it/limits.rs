//! What a command may not do, and how much of what it may.

use sekisho_sandbox::{Exit, Isolation, SandboxError, User};

use crate::sandbox::{World, kinds, run, stdout};

#[test]
fn system_calls_of_administrators_are_refused() {
    for kind in kinds() {
        let world = World::new(kind);
        let out = stdout(&world.spec(
            "(unshare -U true 2>&1 || true); (unshare -n true 2>&1 || true); \
             (mount -t tmpfs none /tmp 2>&1 || true); cat /proc/self/status",
        ));
        assert_eq!(out.matches("unshare failed: Operation not permitted").count(), 2, "{out}");
        assert!(out.contains("permission denied") || out.contains("must be superuser"), "{out}");
        let line =
            |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(line("Seccomp:"), "2", "{kind:?}");
        let filters: u32 = line("Seccomp_filters:").parse().unwrap();
        assert!(filters >= 3, "{filters}");
    }
}

#[test]
fn a_fork_bomb_comes_to_an_end() {
    for kind in kinds() {
        let world = World::new(kind);
        // Each waits for the next; the one that cannot be started ends them all.
        let mut spec = world.spec("f() { f & wait; }; f");
        spec.max_processes = 310;
        let (result, _, err) = run(&spec);
        assert!(
            err.contains("Cannot fork") || err.contains("Resource"),
            "{kind:?}: {result:?} {err}"
        );
        assert!(matches!(result.unwrap().exit, Exit::Code(_)));
    }
}

#[test]
fn a_process_gets_no_more_memory_than_the_limit() {
    for kind in kinds() {
        let world = World::new(kind);
        let take = |megabytes: u32| {
            let mut spec =
                world.spec(&format!("dd if=/dev/zero of=/dev/null bs={megabytes}M count=1"));
            spec.max_memory_bytes = Some(64 << 20);
            run(&spec)
        };
        let (small, _, err) = take(16);
        assert!(small.unwrap().exit.success(), "{kind:?}: {err}");
        let (large, _, err) = take(128);
        assert_eq!(large.unwrap().exit, Exit::Code(1), "{kind:?}");
        assert!(err.contains("memory exhausted"), "{kind:?}: {err}");
        // The limit is hard.
        let mut spec = world.spec("ulimit -d; ulimit -d unlimited 2>/dev/null || echo no");
        spec.max_memory_bytes = Some(64 << 20);
        spec.user = User { uid: 1234, gid: 1234, groups: Vec::new() };
        assert_eq!(stdout(&spec), "65536\nno\n", "{kind:?}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a skipped part says so")]
fn all_processes_together_get_no_more_memory_than_the_limit() {
    for kind in kinds() {
        let world = World::new(kind);
        // 60 MiB stay in memory as a file; one process of 40 MiB is one too many then.
        let take = |first: u32| {
            let mut spec = world.spec(&format!(
                "dd if=/dev/zero of=/dev/shm/f bs=1M count={first} 2>/dev/null; \
                 dd if=/dev/zero of=/dev/null bs=40M count=1"
            ));
            spec.max_memory_bytes = Some(80 << 20);
            run(&spec).0.unwrap()
        };
        let little = take(1);
        assert!(little.exit.success(), "{kind:?}: {little:?}");
        if little.remarks.iter().any(|remark| remark.contains("no control group")) {
            eprintln!("skipped a part: needs leave to make control groups");
            continue;
        }
        let much = take(60);
        assert!(!much.exit.success(), "{kind:?}: {much:?}");
        let why = "the kernel ended a process of the command: together they had more than 80 MiB";
        assert!(much.remarks.iter().any(|remark| remark == why), "{much:?}");
    }
}

#[test]
fn a_disk_that_gets_full_ends_the_command() {
    let world = World::new(Isolation::choose());
    let mut spec = world.spec("dd if=/dev/zero of=/big bs=4096 count=1; sleep 600");
    spec.min_free_bytes = u64::MAX;
    let error = run(&spec).0.unwrap_err();
    let SandboxError::DiskFull { path, free_bytes } = &error else { panic!("{error:?}") };
    assert_eq!(*path, spec.writable);
    assert!(*free_bytes > 0);
}

#[test]
fn one_users_limits_hold_for_root_and_for_others() {
    for kind in kinds() {
        let world = World::new(kind);
        let mut spec = world.spec("ulimit -c; cat /proc/self/oom_score_adj");
        spec.user = User { uid: 1234, gid: 1234, groups: Vec::new() };
        assert_eq!(stdout(&spec), "0\n500\n");
        // Never above the caller's own.
        let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        let theirs = stdout(&world.spec("ulimit -H -n"));
        let theirs = theirs.trim().parse().unwrap_or(u64::MAX);
        assert!(theirs <= ours.unwrap_or(u64::MAX), "{kind:?}: {theirs}, and {ours:?} outside");
    }
}

#[test]
fn what_a_command_used_is_told() {
    const BLOCK: u64 = 50 << 20;
    for kind in kinds() {
        let world = World::new(kind);
        let spec = world.spec("sh -c 'dd if=/dev/zero of=/dev/null bs=50M count=1' 2>/dev/null");
        let used = run(&spec).0.unwrap().used;
        assert!((BLOCK..2 * BLOCK).contains(&used.peak_rss_bytes), "{kind:?}: {used:?}");
        let small = run(&world.spec("true")).0.unwrap().used;
        assert!((1..BLOCK).contains(&small.peak_rss_bytes), "{kind:?}: {small:?}");
    }
}
