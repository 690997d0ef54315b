//! The README's examples.

use crate::support::{Said, World, example, skipped};

#[test]
fn scratch_ships_and_a_second_run_builds_nothing() {
    let world = World::new();
    let first = world.sekisho(&["run", &example("scratch"), "--output", "json"]).exits(0).json();
    assert_eq!(first["schemaVersion"], 1);
    assert_eq!(first["runs"][0]["repository"], "local/scratch");
    assert_eq!(first["runs"][0]["conclusion"], "success");
    assert_eq!(first["decisions"][0]["verdict"]["decision"], "warn", "old advisories: {first}");
    let image = &first["images"][0];
    let digest = image["digest"].as_str().unwrap();
    assert!(digest.starts_with("sha256:"), "{first}");
    let reference = image["reference"].as_str().unwrap();
    assert!(reference.starts_with("127.0.0.1:") && reference.contains("/scratch:"), "{reference}");
    world.nothing_is_left();

    let second = world.sekisho(&["run", &example("scratch")]).exits(0);
    second.says(&["`image / build` queued", "registered, took", "Check out", "cached", digest]);
    second.says(&["skopeo copy --src-tls-verify=false docker://", "sekisho logs 2"]);
    assert!(second.stdout.contains(digest), "the answer is the image: {}", second.stdout);

    let runs = world.runs();
    let ids: Vec<_> = runs.iter().map(|run| (run["id"].as_u64(), &run["sha"])).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!((ids[0].0, ids[1].0), (Some(2), Some(1)), "newest first");
    assert_eq!(ids[0].1, ids[1].1, "one commit");

    let log = world.sekisho(&["logs", "2"]).exits(0).stdout;
    for line in ["##[group]Run tag=$(printf", "push", digest] {
        assert!(log.contains(line), "no `{line}` in:\n{log}");
    }
    let tail = world.sekisho(&["logs", "2", "--tail", "1"]).exits(0).stdout;
    assert_eq!(tail.lines().collect::<Vec<_>>(), [log.lines().last().unwrap()]);
}

/// Of a mirror that `SEKISHO_TEST_DEBIAN_MIRROR` names: tests go nowhere by themselves.
#[test]
fn net_hello_has_a_distribution_and_real_findings() {
    let Some(mirror) = std::env::var_os("SEKISHO_TEST_DEBIAN_MIRROR") else {
        return skipped("SEKISHO_TEST_DEBIAN_MIRROR");
    };
    let world = World::new();
    let run = || {
        let mut command = world.command(&["run", &example("hello"), "--output", "json"]);
        Said::of(command.env("SEKISHO_DEBIAN_MIRROR", &mirror).output().unwrap()).exits(0)
    };
    let first = run();
    first.says(&["sekisho.local/debian:bookworm", "set up 15 of", "Setting up python3-minimal"]);
    let first = first.json();
    let verdict = &first["decisions"][0]["verdict"];
    assert_eq!(verdict["decision"], "warn", "{first}");
    let said = verdict.to_string();
    for word in ["CVE-2016-2781", "coreutils", "CVE-2011-4116", "perl-base", "CVE-2022-3219"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    assert!(first["decisions"][0]["packages"].as_u64().unwrap() > 80, "{first}");
    let again = run();
    assert_eq!(again.json()["images"][0]["digest"], first["images"][0]["digest"]);
    world.nothing_is_left();
}

/// On a machine whose apt knows nothing, as in a mount namespace without its folder.
#[test]
fn hello_without_a_mirror_says_what_to_do() {
    let world = World::new();
    let line = "mount -t tmpfs none /etc/apt";
    let Some(said) = world.apart(line, &["run", &example("hello")]) else { return };
    said.exits(1).says(&[
        "no archive of Debian `bookworm` is known on this machine",
        "hint: name a mirror of Debian with `--mirror URL` (or SEKISHO_DEBIAN_MIRROR)",
        "as `examples/scratch` does",
    ]);
    world.nothing_is_left();
}

#[test]
fn vulnerable_is_refused_with_the_reason_and_nothing_is_published() {
    let world = World::new();
    let said = world.sekisho(&["run", &example("vulnerable")]).exits(10);
    said.says(&[
        "severe-with-fix",
        "GHSA-xvch-5gv4-984h",
        "CVE-2021-44906",
        "minimist 1.2.5",
        "fixed in 1.2.6",
        "update the package",
    ]);
    assert_eq!(said.stdout, "", "there is no image to name");
    let upstream = world.data().join("upstream");
    let mut folders = vec![upstream];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                panic!("{} reached the upstream store", entry.path().display());
            }
        }
    }
    let json = world.sekisho(&["run", &example("vulnerable"), "--output", "json"]).exits(10).json();
    assert_eq!(json["decisions"][0]["verdict"]["decision"], "deny");
    assert_eq!(json["images"].as_array().unwrap().len(), 0);
}
