//! `git push`, `git clone`, and what they lead to.

use std::io::Write as _;

use reqwest::Method;
use serde_json::json;

use crate::world::{WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";

#[tokio::test(flavor = "multi_thread")]
async fn a_push_starts_a_run_and_can_be_cloned() {
    let world = World::new().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW), ("big", &"x".repeat(3_000_000))]);
    let id = world.push(&folder, "acme/app").await;
    let run = world.run(id).await;
    assert_eq!(run["repository"], "acme/app");
    assert_eq!(run["ref"], "refs/heads/main");
    assert_eq!(run["sha"], folder.sha());
    assert_eq!(run["event"], "push");
    assert_eq!(run["workflow_name"], "build");
    assert_eq!(run["workflow_path"], FILE);
    assert_eq!(run["status"], "queued");
    let job = &run["jobs"][0];
    assert_eq!(job["name"], "hello");
    assert_eq!(job["status"], "queued");
    assert_eq!(job["labels"], json!(["default", "linux"]));

    let queue = world.get("/_hub/v1/queue").await;
    assert_eq!(queue["jobs"][0]["job_id"], job["id"]);
    assert_eq!(queue["jobs"][0]["labels"], json!(["default", "linux"]));

    let remote = world.remote("acme/app.git");
    let clone = folder.clone();
    tokio::task::spawn_blocking(move || {
        clone.git(&["clone", "--quiet", "--depth=1", &remote, "../copy"]);
        clone.git(&["clone", "--quiet", "-c", "protocol.version=0", &remote, "../old"]);
        // As the runner's checkout does: one commit by its id.
        clone.git(&["init", "--quiet", "../exact"]);
        let sha = clone.sha();
        clone.git(&["-C", "../exact", "fetch", "--quiet", "--depth=1", &remote, &sha]);
    })
    .await
    .unwrap();
    for copy in ["copy", "old"] {
        let text = std::fs::read_to_string(world.dir.path().join(copy).join(FILE)).unwrap();
        assert_eq!(text, WORKFLOW);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_workflow_is_told_to_who_pushes() {
    let world = World::new().await;
    let broken = "on: push\njobs:\n  a:\n    runs-on: x\n    stps: []\n";
    let folder = world.folder("work", &[(FILE, WORKFLOW), (".github/workflows/bad.yaml", broken)]);
    let (remote, pushing) = (world.remote("acme/app"), folder.clone());
    let output =
        tokio::task::spawn_blocking(move || pushing.git(&["push", &remote, "main"])).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let line = "remote: error: .github/workflows/bad.yaml:";
    assert!(stderr.contains(line), "{stderr}");
    assert!(stderr.contains("remote: run 1 is queued"), "{stderr}");

    let path = format!("/_hub/v1/pushes?repository=acme/app&sha={}", folder.sha());
    let pushed = world.get(&path).await;
    assert_eq!(pushed["runs"], json!([1]));
    assert_eq!(pushed["errors"][0]["path"], ".github/workflows/bad.yaml");
    assert!(pushed["errors"][0]["line"].as_u64().unwrap() >= 3, "{pushed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_filters_let_through_runs() {
    let world = World::new().await;
    let workflow =
        WORKFLOW.replace("on: push", "on:\n  push:\n    branches: [main]\n    paths: [src/**]");
    let folder = world.folder("work", &[(FILE, &workflow)]);
    // A new branch: nobody knows what changed.
    assert_eq!(world.push(&folder, "acme/app").await, 1);
    folder.commit(&[("README.md", "text")]);
    let push = |what: &'static str| {
        let (remote, pushing) = (world.remote("acme/app"), folder.clone());
        async move {
            let work = move || pushing.git(&["push", "--quiet", &remote, what]);
            tokio::task::spawn_blocking(work).await.unwrap()
        }
    };
    push("main").await;
    let path = |sha: String| format!("/_hub/v1/pushes?repository=acme/app&sha={sha}");
    assert_eq!(world.get(&path(folder.sha())).await["runs"], json!([]));
    folder.commit(&[("src/a", "text")]);
    push("main").await;
    assert_eq!(world.get(&path(folder.sha())).await["runs"].as_array().unwrap().len(), 1);
    folder.commit(&[("src/b", "text")]);
    push("HEAD:refs/heads/other").await;
    assert_eq!(world.get(&path(folder.sha())).await["runs"], json!([]));
    // The same commit again, by the hub's own API.
    let body = json!({"ref": "refs/heads/main", "sha": folder.sha()});
    let answer = world.post("/_hub/v1/repositories/acme/app/dispatch", &body).await;
    assert_eq!(answer.status(), 201);
    let pushed: serde_json::Value = answer.json().await.unwrap();
    let run = world.run(pushed["runs"][0].as_u64().unwrap()).await;
    assert_eq!(run["sha"], folder.sha());
    assert_eq!(run["run_number"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_called_workflow_comes_from_the_built_in_repository() {
    let world = World::new().await;
    let caller = "\
on: push
jobs:
  image:
    permissions: { contents: read, id-token: write }
    uses: sekisho/pipeline/.github/workflows/image.yml@v1
    with: { context: app }
";
    let folder = world.folder("work", &[(FILE, caller)]);
    let id = world.push(&folder, "acme/app").await;
    let run = world.run(id).await;
    assert_eq!(run["jobs"][0]["key"], "image/build");
    assert_eq!(run["jobs"][0]["name"], "image / build");
    assert_eq!(run["jobs"][0]["labels"], json!(["default"]));
    let (remote, pushing) = (world.remote("sekisho/pipeline"), folder.clone());
    let output = tokio::task::spawn_blocking(move || pushing.try_git(&["push", &remote, "main"]))
        .await
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{stderr}");
    assert_eq!(world.get("/_hub/v1/runs").await["runs"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_request_is_understood() {
    let world = World::new().await;
    let folder = world.folder("work", &[("a", "b")]);
    let (remote, pushing) = (world.remote("acme/app"), folder.clone());
    let work = move || pushing.git(&["push", "--quiet", &remote, "main"]);
    tokio::task::spawn_blocking(work).await.unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"0014command=ls-refs\n00010000").unwrap();
    let request = world
        .request(Method::POST, "/acme/app/git-upload-pack")
        .header("content-type", "application/x-git-upload-pack-request")
        .header("content-encoding", "gzip")
        .header("git-protocol", "version=2")
        .body(gzip.finish().unwrap());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/x-git-upload-pack-result");
    let want = format!("{} refs/heads/main", folder.sha());
    let text = answer.text().await.unwrap();
    assert!(text.contains(&want), "{text}");
    // What a web page could send without being asked.
    let plain = world.request(Method::POST, "/acme/app/git-receive-pack").body("0000");
    assert_eq!(plain.send().await.unwrap().status(), 415);
}

/// The objects of a kind that a clone has.
fn objects(folder: &crate::world::Folder, copy: &str, kind: &str) -> usize {
    let args = ["-C", copy, "cat-file", "--batch-check=%(objecttype)", "--batch-all-objects"];
    let output = folder.git(&[&args[..], &["--unordered"]].concat());
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| *line == kind).count()
}

fn count(folder: &crate::world::Folder, copy: &str) -> String {
    let output = folder.git(&["-C", copy, "rev-list", "--count", "HEAD"]);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn shallow_and_partial_clones_hold_what_they_should() {
    let world = World::new().await;
    let folder = world.folder("work", &[("a", "one"), ("big", &"x".repeat(10_000))]);
    folder.commit(&[("a", "two")]);
    folder.commit(&[("a", "three")]);
    let (remote, work) = (world.remote("acme/app"), folder.clone());
    tokio::task::spawn_blocking(move || {
        work.git(&["push", "--quiet", &remote, "main"]);
        let clone = |copy: &str, args: &[&str]| {
            work.git(&[&["clone", "--quiet"][..], args, &[&remote, copy]].concat());
        };
        clone("../shallow", &["--depth=2"]);
        assert_eq!(count(&work, "../shallow"), "2");
        work.git(&["-C", "../shallow", "fetch", "--quiet", "--unshallow"]);
        assert_eq!(count(&work, "../shallow"), "3");

        // All commits and trees, and no content until it is looked at.
        clone("../partial", &["--filter=blob:none", "--no-checkout"]);
        assert_eq!(count(&work, "../partial"), "3");
        assert_eq!(objects(&work, "../partial", "blob"), 0);
        assert_eq!(objects(&work, "../partial", "commit"), 3);
        let shown = work.git(&["-C", "../partial", "show", "HEAD:a"]);
        assert_eq!(shown.stdout, b"three");
        assert_eq!(objects(&work, "../partial", "blob"), 1);
        work.git(&["-C", "../partial", "checkout", "--quiet", "main"]);
        assert_eq!(objects(&work, "../partial", "blob"), 2);

        clone("../limited", &["--filter=blob:limit=1k", "--no-checkout"]);
        assert_eq!(objects(&work, "../limited", "blob"), 3, "three times `a`, not `big`");
        clone("../treeless", &["--filter=tree:0", "--no-checkout", "--depth=1"]);
        assert_eq!(objects(&work, "../treeless", "tree"), 0);
        assert_eq!(objects(&work, "../treeless", "commit"), 1);
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_pushes_rewrites_and_removes() {
    let world = World::new().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    world.push(&folder, "acme/app").await;
    let (remote, work) = (world.remote("acme/app"), folder.clone());
    tokio::task::spawn_blocking(move || {
        work.git(&["clone", "--quiet", &remote, "../copy"]);
        let copy = |args: &[&str]| work.git(&[&["-C", "../copy"][..], args].concat());
        let refs = || {
            let output = work.git(&["ls-remote", "--quiet", &remote]);
            let text = String::from_utf8(output.stdout).unwrap();
            let names = text.lines().filter_map(|line| line.split_once('\t'));
            names.map(|(_, name)| name.to_owned()).collect::<Vec<_>>()
        };
        copy(&["commit", "--quiet", "--allow-empty", "--message=more"]);
        copy(&["tag", "--annotate", "--message=first", "v1"]);
        copy(&["push", "--quiet", "--atomic", "origin", "main", "main:refs/heads/other", "v1"]);
        let all =
            ["HEAD", "refs/heads/main", "refs/heads/other", "refs/tags/v1", "refs/tags/v1^{}"];
        assert_eq!(refs(), all);
        copy(&["commit", "--quiet", "--amend", "--allow-empty", "--message=other"]);
        let behind = work.try_git(&["-C", "../copy", "push", "--quiet", "origin", "main"]);
        assert!(!behind.status.success(), "it is no fast-forward");
        copy(&["push", "--quiet", "--force-with-lease", "origin", "main"]);
        copy(&["push", "--quiet", "origin", ":refs/heads/other", ":refs/tags/v1"]);
        assert_eq!(refs(), ["HEAD", "refs/heads/main"]);
    })
    .await
    .unwrap();
    let runs = world.get("/api/v3/repos/acme/app/actions/runs").await;
    // main, then main, other and v1, then main once more.
    assert_eq!(runs["total_count"], 5);
}
