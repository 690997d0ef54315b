//! How many pull requests there are, what is seen of them, and who waits for whom.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::*;
use crate::rest::with_app;

/// The refs of pull requests, as `git` is told them: their names and commits.
async fn refs(world: &World, folder: &Folder) -> Vec<(String, String)> {
    let (from, remote) = (folder.clone(), world.remote("acme/app"));
    let list = move || from.git(&["ls-remote", &remote, "refs/pull/*"]);
    let listed = tokio::task::spawn_blocking(list).await.unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let lines = text.lines().map(|line| line.split_once('\t').unwrap());
    lines.map(|(sha, name)| (name.to_owned(), sha.to_owned())).collect()
}

/// Names of [`refs`].
async fn names(world: &World, folder: &Folder) -> Vec<String> {
    refs(world, folder).await.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_that_was_closed_makes_room_and_an_open_one_never() {
    let (world, folder) = world().await;
    for topic in ["topic", "next", "last"] {
        branch(&world, &folder, ("acme/app", topic), &[(topic, "x\n")]).await;
    }
    let number = open(&world, "topic").await["number"].clone();
    change(&world, &number, json!({"state": "closed"})).await;
    assert_eq!(names(&world, &folder).await, ["refs/pull/1/head", "refs/pull/1/merge"]);
    world.hub.shutdown().await;
    let dir = world.kill();
    // 999 more, which are open.
    let file = dir.path().join("hub/pulls.json");
    let mut pulls: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let of = pulls["of"].as_object_mut().unwrap().values_mut().next().unwrap();
    for n in 2..=1000 {
        let mut pull = of["pulls"]["1"].clone();
        (pull["id"], pull["number"], pull["state"]) = (json!(n), json!(n), json!("open"));
        pull["head"]["branch"] = json!(format!("branch-{n}"));
        of["pulls"][n.to_string()] = pull;
    }
    of["last_number"] = json!(1000);
    pulls["last_id"] = json!(1000);
    std::fs::write(&file, pulls.to_string()).unwrap();

    let world = World::on(dir).await;
    let first = format!("{PULLS}/1");
    assert_eq!(world.get(&first).await["state"], json!("closed"));
    assert_eq!(open(&world, "next").await["number"], json!(1001));
    let gone = ask(&world, Method::GET, &first, json!({})).await;
    assert_eq!(gone.status(), 404);
    assert_eq!(ask(&world, Method::PATCH, &first, json!({"state": "open"})).await.status(), 404);
    assert_eq!(names(&world, &folder).await, ["refs/pull/1001/head", "refs/pull/1001/merge"]);
    // All are open now.
    let last = json!({"title": "t", "head": "last", "base": "main"});
    let refused = ask(&world, Method::POST, PULLS, last.clone()).await;
    assert_eq!(refused.status(), 422);
    let why: Value = refused.json().await.unwrap();
    let said = why["message"].as_str().unwrap();
    assert!(said.contains("holds 1000 pull requests") && said.contains("close one"), "{said}");
    assert_eq!(names(&world, &folder).await.len(), 2, "what was refused leaves nothing");
    change(&world, &json!(7), json!({"state": "closed"})).await;
    let opened: Value = ask(&world, Method::POST, PULLS, last).await.json().await.unwrap();
    assert!(opened["number"].as_u64().unwrap() > 1001, "{opened}");
    // It is so after a restart too, and 1 does not come again.
    world.hub.shutdown().await;
    let world = World::on(world.kill()).await;
    for (number, status) in [(1, 404), (7, 404), (8, 200), (1001, 200)] {
        let path = format!("{PULLS}/{number}");
        assert_eq!(ask(&world, Method::GET, &path, json!({})).await.status(), status, "{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_brings_in_what_he_may_not_read() {
    let app = |config: &mut Config| {
        with_app(config);
        let permissions = &mut config.app.as_mut().unwrap().permissions;
        permissions.insert("pull_requests".to_owned(), "write".to_owned());
    };
    let (world, folder) = world_with(app, &[]).await;
    for repository in ["other/app", "acme/web", "acme/app"] {
        branch(&world, &folder, (repository, "secret"), &[("key", "s\n")]).await;
    }
    let token = async |body: Value| -> String {
        let made = world.post("/api/v3/app/installations/5/access_tokens", &body).await;
        let made: Value = made.json().await.unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let all = token(json!({})).await;
    let one = token(json!({"repositories": ["app"]})).await;
    let blind = token(json!({"permissions": {"pull_requests": "write"}})).await;
    for (token, head, head_repo, status) in [
        (&all, "other:secret", "app", 422),
        (&all, "other:secret", "other/app", 422),
        (&one, "acme:secret", "web", 422),
        (&blind, "acme:secret", "web", 422),
        (&all, "acme:secret", "web", 201),
        (&blind, "secret", "app", 201),
    ] {
        let body = json!({"title": "t", "head": head, "head_repo": head_repo, "base": "main"});
        let asked = world.request(Method::POST, PULLS).bearer_auth(token).json(&body);
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), status, "{head} {head_repo}");
        if status == 422 {
            // As if it were not there.
            let why: Value = answer.json().await.unwrap();
            assert_eq!(why["message"], json!("Validation Failed: head is invalid"));
            assert_eq!(names(&world, &folder).await, [""; 0]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_come_of_it_follows_the_base_and_what_came_of_it_stays() {
    let (world, folder) = world().await;
    let head = branch(&world, &folder, ("acme/app", "topic"), &[("a.txt", "topic\n")]).await;
    let opened = open(&world, "topic").await;
    let path = format!("{PULLS}/{}", opened["number"]);
    assert_eq!(opened["mergeable"], json!(true));
    folder.commit(&[("a.txt", "main\n")]);
    world.push(&folder, "acme/app").await;
    let shown = world.get(&path).await;
    assert_eq!((&shown["mergeable"], &shown["merge_commit_sha"]), (&json!(false), &Value::Null));
    assert_eq!(shown["base"]["sha"], json!(folder.sha()));
    assert_eq!(names(&world, &folder).await, ["refs/pull/1/head"]);
    folder.commit(&[("a.txt", "one\n"), ("c.txt", "c\n")]);
    world.push(&folder, "acme/app").await;
    let shown = world.get(&path).await;
    assert_eq!(shown["mergeable"], json!(true));
    let merge = shown["merge_commit_sha"].as_str().unwrap().to_owned();
    assert_ne!(opened["merge_commit_sha"], json!(merge));
    assert_eq!(refs(&world, &folder).await[1], ("refs/pull/1/merge".to_owned(), merge));
    let (from, remote) = (folder.clone(), world.remote("acme/app"));
    let parents = move || {
        from.git(&["fetch", "--quiet", &remote, "refs/pull/1/merge"]);
        from.git(&["rev-parse", "FETCH_HEAD^1", "FETCH_HEAD^2"])
    };
    let parents = tokio::task::spawn_blocking(parents).await.unwrap();
    let parents = String::from_utf8(parents.stdout).unwrap();
    assert_eq!(parents.lines().collect::<Vec<_>>(), [folder.sha(), head]);
    // A list says nothing of it, as on GitHub.
    assert_eq!(world.get(PULLS).await[0].get("mergeable"), None);

    let merged = ask(&world, Method::PUT, &format!("{path}/merge"), json!({})).await;
    let merged: Value = merged.json().await.unwrap();
    let after = async || {
        let shown = world.get(&path).await;
        assert_eq!((&shown["merged"], &shown["mergeable"]), (&json!(true), &Value::Null));
        shown["merge_commit_sha"].clone()
    };
    assert_eq!(after().await, merged["sha"]);
    assert_eq!(json!(refs(&world, &folder).await[1].1), merged["sha"]);
    // One that a push brings in is of that push's commit.
    let fetch =
        ["pull", "--quiet", "--ff-only", &world.remote("acme/app"), "main"].map(str::to_owned);
    let from = folder.clone();
    let fetch = move || from.git(&fetch.each_ref().map(String::as_str));
    tokio::task::spawn_blocking(fetch).await.unwrap();
    branch(&world, &folder, ("acme/app", "second"), &[("d.txt", "d\n")]).await;
    let second = open(&world, "second").await["number"].clone();
    folder.git(&["merge", "--quiet", "--no-ff", "--message=second", "second"]);
    world.push(&folder, "acme/app").await;
    let shown = world.get(&format!("{PULLS}/{second}")).await;
    assert_eq!(shown["merged"], json!(true));
    assert_eq!(shown["merge_commit_sha"], json!(folder.sha()));
    assert_eq!(after().await, merged["sha"], "and the first stays as it was");
}

/// A `git` that stops before it merges in one repository, as long as `hold` is there.
fn slow_git(dir: &Path) -> String {
    let script = format!(
        "#!/bin/sh\ncase \"$GIT_DIR $*\" in */slow/app.git*merge-tree*)\n\
         while [ -e {0}/hold ]; do : > {0}/held; sleep 0.02; done;;\nesac\n\
         PATH=${{PATH#*:}}\nexec git \"$@\"\n",
        dir.display()
    );
    let path = dir.join("bin/git");
    std::fs::create_dir(dir.join("bin")).unwrap();
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{}", dir.join("bin").display(), sekisho_hub::DEFAULT_SEARCH_PATH)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_repository_does_not_keep_another_waiting() {
    let slow = tempfile::tempdir().unwrap();
    let search_path = slow_git(slow.path());
    let (world, folder) = world_with(|config| config.search_path = search_path, &[]).await;
    push(&world, &folder, "slow/app", "main").await;
    branch(&world, &folder, ("slow/app", "topic"), &[("b.txt", "b\n")]).await;
    push(&world, &folder, "acme/app", "topic").await;
    let slow_pulls = "/api/v3/repos/slow/app/pulls";
    branch(&world, &folder, ("slow/app", "first"), &[("f.txt", "f\n")]).await;
    let first = json!({"title": "t", "head": "first", "base": "main"});
    assert_eq!(ask(&world, Method::POST, slow_pulls, first).await.status(), 201);
    folder.commit(&[("g.txt", "g\n")]);
    push(&world, &folder, "slow/app", "main").await;
    std::fs::write(slow.path().join("hold"), "").unwrap();
    let body = json!({"title": "t", "head": "topic", "base": "main"});
    let waits = world.request(Method::POST, slow_pulls).bearer_auth(ADMIN);
    let waits = tokio::spawn(waits.json(&body).send());
    while !slow.path().join("held").exists() {
        assert!(!waits.is_finished());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Nor is anybody kept waiting who only looks: it is not known yet.
    let first = format!("{slow_pulls}/1");
    assert_eq!(world.get(&first).await["mergeable"], Value::Null);
    // Opened, brought up to date by a push, merged: all while the other one is held.
    let number = open(&world, "topic").await["number"].clone();
    folder.git(&["checkout", "--quiet", "topic"]);
    folder.commit(&[("b.txt", "more\n")]);
    push(&world, &folder, "acme/app", "topic").await;
    let merge = format!("{PULLS}/{number}/merge");
    assert_eq!(ask(&world, Method::PUT, &merge, json!({})).await.status(), 200);
    assert!(!waits.is_finished());
    std::fs::remove_file(slow.path().join("hold")).unwrap();
    let opened = waits.await.unwrap().unwrap();
    assert_eq!(opened.status(), 201);
    let opened: Value = opened.json().await.unwrap();
    assert_eq!(opened["mergeable"], json!(true));
    assert_eq!(world.get(&first).await["mergeable"], json!(true));
}
