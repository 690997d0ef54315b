//! Several gates over one bucket: in memory, and at an S3-compatible server that nobody here wrote.

use std::sync::Arc;
use std::time::Duration;

use sekisho_store::{BUCKET_SILENCE, Bucket, BucketConfig, BucketCredentials};
use sekisho_types::Digest;
use serde_json::json;

use crate::support::{World, check_error, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";

/// moto's server; `None`, said on one line, where it is not installed.
pub(crate) struct Moto(peers::Moto);

impl Moto {
    pub(crate) fn start() -> Option<Self> {
        peers::Moto::start().unwrap().map(Self)
    }

    pub(crate) async fn bucket(&self) -> Bucket {
        self.bucket_at(self.host(), BUCKET_SILENCE).await
    }

    pub(crate) fn host(&self) -> &str {
        self.0.host()
    }

    /// A bucket, by an address that leads to the server.
    pub(crate) async fn bucket_at(&self, host: &str, silence: Duration) -> Bucket {
        // A client needs one; another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{host}");
        let made = client.put(format!("{url}/sekisho")).send().await.unwrap();
        assert_eq!(made.status(), 200);
        let credentials = BucketCredentials {
            access_key_id: "test".into(),
            secret_access_key: "test".to_owned().into(),
        };
        Bucket::s3(&BucketConfig {
            name: "sekisho".into(),
            prefix: "gate".into(),
            endpoint: Some(url),
            region: "us-east-1".into(),
            credentials: Some(credentials),
            identity: Vec::new(),
            silence,
        })
        .unwrap()
    }
}

pub(crate) fn memory() -> Bucket {
    Bucket::on(Arc::new(object_store::memory::InMemory::new()), "gate")
}

#[tokio::test]
async fn gates_on_one_bucket_in_memory() {
    pushes(memory()).await;
    uploads(memory()).await;
    tags(memory()).await;
    tokens(memory()).await;
    garbage(memory()).await;
    tokens_at_once(memory()).await;
}

#[tokio::test]
async fn gates_on_one_bucket_of_moto() {
    let Some(moto) = Moto::start() else { return };
    let bucket = moto.bucket().await;
    pushes(bucket.below("pushes")).await;
    uploads(bucket.below("uploads")).await;
    tags(bucket.below("tags")).await;
    tokens(bucket.below("tokens")).await;
    garbage(bucket.below("garbage")).await;
}

async fn collect(world: &World) -> sekisho_gate::Collected {
    let gate = world.gate.clone();
    tokio::task::spawn_blocking(move || gate.collect_garbage().unwrap()).await.unwrap()
}

/// What one gate would remove, another one keeps for its client.
async fn garbage(bucket: Bucket) {
    let one = World::in_bucket(bucket).await;
    let two = one.replica().await;
    // The clock of these tests is ahead of the bucket's, so all content is old.
    let token = one.session(json!({})).await;
    let lines = ["LAYER\npkg one 1 fine", "LAYER\npkg two 1 fine"];
    for (tag, line) in ["v1", "v2"].iter().zip(lines) {
        let pushed = one.push(&format!("acme/app:{tag}"), &token, &[line]).await;
        assert_eq!(pushed.status(), 201);
        let head = two.send("HEAD", &format!("/v2/acme/app/manifests/{tag}"), "").await;
        let path = format!("/v2/acme/app/manifests/{}", header(&head, "docker-content-digest"));
        assert_eq!(two.send("DELETE", &path, &token).await.status(), 202);
    }
    let blobs = lines.map(|it| format!("/v2/acme/app/blobs/{}", Digest::sha256(it.as_bytes())));
    let none = sekisho_gate::Collected::default();
    assert_eq!(collect(&one).await, none, "condemned, no more");
    one.pass(3600);
    assert_eq!(collect(&two).await, none, "and not an hour later either");
    one.pass(24 * 3600);
    // A client is about to push one of them again, at the gate that collects least.
    let again = one.session(json!({"run_id": "77"})).await;
    assert_eq!(two.send("HEAD", &blobs[0], &again).await.status(), 200);
    let collected = collect(&one).await;
    assert!(collected.blobs > 0 && collected.links > 0, "{collected:?}");
    assert_eq!(collect(&two).await, none, "once is enough");
    assert_eq!(one.send("HEAD", &blobs[0], &again).await.status(), 200, "saved");
    assert_eq!(one.send("HEAD", &blobs[1], &again).await.status(), 404, "nobody wanted it");
    for (tag, line) in ["v1", "v2"].iter().zip(lines) {
        let pushed = one.push(&format!("acme/app:{tag}"), &again, &[line]).await;
        assert_eq!(pushed.status(), 201, "{tag}");
    }
    for _ in 0..3 {
        one.pass(25 * 3600);
        assert_eq!((collect(&one).await.blobs, collect(&two).await.blobs), (0, 0));
    }
    for (blob, line) in blobs.iter().zip(lines) {
        let read = two.send("GET", blob, "").await;
        assert_eq!(read.bytes().await.unwrap(), line.as_bytes());
    }
}

/// What one gate takes in, the other one serves.
async fn pushes(bucket: Bucket) {
    let one = World::in_bucket(bucket).await;
    let two = one.replica().await;
    let token = &one.session(json!({})).await;
    let manifest = one.push_blobs("acme/app", token, &[FINE], "app").await;
    let path = "acme/app/manifests/v1";
    let response = two.put_manifest(path, token, &manifest).await;
    assert_eq!(response.status(), 201, "{:?}", response.text().await);
    for gate in [&one, &two] {
        let response = gate.send("GET", "/v2/acme/app/manifests/v1", "").await;
        assert_eq!(response.bytes().await.unwrap(), manifest);
        let blob = format!("/v2/acme/app/blobs/{}", Digest::sha256(FINE.as_bytes()));
        let response = gate.request("GET", &blob, "").header("range", "bytes=3-9").send().await;
        assert_eq!(response.unwrap().bytes().await.unwrap(), &FINE.as_bytes()[3..10]);
        assert_eq!(gate.put_manifest(path, token, &manifest).await.status(), 201);
    }
    assert_eq!(one.decisions("?run_id=12").await.len(), 1, "one push, one decision");
    // Not a file of content in a folder: only keys, and places to spool.
    let names = fs_err::read_dir(one.dir.path().join("gate")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name != "staging" && name != "decisions"), "{names:?}");

    let delete = format!("/v2/acme/app/manifests/{}", Digest::sha256(&manifest));
    assert_eq!(two.send("DELETE", &delete, token).await.status(), 202);
    let gone = one.send("GET", "/v2/acme/app/manifests/v1", "").await;
    check_error(gone, 404, "MANIFEST_UNKNOWN").await;
}

