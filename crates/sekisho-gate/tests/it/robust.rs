//! Restarts, two at once, and clients that give up.

use std::sync::Arc;
use std::time::Duration;

use sekisho_store::Bucket;
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::crash::faulty::Faulty;
use crate::support::{ADMIN, NOW, Options, World, check_error, files, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";

async fn restart(mut world: World) -> World {
    let dir = std::mem::replace(&mut world.dir, tempfile::tempdir().unwrap());
    drop(world);
    World::on(dir, None).await
}

#[tokio::test]
async fn what_was_promoted_and_staged_survives_a_restart() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    let half = world.send("POST", "/v2/acme/app/blobs/uploads/", &token).await;
    let location = header(&half, "location");
    let request = world.request("PATCH", &location, &token).body("half a blob");
    assert_eq!(request.send().await.unwrap().status(), 202);

    let world = restart(world).await;
    assert_eq!(files(&world.dir.path().join("gate/uploads")), 0, "nothing half written is left");
    let response = world.send("GET", "/v2/acme/app/manifests/v1", "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(world.decisions("?run_id=12").await.len(), 1);
    // The other gate has another address, so sessions begin anew; the upload is gone.
    let token = &world.session(json!({})).await;
    check_error(world.send("GET", &location, token).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    assert_eq!(world.push("acme/app:v2", token, &[FINE]).await.status(), 201);
    assert_eq!(world.gate.verify_decisions().unwrap().faults, []);
}

#[tokio::test]
async fn a_promotion_that_was_cut_short_is_finished_by_the_next_put() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let manifest = world.push_blobs("acme/app", token, &[FINE], "app").await;
    let put = || world.put_manifest("acme/app/manifests/v1", token, &manifest);
    assert_eq!(put().await.status(), 201);
    // As if the gate had died before each of its last writes.
    let upstream = world.dir.path().join("upstream/repositories/acme/app");
    for gone in ["_tags", "_manifests", "_blobs"] {
        fs_err::remove_dir_all(upstream.join(gone)).unwrap();
        if gone != "_blobs" {
            let response = world.send("GET", "/v2/acme/app/manifests/v1", "").await;
            assert!(matches!(response.status().as_u16(), 200 | 404), "{gone}");
        }
        assert_eq!(put().await.status(), 201, "{gone}");
        let blob = format!("/v2/acme/app/blobs/{}", Digest::sha256(FINE.as_bytes()));
        assert_eq!(world.send("GET", &blob, "").await.status(), 200, "{gone}");
        let response = world.send("GET", "/v2/acme/app/manifests/v1", "").await;
        assert_eq!(response.status(), 200, "{gone}");
    }
    assert_eq!(world.decisions("").await.len(), 1, "one decision, however often it is asked for");
}

#[tokio::test]
async fn two_pushes_at_once() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    // The same manifest, many times: one decision.
    let manifest = &world.push_blobs("acme/app", token, &[FINE], "app").await;
    let puts = (0..8).map(|_| world.put_manifest("acme/app/manifests/v1", token, manifest));
    for response in futures_util::future::join_all(puts).await {
        assert_eq!(response.status(), 201);
    }
    assert_eq!(world.decisions("").await.len(), 1);

    // Different images under one tag: one of them wins, whole.
    let layers: Vec<String> = (0..6).map(|n| format!("LAYER {n}\npkg p{n} 1 fine")).collect();
    let pushes = layers.iter().map(|layer| async {
        let response = world.push("acme/app:v2", token, &[layer]).await;
        assert_eq!(response.status(), 201);
        header(&response, "docker-content-digest")
    });
    let digests = futures_util::future::join_all(pushes).await;
    let response = world.send("GET", "/v2/acme/app/manifests/v2", "").await;
    let found = header(&response, "docker-content-digest");
    assert!(digests.contains(&found));
    assert_eq!(found, Digest::sha256(&response.bytes().await.unwrap()).to_string());
    assert_eq!(world.gate.verify_decisions().unwrap().faults, []);
}

