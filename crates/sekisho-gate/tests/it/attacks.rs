//! What others were hit by: published vulnerabilities of registries and token libraries, one test each,
//! then abuse of everything that a request can say.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rsa::traits::PublicKeyParts as _;
use sekisho_gate::{Inspection, Inspector};
use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, media_type};
use sekisho_scanner::{Limits, index_layer};
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Options, World, check_error, files, header, key, sign};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";
const UPLOADS: &str = "/v2/acme/app/blobs/uploads/";

/// distribution: a count in a query made the registry allocate that much.
#[tokio::test]
async fn cve_2023_2253_a_count_is_capped() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    for n in ["99999999999", "18446744073709551615", "0"] {
        let response = world.send("GET", &format!("/v2/acme/app/tags/list?n={n}"), "").await;
        assert_eq!(response.status(), 200, "{n}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["tags"].as_array().unwrap().len(), usize::from(n != "0"), "{n}");
    }
    for n in ["-1", "18446744073709551616", "x", "1e9", ""] {
        let response = world.send("GET", &format!("/v2/acme/app/tags/list?n={n}"), "").await;
        check_error(response, 400, "SIZE_INVALID").await;
    }
    // There is no catalogue: it would tell everybody's names.
    let response = world.send("GET", "/v2/_catalog?n=99999999999", &token).await;
    check_error(response, 404, "NAME_UNKNOWN").await;
}

/// distribution: a manifest of any size was read into memory.
#[tokio::test]
async fn cve_2017_11468_a_manifest_has_a_limit() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let huge = vec![b' '; 5 * 1024 * 1024];
    let response = world.put_manifest("acme/app/manifests/v1", &token, &huge).await;
    check_error(response, 413, "MANIFEST_INVALID").await;
    // Without saying how long it is.
    let pieces = (0..80).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let request = world.request("PUT", "/v2/acme/app/manifests/v1", &token);
    let request = request.header("content-type", media_type::OCI_MANIFEST).body(body);
    if let Ok(response) = request.send().await {
        check_error(response, 413, "MANIFEST_INVALID").await;
    }
}

/// distribution: the key of the `jwk` header was trusted when its name was known.
#[tokio::test]
async fn cve_2025_24976_a_token_brings_no_key() {
    let world = World::new().await;
    let part = |bytes: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let evil = key(1);
    let jwk = json!({
        "kty": "RSA", "kid": "k1", "alg": "RS256",
        "n": part(evil.n().to_bytes_be()), "e": part(evil.e().to_bytes_be()),
    });
    let header = json!({"alg": "RS256", "kid": "k1", "jwk": jwk});
    for with in [0, 1] {
        assert_eq!(world.exchange(&sign(&header, &world.claims(), with)).await.0, 400);
    }
}

/// PyJWT, libjwt: a public key was taken for the secret of an HMAC.
#[tokio::test]
async fn cve_2026_48526_and_44699_a_public_key_is_no_secret() {
    let world = World::new().await;
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed =
        format!("{}.{}", part(&json!({"alg": "HS256", "kid": "k1"})), part(&world.claims()));
    for secret in [key(0).n().to_bytes_be(), b"k1".to_vec(), Vec::new()] {
        let mac = hmac_sha256(&secret, signed.as_bytes());
        let token = format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac));
        assert_eq!(world.exchange(&token).await.0, 400);
    }
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    ring::hmac::sign(&key, message).as_ref().to_vec()
}

/// golang-jwt: a token of nothing but dots cost memory before anything was verified.
#[tokio::test]
async fn cve_2025_30204_a_token_of_dots_is_refused_by_its_length() {
    let world = World::new().await;
    for length in [3, 1000, 8191, 8193, 60_000] {
        let (status, _) = world.exchange(&".".repeat(length)).await;
        assert_eq!(status, 400, "{length}");
    }
    let (status, _) = world.exchange(&"a".repeat(100_000)).await;
    assert_eq!(status, 400);
    assert_eq!(world.fetched.load(std::sync::atomic::Ordering::SeqCst), 0, "no key was asked for");
}

