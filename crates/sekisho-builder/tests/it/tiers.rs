//! Whoever builds, and however a RUN is walled off there: the image is the same.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use sekisho_builder::{Event, Output};
use sekisho_sandbox::Isolation;
use tempfile::TempDir;

use crate::world::{World, root_with_users};

/// Nobody in particular.
const UID: u32 = 12345;

/// Names what a child is to build, and where it says what came of it.
const FOLDER: &str = "SEKISHO_TEST_TIER";

/// What differs most between the kinds of sandbox: owners, links, removals, modes, another user's files.
const FILE: &str = "FROM base\n\
    COPY --chown=app:7 f /f\n\
    RUN mkdir -p /d/e && touch /d/old /d/e/x && chown 33:34 /d && chown -h 5:6 /d/e/x && ln -s x /d/e/l && \
      chown -h 1234 /d/e/l && ln /d/e/x /d/e/y && chmod 4750 /d/e/x\n\
    RUN rm -r /d/old && mkdir /d/new && chmod 1777 /d/new && stat -c '%n %u:%g %a' /d /d/e/x /d/e/y /f\n\
    USER app\n\
    RUN id -u && id -g && echo mine > /d/new/mine && stat -c '%u:%g' /d/new/mine\n";

/// What those commands say, and then which sandbox it was.
const SAID: [&str; 7] = [
    "/d 33:34 755",
    "/d/e/x 5:6 4750",
    "/d/e/y 5:6 4750",
    "/f 1234:7 644",
    "1234",
    "2345",
    "1234:2345",
];

/// Run by [`every_sandbox_makes_the_same_image`] in several places.
#[tokio::test(flavor = "multi_thread")]
async fn child_in_a_sandbox() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let world = World::new().await;
    world.file("f", "x");
    let mut options = world.options();
    options.dockerfile_text = Some(FILE.to_owned());
    let layout = Path::new(&folder).join("base");
    options.add_context("base", &format!("oci-layout://{}", layout.display())).unwrap();
    let built = world.try_build(options).await.unwrap();
    assert_eq!(world.log(), SAID);
    let events = world.events.0.lock().unwrap();
    let notes = events.iter().filter_map(|event| match event {
        Event::Note { text } => text.strip_prefix("RUN works "),
        _ => None,
    });
    let [note]: [&str; 1] = notes.collect::<Vec<_>>().try_into().unwrap();
    let digest = &built.manifest_digest;
    fs::write(std::env::temp_dir().join("came-to"), format!("{digest} {note}")).unwrap();
    world.assert_clean();
}

/// An image of a few programs, as a layout that anybody may read.
async fn base(folder: &Path) {
    let world = World::new().await;
    let root = world.dir.path().join("rootfs");
    root_with_users(&root, "app:x:1234:2345::/:/bin/sh");
    let mut options = world.options();
    options.context_dir = root;
    options.dockerfile_text = Some("FROM scratch\nCOPY . /\n".to_owned());
    options.outputs = vec![Output::OciDirectory(folder.join("base"))];
    world.try_build(options).await.unwrap();
    let all = Command::new("chmod").args(["-R", "a+rX"]).arg(folder).status().unwrap();
    assert!(all.success());
}

/// What a child needs, where anybody may read it.
async fn furnish(dir: &Path) {
    let open = fs::Permissions::from_mode(0o755);
    base(dir).await;
    for (name, program) in [
        ("helper", env!("CARGO_BIN_EXE_sekisho-builder-helper").into()),
        ("tests", std::env::current_exe().unwrap()),
    ] {
        fs::copy(program, dir.join(name)).unwrap();
        fs::set_permissions(dir.join(name), open.clone()).unwrap();
    }
    crate::rootfs::etc_with_a_range(&dir.join("etc"), UID);
    fs::set_permissions(dir, open).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
async fn every_sandbox_makes_the_same_image() {
    if Isolation::choose() != Isolation::Privileged {
        println!("skipped: needs root");
        return;
    }
    let dir = TempDir::new().unwrap();
    furnish(dir.path()).await;
    let as_ann = format!("exec setpriv --reuid {UID} --regid {UID} --clear-groups \"$@\"");
    let ranged = format!(
        "mount --bind \"$0\"/etc /etc; \
         exec setpriv --reuid {UID} --regid {UID} --clear-groups \"$0\"/helper with-id-range \"$@\""
    );
    let placed = |isolation: Isolation| match isolation {
        Isolation::Privileged => "exec \"$@\"",
        Isolation::SingleId => as_ann.as_str(),
        Isolation::IdRange => ranged.as_str(),
        Isolation::ChangedRoot => "exec \"$0\"/helper without-mounts \"$@\"",
    };
    let mut came_to = Vec::new();
    for isolation in
        [Isolation::Privileged, Isolation::SingleId, Isolation::IdRange, Isolation::ChangedRoot]
    {
        if isolation == Isolation::IdRange && Command::new("newuidmap").output().is_err() {
            println!("skipped in part: needs newuidmap of the package uidmap");
            continue;
        }
        let tmp = dir.path().join(isolation.name());
        fs::create_dir(&tmp).unwrap();
        if matches!(isolation, Isolation::SingleId | Isolation::IdRange) {
            chown(&tmp, Some(UID), Some(UID)).unwrap();
        }
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", placed(isolation)])
            .arg(dir.path())
            .arg(dir.path().join("tests"))
            .args(["tiers::child_in_a_sandbox", "--exact"])
            .env(FOLDER, dir.path())
            .env("SEKISHO_TEST_HELPER", dir.path().join("helper"))
            .env("TMPDIR", &tmp)
            .current_dir(&tmp)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{isolation}: {text}{errors}"
        );
        let said = fs::read_to_string(tmp.join("came-to")).unwrap();
        let (digest, note) = said.split_once(' ').unwrap();
        // Once in a build, whatever else it runs.
        assert_eq!(note, isolation.to_string());
        came_to.push((isolation, digest.to_owned()));
    }
    let (_, first) = &came_to[0];
    assert!(came_to.iter().all(|(_, digest)| digest == first), "{came_to:?}");
}
