//! Artifacts and caches, by raw requests: what the services and the blob dialect answer.

mod caches;

use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

pub(crate) use caches::in_mode;

use crate::runner::Runner;
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

    pub(crate) async fn cache(&self, world: &World, method: &str, body: Value) -> Response {
        let path = format!("{CACHES}/{method}");
        self.runner.call(world, &path, body, json!({})).await
    }

    /// Makes a cache entry of this content.
    pub(crate) async fn save(&self, world: &World, key: &str, content: &str) {
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
    pub(crate) async fn restore(
        &self,
        world: &World,
        key: &str,
        more: &[&str],
    ) -> Option<(String, String)> {
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
