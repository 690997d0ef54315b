//! `sekisho build` as a user calls it.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Said, World};

const FILE: &str = "# BASE what to start from\nARG BASE=scratch\nFROM $BASE AS Build\nCOPY a /a\n\
                    RUN --mount=type=secret,id=npm true\n# app what ships\nFROM scratch AS app\n\
                    COPY a b /\nENV API_TOKEN=x\nCMD echo hi\n";

fn stdin(world: &World, arguments: &[&str], input: &[u8]) -> Said {
    let temporary = world.folder.path().join("temporary");
    fs_err::create_dir_all(&temporary).unwrap();
    let mut command = world.command(arguments);
    let mut child = command.env("TMPDIR", &temporary).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let said = Said::of(child.wait_with_output().unwrap());
    assert_eq!(fs_err::read_dir(&temporary).unwrap().count(), 0, "what was read is gone");
    said
}

#[test]
fn checks_say_what_is_dubious_and_build_nothing() {
    let world = World::new();
    let folder = world.project("app", &[("Dockerfile", FILE), ("a", "a"), ("b", "b")]);
    let folder = folder.to_str().unwrap();
    let said = world.sekisho(&["build", "--check", folder]).exits(1);
    for line in [
        "warning: Dockerfile:3:1: StageNameCasing: Stage name 'Build' should be lowercase",
        "  3 | FROM $BASE AS Build\n    | ^",
        "Dockerfile:9:1: SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data",
        "Dockerfile:10:1: JSONArgsRecommended",
        "see https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
    ] {
        assert!(said.stdout.contains(line), "no `{line}` in:\n{}", said.stdout);
    }
    said.says(&["findings"]);
    assert!(!world.data().exists(), "nothing is made");
    let json = world.sekisho(&["build", "--check", "--output", "json", folder]).exits(1).json();
    assert_eq!(json["schemaVersion"], 1);
    assert_eq!(json["warnings"][0]["ruleName"], "StageNameCasing");
    assert_eq!(json["warnings"][0]["location"]["line"], 3);
    let good = stdin(&world, &["build", "--check", "-f", "-", folder], b"FROM scratch\nCOPY a /\n");
    good.exits(0).says(&["no findings"]);

    let targets = world.sekisho(&["build", "--call", "targets", folder]).exits(0).stdout;
    assert_eq!(
        targets.lines().map(str::trim_end).collect::<Vec<_>>(),
        [
            "TARGET         BASE     DESCRIPTION",
            "build          scratch",
            "app (default)  scratch  what ships",
        ]
    );
    // What is known beside the file counts too.
    let text = "ARG ON=$TARGETARCH\nFROM scratch AS a\nARG INNER=1\nFROM base\n";
    let elsewhere = world.project("elsewhere", &[("Dockerfile", text)]);
    let elsewhere = elsewhere.to_str().unwrap();
    let known = ["--platform", "linux/arm64", "--build-context", "base=target:a"];
    let known = [&["build", "--call", "outline", "--output", "json"], &known[..], &[elsewhere]];
    let known = world.sekisho(&known.concat()).exits(0).json();
    assert_eq!(known["arguments"][0]["value"], "arm64");
    assert_eq!(known["arguments"][1]["name"], "INNER");
    let outline = ["build", "--call", "outline", "--target", "build", "--output", "json", folder];
    let outline = world.sekisho(&outline).exits(0).json();
    assert_eq!(outline["arguments"][0]["name"], "BASE");
    assert_eq!(outline["arguments"][0]["description"], "what to start from");
    assert_eq!(outline["secrets"][0]["id"], "npm");
}

