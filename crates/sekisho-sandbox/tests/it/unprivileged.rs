//! The same tests once more as an ordinary user, when they run as root; and the caller's death.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use sekisho_sandbox::{Isolation, SandboxError, Step};
use sekisho_types::Hint as _;
use tempfile::TempDir;

/// Nobody in particular.
const UID: u32 = 12345;

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Some of these tests, to be run by another user, with all they need below a folder.
pub(crate) fn tests_as(uid: u32, dir: &TempDir, of: &[&str]) -> Command {
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (helper, tests) = (dir.path().join("helper"), dir.path().join("tests"));
    copy(env!("CARGO_BIN_EXE_sekisho-sandbox-helper").as_ref(), &helper);
    copy(&std::env::current_exe().unwrap(), &tests);
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    chown(&tmp, Some(uid), Some(uid)).unwrap();
    let mut command = Command::new(&tests);
    command.args(of).arg("--test-threads=2");
    command.env("SEKISHO_TEST_HELPER", &helper).env("TMPDIR", &tmp);
    command.current_dir(&tmp).uid(uid).gid(uid);
    command
}

/// That so many tests were run, and did not fail.
#[track_caller]
fn all_passed(output: &Output, count: usize) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("{count} passed")), "{text}");
}

#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn ordinary_user_gets_the_same() {
    if Isolation::choose() == Isolation::SingleId {
        println!("skipped: needs root (the other tests ran as an ordinary user)");
        return;
    }
    let dir = TempDir::new().unwrap();
    let of = ["sandbox::", "emulation::", "limits::", "zygote::"];
    let output = tests_as(UID, &dir, &of).output().unwrap();
    all_passed(&output, 31);
}

/// Run by [`a_user_with_a_range_of_ids_needs_no_emulation`] where there is one.
#[test]
fn child_with_a_range_of_ids() {
    if std::env::var_os("SEKISHO_TEST_ID_RANGE").is_none() {
        return;
    }
    assert_eq!(Isolation::choose(), Isolation::IdRange);
    let world = crate::sandbox::World::new(Isolation::IdRange);
    let script = "touch a b; chown 1234:2345 a; chown 65534 b; stat -c '%u:%g' a b";
    assert_eq!(crate::sandbox::stdout(&world.spec(script)), "1234:2345\n65534:0\n");
    use std::os::unix::fs::MetadataExt as _;
    // As the kernel says, here where it is root of the namespace.
    let made = fs::metadata(world.upper("a")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1234, 2345));
    drop(world);
}

