//! Repositories that mean harm, from git's own server.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sekisho_builder::ContextInput;

use crate::inputs::{git, serve_to};
use crate::world::World;

/// An object of a repository, made of what git reads.
#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn object(at: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null");
    for (name, value) in [("NAME", "t"), ("EMAIL", "t@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value);
        command.env(format!("GIT_COMMITTER_{name}"), value);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A name and password of a URL reach the server, and nothing that is seen.
#[tokio::test(flavor = "multi_thread")]
async fn who_fetches_is_told_to_the_server_alone() {
    if !peers::is_installed("git", "--version") {
        return;
    }
    let world = World::new().await;
    let served = world.dir.path().join("served");
    let bare = served.join("r.git");
    fs::create_dir_all(&bare).unwrap();
    git(&bare, &["init", "-q", "--bare"]);
    let file = object(&bare, &["hash-object", "-w", "--stdin"], b"FROM scratch\nCOPY . /in/\n");
    let tree = object(&bare, &["mktree"], format!("100644 blob {file}\tDockerfile\n").as_bytes());
    let commit = object(&bare, &["commit-tree", "-m", "one", &tree], b"");
    git(&bare, &["update-ref", "refs/heads/main", &commit]);
    git(&bare, &["update-server-info"]);
    // `me:p@ss`
    let host = serve_to(&served, Some("basic bWU6cEBzcw==")).await;
    let context = |user: &str| {
        let mut options = world.options();
        let url = format!("http://{user}{host}/r.git?branch=main&keep-git-dir=true");
        options.context = Some(ContextInput::Remote(url));
        options
    };
    let built = world.try_build(context("me:p%40ss@")).await.unwrap();
    let config = &world.files(&built)["in/.git/config"];
    assert!(config.contains(&format!("http://{host}/r.git")) && !config.contains("me"), "{config}");
    for user in ["", "me:wrong@"] {
        let error = world.try_build(context(user)).await.unwrap_err();
        let error = format!("{:#}", anyhow::Error::new(error));
        let want = format!(
            "cannot get the build context: cannot fetch the repository `http://{host}/r.git`"
        );
        assert!(error.starts_with(&want) && !error.contains("wrong"), "{error}");
    }
}

/// Repositories of some kilobytes that are two million files, or 64 GiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_held_to_the_limits_of_a_context() {
    let world = World::new().await;
    let served = world.dir.path().join("served");
    let Some(host) = peers::serve_git(&served).unwrap() else { return };
    let bare = served.join("r.git");
    fs::create_dir_all(&bare).unwrap();
    git(&bare, &["init", "-q", "--bare"]);
    let tree = |count: usize, entry: &str| {
        let lines: String = (0..count).map(|number| format!("{entry}\tn{number}\n")).collect();
        object(&bare, &["mktree"], lines.as_bytes())
    };
    let branch = |name: &str, tree: &str| {
        let commit = object(&bare, &["commit-tree", "-m", name, tree], b"");
        git(&bare, &["update-ref", &format!("refs/heads/{name}"), &commit]);
    };
    let small = object(&bare, &["hash-object", "-w", "--stdin"], b"x");
    let large = object(&bare, &["hash-object", "-w", "--stdin"], &vec![0; 64 << 20]);
    let file = format!("100644 blob {small}");
    branch("good", &tree(3, &file));
    let thousands = tree(1500, &file);
    branch("files", &tree(1500, &format!("040000 tree {thousands}")));
    // Of nothing but folders, which would take as long.
    let mut folders = tree(0, "");
    for _ in 0..7 {
        folders = tree(10, &format!("040000 tree {folders}"));
    }
    branch("folders", &folders);
    branch("bytes", &tree(1025, &format!("100644 blob {large}")));
    let size: u64 = fs::read_dir(bare.join("objects"))
        .unwrap()
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|one| one.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 1 << 20, "{size}");

    let url = format!("git://{host}/r.git");
    let added = world.build(&format!("FROM scratch\nADD {url}#good /in/")).await;
    assert_eq!(world.files(&added)["in/n2"], "x");
    for (name, want) in [
        ("files", "it has more than 2000000 files and folders"),
        ("folders", "it has more than 2000000 files and folders"),
        ("bytes", "it has more than 68719476736 bytes"),
    ] {
        let failed = world.fail(&format!("FROM scratch\nADD {url}#{name} /in/")).await;
        let failed = failed.to_string();
        assert!(failed.starts_with("Dockerfile:2:5: ") && failed.contains(want), "{failed}");
        world.assert_clean();
    }
    let mut options = world.options();
    options.context = Some(ContextInput::Remote(format!("{url}#bytes")));
    let failed = format!("{:#}", anyhow::Error::new(world.try_build(options).await.unwrap_err()));
    let want = format!("cannot fetch the repository `{url}`: it has more than 68719476736 bytes");
    assert!(failed.contains(&want), "{failed}");
    world.assert_clean();
}
