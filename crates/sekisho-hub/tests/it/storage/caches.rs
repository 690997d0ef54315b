//! Caches: scopes, keys, modes, and their two encodings.

use reqwest::Method;
use sekisho_github::wire::proto::{Field, Writer, read};
use serde_json::{Value, json};

use super::{CACHES, FILE, Job, get, job, json_of, put, refused, refused_xml, world};
use crate::runner::Runner;
use crate::world::{ADMIN, Folder, WORKFLOW, World};

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_found_by_scope_and_key() {
    let (world, folder) = world().await;
    let on_main = job(&world, &folder, "r1").await;
    on_main.save(&world, "go-1", "one").await;
    on_main.save(&world, "go-2", "two").await;
    assert_eq!(on_main.restore(&world, "go-1", &[]).await, Some(("go-1".into(), "one".into())));
    assert_eq!(on_main.restore(&world, "x", &["go-"]).await, Some(("go-2".into(), "two".into())));
    assert_eq!(on_main.restore(&world, "x", &["npm-"]).await, None);
    let other = json!({"key": "go-1", "restore_keys": [], "version": "w"});
    let other = on_main.cache(&world, "GetCacheEntryDownloadURL", other).await;
    assert_eq!(json_of(other).await, json!({"ok": false}));
    let place = json!({"key": "go-1", "version": "v"});
    let again = on_main.cache(&world, "CreateCacheEntry", place.clone()).await;
    refused(again, 409, "already_exists").await;

    // A branch reads what the default branch wrote, and writes for itself.
    folder.git(&["checkout", "--quiet", "-b", "topic"]);
    folder.commit(&[]);
    let (sha, remote) = (folder.sha(), world.remote("acme/app"));
    let pushing = folder.clone();
    let push = move || pushing.git(&["push", "--quiet", &remote, "topic"]);
    tokio::task::spawn_blocking(push).await.unwrap();
    let pushed = world.get(&format!("/_hub/v1/pushes?repository=acme/app&sha={sha}")).await;
    let mut runner = Runner::new(&world, "r2").await;
    runner.acquire(&world).await;
    let on_topic = Job { runner, run: pushed["runs"][0].as_u64().unwrap() };
    assert_eq!(on_topic.restore(&world, "go-1", &[]).await, Some(("go-1".into(), "one".into())));
    on_topic.save(&world, "go-1", "own").await;
    assert_eq!(on_topic.restore(&world, "go-1", &[]).await, Some(("go-1".into(), "own".into())));
    assert_eq!(on_main.restore(&world, "go-1", &[]).await, Some(("go-1".into(), "one".into())));

    let base = "/api/v3/repos/acme/app/actions";
    let listed = world.get(&format!("{base}/caches?key=go-1&ref=refs/heads/topic")).await;
    assert_eq!(listed["total_count"], 1);
    assert_eq!(listed["actions_caches"][0]["size_in_bytes"], 3);
    let usage = world.get(&format!("{base}/cache/usage")).await;
    assert_eq!(usage["active_caches_count"], 3);
    let path = format!("{base}/caches/{}", listed["actions_caches"][0]["id"]);
    let gone = world.request(Method::DELETE, &path).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(on_topic.restore(&world, "go-1", &[]).await, Some(("go-1".into(), "one".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caches_refuse_and_when_they_are_given_up() {
    let (world, folder) = world().await;
    let one = job(&world, &folder, "r1").await;
    let two = job(&world, &folder, "r2").await;
    let long = "k".repeat(513);
    let many: Vec<String> = (0..11).map(|n| format!("k{n}")).collect();
    for (method, body) in [
        ("CreateCacheEntry", json!({"key": "", "version": "v"})),
        ("CreateCacheEntry", json!({"key": long, "version": "v"})),
        ("CreateCacheEntry", json!({"key": "a,b", "version": "v"})),
        ("CreateCacheEntry", json!({"key": "a", "version": null})),
        ("GetCacheEntryDownloadURL", json!({"key": "a", "restore_keys": many, "version": "v"})),
        ("FinalizeCacheEntryUpload", json!({"key": "a", "version": "v", "size_bytes": "x"})),
    ] {
        refused(one.cache(&world, method, body).await, 400, "invalid_argument").await;
    }
    let finish = json!({"key": "k", "version": "v", "size_bytes": 3});
    let never = one.cache(&world, "FinalizeCacheEntryUpload", finish.clone()).await;
    refused(never, 404, "not_found").await;
    let unknown = one.cache(&world, "ListCacheEntries", json!({})).await;
    refused(unknown, 404, "bad_route").await;

    // While one uploads, nobody else may; when its job is over, its upload is given up.
    let place = json!({"key": "k", "version": "v"});
    let created = json_of(one.cache(&world, "CreateCacheEntry", place.clone()).await).await;
    let url = created["signed_upload_url"].as_str().unwrap();
    assert_eq!(put(&world, url, "&comp=block&blockid=QQ%3D%3D", "abc").await.status(), 201);
    let taken = two.cache(&world, "CreateCacheEntry", place.clone()).await;
    refused(taken, 409, "already_exists").await;
    let others = two.cache(&world, "FinalizeCacheEntryUpload", finish).await;
    refused(others, 404, "not_found").await;
    assert_eq!(one.runner.complete(&world, "succeeded").await.status(), 200);
    two.save(&world, "k", "new").await;
    refused_xml(put(&world, url, "", "late").await, 409, "BlobImmutableDueToPolicy").await;
    assert_eq!(two.restore(&world, "k", &[]).await, Some(("k".into(), "new".into())));
}

/// As BuildKit's `type=gha` speaks: every key is also a restore key, an index is written by number.
#[tokio::test(flavor = "multi_thread")]
async fn caches_as_buildkit_wants_them() {
    use base64::Engine as _;
    let (world, folder) = world().await;
    let job = job(&world, &folder, "r1").await;
    let claims = job.runner.job_token().split('.').nth(1).unwrap();
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert!(claims["exp"].is_number() && claims["nbf"].is_number());
    let access: Value = serde_json::from_str(claims["ac"].as_str().unwrap()).unwrap();
    assert_eq!(access, json!([{"Scope": "refs/heads/main", "Permission": 3}]));

    let find = async |key: &str| {
        let body = json!({"key": key, "restore_keys": [key], "version": "v"});
        json_of(job.cache(&world, "GetCacheEntryDownloadURL", body).await).await
    };
    assert_eq!(find("index#").await, json!({"ok": false}));
    job.save(&world, "index#1", "one").await;
    let found = find("index#").await;
    assert_eq!(found["matched_key"], "index#1");
    let place = json!({"key": "index#1", "version": "v"});
    let lost = job.cache(&world, "CreateCacheEntry", place).await;
    refused(lost, 409, "already_exists").await;
    // Sizes as numbers, blocks out of order.
    let place = json!({"key": "index#2", "version": "v"});
    let made = json_of(job.cache(&world, "CreateCacheEntry", place).await).await;
    let url = made["signed_upload_url"].as_str().unwrap();
    for (block, text) in [("Qg==", "wo"), ("QQ==", "t")] {
        let answer = put(&world, url, &format!("&comp=block&blockid={block}"), text).await;
        assert_eq!(answer.status(), 201);
        assert!(answer.headers().contains_key("x-ms-request-id"));
    }
    let list =
        "<?xml version=\"1.0\"?><BlockList><Latest>QQ==</Latest><Latest>Qg==</Latest></BlockList>";
    assert_eq!(put(&world, url, "&comp=blocklist", list).await.status(), 201);
    let done = json!({"key": "index#2", "version": "v", "size_bytes": 3});
    let done = json_of(job.cache(&world, "FinalizeCacheEntryUpload", done).await).await;
    assert!(done["entry_id"].is_string(), "{done}");
    let found = find("index#").await;
    assert_eq!(found["matched_key"], "index#2");
    let answer = get(&world, found["signed_download_url"].as_str().unwrap(), "bytes=1-").await;
    assert_eq!(answer.status(), 206);
    assert!(answer.headers().contains_key("x-ms-request-id"));
    assert_eq!(answer.text().await.unwrap(), "wo");
}

/// A job of a repository that is named like its `cache-mode`. Without a folder: one that may do all.
pub(crate) async fn in_mode(world: &World, mode: &str, folder: Option<Folder>) -> (Folder, Job) {
    let remote = format!("acme/{mode}");
    let folder = match folder {
        None => world.folder(mode, &[(FILE, WORKFLOW)]),
        Some(folder) => {
            let key = format!("    cache-mode: {mode}\n    runs-on:");
            folder.commit(&[(FILE, &WORKFLOW.replace("    runs-on:", &key))]);
            folder
        }
    };
    let run = world.push(&folder, &remote).await;
    let Runner { id, config, .. } =
        Runner::registered_at(world, "orgs/acme", &format!("{mode}-{run}")).await;
    let mut runner = Runner::of(world, id, config).await;
    runner.acquire(world).await;
    (folder, Job { runner, run })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_mode_is_obeyed() {
    let world = World::new().await;
    for (mode, reads, writes) in [
        ("write", true, true),
        ("read", true, false),
        ("write-only", false, true),
        ("none", false, false),
    ] {
        let (folder, free) = in_mode(&world, mode, None).await;
        assert!(free.runner.message_of_job().variable("actions_cache_mode").is_none());
        free.runner.complete(&world, "succeeded").await;
        let (_, job) = in_mode(&world, mode, Some(folder)).await;
        let message = job.runner.message_of_job();
        assert_eq!(message.variable("actions_cache_mode").unwrap().value.expose(), mode);
        let place = json!({"key": "k", "version": "v"});
        let wrote = job.cache(&world, "CreateCacheEntry", place).await;
        let lookup = json!({"key": "k", "restore_keys": [], "version": "v"});
        let read = job.cache(&world, "GetCacheEntryDownloadURL", lookup).await;
        for (answer, allowed, words) in
            [(wrote, writes, "cache write denied:"), (read, reads, "cache read denied:")]
        {
            let want = if allowed { 200 } else { 403 };
            assert_eq!(answer.status(), want, "{mode}: {words}");
            let body: Value = answer.json().await.unwrap();
            let said = body["msg"].as_str().unwrap_or_default();
            assert_eq!(said.starts_with(words), !allowed, "{mode}: {body}");
        }
        job.runner.complete(&world, "succeeded").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_in_protobuf() {
    let (world, folder) = world().await;
    let job = job(&world, &folder, "r1").await;
    let call = async |method: &str, body: Vec<u8>| {
        let post = world.request(Method::POST, &format!("{CACHES}/{method}"));
        let post = post.bearer_auth(job.runner.job_token()).body(body);
        post.header("content-type", "application/protobuf").send().await.unwrap()
    };
    let text = |fields: &[(u64, Field<'_>)], number: u64| {
        let field = fields.iter().find(|(n, _)| *n == number).unwrap();
        field.1.text(number).unwrap().to_owned()
    };
    let place = || Writer::default().text(2, "k");
    let created = call("CreateCacheEntry", place().text(3, "v").finish()).await;
    assert_eq!(created.headers()["content-type"], "application/protobuf");
    let created = created.bytes().await.unwrap();
    let url = text(&read(&created).unwrap(), 2);
    assert_eq!(put(&world, &url, "", "content").await.status(), 201);
    let finished = call("FinalizeCacheEntryUpload", place().number(3, 7).text(4, "v").finish());
    let finished = finished.await.bytes().await.unwrap();
    let finished = read(&finished).unwrap();
    assert_eq!((finished[0], finished[1].0), ((1, Field::Number(1)), 2));
    let lookup = Writer::default().text(2, "none").item(3, "k").text(4, "v").finish();
    let found = call("GetCacheEntryDownloadURL", lookup).await.bytes().await.unwrap();
    let found = read(&found).unwrap();
    assert_eq!(text(&found, 3), "k");
    let content = world.client.get(text(&found, 2)).send().await.unwrap().text().await.unwrap();
    assert_eq!(content, "content");
    let miss =
        call("GetCacheEntryDownloadURL", Writer::default().text(2, "x").text(4, "v").finish());
    assert_eq!(miss.await.bytes().await.unwrap().len(), 0);
    // Errors are JSON whatever the request was.
    let again = call("CreateCacheEntry", place().text(3, "v").finish()).await;
    refused(again, 409, "already_exists").await;
    refused(call("CreateCacheEntry", vec![0xff]).await, 400, "invalid_argument").await;
}
