//! The same tests once more as an ordinary user, when they run as root; and the builder's own death.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use sekisho_sandbox::Isolation;
use tempfile::TempDir;

use crate::world::World;

/// Nobody in particular.
const UID: u32 = 12345;

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn ordinary_user_gets_the_same() {
    if Isolation::choose() == Isolation::SingleId {
        println!("skipped: needs root (the other tests ran as an ordinary user)");
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let helper = dir.path().join("helper");
    copy(env!("CARGO_BIN_EXE_sekisho-builder-helper").as_ref(), &helper);
    let tests = dir.path().join("tests");
    copy(&std::env::current_exe().unwrap(), &tests);
    let tmp = dir.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    chown(&tmp, Some(UID), Some(UID)).unwrap();
    let output = Command::new(&tests)
        .args([
            "run::",
            "cache::what",
            "add::",
            "copy::",
            "failure::hostile",
            "mount::",
            "onbuild::",
            "golden::",
            "--test-threads=2",
        ])
        .env("SEKISHO_TEST_HELPER", &helper)
        .env("TMPDIR", &tmp)
        .current_dir(&tmp)
        .uid(UID)
        .gid(UID)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(" 0 passed"), "{text}");
}

/// Run by [`killed_builder_leaves_what_the_next_one_removes`] in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_is_killed() {
    let Some(marker) = std::env::var_os("SEKISHO_TEST_MARKER") else { return };
    let world = World::with_base().await;
    let marker = Path::new(&marker);
    world.dockerfile(&format!("FROM BASE\nRUN echo go; sleep 600; : {}", marker.display()));
    let mut options = world.options();
    options.cache_dir = marker.join("cache");
    let tell = async {
        while world.log() != ["go"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fs::write(marker.join("go"), "").unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = world.try_build(options) => panic!("nobody killed us: {result:?}"),
        () = tell => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "waits for another process, within a bound")]
async fn killed_builder_leaves_what_the_next_one_removes() {
    let marker = TempDir::new().unwrap();
    let tmp = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["unprivileged::child_that_is_killed", "--exact"])
        .env("SEKISHO_TEST_MARKER", marker.path())
        .env("TMPDIR", tmp.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begin = SystemTime::now();
    let wait = |what: &str, ready: &dyn Fn() -> bool| {
        while !ready() {
            assert!(begin.elapsed().unwrap() < Duration::from_mins(2), "still waiting: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait("the step runs", &|| marker.path().join("go").exists());
    let sessions = || fs::read_dir(marker.path().join("cache/tmp")).unwrap().count();
    assert_eq!(sessions(), 1);
    assert!(processes_of(marker.path()) > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    wait("the step is gone", &|| processes_of(marker.path()) == 0);

    let world = World::new().await;
    world.file("a", "a");
    world.dockerfile("FROM scratch\nCOPY a /");
    let mut options = world.options();
    options.cache_dir = marker.path().join("cache");
    world.try_build(options).await.unwrap();
    assert_eq!(sessions(), 0);
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
