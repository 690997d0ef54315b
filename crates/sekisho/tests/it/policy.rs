//! Rules, exceptions and decisions, from the command line.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::{World, example};

#[test]
fn files_are_checked_and_a_bad_exception_keeps_the_plane_shut() {
    let world = World::new();
    let folder = world.project("rules", &[("bad.toml", "\n[[exception]]\nadvisory = 1\n")]);
    let bad = folder.join("bad.toml").display().to_string();
    let said = world.sekisho(&["policy", "check", &bad]).exits(1);
    assert!(said.stdout.starts_with(&format!("{bad}:3:12: ")), "{}", said.stdout);

    fs_err::create_dir_all(world.data().join("gate")).unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    fs_err::set_permissions(world.data(), private).unwrap();
    fs_err::copy(&bad, world.data().join("gate/exceptions.toml")).unwrap();
    world.sekisho(&["up", "--port", "0"]).exits(1).says(&["exceptions.toml:3:12: "]);
}

#[test]
fn a_refusal_is_explained_from_the_record() {
    let world = World::new();
    world.sekisho(&["run", &example("vulnerable")]).exits(10);
    let said = world.sekisho(&["policy", "explain", "1"]).exits(0);
    assert!(said.stdout.starts_with("000000000001  deny  "), "{}", said.stdout);
    assert!(said.stdout.contains("severe-with-fix: "), "{}", said.stdout);
    let json = world.sekisho(&["policy", "explain", "1", "--output", "json"]).exits(0).json();
    assert_eq!(json["reproduced"], true);
    world.sekisho(&["policy", "explain", "99"]).exits(3).says(&["there is no decision `99`"]);

    // A record that somebody changed does not follow from what it was made of.
    let decisions = world.data().join("gate/decisions");
    let path = fs_err::read_dir(decisions).unwrap().next().unwrap().unwrap().path();
    let text = fs_err::read_to_string(&path).unwrap();
    fs_err::remove_file(&path).unwrap();
    fs_err::write(&path, text.replacen("\"decision\":\"deny\"", "\"decision\":\"allow\"", 1))
        .unwrap();
    world.sekisho(&["policy", "explain", "1"]).exits(1).says(&["the record says something else"]);
}