/// A token is taken once, at whichever gate.
async fn tokens(bucket: Bucket) {
    let one = World::in_bucket(bucket).await;
    let two = one.replica().await;
    let jwt = one.jwt(&json!({}));
    assert_eq!(one.exchange(&jwt).await.0, 200);
    for gate in [&two, &one] {
        let (status, body) = gate.exchange(&jwt).await;
        assert_eq!((status, &body["error"]), (400, &json!("invalid_grant")));
        assert_eq!(body["error_description"], "the token was exchanged already");
        // Nor does it open anything as a password any more.
        let request = gate.request("GET", "/token?service=sekisho-gate", &jwt);
        check_error(request.send().await.unwrap(), 401, "UNAUTHORIZED").await;
    }
}

/// A token that is given to both gates at once, again and again: one of them takes it. On the store
/// in memory alone: moto looks and then writes, which a store must do in one step.
async fn tokens_at_once(bucket: Bucket) {
    let one = World::in_bucket(bucket).await;
    let two = one.replica().await;
    for _ in 0..20 {
        let jwt = &one.jwt(&json!({}));
        let (a, b) = futures_util::future::join(one.exchange(jwt), two.exchange(jwt)).await;
        assert_eq!([a.0, b.0].iter().filter(|status| **status == 200).count(), 1);
    }
}

