//! Where nothing can be mounted: as in a container that may not.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::process::Command;

use sekisho_sandbox::{
    Bind, Isolation, MemoryFile, Mount, Network, SandboxError, SecretBytes, Step, User,
};
use sekisho_types::Hint as _;
use tempfile::TempDir;

use crate::sandbox::{World, launcher, run, stdout};

/// Run by [`a_container_that_may_not_mount_runs_commands_on_copies`] in such a one.
#[test]
fn child_without_mounts() {
    if std::env::var_os("SEKISHO_TEST_NO_MOUNTS").is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    assert_eq!(launcher().choose(folder.path()).unwrap(), Isolation::ChangedRoot);
    what_a_command_does_is_found();
    what_it_may_not();
    what_cannot_be_mounted();
}

fn secret() -> Mount {
    Mount::File(MemoryFile {
        target: "/run/secret".to_owned(),
        content: SecretBytes(b"hush\n".to_vec()),
        mode: 0o400,
        uid: 0,
        gid: 0,
    })
}

fn what_a_command_does_is_found() {
    let world = World::new(Isolation::ChangedRoot);
    let mut spec = world.spec(
        "echo hello > /tmp/new; chown 1234:2345 /tmp/new; rm /etc/old; mkdir /d; ln -s new /tmp/l; \
         echo x > /dev/null; cat /run/secret; (sleep 4243 &); id -u",
    );
    fs::write(world.dir.path().join("root/etc/old"), "old").unwrap();
    spec.mounts = vec![secret()];
    let (result, out, err) = run(&spec);
    let outcome = result.unwrap();
    assert!(outcome.exit.success(), "{out}{err}");
    assert_eq!(out, "hush\n0\n");
    assert!(outcome.remarks[0].starts_with("nothing can be mounted here"), "{:?}", outcome.remarks);
    let new = fs::metadata(world.upper("tmp/new")).unwrap();
    assert_eq!((new.uid(), new.gid(), new.len()), (1234, 2345, 6));
    assert!(fs::symlink_metadata(world.upper("tmp/l")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(world.upper("etc/old")).unwrap().file_type().is_char_device());
    let mut names: Vec<_> =
        fs::read_dir(world.upper("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["d", "etc", "tmp"], "neither the secret nor devices nor names of hosts");
    // The image's own files are as they were, and nothing runs any more.
    assert_eq!(fs::read_to_string(world.dir.path().join("root/etc/old")).unwrap(), "old");
    let left = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        (line == b"sleep\x004243\x00").then_some(())
    });
    assert_eq!(left.count(), 0);
}

fn what_it_may_not() {
    let world = World::new(Isolation::ChangedRoot);
    let out =
        stdout(&world.spec(
            "mknod /d b 8 0 2>&1 || echo no device; ls /proc; cat /proc/1/status 2>&1 || true",
        ));
    assert!(out.contains("no device") && out.contains("No such file"), "{out}");
    // A command that puts a link in the way of what is taken back.
    let outside = TempDir::new().unwrap();
    fs::create_dir(outside.path().join("run")).unwrap();
    fs::write(outside.path().join("run/secret"), "of the host").unwrap();
    let mut spec = world.spec(&format!("rm -r /run; ln -s {}/run /run", outside.path().display()));
    spec.mounts = vec![secret()];
    assert!(run(&spec).0.unwrap().exit.success());
    assert_eq!(fs::read_to_string(outside.path().join("run/secret")).unwrap(), "of the host");
    let mut spec = world.spec("id -u; id -g; rm /etc/x 2>&1 || echo no");
    spec.user = User { uid: 1234, gid: 2345, groups: Vec::new() };
    assert!(stdout(&spec).starts_with("1234\n2345\n"));
}

fn what_cannot_be_mounted() {
    let world = World::new(Isolation::ChangedRoot);
    let mut spec = world.spec("true");
    let (source, target) = (world.dir.path().join("root"), "/x".to_owned());
    spec.mounts = vec![Mount::Bind(Bind { source, target, read_only: true })];
    let error = run(&spec).0.unwrap_err();
    assert!(matches!(error, SandboxError::Setup { step: Step::Mount, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("needs a sandbox that may mount"));
    let mut spec = world.spec("true");
    spec.network = Network::None;
    let error = run(&spec).0.unwrap_err();
    assert!(matches!(error, SandboxError::Setup { step: Step::Network, .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("`--network=default`"));
}

#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn a_container_that_may_not_mount_runs_commands_on_copies() {
    if Isolation::choose() != Isolation::Privileged {
        println!("skipped: needs root");
        return;
    }
    let output = Command::new(env!("CARGO_BIN_EXE_sekisho-sandbox-helper"))
        .arg("without-mounts")
        .arg(std::env::current_exe().unwrap())
        .args(["changed_root::child_without_mounts", "--exact"])
        .env("SEKISHO_TEST_NO_MOUNTS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}
