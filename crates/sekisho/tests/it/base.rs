//! `sekisho base`, with the packages of a mirror that `SEKISHO_TEST_DEBIAN_MIRROR` names: tests go nowhere by
//! themselves.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::Command;

use crate::support::{Said, World, skipped};

/// Nobody in particular.
const UID: u32 = 12345;

/// What makes a base, unless no mirror is named.
fn making(cache: &str) -> Option<Vec<String>> {
    let Some(mirror) = std::env::var_os("SEKISHO_TEST_DEBIAN_MIRROR") else {
        skipped("SEKISHO_TEST_DEBIAN_MIRROR");
        return None;
    };
    let mirror = mirror.to_str().unwrap();
    let words = ["--cache-dir", cache, "--output", "json", "--mirror", mirror, "--allow-expired"];
    Some(words.map(str::to_owned).into())
}

fn verb(world: &World, verb: &str, options: &[String]) -> Said {
    let options = options.iter().map(String::as_str);
    let arguments: Vec<&str> = ["base", verb].into_iter().chain(options).collect();
    world.sekisho(&arguments)
}

/// Jobs would see it.
#[test]
fn a_mirror_with_a_password_reaches_no_runner() {
    let world = World::new();
    let said =
        world.sekisho(&["up", "--port", "0", "--mirror", "http://ann:hush@m.example/debian"]);
    let said = said.exits(1);
    said.says(&["the mirror on `m.example` holds a name or a password", "hint: every RUN"]);
    assert!(!said.stderr.contains("hush") && !said.stdout.contains("hush"), "{}", said.stderr);
    let mut command = world.command(&["up", "--help"]);
    let command = command.env("SEKISHO_DEBIAN_MIRROR", "http://ann:hush@m.example/debian");
    let said = Said::of(command.output().unwrap()).exits(0);
    assert!(!said.stdout.contains("hush"), "{}", said.stdout);
}

/// As a user with ids in `/etc/subuid`, whose program moves into a namespace of them.
#[test]
fn net_bases_are_made_listed_refreshed_and_the_same_in_a_range_of_ids() {
    let world = World::new();
    let cache = world.folder.path().join("cache");
    let Some(options) = making(cache.to_str().unwrap()) else { return };
    verb(&world, "list", &options[..4]).exits(3);
    let made = verb(&world, "build", &options).exits(0);
    made.says(&["making sekisho.local/debian:bookworm", "fetching ", "set up 15 of ", "a layer"]);
    let made = made.json();
    assert!(made["packages"].as_array().unwrap().len() > 60, "{made}");
    let listed = verb(&world, "list", &options[..4]).exits(0).json();
    assert_eq!(listed["bases"][0]["manifest_digest"], made["manifest_digest"]);
    let again = verb(&world, "refresh", &options).exits(0);
    again.says(&["sekisho.local/debian:bookworm is up to date"]);
    assert_eq!(again.json(), made);

    let is_root = rustix::process::geteuid().is_root();
    if !is_root || Command::new("newuidmap").output().is_err() {
        return skipped("root, and newuidmap of the package uidmap");
    }
    let (folder, own) = (world.folder.path(), world.folder.path().join("of-the-user"));
    let open = std::fs::Permissions::from_mode(0o755);
    fs_err::set_permissions(folder, open.clone()).unwrap();
    fs_err::create_dir(&own).unwrap();
    chown(&own, Some(UID), Some(UID)).unwrap();
    let program = folder.join("sekisho");
    fs_err::copy(env!("CARGO_BIN_EXE_sekisho"), &program).unwrap();
    fs_err::set_permissions(&program, open).unwrap();
    let users = format!("root:x:0:0::/root:/bin/sh\nann:x:{UID}:{UID}::/:/bin/sh\n");
    let range = "ann:400000:65536\n";
    for (name, text) in [("passwd", users.as_str()), ("subuid", range), ("subgid", range)] {
        fs_err::write(folder.join(name), text).unwrap();
    }
    let script = format!(
        "for file in passwd subuid subgid; do mount --bind \"$0/$file\" \"/etc/$file\"; done; \
         exec setpriv --reuid {UID} --regid {UID} --clear-groups \"$0/sekisho\" base build \"$@\""
    );
    let cache = own.join("cache");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", &script])
        .arg(folder)
        .args(making(cache.to_str().unwrap()).unwrap())
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", &own)
        .env("SEKISHO_DATA_DIR", own.join("data"))
        .output()
        .unwrap();
    let ranged = Said::of(output).exits(0).json();
    assert_eq!(ranged["manifest_digest"], made["manifest_digest"]);
    // Where it lies says what made it.
    assert!(cache.join("trees-id-range").read_dir().unwrap().count() > 0);
}