/// distribution, zot: a cache of blobs gave everybody what one repository held.
#[tokio::test]
async fn cve_2026_35172_and_2024_39897_membership_decides_and_no_cache() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    for name in ["acme/app:v1", "acme/app/web:v1"] {
        assert_eq!(world.push(name, &token, &[FINE]).await.status(), 201);
    }
    let digest = Digest::sha256(FINE.as_bytes());
    let path = |name: &str| format!("/v2/{name}/blobs/{digest}");
    // One store holds it, and a repository that never had it does not.
    check_error(world.send("GET", &path("acme/app/other"), &token).await, 404, "BLOB_UNKNOWN")
        .await;
    let manifest = world.send("HEAD", "/v2/acme/app/manifests/v1", "").await;
    let manifest = header(&manifest, "docker-content-digest");
    let gone = world.send("DELETE", &format!("/v2/acme/app/manifests/{manifest}"), &token).await;
    assert_eq!(gone.status(), 202);
    assert_eq!(world.send("DELETE", &path("acme/app"), &token).await.status(), 202);
    assert_eq!(world.send("GET", &path("acme/app/web"), "").await.status(), 200);
    // Read where it is, asked for where it was: deleted stays deleted for who did not push it.
    let other = world.session(json!({"run_id": "77"})).await;
    for token in ["", &other] {
        let status = world.send("GET", &path("acme/app"), token).await.status();
        assert!(matches!(status.as_u16(), 401 | 404), "{status}");
    }
}

/// distribution: deleting a tag did not ask whether deleting is allowed.
#[tokio::test]
async fn cve_2026_41888_every_delete_is_authorised() {
    let policies = include_str!("../../../sekisho-policy/policies/default.cedar").to_owned()
        + "\n@id(\"no-deletes\") @mode(\"enforce\") @message(\"nothing is deleted\") @fix(\"f\") @docs(\"d\")\n\
           forbid (principal, action == Action::\"delete\", resource);";
    let world = World::on(tempfile::tempdir().unwrap(), Some(policies)).await;
    let token = world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    let manifest =
        header(&world.send("HEAD", "/v2/acme/app/manifests/v1", "").await, "docker-content-digest");
    let blob = Digest::sha256(FINE.as_bytes());
    for path in
        ["manifests/v1".to_owned(), format!("manifests/{manifest}"), format!("blobs/{blob}")]
    {
        let response = world.send("DELETE", &format!("/v2/acme/app/{path}"), &token).await;
        let message = check_error(response, 403, "DENIED").await;
        assert!(message.starts_with("no-deletes"), "{message}");
        let response = world.send("DELETE", &format!("/v2/acme/app/{path}"), "").await;
        check_error(response, 401, "UNAUTHORIZED").await;
    }
    assert_eq!(world.send("GET", "/v2/acme/app/manifests/v1", "").await.status(), 200);
}

/// Everybody: one document that is an image to one reader and an index to another.
#[tokio::test]
async fn cve_2021_41190_a_document_is_one_thing() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let good: Value =
        serde_json::from_slice(&world.push_blobs("acme/app", &token, &[FINE], "app").await)
            .unwrap();
    let mut both = good.clone();
    both["manifests"] = json!([]);
    let mut index =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []});
    index["layers"] = good["layers"].clone();
    let mut lies = good.clone();
    lies["mediaType"] = media_type::OCI_INDEX.into();
    for (document, content_type) in [
        (both.clone(), media_type::OCI_MANIFEST),
        (both, media_type::OCI_INDEX),
        (index, media_type::OCI_INDEX),
        (lies, media_type::OCI_MANIFEST),
        (good.clone(), media_type::OCI_INDEX),
        (good, "application/json"),
    ] {
        let bytes = document.to_string().into_bytes();
        let response = world.put_as("acme/app/manifests/v1", &token, &bytes, content_type).await;
        check_error(response, 400, "MANIFEST_INVALID").await;
    }
    assert_eq!(world.decisions("").await.len(), 0);
}

/// zot: groups of an earlier login stayed with a later one.
#[tokio::test]
async fn cve_2025_23208_nothing_of_one_session_helps_another() {
    let world = World::new().await;
    let push = world.session(json!({})).await;
    assert_eq!(world.send("POST", UPLOADS, &push).await.status(), 202);
    let pull_request = world.session(json!({"event_name": "pull_request"})).await;
    check_error(world.send("POST", UPLOADS, &pull_request).await, 403, "DENIED").await;
    assert_eq!(world.send("POST", UPLOADS, &push).await.status(), 202);
}

/// Harbor: an administrator with a password that everybody knows.
#[tokio::test]
async fn cve_2026_4404_there_is_no_default_credential() {
    let world = World::new().await;
    for (user, password) in
        [("admin", "Harbor12345"), ("admin", "admin"), ("admin", ""), ("", ""), ("root", "root")]
    {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        for path in ["/token?scope=repository:acme/app:push", "/v2/", "/_gate/v1/decisions"] {
            let request = world.request("GET", path, "").header("authorization", &basic);
            check_error(request.send().await.unwrap(), 401, "UNAUTHORIZED").await;
        }
    }
}

