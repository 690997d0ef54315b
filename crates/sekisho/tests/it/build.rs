//! `sekisho build` as a user calls it.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use crate::support::{Said, World, eventually, finish, signal};

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

/// Ctrl-C while a step waits for a server that says nothing, and while stdin does.
#[test]
fn an_interrupted_build_says_where_it_was_and_leaves_nothing() {
    let world = World::new();
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("http://{}/f", server.local_addr().unwrap());
    let file = format!("FROM scratch\nCOPY a /a\nADD {url} /f\n");
    let folder = world.project("app", &[("Dockerfile", &file), ("a", "a")]);
    let interrupted = |more: &[&str], is_there: &dyn Fn() -> bool| {
        let mut command = world.command(&[&["build"], more].concat());
        let temporary = world.folder.path().join("temporary");
        fs_err::create_dir_all(&temporary).unwrap();
        command.env("TMPDIR", &temporary).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        eventually("it waits", is_there);
        signal(&child, "INT");
        let said = finish(child).exits(130);
        drop(stdin);
        assert_eq!(fs_err::read_dir(&temporary).unwrap().count(), 0);
        assert_eq!(said.stdout, "");
        said
    };
    // Kept open, for who is hung up on asks again.
    let heard = RefCell::new(Vec::new());
    let asked = || server.accept().map(|one| heard.borrow_mut().push(one)).is_ok();
    let place = format!("interrupted in line 3, `ADD {url} /f`");
    let whole = format!(
        "{place}: nothing of it is left behind here; the 2 steps that were done are kept for the next build"
    );
    let folder = folder.to_str().unwrap();
    let tmp = world.data().join("cache/tmp");
    for more in [&["--progress", "plain"][..], &["--output", "json"], &["--progress", "quiet"]] {
        let said = interrupted(&[more, &[folder]].concat(), &asked);
        assert_eq!(said.stderr.lines().last(), Some(whole.as_str()), "{more:?}");
        assert_eq!(fs_err::read_dir(&tmp).unwrap().count(), 0);
    }
    // What was kept is what it says.
    let said = interrupted(&["--progress", "json", folder], &asked);
    let lines = said.stderr.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let copied = lines.iter().find(|line| line["event"] == "step_finished" && line["number"] == 2);
    assert_eq!(copied.unwrap()["cached"], true);
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["steps_done"]), (&"interrupted".into(), &2.into()));
    assert_eq!((&last["running"][0]["line"], &last["text"]), (&3.into(), &whole.into()));

    let begun = || world.folder.path().join("temporary").read_dir().unwrap().count() == 1;
    let said = interrupted(&["-"], &begun);
    assert_eq!(
        said.stderr,
        "interrupted before the first step: nothing of it is left behind here\n"
    );
    let said = interrupted(&["--check", &format!("{url}.git")], &asked);
    assert!(said.stderr.starts_with("interrupted: nothing was built"), "{}", said.stderr);
    assert_eq!(fs_err::read_dir(&tmp).unwrap().count(), 0);
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

/// Answers every request with these bytes.
fn serve(bytes: Vec<u8>) -> String {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = server.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(stream.try_clone().unwrap()).lines();
            head.take_while(|line| !line.as_ref().unwrap().is_empty()).for_each(drop);
            let length = bytes.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all(&[head.as_bytes(), &bytes].concat()).unwrap();
        }
    });
    host
}

