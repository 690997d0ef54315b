//! Distribution-spec 1.1, request by request.

use futures_util::stream;
use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, media_type};
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::support::{World, check_error, header};

const REPOSITORY: &str = "acme/app";

async fn start(world: &World, token: &str) -> String {
    let response = world.send("POST", "/v2/acme/app/blobs/uploads/", token).await;
    assert_eq!(response.status(), 202);
    assert_eq!(header(&response, "range"), "0-0");
    assert!(!header(&response, "docker-upload-uuid").is_empty());
    let location = header(&response, "location");
    assert!(location.starts_with("/v2/acme/app/blobs/uploads/"), "relative: {location}");
    location
}

#[tokio::test]
async fn the_ping_tells_how_to_log_in() {
    let world = World::new().await;
    for path in ["/v2/", "/v2"] {
        let response = world.send("GET", path, "").await;
        let challenge = format!("Bearer realm=\"{}/token\",service=\"sekisho-gate\"", world.url);
        assert_eq!(header(&response, "www-authenticate"), challenge);
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
        check_error(response, 401, "UNAUTHORIZED").await;
    }
    let session = world.session(json!({})).await;
    assert_eq!(world.send("GET", "/v2/", &session).await.status(), 200);
    check_error(world.send("GET", "/v2/", "nonsense").await, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn a_blob_comes_in_every_way() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let (first, second) = (vec![1_u8; 70_000], vec![2_u8; 30_000]);
    let all = [first.clone(), second.clone()].concat();
    let digest = Digest::sha256(&all);

    // POST, PATCH without a length, PUT: docker, skopeo, buildah.
    let location = start(&world, token).await;
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        all.chunks(9_000).map(|piece| Ok(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(stream::iter(pieces));
    let response = world.request("PATCH", &location, token).body(body).send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-99999".into()));
    let put = format!("{location}?digest={digest}");
    let response = world.send("PUT", &put, token).await;
    assert_eq!(response.status(), 201);
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
    assert_eq!(header(&response, "location"), format!("/v2/{REPOSITORY}/blobs/{digest}"));
    // It is over.
    check_error(world.send("PUT", &put, token).await, 404, "BLOB_UPLOAD_UNKNOWN").await;

    // POST, PUT with the body: BuildKit. Empty content too.
    for content in [&all[..], b"", b"{}"] {
        let location = start(&world, token).await;
        let put = format!("{location}?digest={}", Digest::sha256(content));
        let request = world.request("PUT", &put, token).body(content.to_vec());
        assert_eq!(request.send().await.unwrap().status(), 201);
    }

    // Pieces with Content-Range; the last one with the PUT.
    let location = start(&world, token).await;
    let request = world.request("PATCH", &location, token).body(first);
    let response = request.header("content-range", "0-69999").send().await.unwrap();
    assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-69999".into()));
    let request = world.request("PUT", &format!("{location}?digest={digest}"), token);
    let request = request.body(second).header("content-range", "70000-99999");
    assert_eq!(request.send().await.unwrap().status(), 201);

    // One POST, and sha512, which is known at the end only.
    world.push_blob(REPOSITORY, token, b"whole").await;
    let long = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    let location = start(&world, token).await;
    let request = world.request("PUT", &format!("{location}?digest={long}"), token).body("abc");
    assert_eq!(request.send().await.unwrap().status(), 201);
    let response = world.send("GET", &format!("/v2/{REPOSITORY}/blobs/{long}"), token).await;
    assert_eq!(response.text().await.unwrap(), "abc");
}

#[tokio::test]
async fn uploads_out_of_order_are_refused() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let location = &start(&world, token).await;
    let patch = |range: &'static str, body: &'static str| {
        let request = world.request("PATCH", location, token).header("content-range", range);
        async move { request.body(body).send().await.unwrap() }
    };
    assert_eq!(patch("0-3", "abcd").await.status(), 202);
    for range in ["0-3", "5-8"] {
        let response = patch(range, "abcd").await;
        assert_eq!(header(&response, "range"), "0-3", "{range}");
        assert_eq!(&header(&response, "location"), location);
        check_error(response, 416, "BLOB_UPLOAD_INVALID").await;
    }
    check_error(patch("x-y", "abcd").await, 400, "BLOB_UPLOAD_INVALID").await;
    check_error(patch("4-9", "abcd").await, 400, "SIZE_INVALID").await;
    // What came of it stays, and the client learns how much that is.
    let response = world.send("GET", location, token).await;
    assert_eq!((response.status().as_u16(), header(&response, "range")), (204, "0-7".into()));

    let put = |query: String| {
        let request = world.request("PUT", &format!("{location}{query}"), token);
        async move { request.send().await.unwrap() }
    };
    check_error(put(String::new()).await, 400, "DIGEST_INVALID").await;
    check_error(put("?digest=sha256:zz".into()).await, 400, "DIGEST_INVALID").await;
    let other = format!("?digest={}", Digest::sha256(b"other"));
    check_error(put(other).await, 400, "DIGEST_INVALID").await;
    let absent = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(b"abcdabcd"));
    assert_eq!(world.send("HEAD", &absent, token).await.status(), 404, "nothing was stored");

    let location = start(&world, token).await;
    assert_eq!(world.send("DELETE", &location, token).await.status(), 204);
    check_error(world.send("GET", &location, token).await, 404, "BLOB_UPLOAD_UNKNOWN").await;
    let strange = "/v2/acme/app/blobs/uploads/..";
    assert!(world.send("GET", strange, token).await.status().is_client_error());
}

#[tokio::test]
async fn blobs_go_out_whole_and_in_parts() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let bytes: Vec<u8> = (0..2048_u32).map(|n| n.to_le_bytes()[0]).collect();
    let digest = world.push_blob(REPOSITORY, token, &bytes).await;
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");

    let response = world.send("HEAD", &path, token).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-length"), "2048");
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
    assert_eq!(header(&response, "accept-ranges"), "bytes");
    let response = world.send("GET", &path, token).await;
    assert_eq!(response.bytes().await.unwrap(), bytes);

    for (range, first, last) in [
        ("500-1499", 500, 1499),
        ("500-", 500, 2047),
        ("-500", 1548, 2047),
        ("2000-5000", 2000, 2047),
        ("0-0", 0, 0),
    ] {
        let request = world.request("GET", &path, token).header("range", format!("bytes={range}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(header(&response, "content-range"), format!("bytes {first}-{last}/2048"));
        assert_eq!(header(&response, "content-length"), (last - first + 1).to_string());
        assert_eq!(response.bytes().await.unwrap(), bytes[first..=last], "{range}");
    }
    for range in ["500-0", "5000-10000"] {
        let request = world.request("GET", &path, token).header("range", format!("bytes={range}"));
        let response = request.send().await.unwrap();
        assert_eq!(header(&response, "content-range"), "bytes */2048");
        check_error(response, 416, "SIZE_INVALID").await;
    }
}

#[tokio::test]
async fn manifests_and_tags() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let manifest = world.push_blobs(REPOSITORY, token, &["LAYER 1"], "app").await;
    let digest = Digest::sha256(&manifest);
    for reference in [digest.to_string(), "v2".into(), "_v1".into(), "v10".into(), "V1".into()] {
        let path = format!("{REPOSITORY}/manifests/{reference}");
        let response = world.put_manifest(&path, token, &manifest).await;
        assert_eq!(response.status(), 201, "{:?}", response.text().await);
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
        let location = header(&response, "location");
        // What was promoted, everybody may read; what is part of something to come, its run alone.
        let reader = if reference.starts_with("sha256:") { token } else { "" };
        let response = world.send("GET", &location, reader).await;
        assert_eq!(header(&response, "content-type"), media_type::OCI_MANIFEST);
        assert_eq!(response.bytes().await.unwrap(), manifest);
    }
    let response = world.send("HEAD", "/v2/acme/app/manifests/v2", "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-length"), manifest.len().to_string());
    assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
    assert_eq!(header(&response, "sekisho-decides"), "every-push");

    for (query, tags, link) in [
        ("", &["V1", "_v1", "v10", "v2"][..], ""),
        ("?n=0", &[], ""),
        ("?n=2", &["V1", "_v1"], "</v2/acme/app/tags/list?n=2&last=_v1>; rel=\"next\""),
        ("?n=2&last=_v1", &["v10", "v2"], ""),
        ("?n=99999999999999", &["V1", "_v1", "v10", "v2"], ""),
        ("?last=zz", &[], ""),
    ] {
        let response = world.send("GET", &format!("/v2/acme/app/tags/list{query}"), "").await;
        assert_eq!(header(&response, "link"), link, "{query}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body, json!({"name": "acme/app", "tags": tags}), "{query}");
    }
}

#[tokio::test]
async fn a_referrer_is_listed_under_its_subject() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let subject = Digest::sha256(b"not pushed yet");
    let list = format!("/v2/acme/app/referrers/{subject}");
    let empty: Value = world.send("GET", &list, "").await.json().await.unwrap();
    assert_eq!(empty["manifests"], json!([]), "never seen before: empty, not 404");

    world.push_blob(REPOSITORY, token, b"{}").await;
    world.push_blob(REPOSITORY, token, b"{\"_type\":\"statement\"}").await;
    let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
    let layer = Descriptor::of("application/vnd.in-toto+json", b"{\"_type\":\"statement\"}");
    let mut manifest = ImageManifest::new(config, vec![layer]);
    manifest.artifact_type = Some("application/vnd.example.proof".into());
    manifest.subject = Some(Descriptor::new(media_type::OCI_MANIFEST, subject.clone(), 9));
    manifest.annotations.insert("a".into(), "b".into());
    let bytes = manifest.to_bytes();
    let path = format!("{REPOSITORY}/manifests/{}", Digest::sha256(&bytes));
    let response = world.put_manifest(&path, token, &bytes).await;
    assert_eq!(header(&response, "oci-subject"), subject.to_string());
    assert_eq!(response.status(), 201, "{:?}", response.text().await);

    let body: Value = world.send("GET", &list, "").await.json().await.unwrap();
    let want = json!([{
        "mediaType": media_type::OCI_MANIFEST,
        "digest": Digest::sha256(&bytes),
        "size": bytes.len(),
        "artifactType": "application/vnd.example.proof",
        "annotations": {"a": "b"},
    }]);
    assert_eq!(body["manifests"], want);
    let response = world.send("GET", &format!("{list}?artifactType=other"), "").await;
    assert_eq!(header(&response, "oci-filters-applied"), "artifactType");
    assert_eq!(header(&response, "content-type"), media_type::OCI_INDEX);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["manifests"], json!([]));
}

