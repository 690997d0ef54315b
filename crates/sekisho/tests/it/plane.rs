//! A plane that stays up: pushes, pulls, several at once.

use std::process::Command;

use crate::support::{World, eventually, example, finish, has};

const TWO_JOBS: &str = "on: push
jobs:
  one:
    runs-on: default
    outputs: { word: '${{ steps.a.outputs.word }}' }
    steps:
      - id: a
        run: echo word=hello >> $GITHUB_OUTPUT
  two:
    needs: one
    runs-on: default
    steps:
      - uses: actions/checkout@v4
      - run: |
          test \"${{ needs.one.outputs.word }}\" = hello
          cat file
";

#[test]
fn a_git_push_starts_a_run_and_its_log_outlives_the_plane() {
    let world = World::new();
    let up = world.up();
    let folder =
        world.project("app", &[(".github/workflows/ci.yml", TWO_JOBS), ("file", "in the file\n")]);
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&folder).args(["-c", "user.name=A", "-c", "user.email=a@b.c"]);
        command.args(arguments).env("HOME", world.folder.path()).env("no_proxy", "127.0.0.1");
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {arguments:?}: {stderr}");
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "one"]);
    git(&["push", "--quiet", &format!("{}/acme/app", up.url), "main"]);
    eventually("the run is over", || {
        world.runs().first().is_some_and(|run| run["status"] == "completed")
    });
    let run = &world.runs()[0];
    assert_eq!((&run["repository"], &run["conclusion"]), (&"acme/app".into(), &"success".into()));
    assert_eq!(up.stop(), 0);
    world.nothing_is_left();
    let log = world.sekisho(&["logs", "1", "--job", "two"]).exits(0).stdout;
    assert!(log.lines().any(|line| line.ends_with(" in the file")), "{log}");
}

#[test]
fn skopeo_pulls_what_was_published_and_cannot_push_around_the_gate() {
    if !has("skopeo") {
        return;
    }
    let world = World::new();
    let up = world.up();
    let run = world.sekisho(&["run", &example("scratch"), "--output", "json"]).exits(0).json();
    let reference = run["images"][0]["reference"].as_str().unwrap();
    let digest = run["images"][0]["digest"].as_str().unwrap();
    assert!(reference.starts_with(up.authority()), "the plane that is up was used: {reference}");
    let skopeo = |arguments: &[&str]| {
        Command::new("skopeo").args(arguments).env("HOME", world.folder.path()).output().unwrap()
    };
    let target = format!("dir:{}", world.folder.path().join("copy").display());
    let source = format!("docker://{reference}");
    let copied = skopeo(&["copy", "--src-tls-verify=false", &source, &target]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let manifest = fs_err::read(world.folder.path().join("copy/manifest.json")).unwrap();
    assert_eq!(sha256(&manifest), digest);

    let there = format!("docker://{}/scratch:mine", up.authority());
    let pushed = skopeo(&["copy", "--dest-tls-verify=false", &target, &there]);
    assert!(!pushed.status.success(), "pushed without an identity");
    assert_eq!(up.stop(), 0);
}

fn sha256(bytes: &[u8]) -> String {
    sekisho_types::Digest::sha256(bytes).to_string()
}

#[test]
fn several_runs_at_once_share_one_plane() {
    let world = World::new();
    let workflow = "on: push
jobs:
  a:
    runs-on: default
    steps: [{ run: 'sleep 0.3; echo done' }]
";
    let names = ["a", "b", "c"];
    let children: Vec<_> = names
        .iter()
        .map(|name| {
            let folder = world.project(name, &[(".github/workflows/ci.yml", workflow)]);
            world.command(&["run", folder.to_str().unwrap()]).spawn().unwrap()
        })
        .collect();
    for child in children {
        finish(child).exits(0);
    }
    let runs = world.runs();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| run["conclusion"] == "success"), "{runs:?}");
    world.nothing_is_left();
}