/// With an `/etc` of its own, in a mount namespace.
#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn a_user_with_a_range_of_ids_needs_no_emulation() {
    let tool = Command::new("newuidmap").output().is_ok();
    if Isolation::choose() != Isolation::Privileged || !tool {
        println!("skipped: needs root, and newuidmap of the package uidmap");
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (helper, tests) = (dir.path().join("helper"), dir.path().join("tests"));
    copy(env!("CARGO_BIN_EXE_sekisho-sandbox-helper").as_ref(), &helper);
    copy(&std::env::current_exe().unwrap(), &tests);
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    chown(&tmp, Some(UID), Some(UID)).unwrap();
    crate::rootfs::etc_with_a_range(&dir.path().join("etc"), UID);
    let script = format!(
        "mount --bind \"$0\"/etc /etc; \
         exec setpriv --reuid {UID} --regid {UID} --clear-groups \"$0\"/helper with-id-range \
         \"$0\"/tests unprivileged::child_with_a_range_of_ids --exact"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
        .arg(dir.path())
        .env("SEKISHO_TEST_ID_RANGE", "1")
        .env("SEKISHO_TEST_HELPER", &helper)
        .env("TMPDIR", &tmp)
        .current_dir(&tmp)
        .output()
        .unwrap();
    all_passed(&output, 1);
}

/// As in a container: its runtime covers parts of `/proc`, and so the kernel gives nobody in it a fresh one.
#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn owners_are_emulated_where_the_kernel_gives_no_fresh_proc() {
    if Isolation::choose() != Isolation::Privileged {
        println!("skipped: needs root");
        return;
    }
    let dir = TempDir::new().unwrap();
    let tests = tests_as(UID, &dir, &["emulation::", "unprivileged::child_with_the_outer_proc"]);
    let script = format!(
        "mount --bind /dev/null /proc/version; \
         exec setpriv --reuid {UID} --regid {UID} --clear-groups \"$0\" \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
    command.arg(tests.get_program()).args(tests.get_args());
    command.envs(tests.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("SEKISHO_TEST_OUTER_PROC", "1").current_dir(tests.get_current_dir().unwrap());
    let output = command.output().unwrap();
    all_passed(&output, 6);
}

/// Run by [`owners_are_emulated_where_the_kernel_gives_no_fresh_proc`]: it is so there.
#[test]
fn child_with_the_outer_proc() {
    if std::env::var_os("SEKISHO_TEST_OUTER_PROC").is_none() {
        return;
    }
    let world = crate::sandbox::World::new(Isolation::SingleId);
    // Processes of their own, each of which asks through its own folder, and a number that is used again.
    let script = "readlink /proc/self >outer; [ $(cat outer) != $$ ]; touch /a; chown 12:34 /a; \
                  for i in 1 2 3; do (cd /; stat -L -c '%u:%g' /dev/stdin </a; exec 3</a; stat -L -c '%u' /dev/fd/3); done";
    let said = crate::sandbox::stdout(&world.spec(script));
    assert_eq!(said, "12:34\n12\n".repeat(3));
}

/// Run by [`switched_off_user_namespaces_are_named`] where there are none.
#[test]
fn child_without_user_namespaces() {
    if std::env::var_os("SEKISHO_TEST_NO_NAMESPACES").is_none() {
        return;
    }
    let world = crate::sandbox::World::new(Isolation::SingleId);
    let error = crate::sandbox::run(&world.spec("true")).0.unwrap_err();
    let SandboxError::Setup { step, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*step, Step::UserNamespace);
    assert_eq!(
        error.hint().unwrap(),
        "user namespaces are switched off: `sysctl -w user.max_user_namespaces=15000`"
    );
}

#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn switched_off_user_namespaces_are_named() {
    // In a user namespace of its own, a process may lower the limit for those inside.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-ec", script])
        .arg(std::env::current_exe().unwrap())
        .args(["unprivileged::child_without_user_namespaces", "--exact"])
        .env("SEKISHO_TEST_NO_NAMESPACES", "1")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(_) => {
            println!("skipped: needs unshare");
            return;
        }
    };
    all_passed(&output, 1);
}

/// Run by [`killed_caller_leaves_nothing`] in a process of its own.
#[test]
fn child_of_killed_caller() {
    let Some(stamp) = std::env::var_os("SEKISHO_TEST_STAMP") else { return };
    let world = crate::sandbox::World::new(Isolation::choose());
    let mut spec = world.spec("(sleep 4242 &) ; echo > /ready/go; sleep 4242");
    spec.args.push(stamp.to_str().unwrap().to_owned());
    spec.timeout = None;
    spec.mounts = vec![sekisho_sandbox::Mount::Bind(sekisho_sandbox::Bind {
        source: stamp.into(),
        target: "/ready".into(),
        read_only: false,
    })];
    let result = crate::sandbox::run(&spec);
    panic!("nobody killed us: {result:?}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "waits for another process, within a bound")]
fn killed_caller_leaves_nothing() {
    let stamp = TempDir::new().unwrap();
    let tmp = TempDir::new().unwrap();
    // So that the processes between the caller and the command are found by their name.
    let helper = stamp.path().join("helper");
    copy(env!("CARGO_BIN_EXE_sekisho-sandbox-helper").as_ref(), &helper);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["unprivileged::child_of_killed_caller", "--exact"])
        .env("SEKISHO_TEST_HELPER", &helper)
        .env("SEKISHO_TEST_STAMP", stamp.path())
        .env("TMPDIR", tmp.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = SystemTime::now();
    let wait = |what: &str, ready: &dyn Fn() -> bool| {
        while !ready() {
            assert!(begin.elapsed().unwrap() < Duration::from_mins(1), "still waiting: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("the command runs", &|| stamp.path().join("go").exists());
    // The zygote, the supervisor, pid 1, the command.
    assert!(processes_of(stamp.path()) >= 4, "{}", processes_of(stamp.path()));
    child.kill().unwrap();
    child.wait().unwrap();
    wait("everything is gone", &|| processes_of(stamp.path()) == 0);
}

/// How many processes have this folder's name among their arguments.
fn processes_of(dir: &Path) -> usize {
    let needle = dir.to_str().unwrap();
    let has = |entry: std::io::Result<fs::DirEntry>| {
        let arguments = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&arguments).contains(needle).then_some(())
    };
    fs::read_dir("/proc").unwrap().filter_map(has).count()
}
