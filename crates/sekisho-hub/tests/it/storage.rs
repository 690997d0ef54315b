//! Artifacts and caches, by raw requests: what the services and the blob dialect answer.

use reqwest::{Method, Response, StatusCode};
use sekisho_github::wire::proto::{Field, Writer, read};
use serde_json::{Value, json};

use crate::job::Runner;
use crate::world::{ADMIN, Folder, WORKFLOW, World};

const FILE: &str = ".github/workflows/build.yml";
const ARTIFACTS: &str = "/twirp/github.actions.results.api.v1.ArtifactService";
const CACHES: &str = "/twirp/github.actions.results.api.v1.CacheService";

/// A runner at its job, of a push to a branch.
pub(crate) struct Job {
    pub(crate) runner: Runner,
    pub(crate) run: u64,
}

/// Pushes to `main`.
pub(crate) async fn job(world: &World, folder: &Folder, name: &str) -> Job {
    folder.commit(&[]);
    let run = world.push(folder, "acme/app").await;
    let mut runner = Runner::new(world, name).await;
    runner.acquire(world).await;
    Job { runner, run }
}

pub(crate) async fn world() -> (World, Folder) {
    let world = World::new().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    (world, folder)
}

impl Job {
    /// An artifact call, with the job's ids added.
    async fn artifact(&self, world: &World, method: &str, extra: Value) -> Response {
        let path = format!("{ARTIFACTS}/{method}");
        self.runner.call(world, &path, self.runner.backend_ids(), extra).await
    }

    async fn cache(&self, world: &World, method: &str, body: Value) -> Response {
        let path = format!("{CACHES}/{method}");
        self.runner.call(world, &path, body, json!({})).await
    }

    /// Makes a cache entry of this content.
    async fn save(&self, world: &World, key: &str, content: &str) {
        let place = json!({"metadata": null, "key": key, "version": "v"});
        let answer = json_of(self.cache(world, "CreateCacheEntry", place.clone()).await).await;
        assert_eq!(answer["ok"], true, "{answer}");
        let url = answer["signed_upload_url"].as_str().unwrap();
        assert_eq!(put(world, url, "", content).await.status(), 201);
        let size = json!({"key": key, "version": "v", "size_bytes": content.len().to_string()});
        let answer = json_of(self.cache(world, "FinalizeCacheEntryUpload", size).await).await;
        assert_eq!(answer["ok"], true, "{answer}");
        assert!(answer["entry_id"].as_str().unwrap().parse::<u64>().is_ok(), "{answer}");
    }

    /// The key that a lookup finds, and its content.
    async fn restore(&self, world: &World, key: &str, more: &[&str]) -> Option<(String, String)> {
        let body = json!({"key": key, "restore_keys": more, "version": "v"});
        let answer = json_of(self.cache(world, "GetCacheEntryDownloadURL", body).await).await;
        if answer == json!({"ok": false}) {
            return None;
        }
        let url = answer["signed_download_url"].as_str().unwrap();
        let content = world.client.get(url).send().await.unwrap().text().await.unwrap();
        Some((answer["matched_key"].as_str().unwrap().to_owned(), content))
    }
}

/// A body that must be of a success.
async fn json_of(answer: Response) -> Value {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Checks a refusal in Twirp's form.
async fn refused(answer: Response, status: u16, code: &str) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["code"], code, "{body}");
    assert!(body["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{body}");
    assert!(body.get("message").is_none(), "{body}");
}

/// Checks a refusal in Azure's form.
async fn refused_xml(answer: Response, status: u16, code: &str) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["x-ms-error-code"], code);
    assert!(answer.headers().contains_key("x-ms-request-id"));
    let text = answer.text().await.unwrap();
    assert!(text.contains(&format!("<Error><Code>{code}</Code><Message>")), "{text}");
}

async fn put(world: &World, url: &str, more: &str, body: impl AsRef<str>) -> Response {
    let put = world.client.put(format!("{url}{more}")).header("x-ms-blob-type", "BlockBlob");
    put.body(body.as_ref().to_owned()).send().await.unwrap()
}

