//! The README's examples.

use crate::support::{World, example};

#[test]
fn hello_ships_and_a_second_run_builds_nothing() {
    let world = World::new();
    let first = world.sekisho(&["run", &example("hello"), "--output", "json"]).exits(0).json();
    assert_eq!(first["schemaVersion"], 1);
    assert_eq!(first["runs"][0]["repository"], "local/hello");
    assert_eq!(first["runs"][0]["conclusion"], "success");
    assert_eq!(first["decisions"][0]["verdict"]["decision"], "warn", "old advisories: {first}");
    let image = &first["images"][0];
    let digest = image["digest"].as_str().unwrap();
    assert!(digest.starts_with("sha256:"), "{first}");
    let reference = image["reference"].as_str().unwrap();
    assert!(reference.starts_with("127.0.0.1:") && reference.contains("/hello:"), "{reference}");
    world.nothing_is_left();

    let second = world.sekisho(&["run", &example("hello")]).exits(0);
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
