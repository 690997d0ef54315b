//! What is changed about a pull request, who is told, and what happens at the same time.

use reqwest::Method;
use serde_json::{Value, json};

use super::*;
use crate::hooks::Receiver;

const EDITED: &str = "\
on: {pull_request: {types: [edited]}}
jobs: {edit: {runs-on: default, steps: [{run: edit}]}}
";

/// How many runs of an event there are.
async fn runs_of(world: &World, event: &str) -> u64 {
    let path = format!("/api/v3/repos/acme/app/actions/runs?event={event}");
    world.get(&path).await["total_count"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_activity_is_told_and_an_edit_with_what_was_there_before() {
    let mut receiver = Receiver::start().await;
    let hook = receiver.hook(&["pull_request"]);
    let edited = [(".github/workflows/edited.yml", EDITED)];
    let (world, folder) = world_with(|config| config.webhooks.push(hook), &edited).await;
    push(&world, &folder, "acme/app", "main:release").await;
    let head = branch(&world, &folder, ("acme/app", "topic"), &[("b.txt", "b\n")]).await;
    let (base, number) = (folder.sha(), open(&world, "topic").await["number"].clone());
    change(&world, &number, json!({"title": "Best", "body": "All."})).await;
    // What stays as it is is no edit.
    change(&world, &number, json!({"title": "Best", "base": "main"})).await;
    folder.git(&["checkout", "--quiet", "topic"]);
    folder.commit(&[("b.txt", "more\n")]);
    push(&world, &folder, "acme/app", "topic").await;
    let edits = runs_of(&world, "pull_request").await;
    let moved = change(&world, &number, json!({"base": "release"})).await;
    assert_eq!((&moved["base"]["ref"], &moved["mergeable"]), (&json!("release"), &json!(true)));
    assert_eq!(runs_of(&world, "pull_request").await, edits + 1, "EDITED waits for it");
    change(&world, &number, json!({"state": "closed", "title": "Last"})).await;
    change(&world, &number, json!({"state": "open"})).await;
    push(&world, &folder, "acme/app", ":topic").await;

    let actions =
        ["opened", "edited", "synchronize", "edited", "edited", "closed", "reopened", "closed"];
    receiver.wait(1 + actions.len()).await;
    let told = receiver.payloads().split_off(1);
    assert_eq!(told.iter().map(|payload| &payload["action"]).collect::<Vec<_>>(), actions);
    let words = json!({"title": {"from": "Better"}, "body": {"from": "Much."}});
    let place = json!({"base": {"ref": {"from": "main"}, "sha": {"from": base}}});
    let title = json!({"title": {"from": "Best"}});
    let changes = [&told[1], &told[3], &told[4]].map(|payload| &payload["changes"]);
    assert_eq!(changes, [&words, &place, &title]);
    assert_eq!((&told[2]["before"], &told[2]["after"]), (&json!(head), &json!(folder.sha())));
    for payload in &told {
        assert_eq!(payload["number"], number);
        assert_eq!(payload["pull_request"]["head"]["ref"], json!("topic"));
        assert_eq!(payload["repository"]["full_name"], json!("acme/app"));
        assert!(payload["sender"]["login"].is_string());
    }
    let deliveries = world.get("/api/v3/repos/acme/app/hooks/1/deliveries").await;
    assert_eq!(deliveries[0]["event"], json!("pull_request"));
    assert_eq!(deliveries[0]["action"], json!("closed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_base_says_now_is_run_and_not_what_it_said_when_it_was_opened() {
    let (world, folder) = world().await;
    branch(&world, &folder, ("acme/app", "topic"), &[("b.txt", "b\n")]).await;
    let number = open(&world, "topic").await["number"].clone();
    done(&world, "pull_request").await;
    done(&world, "pull_request_target").await;
    // Of the old one nothing waits for edits.
    let mended = TARGET.replace("opened, closed", "edited").replace("greet:", "mended:");
    folder.commit(&[(".github/workflows/target.yml", &mended)]);
    world.push(&folder, "acme/app").await;
    done(&world, "push").await;
    change(&world, &number, json!({"title": "Best"})).await;
    let job = take(&world).await;
    check(&job, &[("event_name", "pull_request_target"), ("event.action", "edited")]);
    check(&job, &[("sha", &folder.sha()), ("ref", "refs/heads/main")]);
    assert_eq!(job.runner.job["jobName"], json!("mended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_branch_is_deleted_is_closed() {
    let (world, folder) = world().await;
    for (n, deleted) in [(0, "topic0"), (1, "release")] {
        push(&world, &folder, "acme/app", "main:release").await;
        let (topic, file) = (format!("topic{n}"), format!("{n}.txt"));
        let head = branch(&world, &folder, ("acme/app", &topic), &[(&file, "x\n")]).await;
        let body = json!({"title": "t", "head": topic, "base": "release"});
        let opened: Value = ask(&world, Method::POST, PULLS, body).await.json().await.unwrap();
        let closings = runs_of(&world, "pull_request_target").await;
        push(&world, &folder, "acme/app", &format!(":{deleted}")).await;
        let path = format!("{PULLS}/{}", opened["number"]);
        let shown = world.get(&path).await;
        assert_eq!((&shown["state"], &shown["merged"]), (&json!("closed"), &json!(false)));
        assert!(shown["closed_at"].is_string() && shown["mergeable"].is_null(), "{shown}");
        assert_eq!(shown["head"]["sha"], json!(head));
        // TARGET waits for it, at the commit that the base is or was. The first one is of `release` too.
        assert_eq!(runs_of(&world, "pull_request_target").await, closings + 1 + n);
        // What it brings can still be had; it is not opened again while a branch is missing.
        let (from, remote) = (folder.clone(), world.remote("acme/app"));
        let fetched = format!("refs/pull/{}/head", opened["number"]);
        let fetch = move || from.git(&["fetch", "--quiet", &remote, &fetched]);
        tokio::task::spawn_blocking(fetch).await.unwrap();
        let again = ask(&world, Method::PATCH, &path, json!({"state": "open"})).await;
        assert_eq!(again.status(), 422);
        let again: Value = again.json().await.unwrap();
        assert_eq!(again["message"], json!("Validation Failed: a branch is gone"));
        if deleted == "release" {
            continue;
        }
        push(&world, &folder, "acme/app", &topic).await;
        let again = change(&world, &opened["number"], json!({"state": "open"})).await;
        assert_eq!(again["state"], json!("open"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_to_go_is_checked_as_when_it_was_opened() {
    let (world, folder) = world().await;
    branch(&world, &folder, ("acme/app", "topic"), &[("b.txt", "b\n")]).await;
    push(&world, &folder, "acme/app", "topic:same").await;
    push(&world, &folder, "acme/app", "main:release").await;
    folder.git(&["checkout", "--quiet", "--orphan", "alone"]);
    folder.commit(&[("z.txt", "z\n")]);
    push(&world, &folder, "acme/app", "alone").await;
    let number = open(&world, "topic").await["number"].clone();
    let body = json!({"title": "t", "head": "topic", "base": "release"});
    let other: Value = ask(&world, Method::POST, PULLS, body).await.json().await.unwrap();
    let path = format!("{PULLS}/{number}");
    let refused = async |base: &str, want: &str| {
        let answer = ask(&world, Method::PATCH, &path, json!({"base": base})).await;
        assert_eq!(answer.status(), 422, "{base}");
        let why: Value = answer.json().await.unwrap();
        assert!(why["message"].as_str().unwrap().contains(want), "{base}: {why}");
    };
    refused("none", "base is invalid").await;
    refused("../x", "base is invalid").await;
    refused("alone", "no history in common").await;
    refused("same", "No commits between same and topic").await;
    refused("release", "A pull request already exists for acme:topic.").await;
    assert_eq!(world.get(&path).await["base"]["ref"], json!("main"));
    change(&world, &other["number"], json!({"state": "closed"})).await;
    let path_of_closed = format!("{PULLS}/{}", other["number"]);
    let closed = ask(&world, Method::PATCH, &path_of_closed, json!({"base": "main"})).await;
    assert_eq!(closed.status(), 422);
    assert_eq!(change(&world, &number, json!({"base": "release"})).await["base"]["ref"], "release");
}

/// A fork is pushed to under its own lock, its pull request changed under that of the base.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_fork_and_a_change_at_the_same_time_are_both_kept() {
    let (world, folder) = world().await;
    branch(&world, &folder, ("fork/app", "topic"), &[("b.txt", "b\n")]).await;
    let number = open(&world, "fork:topic").await["number"].clone();
    let path = format!("{PULLS}/{number}");
    folder.git(&["checkout", "--quiet", "topic"]);
    let mut title = json!("Better");
    for n in 0..4 {
        folder.commit(&[("b.txt", &format!("{n}\n"))]);
        let (from, remote) = (folder.clone(), world.remote("fork/app"));
        let pushing = tokio::task::spawn_blocking(move || {
            from.git(&["push", "--quiet", &remote, "topic"]);
        });
        // One edit after the other, all the while: each is still there when the next one comes.
        for edit in 0.. {
            assert_eq!(world.get(&path).await["title"], title);
            if pushing.is_finished() {
                break;
            }
            title = json!(format!("title {n}.{edit}"));
            let changed = ask(&world, Method::PATCH, &path, json!({"title": title})).await;
            assert_eq!(changed.status(), 200);
        }
        pushing.await.unwrap();
        assert_eq!(world.get(&path).await["head"]["sha"], json!(folder.sha()));
        // Closed and opened again while it is pushed to: the newest commit is seen by one or the other.
        folder.commit(&[("b.txt", &format!("{n} again\n"))]);
        change(&world, &number, json!({"state": "closed"})).await;
        let ((), opened) = tokio::join!(
            push(&world, &folder, "fork/app", "topic"),
            ask(&world, Method::PATCH, &path, json!({"state": "open"})),
        );
        assert_eq!(opened.status(), 200);
        assert_eq!(world.get(&path).await["head"]["sha"], json!(folder.sha()));
    }
    world.hub.shutdown().await;
    let world = World::on(world.kill()).await;
    assert_eq!(world.get(&path).await["head"]["sha"], json!(folder.sha()));
}