/// containerd: the address of a foreign layer was fetched, with a credential.
#[tokio::test]
async fn cve_2020_15157_an_address_in_a_manifest_is_never_fetched() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = trap.local_addr().unwrap();
    let mut manifest: Value =
        serde_json::from_slice(&world.push_blobs("acme/app", &token, &[FINE], "app").await)
            .unwrap();
    let urls = json!([format!("http://{address}/layer"), "file:///etc/passwd"]);
    manifest["layers"][0]["urls"] = urls.clone();
    manifest["config"]["urls"] = urls.clone();
    let mut foreign = manifest.clone();
    foreign["layers"][0]["mediaType"] = media_type::OCI_LAYER_NONDISTRIBUTABLE_GZIP.into();
    foreign["layers"][0]["digest"] = Digest::sha256(b"elsewhere").to_string().into();
    for manifest in [manifest, foreign] {
        let bytes = manifest.to_string().into_bytes();
        let _ = world.put_manifest("acme/app/manifests/v1", &token, &bytes).await;
    }
    // Whoever had called is in the queue: the first to come is this test itself.
    let mut own = tokio::net::TcpStream::connect(address).await.unwrap();
    own.write_all(b"own").await.unwrap();
    drop(own);
    let mut first = String::new();
    trap.accept().await.unwrap().0.read_to_string(&mut first).await.unwrap();
    assert_eq!(first, "own");
}

#[tokio::test]
async fn names_and_references_lead_nowhere_else() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let before = files(world.dir.path());
    let digest = Digest::sha256(b"x");
    for path in [
        "/v2/../../etc/passwd/manifests/v1",
        "/v2/acme/..%2f..%2fapp/manifests/v1",
        "/v2/acme/app/../../../x/blobs/uploads/",
        "/v2/acme//app/manifests/v1",
        "/v2/acme/app/manifests/..%2f..%2fx",
        "/v2/acme/app/manifests/%00",
        "/v2/acme/app/manifests/sha256:..%2f..%2fx",
        "/v2/acme/app/manifests/sha256:ABCDEF",
        "/v2/acme/app/blobs/sha256:",
        "/v2/acme/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e",
        "/v2/acme/app/blobs/sha256%3a00",
        "/v2/acme/app/blobs/uploads/../../../x",
        "/v2/acme/app/blobs/uploads/%2e%2e%2f",
        "/v2/ACME/app/manifests/v1",
        "/v2/acme/app%0d%0aX-Evil:%201/manifests/v1",
        &format!("/v2/{}/manifests/v1", "a/".repeat(200)),
        &format!("/v2/acme/app/manifests/{}", "t".repeat(129)),
        &format!("/v2/acme/app/blobs/{digest}/../../../../x"),
    ] {
        // As it stands: a client would take the dots out.
        let answer =
            raw(&world, &format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n")).await;
        let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        assert!((400..500).contains(&status), "{path}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("\nx-evil"), "{path}");
    }
    assert_eq!(files(world.dir.path()), before, "nothing was written");
}

/// One request as it stands, and the head of the answer.
async fn raw(world: &World, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(world.host()).await.unwrap();
    let request = format!("{request}Host: {}\r\nConnection: close\r\n\r\n", world.host());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_host_of_the_senders_choice_is_told_to_nobody() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    for head in [
        format!(
            "POST {UPLOADS} HTTP/1.1\r\nContent-Length: 0\r\nX-Forwarded-Host: evil.example\r\nAuthorization: Bearer {token}\r\n"
        ),
        format!(
            "POST {UPLOADS} HTTP/1.1\r\nContent-Length: 0\r\nX-Forwarded-Host: evil.example\r\n"
        ),
    ] {
        let mut stream = tokio::net::TcpStream::connect(world.host()).await.unwrap();
        let request = format!("{head}Host: evil.example\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 202") || answer.starts_with("HTTP/1.1 401"),
            "{answer}"
        );
        assert!(!answer.contains("evil.example"), "{answer}");
    }
}

