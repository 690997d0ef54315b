//! The process that all sandboxes of a launcher are copies of.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};
use sekisho_sandbox::{Control, Isolation, Launcher, Outcome, SandboxError, Spec};

use crate::sandbox::{World, kinds};

/// A program that nobody else starts.
fn helper(world: &World) -> PathBuf {
    let from = std::env::var_os("SEKISHO_TEST_HELPER")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_sekisho-sandbox-helper").into());
    let path = world.dir.path().join("own-helper");
    fs::copy(from, &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Processes that were started as this program.
fn processes(program: &Path) -> Vec<Pid> {
    let wanted = program.to_str().unwrap();
    let pid = |entry: fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let is = String::from_utf8_lossy(&line).split('\0').next()? == wanted;
        let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
        is.then_some(pid)
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(pid).collect()
}

/// Each run needs empty folders to write to.
fn fresh(spec: &Spec) {
    for name in ["upper", "work"] {
        sekisho_sandbox::remove_tree(&spec.writable.join(name)).unwrap();
        fs::create_dir(spec.writable.join(name)).unwrap();
    }
}

fn run(launcher: &Launcher, spec: &Spec) -> (Result<Outcome, SandboxError>, String) {
    fresh(spec);
    let mut out = Vec::new();
    let result =
        launcher.run(spec, &Control::new().unwrap(), &mut |_, bytes| out.extend_from_slice(bytes));
    (result, String::from_utf8(out).unwrap())
}

#[test]
fn one_process_serves_a_launcher_and_goes_with_it() {
    for kind in kinds() {
        let world = World::new(kind);
        let program = helper(&world);
        let launcher = Launcher::with_program(&program);
        assert!(processes(&program).is_empty());
        let open = fs::File::open("/etc/passwd").unwrap();
        rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
        launcher.prepare(kind);
        let (result, out) = run(&launcher, &world.spec("echo one"));
        assert_eq!((result.unwrap().exit.code(), out.as_str()), (0, "one\n"));
        let [first] = processes(&program)[..] else { panic!("{:?}", processes(&program)) };
        // The next one has no file that was for another, nor one that who started us left open.
        let other = launcher.clone();
        let (result, out) = run(&other, &world.spec("echo $$; ls /proc/self/fd"));
        // The last is the folder that is read.
        assert_eq!((result.unwrap().exit.code(), out.as_str()), (0, "3\n0\n1\n2\n3\n"));
        assert_eq!(processes(&program), [first]);
        drop(launcher);
        assert_eq!(processes(&program), [first]);
        drop(other);
        assert!(processes(&program).is_empty());
    }
}

#[test]
fn one_that_was_killed_is_started_again() {
    let world = World::new(Isolation::choose());
    let program = helper(&world);
    let launcher = Launcher::with_program(&program);
    assert_eq!(run(&launcher, &world.spec("echo one")).1, "one\n");
    let [first] = processes(&program)[..] else { panic!("{:?}", processes(&program)) };
    // With a command under it, which ends too.
    let mut spec = world.spec("echo go; sleep 600");
    spec.timeout = None;
    fresh(&spec);
    let control = Control::new().unwrap();
    let result = launcher.run(&spec, &control, &mut |_, _| {
        rustix::process::kill_process(first, Signal::KILL).unwrap();
    });
    assert!(matches!(result, Err(SandboxError::Vanished)), "{result:?}");
    assert_eq!(run(&launcher, &world.spec("echo two")).1, "two\n");
    let now = processes(&program);
    assert!(!now.is_empty() && !now.contains(&first), "{now:?}, and before {first:?}");
}

#[test]
fn a_program_that_is_gone_runs_from_a_copy_that_nobody_can_write() {
    for kind in kinds() {
        let world = World::new(kind);
        let path = helper(&world);
        let open = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let program = format!("/proc/self/fd/{}", open.as_raw_fd());
        let launcher = Launcher::with_program(program);
        let (result, out) = run(&launcher, &world.spec("echo alive"));
        assert_eq!((result.unwrap().exit.code(), out.as_str()), (0, "alive\n"), "{kind:?}");
    }
}