#[test]
fn builds_go_where_they_are_sent() {
    let world = World::new();
    let folder = world.project("app", &[("Dockerfile", FILE), ("a", "a"), ("b", "b")]);
    let out = world.folder.path().join("out");
    let (folder, out_text) = (folder.to_str().unwrap(), out.to_str().unwrap());
    let said = world.sekisho(&["build", "-o", out_text, folder]).exits(0);
    said.says(&["findings about the Dockerfile", "steps were cached", "linux/", "COPY a b /"]);
    assert_eq!(fs_err::read_to_string(out.join("b")).unwrap(), "b");
    let lines = world.sekisho(&["build", "--progress", "json", folder]).exits(0).stderr;
    let events: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].to_string())
        .collect();
    assert!(events.contains(&"\"step_finished\"".to_owned()), "{events:?}");
    // Live, as on a terminal: what is done stays, what runs is drawn over.
    let live = world.sekisho(&["build", "--progress", "tty", folder]).exits(0).stderr;
    for part in ["✓ #", "COPY a b /  CACHED", "steps, ", "A\r\x1b[J"] {
        assert!(live.contains(part), "no `{part}` in {live:?}");
    }
    let quiet = world.sekisho(&["build", "--progress", "quiet", folder]).exits(0);
    assert_eq!((quiet.stderr.as_str(), &quiet.stdout[..7]), ("", "sha256:"));

    // A Dockerfile on stdin, with nothing around it; and an archive.
    let alone = stdin(&world, &["build", "-"], b"FROM scratch\nLABEL a=b\n");
    alone.exits(0);
    let tar = std::process::Command::new("tar").args(["c", "-C", folder, "."]).output().unwrap();
    let from_tar = stdin(&world, &["build", "--target", "app", "-"], &tar.stdout).exits(0);
    assert_eq!(from_tar.stdout, quiet.stdout, "the same image");
    for (arguments, words) in [
        (vec!["build", "-o", "type=oci", folder], "`type=oci` needs `dest=PATH`"),
        (vec!["build", "--platform", "x", folder], "reading `--platform`"),
        (vec!["build", "--push", folder], "--tag"),
        (vec!["build", "--build-context", "x=https://h/a.git?no=1", folder], "`no` is not known"),
    ] {
        let said = world.sekisho(&arguments);
        assert!([Some(1), Some(2)].contains(&said.code), "{said:?}");
        said.says(&[words]);
    }
}

#[test]
fn files_are_found_as_docker_finds_them() {
    let world = World::new();
    let text = "ARG A=default\nFROM scratch AS Shown\nLABEL a=$A\n";
    let app = world.project("app", &[("Dockerfile", text), ("own.dockerfile", text)]);
    let above = app.parent().unwrap();
    fs_err::write(above.join("above.dockerfile"), text).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = world.command(&[&["build", "--output", "json"], arguments].concat());
        Said::of(command.current_dir(above).output().unwrap())
    };
    let above_file = above.canonicalize().unwrap().join("above.dockerfile");
    for (file, shown) in [
        (None, "Dockerfile"),
        (Some("app/Dockerfile"), "Dockerfile"),
        (Some("above.dockerfile"), above_file.to_str().unwrap()),
        (Some("own.dockerfile"), "own.dockerfile"),
    ] {
        let named = file.map(|file| vec!["--file", file]).unwrap_or_default();
        let said = run(&[&["--check"], &named[..], &["app"]].concat()).exits(1).json();
        assert_eq!(said["warnings"][0]["location"]["file"], shown, "{file:?}");
    }
    run(&["--build-arg", "A", "--label", "empty", "--label", "full=x", "app"]).exits(0);
    run(&["--label", "=x", "app"]).exits(2);
    run(&["--allow", "everything", "app"]).exits(2).says(&["security.insecure or network.host"]);
}

#[test]
fn the_cache_is_pruned_to_what_may_stay() {
    let world = World::new();
    let app = world.project("app", &[("Dockerfile", "FROM scratch\nCOPY a /a\n"), ("a", "a")]);
    world.sekisho(&["build", app.to_str().unwrap()]).exits(0);
    let prune = |keep: &str| {
        world.sekisho(&["cache", "prune", "--keep", keep, "--output", "json"]).exits(0).json()
    };
    let all = prune("1T");
    assert_eq!((&all["schemaVersion"], &all["removed"]), (&1.into(), &0.into()));
    let none = prune("0");
    assert!(none["removed"].as_u64().unwrap() >= 3, "layer, config, manifest: {none}");
    assert!(none["kept_bytes"].as_u64() < all["kept_bytes"].as_u64());
    world.sekisho(&["build", app.to_str().unwrap()]).exits(0).says(&["COPY a /a"]);
    world.sekisho(&["cache", "prune"]).exits(2);
    world.sekisho(&["cache", "prune", "--keep", "much"]).exits(2).says(&["such as 20G"]);
}
