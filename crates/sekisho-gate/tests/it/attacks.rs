//! What others were hit by: published vulnerabilities of registries and token libraries, one test each.
//! docs/gate-attacks.md is the list.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rsa::traits::PublicKeyParts as _;
use sekisho_oci::media_type;
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{World, check_error, header, key, sign};

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
    // What Go's clients take for `layers`: the last one counts.
    let mut folded = good.clone();
    folded["layer\u{17f}"] = json!([]);
    for (document, content_type) in [
        (folded, media_type::OCI_MANIFEST),
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

/// zot: a tag that looks like that of a signature, and is none, ended the process.
#[tokio::test]
async fn zot_4204_a_malformed_tag_of_a_signature_is_a_tag() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let manifest = world.push_blobs("acme/app", &token, &[FINE], "app").await;
    let whole = Digest::sha256(&manifest);
    for tag in ["sha256-.sig", "sha256-x.sig", "sha256-.att", "sha256-", "sha512-00.sig", "_.sig"] {
        let put = world.put_manifest(&format!("acme/app/manifests/{tag}"), &token, &manifest).await;
        assert_eq!(put.status(), 201, "{tag}");
    }
    let referrers = world.send("GET", &format!("/v2/acme/app/referrers/{whole}"), "").await;
    assert_eq!(referrers.status(), 200);
    let tags: Value = world.send("GET", "/v2/acme/app/tags/list", "").await.json().await.unwrap();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 6, "{tags}");
}

/// zot: any web page might ask with the credentials of whoever looks at it.
#[tokio::test]
async fn zot_3980_no_other_origin_is_let_in() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    for (method, path) in
        [("OPTIONS", "/v2/"), ("GET", "/v2/"), ("GET", "/token"), ("POST", UPLOADS)]
    {
        let request = world.request(method, path, &token).header("origin", "https://evil.example");
        let request = request.header("access-control-request-method", "POST");
        let response = request.send().await.unwrap();
        let names: Vec<_> = response.headers().keys().map(ToString::to_string).collect();
        assert!(names.iter().all(|it| !it.starts_with("access-control-")), "{method} {names:?}");
    }
}

/// docs/gate-attacks.md names a test for each attack, and each vulnerability here has its row.
#[test]
fn the_page_of_attacks_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs_err::read_to_string(root.join("docs/gate-attacks.md")).unwrap();
    let mut sources = String::new();
    for name in ["gate", "policy", "scanner", "sandbox", "store", "oci", "types", "registry"] {
        read_all(&root.join(format!("crates/sekisho-{name}")), &mut sources);
    }
    read_all(&root.join("crates/sekisho"), &mut sources);
    let (mut rows, mut named) = (0, Vec::new());
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| attack")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, _, tests] = cells.as_slice() else { panic!("no row of three: {row}") };
        rows += 1;
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || tests.starts_with("none:"), "no test: {row}");
        for name in names {
            assert!(is_test(&sources, name), "`{name}` is no test: {row}");
            named.push(name);
        }
    }
    assert!(rows >= 60, "{rows}");
    let own = include_str!("attacks.rs").lines().filter_map(|line| line.strip_prefix("async fn "));
    for test in own.filter_map(|line| line.split_once("() {")) {
        assert!(named.contains(&test.0), "no row names `{}`", test.0);
    }
}

/// Whether a function of that name says right before itself that it is a test.
fn is_test(sources: &str, name: &str) -> bool {
    let function = format!("fn {name}(");
    sources.match_indices(&function).any(|(at, _)| {
        let before = sources[..at].rsplit('\n').skip(1).map(str::trim);
        let mut said = before.take_while(|line| line.starts_with(['#', '/']));
        said.any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
    })
}

fn read_all(folder: &Path, into: &mut String) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs_err::read_to_string(&path).unwrap());
        }
    }
}