#[tokio::test]
async fn a_client_that_is_cut_off_may_go_on() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let response = world.send("POST", "/v2/acme/app/blobs/uploads/", token).await;
    let location = header(&response, "location");
    let mut socket = tokio::net::TcpStream::connect(world.host()).await.unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         transfer-encoding: chunked\r\n\r\nc350\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&[7; 50_000]).await.unwrap();
    socket.write_all(b"\r\n10\r\nhalf").await.unwrap();
    drop(socket);

    // The offset tells what came, and the client goes on there: refused while the gate still takes in what
    // was cut off, or when more of that came meanwhile.
    let sent = [&[7; 50_000][..], b"half"].concat();
    for attempt in 0.. {
        let range = header(&world.send("GET", &location, token).await, "range");
        let received = range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1;
        if received >= 50_000 {
            let content = [&sent[..received], &[7; 10_000]].concat();
            let path = format!("{location}?digest={}", Digest::sha256(&content));
            let request = world.request("PUT", &path, token);
            let request =
                request.header("content-range", format!("{received}-{}", content.len() - 1));
            let response = request.body(content[received..].to_vec()).send().await.unwrap();
            match response.status().as_u16() {
                201 => break,
                416 => {}
                _ => {
                    let message = check_error(response, 400, "BLOB_UPLOAD_INVALID").await;
                    assert!(message.contains("another request"), "{message}");
                }
            }
        }
        assert!(attempt < 500, "{range}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn too_many_uploads_are_refused_until_some_expire() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let begin = || world.send("POST", "/v2/acme/app/blobs/uploads/", token);
    let first = begin().await;
    for _ in 1..256 {
        assert_eq!(begin().await.status(), 202);
    }
    // What is small waits in memory.
    let uploads = world.dir.path().join("gate/uploads");
    assert_eq!(files(&uploads), 0);
    let request = world.request("PATCH", &header(&first, "location"), token);
    assert_eq!(request.body(vec![7; 100_000]).send().await.unwrap().status(), 202);
    assert_eq!(files(&uploads), 1);
    let response = begin().await;
    assert_eq!(header(&response, "retry-after"), "5");
    check_error(response, 429, "TOOMANYREQUESTS").await;
    world.pass(3601);
    let token = &world.session(json!({})).await;
    let response = world.send("POST", "/v2/acme/app/blobs/uploads/", token).await;
    assert_eq!(response.status(), 202);
    assert_eq!(files(&uploads), 0, "the abandoned ones are gone");
}

#[tokio::test]
async fn staged_content_expires() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    world.push_blobs("acme/app", &token, &[FINE], "app").await;
    let staging = world.dir.path().join("gate/staging");
    assert!(files(&staging) > 0);
    // A day without a use; it is removed when a gate opens, and from time to time.
    let world = world.again(Options { now: NOW + 25 * 3600, ..Options::default() }).await;
    for _ in 0..200 {
        if files(&world.dir.path().join("gate/staging")) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("expired content is still there");
}

#[tokio::test]
async fn no_secret_is_written_down() {
    let world = World::new().await;
    let jwt = world.jwt(&json!({}));
    let (_, body) = world.exchange(&jwt).await;
    let session = body["token"].as_str().unwrap();
    assert_eq!(world.push("acme/app:v1", session, &[FINE]).await.status(), 201);
    let mut stack = vec![world.dir.path().to_owned()];
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = String::from_utf8_lossy(&fs_err::read(&path).unwrap()).into_owned();
        let signature = jwt.rsplit('.').next().unwrap();
        for secret in [signature, session.rsplit('.').next().unwrap()] {
            assert!(!text.contains(secret), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn old_decisions_go_when_somebody_says_so() {
    let mut world = World::new().await;
    for number in 1..=3 {
        let token = world.session(json!({})).await;
        let layer = format!("LAYER\npkg express {number} fine");
        assert_eq!(world.push("acme/app:v1", &token, &[&layer]).await.status(), 201);
        // A gate that opens signs what is not signed yet: a checkpoint for each.
        world = world.again(Options::default()).await;
        while world.verified().await.signed < number {
            tokio::task::yield_now().await;
        }
    }
    let token = world.session(json!({})).await;
    let prune = async |days: u32, credential: &str| {
        let request = world.request("POST", "/_gate/v1/prune", credential);
        let response = request.json(&json!({"keep_days": days})).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(prune(1, &token).await.0, 401, "not by who pushes");
    assert_eq!(prune(0, ADMIN).await.0, 400);
    assert_eq!(prune(1, ADMIN).await, (200, json!({"decisions": 0})), "all too young");
    world.pass(3 * 86_400);
    assert_eq!(prune(4, ADMIN).await, (200, json!({"decisions": 0})));
    assert_eq!(prune(2, ADMIN).await, (200, json!({"decisions": 2})), "the newest stays");
    let verified = world.verified().await;
    assert_eq!((verified.records, verified.faults), (1, vec![]));
    let archive = world.archive();
    assert_eq!(archive.explain("1").unwrap(), None);
    assert!(archive.explain("3").unwrap().unwrap().reproduced, "what is left is explained");
}

/// The place of promoted images is slow: who reads is served, and nothing is lost or done twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_its_time_keeps_only_its_writers_waiting() {
    let store = Faulty::new();
    let world = World::in_bucket(Bucket::on(Arc::new(store.clone()), "gate")).await;
    let token = world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    let layer = "LAYER\npkg qs 1.0 fine";
    let manifest = world.push_blobs("acme/app", &token, &[layer], "app").await;
    let put = |tag: &str| {
        let path = format!("/v2/acme/app/manifests/{tag}");
        let request = world.request("PUT", &path, &token).body(manifest.clone());
        request.header("content-type", sekisho_oci::media_type::OCI_MANIFEST).send()
    };

    let stalled = store.stall().await;
    // As many as would take every thread of a small machine, and one client that gives up.
    let waiting: Vec<_> = (0..16).map(|tag| tokio::spawn(put(&format!("slow-{tag}")))).collect();
    assert!(tokio::time::timeout(Duration::from_millis(300), put("v2")).await.is_err());
    for path in [
        "/v2/acme/app/manifests/v1".to_owned(),
        format!("/v2/acme/app/blobs/{}", Digest::sha256(FINE.as_bytes())),
        "/v2/acme/app/tags/list".to_owned(),
    ] {
        assert_eq!(world.send("GET", &path, &token).await.status(), 200, "{path}");
    }
    let absent = world.send("GET", "/v2/acme/app/manifests/v2", "").await;
    assert_eq!(absent.status(), 404, "no tag before it is written");

    drop(stalled);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap().status(), 201);
    }
    assert_eq!(put("v2").await.unwrap().status(), 201);
    assert_eq!(world.decisions("").await.len(), 18, "one for each tag: v2 was decided once");
    assert_eq!(world.gate.verify_decisions().unwrap().faults, []);
}