async fn get(world: &World, url: &str, range: &str) -> Response {
    world.client.get(url).header("x-ms-range", range).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_in_blocks() {
    let (world, folder) = world().await;
    let job = job(&world, &folder, "r1").await;
    let name = json!({"name": "app", "version": 7, "mime_type": "application/zip"});
    let created = json_of(job.artifact(&world, "CreateArtifact", name).await).await;
    let url = created["signed_upload_url"].as_str().unwrap();
    let (path, query) = url.split_once('?').unwrap();
    assert!(path.starts_with(&format!("{}/devstoreaccount1/artifacts/", world.url)), "{url}");
    assert!(query.starts_with("se=20") && query.contains("&sig="), "{url}");

    // Out of order, one of them twice; nothing can be read before it is finished.
    for (id, text) in [("Qg%3D%3D", "world"), ("QQ%3D%3D", "old"), ("QQ%3D%3D", "hello ")] {
        let staged = put(&world, url, &format!("&comp=block&blockid={id}"), text).await;
        assert_eq!(staged.status(), 201);
        for header in ["etag", "last-modified", "x-ms-request-id", "x-ms-version", "date"] {
            assert!(staged.headers().contains_key(header), "{header}");
        }
    }
    let list = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>\
                <Latest>QQ==</Latest><Latest>Qg==</Latest></BlockList>";
    assert_eq!(put(&world, url, "&comp=blocklist", list).await.status(), 201);
    refused_xml(world.client.get(url).send().await.unwrap(), 403, "AuthenticationFailed").await;
    let none = job.artifact(&world, "ListArtifacts", json!({})).await;
    assert_eq!(json_of(none).await, json!({"artifacts": []}));

    let hash = "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    let wrong = json!({"name": "app", "size": "10", "hash": hash});
    refused(job.artifact(&world, "FinalizeArtifact", wrong).await, 400, "invalid_argument").await;
    let wrong = json!({"name": "app", "size": "11", "hash": hash.replace('b', "c")});
    refused(job.artifact(&world, "FinalizeArtifact", wrong).await, 400, "invalid_argument").await;
    let right = json!({"name": "app", "size": "11", "hash": hash});
    let answer = json_of(job.artifact(&world, "FinalizeArtifact", right).await).await;
    let id = answer["artifact_id"].as_str().unwrap().to_owned();
    refused_xml(put(&world, url, "", "more").await, 409, "BlobImmutableDueToPolicy").await;

    let listed = json_of(job.artifact(&world, "ListArtifacts", json!({})).await).await;
    let artifact = &listed["artifacts"][0];
    assert_eq!((&artifact["database_id"], &artifact["size"]), (&json!(id), &json!("11")));
    assert_eq!(artifact["digest"], hash);
    for (filter, want) in [
        (json!({"name_filter": "app"}), 1),
        (json!({"name_filter": "ap"}), 0),
        (json!({"id_filter": id}), 1),
        (json!({"id_filter": "1"}), 0),
    ] {
        let listed = json_of(job.artifact(&world, "ListArtifacts", filter.clone()).await).await;
        assert_eq!(listed["artifacts"].as_array().unwrap().len(), want, "{filter}");
    }
    let again = job.artifact(&world, "CreateArtifact", json!({"name": "app"})).await;
    refused(again, 409, "already_exists").await;
    downloads(&world, &job, &id).await;
}

async fn downloads(world: &World, job: &Job, id: &str) {
    let answer = job.artifact(world, "GetSignedArtifactURL", json!({"name": "app"})).await;
    let url = json_of(answer).await["signed_url"].as_str().unwrap().to_owned();
    for (range, status, content, text) in [
        ("", 200, None, "hello world"),
        ("bytes=0-", 206, Some("bytes 0-10/11"), "hello world"),
        ("bytes=4-7", 206, Some("bytes 4-7/11"), "o wo"),
        ("bytes=-5", 206, Some("bytes 6-10/11"), "world"),
        ("bytes=9-99", 206, Some("bytes 9-10/11"), "ld"),
        ("lines=1-2", 200, None, "hello world"),
    ] {
        let answer = get(world, &url, range).await;
        assert_eq!(answer.status(), status, "{range}");
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("content-range"), content, "{range}");
        assert_eq!(header("content-length"), Some(text.len().to_string().as_str()), "{range}");
        assert_eq!(header("content-type"), Some("application/zip"));
        assert_eq!(header("accept-ranges"), Some("bytes"));
        assert_eq!(header("x-ms-blob-type"), Some("BlockBlob"));
        let named = "attachment; filename=\"app.zip\"; filename*=UTF-8''app.zip";
        assert_eq!(header("content-disposition"), Some(named));
        assert!(header("x-ms-request-id").is_some() && header("etag").is_some());
        assert_eq!(answer.text().await.unwrap(), text, "{range}");
    }
    let beyond = get(world, &url, "bytes=11-").await;
    assert_eq!(beyond.headers()["content-range"], "bytes */11");
    refused_xml(beyond, 416, "InvalidRange").await;
    let head = world.client.head(&url).send().await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()["content-length"]),
        (StatusCode::OK, &"11".parse().unwrap())
    );
    let changed = world.client.get(&url).header("if-match", "\"0x1\"").send().await.unwrap();
    refused_xml(changed, 412, "ConditionNotMet").await;
    refused_xml(put(world, &url, "", "x").await, 403, "AuthenticationFailed").await;
    let forged = world.client.get(url.replace("sig=", "sig=x")).send().await.unwrap();
    refused_xml(forged, 403, "AuthenticationFailed").await;

    // Over REST, with another token, and after the job is over.
    assert_eq!(job.runner.complete(world, "succeeded").await.status(), 200);
    let over = job.artifact(world, "ListArtifacts", json!({})).await;
    refused(over, 403, "permission_denied").await;
    let base = "/api/v3/repos/acme/app/actions";
    let listed = world.get(&format!("{base}/runs/{}/artifacts?name=app", job.run)).await;
    assert_eq!(
        (&listed["total_count"], &listed["artifacts"][0]["name"]),
        (&json!(1), &json!("app"))
    );
    assert_eq!(listed["artifacts"][0]["id"].to_string(), id);
    assert_eq!(world.get(&format!("{base}/artifacts?name=other")).await["total_count"], 0);
    let zip = listed["artifacts"][0]["archive_download_url"].as_str().unwrap();
    let zip = zip.strip_prefix(&world.url).unwrap();
    assert_eq!(zip, format!("{base}/artifacts/{id}/zip"));
    let followed = world.request(Method::GET, zip).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(followed.url().query().map(|query| query.contains("sig=")), Some(true));
    assert_eq!(followed.text().await.unwrap(), "hello world");
    let foreign = zip.replace("acme/app", "acme/other");
    let foreign = world.request(Method::GET, &foreign).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(foreign.status(), 404);
    let path = format!("{base}/artifacts/{id}");
    for want in [204, 404] {
        let gone = world.request(Method::DELETE, &path).bearer_auth(ADMIN).send().await.unwrap();
        assert_eq!(gone.status(), want);
    }
    refused_xml(get(world, &url, "").await, 404, "BlobNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_artifacts_refuse() {
    let (world, folder) = world().await;
    let one = job(&world, &folder, "r1").await;
    let two = job(&world, &folder, "r2").await;
    for (method, extra, status, code) in [
        ("CreateArtifact", json!({"name": "a/b"}), 400, "invalid_argument"),
        ("CreateArtifact", json!({"name": ""}), 400, "invalid_argument"),
        ("CreateArtifact", json!({"name": 7}), 400, "invalid_argument"),
        ("CreateArtifact", json!({}), 400, "invalid_argument"),
        ("CreateArtifact", json!({"name": "a", "mime_type": "a\nb"}), 400, "invalid_argument"),
        ("FinalizeArtifact", json!({"name": "never", "size": "1"}), 404, "not_found"),
        ("GetSignedArtifactURL", json!({"name": "never"}), 404, "not_found"),
        ("DeleteArtifact", json!({"name": "never"}), 404, "not_found"),
        ("MigrateArtifact", json!({"name": "a"}), 404, "bad_route"),
    ] {
        refused(one.artifact(&world, method, extra).await, status, code).await;
    }
    // The ids of one run with the token of another.
    let path = format!("{ARTIFACTS}/ListArtifacts");
    let stolen = one.runner.call(&world, &path, two.runner.backend_ids(), json!({})).await;
    refused(stolen, 403, "permission_denied").await;
    let nobody = world.request(Method::POST, &path).bearer_auth("x").json(&json!({}));
    refused(nobody.send().await.unwrap(), 401, "unauthenticated").await;
    let text = world.request(Method::POST, &path).bearer_auth(one.runner.job_token()).body("{");
    refused(text.send().await.unwrap(), 400, "invalid_argument").await;

    let created = one.artifact(&world, "CreateArtifact", json!({"name": "a"})).await;
    let created = json_of(created).await;
    let url = created["signed_upload_url"].as_str().unwrap();
    for (more, body, status, code) in [
        ("&comp=block&blockid=..%2F..%2F~", "x", 400, "InvalidQueryParameterValue"),
        ("&comp=tier", "x", 400, "InvalidQueryParameterValue"),
        ("&comp=blocklist", "<BlockList>", 400, "InvalidXmlDocument"),
        (
            "&comp=blocklist",
            "<BlockList><Latest>QQ==</Latest></BlockList>",
            400,
            "InvalidBlockList",
        ),
    ] {
        refused_xml(put(&world, url, more, body).await, status, code).await;
    }
    let finish = json!({"name": "a", "size": "0"});
    let empty = one.artifact(&world, "FinalizeArtifact", finish).await;
    refused(empty, 412, "failed_precondition").await;
    let page = world.client.put(url).header("x-ms-blob-type", "PageBlob").send().await.unwrap();
    refused_xml(page, 400, "InvalidHeaderValue").await;
}

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
    let mut runner = Runner::new(world, &format!("{mode}-{run}")).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_what_a_restart_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(dir, |config| config.cache_bytes_max = 100).await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let job = job(&world, &folder, "r1").await;
    let place = json!({"key": "large", "version": "v"});
    let created = json_of(job.cache(&world, "CreateCacheEntry", place).await).await;
    let url = created["signed_upload_url"].as_str().unwrap();
    let large = put(&world, url, "", "x".repeat(101)).await;
    refused_xml(large, 413, "RequestBodyTooLarge").await;
    // Blocks count together, and what was refused does not count.
    assert_eq!(
        put(&world, url, "&comp=block&blockid=QQ%3D%3D", "x".repeat(60)).await.status(),
        201
    );
    let second = put(&world, url, "&comp=block&blockid=Qg%3D%3D", "x".repeat(60)).await;
    refused_xml(second, 413, "RequestBodyTooLarge").await;
    job.save(&world, "a", &"a".repeat(60)).await;
    job.save(&world, "b", &"b".repeat(30)).await;
    job.save(&world, "c", &"c".repeat(30)).await;
    // `a` was the oldest, and had to go.
    assert_eq!(job.restore(&world, "a", &[]).await, None);
    assert_eq!(job.restore(&world, "b", &[]).await.unwrap().1, "b".repeat(30));
    let name = json!({"name": "kept"});
    let created = json_of(job.artifact(&world, "CreateArtifact", name).await).await;
    let kept = created["signed_upload_url"].as_str().unwrap();
    assert_eq!(put(&world, kept, "", "content").await.status(), 201);
    let done = json!({"name": "kept", "size": "7"});
    let done = json_of(job.artifact(&world, "FinalizeArtifact", done).await).await;
    let blobs = world.dir.path().join("hub/blobs");
    assert_eq!(blobs.read_dir().unwrap().count(), 4);

    world.hub.shutdown().await;
    let world = World::on(world.kill()).await;
    // The half upload is gone, the rest is there; ids go on.
    assert_eq!(blobs.read_dir().unwrap().count(), 3);
    let id = done["artifact_id"].as_str().unwrap();
    let path = format!("/api/v3/repos/acme/app/actions/artifacts/{id}/zip");
    let zip = world.request(Method::GET, &path).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(zip.text().await.unwrap(), "content");
    let job = self::job(&world, &folder, "r2").await;
    assert_eq!(job.restore(&world, "c", &[]).await.unwrap().1, "c".repeat(30));
    let old = job.artifact(&world, "ListArtifacts", json!({})).await;
    assert_eq!(json_of(old).await, json!({"artifacts": []}));
}