#[tokio::test]
async fn ranges_cannot_be_abused() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let digest = world.push_blob("acme/app", &token, b"0123456789").await;
    let path = format!("/v2/acme/app/blobs/{digest}");
    let many = format!("bytes={}", vec!["0-1"; 1000].join(","));
    for (range, status, length) in [
        ("bytes=0-18446744073709551615", 206, 10),
        ("bytes=9-9", 206, 1),
        ("bytes=-3", 206, 3),
        ("bytes=-18446744073709551615", 206, 10),
        ("bytes=5-1", 416, 0),
        ("bytes=10-", 416, 0),
        ("bytes=-0", 416, 0),
        ("bytes=18446744073709551616-", 200, 10),
        ("bytes=a-b", 200, 10),
        ("lines=0-1", 200, 10),
        ("bytes=0-1,3-4", 200, 10),
        (many.as_str(), 200, 10),
    ] {
        let request = world.request("GET", &path, &token).header("range", range);
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{range:.40}");
        if status != 416 {
            assert_eq!(response.bytes().await.unwrap().len(), length, "{range:.40}");
        }
    }
    for range in [
        "1-3",
        "0-18446744073709551615",
        "18446744073709551615-18446744073709551615",
        "5-3",
        "-1-3",
        "a-b",
        "",
        "bytes 7-9/10",
        "0-3-5",
        "0",
    ] {
        let begun = world.send("POST", UPLOADS, &token).await;
        let request = world.request("PATCH", &header(&begun, "location"), &token);
        let response = request.header("content-range", range).body("0123").send().await.unwrap();
        let status = response.status().as_u16();
        assert!(matches!(status, 400 | 413 | 416), "{range}: {status}");
    }
}

#[tokio::test]
async fn manifests_cannot_be_abused() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let good: Value =
        serde_json::from_slice(&world.push_blobs("acme/app", &token, &[FINE], "app").await)
            .unwrap();
    let layer = good["layers"][0].clone();
    let size = layer["size"].as_i64().unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        document
    };
    let sized = |size: Value| with(&move |it| it["layers"][0]["size"] = size.clone());
    let many = |count: usize| with(&|it| it["layers"] = vec![layer.clone(); count].into());
    for document in [
        sized(json!(size + 1)),
        sized(json!(size - 1)),
        sized(json!(0)),
        sized(json!(-1)),
        sized(json!(i64::MAX)),
        sized(json!(u64::MAX)),
        sized(json!(1.5)),
        sized(json!("29")),
        sized(Value::Null),
        many(4097),
        with(&|it| it["schemaVersion"] = 1.into()),
        with(&|it| it["layers"] = json!({})),
        with(&|it| it["config"] = json!([])),
        with(&|it| it["layers"][0]["digest"] = "sha256:../../x".into()),
        with(&|it| it["subject"] = json!({"digest": "x"})),
        json!([]),
        json!(null),
    ] {
        let bytes = document.to_string().into_bytes();
        let response = world.put_manifest("acme/app/manifests/v1", &token, &bytes).await;
        check_error(response, 400, "MANIFEST_INVALID").await;
    }
    // A million layers are refused before they are read.
    let million =
        format!("{{\"schemaVersion\":2,\"layers\":[{}]}}", vec!["{}"; 2_000_000].join(","));
    let response = world.put_manifest("acme/app/manifests/v1", &token, million.as_bytes()).await;
    check_error(response, 413, "MANIFEST_INVALID").await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let response = world.put_manifest("acme/app/manifests/v1", &token, deep.as_bytes()).await;
    check_error(response, 400, "MANIFEST_INVALID").await;
    assert_eq!(world.upstream_files(), 0);
}

/// zot: each level of a nested index was walked once for each way to it.
#[tokio::test]
async fn indexes_cannot_be_abused() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let put = async |bytes: &[u8]| {
        let path = format!("acme/app/manifests/{}", Digest::sha256(bytes));
        world.put_as(&path, &token, bytes, media_type::OCI_INDEX).await
    };
    // One that names itself cannot be made: its digest would have to be known first. One that names
    // what is not there is the nearest.
    let absent = Descriptor::of(media_type::OCI_INDEX, b"not here");
    let response = put(&ImageIndex::new(vec![absent]).to_bytes()).await;
    check_error(response, 400, "MANIFEST_BLOB_UNKNOWN").await;

    // A ladder of indexes, each with the one below many times over.
    let mut below = ImageIndex::new(vec![]).to_bytes();
    assert_eq!(put(&below).await.status(), 201);
    let mut refused = 0;
    for _ in 0..4 {
        let child = Descriptor::of(media_type::OCI_INDEX, &below);
        below = ImageIndex::new(vec![child; 1000]).to_bytes();
        refused += usize::from(put(&below).await.status() == 400);
    }
    assert!(refused >= 2, "the third level and those above it");
    let wrong = json!({"schemaVersion": 2, "manifests": [{"mediaType": media_type::OCI_MANIFEST,
        "digest": Digest::sha256(&ImageIndex::new(vec![]).to_bytes()).to_string(), "size": 1}]});
    let response = put(wrong.to_string().as_bytes()).await;
    check_error(response, 400, "MANIFEST_INVALID").await;
}