/// What is known without building, of a context of elsewhere: a repository, an archive, a lone Dockerfile.
#[test]
fn calls_take_every_context() {
    let world = World::new();
    let file = "FROM scratch AS base\nARG MODE=fast\nCOPY a /\nFROM base\n";
    let files = [("sub/Dockerfile", file), ("sub/.dockerignore", "a\n"), ("sub/a", "a")];
    let folder = world.project("app", &files).join("sub");
    let by_name =
        |call: &str| ["build", "--call", call, folder.to_str().unwrap()].map(str::to_owned);
    let want = |call: &str, code: i32| {
        let arguments = by_name(call);
        world.sekisho(&arguments.each_ref().map(String::as_str)).exits(code).stdout
    };
    let wanted = [("check", 1), ("outline", 0), ("targets", 0)];
    let wanted = wanted.map(|(call, code)| (call, code, want(call, code)));
    assert!(wanted[0].2.contains("CopyIgnoredFile"), "{}", wanted[0].2);
    assert!(wanted[1].2.contains("MODE") && wanted[2].2.contains("base"), "{wanted:?}");
    assert!(!world.data().exists());

    let mut tar = std::process::Command::new("tar");
    let tar = tar.args(["cz", "-C", folder.to_str().unwrap(), "."]).output().unwrap().stdout;
    let from_web = format!("http://{}/app.tar.gz", serve(tar.clone()));
    let tmp = world.data().join("cache/tmp");
    for (call, code, want) in &wanted {
        let said = stdin(&world, &["build", "--call", call, "-"], &tar).exits(*code);
        assert_eq!(said.stdout, *want);
        let said = world.sekisho(&["build", "--call", call, &from_web]).exits(*code);
        assert_eq!(said.stdout, *want);
        assert_eq!(fs_err::read_dir(&tmp).unwrap().count(), 0, "nothing of it is left");
    }
    let lone = serve(file.as_bytes().to_vec());
    let said = world.sekisho(&["build", "--call", "targets", &format!("http://{lone}/f")]).exits(0);
    assert_eq!(said.stdout, wanted[2].2);
    let said = stdin(&world, &["build", "--check", "-f", "-", &from_web], b"FROM scratch AS A\n");
    assert!(said.exits(1).stdout.contains("StageNameCasing"));

    let served = world.folder.path().join("served");
    let Some(host) = peers::serve_git(&served).unwrap() else { return };
    let bare = served.join("r.git");
    for arguments in [
        &["init", "-q", "--bare", "-b", "main", bare.to_str().unwrap()][..],
        &["init", "-q", "-b", "main", "."],
        &["add", "-A"],
        &["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "one"],
        &["push", "-q", bare.to_str().unwrap(), "main"],
    ] {
        let mut git = std::process::Command::new("git");
        git.args(arguments)
            .current_dir(folder.parent().unwrap())
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(git.status().unwrap().success(), "{arguments:?}");
    }
    for (call, code, want) in &wanted {
        let url = format!("git://{host}/r.git#main:sub");
        let said = world.sekisho(&["build", "--call", call, &url]).exits(*code);
        assert_eq!(said.stdout, *want);
    }
    let named = format!("git://{host}/r.git");
    let said =
        world.sekisho(&["build", "--call", "targets", "-f", "sub/Dockerfile", &named]).exits(0);
    assert_eq!(said.stdout, wanted[2].2);
    let none = world.sekisho(&["build", "--check", &format!("{named}#none")]).exits(1);
    none.says(&[&format!("cannot fetch the repository `{named}`"), "none"]);
    world.sekisho(&["build", "--check", &named]).exits(1).says(&["there is no Dockerfile"]);
    assert_eq!(fs_err::read_dir(&tmp).unwrap().count(), 0, "nothing of it is left");
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

    // What scripts read, in the words of docker and buildx; and words that mean nothing here.
    let (id, metadata) = (world.folder.path().join("id"), world.folder.path().join("metadata"));
    let files = ["--iidfile", id.to_str().unwrap(), "--metadata-file", metadata.to_str().unwrap()];
    let plain = ["build", "-t", "localhost/a:1", "--pull", "--rm=true", "--load=false", folder];
    let json = [&plain[..], &files, &["--output", "json"]].concat();
    let json = world.sekisho(&json).exits(0).json();
    assert_eq!(json["manifest_digest"], quiet.stdout.trim());
    assert_eq!(fs_err::read_to_string(&id).unwrap(), json["config_digest"].as_str().unwrap());
    let metadata = fs_err::read_to_string(&metadata).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["containerimage.digest"], json["manifest_digest"]);
    assert_eq!(metadata["containerimage.config.digest"], json["config_digest"]);
    assert_eq!(metadata["image.name"], "localhost/a:1");
    // One that fails tells nothing, and leaves nothing that an earlier one told.
    let fails = [&["build", "--target", "nobody", folder][..], &files].concat();
    world.sekisho(&fails).exits(1);
    assert!(!id.exists());

    stdin(&world, &["build", "-"], b"").exits(1).says(&["stdin is empty", "hint: send a tar"]);
    let neither = stdin(&world, &["build", "-"], b"\xff\xfe\xfd").exits(1);
    neither.says(&["neither an archive nor a text", "hint:"]);

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
        (vec!["build", "--output", "type=local,dest=x", folder], "said with `--out`, or `-o`"),
        (vec!["build", "--load", folder], "hint: there is no daemon to load it into"),
        (vec!["build", "--cache-from=a", folder], "`--cache-from` of docker is not to be had here"),
        (vec!["build", "--ulimit", "nofile=1", folder], "hint: leave it out: a RUN has the limits"),
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