#[tokio::test]
async fn bad_manifests_are_refused() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let good = world.push_blobs(REPOSITORY, token, &["LAYER 1"], "app").await;
    let parsed: Value = serde_json::from_slice(&good).unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut changed = parsed.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string().into_bytes()
    };
    let absent = Digest::sha256(b"absent").to_string();
    let mut both = parsed.clone();
    both["manifests"] = json!([]);
    let child = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256(b"absent"), 6);
    let index = ImageIndex::new(vec![child]).to_bytes();
    let other = format!("sha256:{}", "0".repeat(64));
    let of = media_type::OCI_MANIFEST;
    for (reference, bytes, content_type, status, code) in [
        ("v1", changed("/layers/0/digest", json!(absent)), of, 400, "MANIFEST_BLOB_UNKNOWN"),
        ("v1", changed("/config/digest", json!(absent)), of, 400, "MANIFEST_BLOB_UNKNOWN"),
        ("v1", changed("/layers/0/size", json!(8)), of, 400, "MANIFEST_INVALID"),
        ("v1", changed("/schemaVersion", json!(1)), of, 400, "MANIFEST_INVALID"),
        ("v1", changed("/config/digest", json!("sha256:../..")), of, 400, "MANIFEST_INVALID"),
        ("v1", both.to_string().into_bytes(), of, 400, "MANIFEST_INVALID"),
        ("v1", good.clone(), media_type::DOCKER_MANIFEST, 400, "MANIFEST_INVALID"),
        ("v1", good.clone(), "text/plain", 400, "MANIFEST_INVALID"),
        ("v1", good.clone(), "", 400, "MANIFEST_INVALID"),
        ("v1", index, media_type::OCI_INDEX, 400, "MANIFEST_BLOB_UNKNOWN"),
        ("v1", b"{".to_vec(), of, 400, "MANIFEST_INVALID"),
        ("v1", Vec::new(), of, 400, "MANIFEST_INVALID"),
        ("v1", vec![b' '; 4 * 1024 * 1024 + 1], of, 413, "MANIFEST_INVALID"),
        (".v1", good.clone(), of, 400, "MANIFEST_INVALID"),
        (other.as_str(), good.clone(), of, 400, "DIGEST_INVALID"),
    ] {
        let path = format!("{REPOSITORY}/manifests/{reference}");
        let response = world.put_as(&path, token, &bytes, content_type).await;
        check_error(response, status, code).await;
    }
    assert_eq!(world.upstream_files(), 0, "nothing reached upstream");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let digest = Digest::sha256(b"absent");
    for (method, path, status, code) in [
        ("GET", format!("acme/app/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("GET", "acme/app/blobs/sha256:00".into(), 400, "DIGEST_INVALID"),
        ("GET", "acme/app/blobs/md5:00".into(), 400, "DIGEST_INVALID"),
        ("GET", format!("acme/app/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        ("GET", "acme/app/manifests/v1".into(), 404, "MANIFEST_UNKNOWN"),
        ("GET", "acme/app/manifests/.v1".into(), 404, "MANIFEST_UNKNOWN"),
        ("GET", "acme/app/tags/list".into(), 404, "NAME_UNKNOWN"),
        ("GET", "acme/app/tags/list?n=x".into(), 400, "SIZE_INVALID"),
        ("GET", "acme/app/referrers/x".into(), 400, "DIGEST_INVALID"),
        ("GET", "Acme/app/tags/list".into(), 400, "NAME_INVALID"),
        ("GET", "acme%2fapp/tags/list".into(), 400, "NAME_INVALID"),
        ("GET", "_catalog".into(), 404, "NAME_UNKNOWN"),
        ("GET", "_catalog?n=99999999999".into(), 404, "NAME_UNKNOWN"),
        ("DELETE", "acme/app/manifests/v1".into(), 404, "MANIFEST_UNKNOWN"),
        ("DELETE", "acme/app/manifests/.v1".into(), 404, "MANIFEST_UNKNOWN"),
        ("DELETE", format!("acme/app/manifests/{digest}"), 404, "MANIFEST_UNKNOWN"),
        ("DELETE", format!("acme/app/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        ("DELETE", "acme/app/tags/list".into(), 405, "UNSUPPORTED"),
        ("POST", "acme/app/tags/list".into(), 405, "UNSUPPORTED"),
        ("GET", "acme/app/blobs/uploads/".into(), 405, "UNSUPPORTED"),
        ("POST", "acme/app/blobs/uploads/?digest=x".into(), 400, "DIGEST_INVALID"),
        ("POST", format!("acme/app/blobs/uploads/?mount={digest}&from=../x"), 400, "NAME_INVALID"),
    ] {
        let response = world.send(method, &format!("/v2/{path}"), token).await;
        let message = check_error(response, status, code).await;
        assert!(!message.is_empty(), "{method} {path}");
    }
}

#[tokio::test]
async fn blobs_are_mounted_only_from_what_may_be_read() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let staged = world.push_blob("acme/app/one", token, b"LAYER staged").await;
    let mount = |to: &str, digest: &Digest, from: &str, token: &str| {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}{from}");
        let request = world.request("POST", &path, token);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(mount("acme/app/two", &staged, "&from=acme/app/one", token).await, 201);
    let path = format!("/v2/acme/app/two/blobs/{staged}");
    assert_eq!(world.send("HEAD", &path, token).await.status(), 200);
    // Another run sees nothing of it, whatever it says.
    let other = &world.session(json!({"run_id": "13"})).await;
    assert_eq!(world.send("HEAD", &path, other).await.status(), 404);
    for from in ["&from=acme/app/one", "&from=acme/app/two", ""] {
        assert_eq!(mount("acme/app/two", &staged, from, other).await, 202, "{from}");
    }
    // Once it is promoted, it may be mounted by all.
    assert_eq!(world.push("acme/app:v1", token, &["LAYER public"]).await.status(), 201);
    let public = Digest::sha256(b"LAYER public");
    assert_eq!(mount("acme/app/new", &public, "&from=acme/app", other).await, 201);
    assert_eq!(mount("acme/app/new", &public, "&from=acme/wrong", other).await, 202);
}