/// The scanner, with limits that a test can reach.
struct Small;

impl Inspector for Small {
    fn data(&self) -> String {
        String::new()
    }

    fn version(&self) -> String {
        "small".to_owned()
    }

    fn layer(&self, reader: &mut dyn std::io::Read) -> anyhow::Result<Value> {
        let mut limits = Limits::default();
        limits.layer.total_bytes = 1024 * 1024;
        limits.layer.entries = 1000;
        Ok(serde_json::to_value(index_layer(reader, &limits)?)?)
    }

    fn image(&self, _: &[Value]) -> anyhow::Result<Inspection> {
        Ok(Inspection::default())
    }
}

fn gzip(write: impl FnOnce(&mut dyn std::io::Write)) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write(&mut encoder);
    encoder.finish().unwrap()
}

/// A header of ustar.
fn tar_header(name: &[u8], size: &[u8], kind: u8) -> [u8; 512] {
    let mut header = [0_u8; 512];
    header[..name.len().min(100)].copy_from_slice(&name[..name.len().min(100)]);
    header[100..107].copy_from_slice(b"0000644");
    header[124..124 + size.len()].copy_from_slice(size);
    header[156] = kind;
    header[257..263].copy_from_slice(b"ustar\0");
    header[263..265].copy_from_slice(b"00");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// A frame of blocks that each repeat one byte 128 KiB over. RFC 8878.
fn zstd_bomb(blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for block in 0..blocks {
        let last = u32::from(block + 1 == blocks);
        let header = ((128 * 1024) << 3) | (1 << 1) | last;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[tokio::test]
async fn bombs_are_unreadable_and_nothing_else() {
    let world =
        World::open(Options { inspector: Some(Arc::new(Small)), ..Options::default() }).await;
    let token = world.session(json!({})).await;
    let zeros = vec![0_u8; 1024 * 1024];
    let bombs: BTreeMap<&str, Vec<u8>> = [
        ("200 MiB of zeros", gzip(|to| (0..200).for_each(|_| to.write_all(&zeros).unwrap()))),
        (
            "a file of 8 GiB",
            gzip(|to| to.write_all(&tar_header(b"a", b"77777777777", b'0')).unwrap()),
        ),
        (
            "a size in base 256",
            gzip(|to| {
                let size = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
                to.write_all(&tar_header(b"a", &size, b'0')).unwrap();
            }),
        ),
        (
            "many entries",
            gzip(|to| {
                let header = tar_header(b"a", b"00000000000", b'0');
                (0..1500).for_each(|_| to.write_all(&header).unwrap());
                to.write_all(&[0; 1024]).unwrap();
            }),
        ),
        (
            "a long name of 1 GiB",
            gzip(|to| to.write_all(&tar_header(b"././@LongLink", b"10000000000", b'L')).unwrap()),
        ),
        ("zstd of 512 MiB", zstd_bomb(4096)),
        ("cut gzip", gzip(|to| to.write_all(&zeros).unwrap())[..500].to_vec()),
        (
            "gzip in gzip",
            gzip(|to| to.write_all(&gzip(|to| to.write_all(&zeros).unwrap())).unwrap()),
        ),
        (
            "a path out of the image",
            gzip(|to| {
                to.write_all(&tar_header(b"../../../../etc/cron.d/x", b"00000000000", b'0'))
                    .unwrap();
                to.write_all(&[0; 1024]).unwrap();
            }),
        ),
    ]
    .into();
    for (what, layer) in bombs {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"User": "app"},
            "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(b"?").to_string()]},
        })
        .to_string();
        world.push_blob("acme/app", &token, config.as_bytes()).await;
        world.push_blob("acme/app", &token, &layer).await;
        let kind = match what.starts_with("zstd") {
            true => media_type::OCI_LAYER_ZSTD,
            false => media_type::OCI_LAYER_GZIP,
        };
        let manifest = ImageManifest::new(
            Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
            vec![Descriptor::of(kind, &layer)],
        );
        let path = "acme/app/manifests/v1";
        let response = world.put_manifest(path, &token, &manifest.to_bytes()).await;
        let message = check_error(response, 403, "DENIED").await;
        assert!(message.starts_with("unreadable-content"), "{what}: {message}");
    }
    assert_eq!(world.upstream_files(), 0);
}