/// An upload goes on at the other gate, for the same run and repository alone.
async fn uploads(bucket: Bucket) {
    let one = World::in_bucket(bucket).await;
    let two = one.replica().await;
    let token = &one.session(json!({})).await;
    let begun = one.send("POST", "/v2/acme/app/blobs/uploads/", token).await;
    assert_eq!(begun.status(), 202, "{:?}", begun.text().await);
    let location = header(&begun, "location");
    let content = format!("{FINE}\n{}", "x".repeat(100_000)).into_bytes();
    // S3 could not copy it to its place.
    let huge = one.request("PATCH", &location, token).header("content-range", "0-5368709120");
    check_error(huge.body("x").send().await.unwrap(), 413, "SIZE_INVALID").await;
    for (number, piece) in content.chunks(30_000).enumerate() {
        let gate = if number % 2 == 0 { &one } else { &two };
        let request = gate.request("PATCH", &location, token);
        let range = format!("{}-{}", number * 30_000, number * 30_000 + piece.len() - 1);
        let request = request.header("content-range", range).body(piece.to_vec());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 202, "{:?}", response.text().await);
    }
    for gate in [&one, &two] {
        let status = gate.send("GET", &location, token).await;
        assert_eq!(header(&status, "range"), format!("0-{}", content.len() - 1));
        let other = &one.session(json!({"run_id": "13"})).await;
        let status = gate.send("GET", &location, other).await;
        check_error(status, 404, "BLOB_UPLOAD_UNKNOWN").await;
        let elsewhere = location.replace("acme/app", "acme/app/other");
        let status = gate.send("GET", &elsewhere, token).await;
        check_error(status, 404, "BLOB_UPLOAD_UNKNOWN").await;
    }
    // Content that is not what was promised ends the upload; so begin another one, and end it.
    let digest = Digest::sha256(&content);
    let done = one.send("PUT", &format!("{location}?digest={digest}"), token).await;
    assert_eq!(done.status(), 201, "{:?}", done.text().await);
    let blob = two.send("GET", &format!("/v2/acme/app/blobs/{digest}"), token).await;
    assert_eq!(blob.bytes().await.unwrap(), content);
    let status = two.send("GET", &location, token).await;
    check_error(status, 404, "BLOB_UPLOAD_UNKNOWN").await;
    let begun = two.send("POST", "/v2/acme/app/blobs/uploads/", token).await;
    let location = header(&begun, "location");
    assert_eq!(one.send("DELETE", &location, token).await.status(), 204);
    check_error(two.send("GET", &location, token).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
}

/// Many images race for one tag at two gates.
async fn tags(bucket: Bucket) {
    let one = World::in_bucket(bucket).await;
    let two = one.replica().await;
    let token = &one.session(json!({})).await;
    let layers: Vec<String> = (0..6).map(|n| format!("LAYER {n}\npkg p{n} 1 fine")).collect();
    let pushes = layers.iter().enumerate().map(|(number, layer)| {
        let gate = if number % 2 == 0 { &one } else { &two };
        async move {
            let response = gate.push("acme/app:v1", token, &[layer]).await;
            assert_eq!(response.status(), 201, "{:?}", response.text().await);
            header(&response, "docker-content-digest")
        }
    });
    let digests = futures_util::future::join_all(pushes).await;
    let named: Vec<String> = {
        let mut named = Vec::new();
        for gate in [&one, &two] {
            let response = gate.send("GET", "/v2/acme/app/manifests/v1", "").await;
            named.push(header(&response, "docker-content-digest"));
        }
        named
    };
    assert_eq!(named[0], named[1]);
    assert!(digests.contains(&named[0]), "one of them has it, whole");
    assert_eq!(one.decisions("").await.len(), 6);
    let verified = two.verified().await;
    assert_eq!((verified.records, verified.faults), (6, vec![]), "one chain");
}
