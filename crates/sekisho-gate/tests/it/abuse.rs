//! Abuse of everything that a request can say: names, ranges, heads, manifests, layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use sekisho_gate::{Inspection, Inspector};
use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, media_type};
use sekisho_scanner::{Limits, index_layer};
use sekisho_types::{Digest, Document};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Options, World, check_error, files, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";
const UPLOADS: &str = "/v2/acme/app/blobs/uploads/";

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

/// Two lengths, or one and chunks: where one program ends a request, another one begins the next.
#[tokio::test]
async fn no_request_hides_in_another_one() {
    let world = World::new().await;
    let hidden = "GET /v2/hidden/tags/list HTTP/1.1\r\nHost: x\r\n\r\n";
    for (what, heads) in [
        ("a length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("two lengths", "Content-Length: 0\r\nContent-Length: 60\r\n"),
        ("a length with a sign", "Content-Length: +5\r\n"),
        ("a length that is none", "Content-Length: 0x0\r\n"),
        ("chunks of another name", "Transfer-Encoding: xchunked\r\n"),
        ("chunks twice", "Transfer-Encoding: chunked, identity\r\n"),
        ("a space before the colon", "Content-Length : 0\r\n"),
        ("a folded line", "X: a\r\n Content-Length: 0\r\n"),
        ("a bare NUL", "X: a\0b\r\n"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(world.host()).await.unwrap();
        let head = format!("POST {UPLOADS} HTTP/1.1\r\nHost: {}\r\n", world.host());
        let request = format!("{head}{heads}\r\n0\r\n\r\n{hidden}");
        // A server that closes early may do so while this is being written.
        let _ = stream.write_all(request.as_bytes()).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("hidden"), "{what}: {answer}");
        let statuses: Vec<&str> =
            answer.split("HTTP/1.1 ").skip(1).filter_map(|it| it.get(..3)).collect();
        // Refused, or read as one request that has no credential; what follows is none, or refused.
        let refused = |status: &&str| status.starts_with('4');
        assert!(statuses.len() <= 2 && statuses.iter().all(refused), "{what}: {answer}");
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

    fn diff_id(&self, layer: &Value) -> anyhow::Result<Digest> {
        Ok(serde_json::from_value(layer["diff_id"].clone())?)
    }

    fn text(&self, _: &str, _: &[u8]) -> Vec<sekisho_types::LeakedSecret> {
        Vec::new()
    }

    fn document(&self, _: &mut dyn std::io::Read) -> anyhow::Result<Document> {
        anyhow::bail!("no statements here")
    }

    fn attestors(&self) -> String {
        String::new()
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
