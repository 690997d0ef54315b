//! What is let through, what is not, and what is written down about it.

use std::path::Path;
use std::sync::atomic::Ordering;

use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, media_type};
use sekisho_policy::{Decision as Answer, Exceptions};
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{ADMIN, World, check_error, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";
const SEVERE: &str = "LAYER\npkg lodash 4.17.20 critical 4.17.21";

#[tokio::test]
async fn a_good_image_is_promoted() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let response = world.push("acme/app:v1", token, &[FINE, "LAYER 2"]).await;
    assert_eq!(response.status(), 201, "{:?}", response.text().await);
    assert_eq!(header(&response, "warning"), "");
    let digest = header(&response, "docker-content-digest");

    // Anybody can read all of it.
    let manifest: Value =
        world.send("GET", "/v2/acme/app/manifests/v1", "").await.json().await.unwrap();
    for descriptor in manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]) {
        let path = format!("/v2/acme/app/blobs/{}", descriptor["digest"].as_str().unwrap());
        assert_eq!(world.send("GET", &path, "").await.status(), 200);
    }
    let [decision] = &world.decisions("?run_id=12").await[..] else { panic!("one decision") };
    assert_eq!(decision["verdict"]["decision"], "allow");
    assert_eq!(decision["repository"], "acme/app");
    assert_eq!(decision["tag"], "v1");
    assert_eq!(decision["digest"], digest);
    assert_eq!(decision["identity"]["repository_id"], "4711");
    assert_eq!(decision["packages"], 1);
    assert_eq!(decision["summary"]["layers"], 2);
    assert_eq!(decision["advisories"], 100);
    assert_eq!(decision["previous"], Value::Null);
    assert_eq!(world.decisions("?run_id=1").await, Vec::<Value>::new());
    let path = format!("/_gate/v1/decisions/{}", decision["id"].as_str().unwrap());
    let one: Value = world.send("GET", &path, ADMIN).await.json().await.unwrap();
    assert_eq!(&one, decision);
}

#[tokio::test]
async fn a_vulnerable_image_is_refused() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let response = world.push("acme/app:v1", token, &[FINE, SEVERE]).await;
    let body: Value = {
        assert_eq!(response.status(), 403);
        response.json().await.unwrap()
    };
    let error = &body["errors"][0];
    assert_eq!(error["code"], "DENIED");
    let message = error["message"].as_str().unwrap();
    // All that one has to know stands in the first 200 characters.
    let first: String = message.chars().take(200).collect();
    for word in ["severe-with-fix", "critical", "CVE-2021-23337", "lodash 4.17.20", "4.17.21"] {
        assert!(first.contains(word), "{word}: {first}");
    }
    assert_eq!(error["detail"]["rule"], "severe-with-fix");
    assert_eq!(error["detail"]["worst"]["fixed"], "4.17.21");

    let [decision] = &world.decisions("?run_id=12").await[..] else { panic!("one decision") };
    assert_eq!(decision["verdict"]["decision"], "deny");
    assert_eq!(error["detail"]["decision"], decision["id"]);
    assert_eq!(decision["summary"]["findings"], json!({"critical": 1}));
    assert_eq!(world.upstream_files(), 0, "nothing reached upstream");
    check_error(
        world.send("GET", "/v2/acme/app/manifests/v1", token).await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    // Its blobs are the pusher's alone.
    let path = format!("/v2/acme/app/blobs/{}", Digest::sha256(SEVERE.as_bytes()));
    let other = &world.session(json!({"run_id": "13"})).await;
    for (token, status) in [(token.as_str(), 200), (other, 404), ("", 401)] {
        assert_eq!(world.send("GET", &path, token).await.status(), status);
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    for layer in ["LAYER\ngap", "this is nothing", "{\"a\": 1}", ""] {
        let response = world.push("acme/app:v1", token, &[FINE, layer]).await;
        let message = check_error(response, 403, "DENIED").await;
        assert!(message.starts_with("unreadable-content"), "{layer}: {message}");
    }
    // A layer that lies elsewhere, and an artifact of a kind that nobody knows.
    let good = world.push_blobs("acme/app", token, &[FINE], "app").await;
    let mut foreign: Value = serde_json::from_slice(&good).unwrap();
    foreign["layers"][0]["mediaType"] = media_type::OCI_LAYER_NONDISTRIBUTABLE_GZIP.into();
    foreign["layers"][0]["digest"] = Digest::sha256(b"elsewhere").to_string().into();
    foreign["layers"][0]["urls"] = json!(["http://127.0.0.1:1/x"]);
    let mut artifact: Value = serde_json::from_slice(&good).unwrap();
    artifact["layers"][0]["mediaType"] = "application/x-secrets".into();
    for manifest in [foreign, artifact] {
        let bytes = manifest.to_string().into_bytes();
        let response = world.put_manifest("acme/app/manifests/v1", token, &bytes).await;
        let message = check_error(response, 403, "DENIED").await;
        assert!(message.starts_with("unreadable-content"), "{message}");
    }
    assert_eq!(world.upstream_files(), 0);
}

#[tokio::test]
async fn warnings_come_with_the_answer() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let layer = "LAYER\npkg lodash 4.17.20 high\npkg qs\"\\ 1.0 low 1.1";
    let manifest = world.push_blobs("acme/app", token, &[layer], "").await;
    let response = world.put_manifest("acme/app/manifests/v1", token, &manifest).await;
    assert_eq!(response.status(), 201);
    let warnings: Vec<String> = response
        .headers()
        .get_all("warning")
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, rule) in warnings.iter().zip(["lesser-findings", "root-user"]) {
        assert!(warning.starts_with(&format!("299 - \"{rule}: ")), "{warning}");
        assert_eq!(warning.matches('"').count(), 2, "{warning}");
    }
}

#[tokio::test]
async fn the_status_line_says_why() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let manifest = world.push_blobs("acme/app", &token, &[SEVERE], "app").await;
    let mut socket = tokio::net::TcpStream::connect(world.host()).await.unwrap();
    let head = format!(
        "PUT /v2/acme/app/manifests/v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: {}\r\ncontent-length: {}\r\nauthorization: Bearer {token}\r\n\r\n",
        media_type::OCI_MANIFEST,
        manifest.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&manifest).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let line = answer.lines().next().unwrap();
    assert!(line.starts_with("HTTP/1.1 403 severe-with-fix: critical"), "{line}");
    assert!(line.contains("lodash 4.17.20") && line.len() <= 220, "{line}");
}

#[tokio::test]
async fn a_layer_is_read_once_while_it_arrives() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let manifest = world.push_blobs("acme/app", token, &[FINE], "app").await;
    assert_eq!(world.lines.layers_read.load(Ordering::SeqCst), 1, "before any manifest");
    for tag in ["v1", "v2"] {
        let path = format!("acme/app/manifests/{tag}");
        assert_eq!(world.put_manifest(&path, token, &manifest).await.status(), 201);
    }
    // Known by its digest to every other run, too.
    let other = &world.session(json!({"run_id": "13"})).await;
    assert_eq!(world.put_manifest("acme/app/manifests/v3", other, &manifest).await.status(), 201);
    assert_eq!(world.lines.layers_read.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_repeat_is_told_the_same() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    for (layer, status) in [(FINE, 201), (SEVERE, 403)] {
        let manifest = world.push_blobs("acme/app", token, &[layer], "app").await;
        let before = world.decisions("").await.len();
        for _ in 0..3 {
            let response = world.put_manifest("acme/app/manifests/v1", token, &manifest).await;
            assert_eq!(response.status(), status);
        }
        assert_eq!(world.decisions("").await.len(), before + 1);
    }
    // A refused push does not move the tag.
    let response = world.send("GET", "/v2/acme/app/manifests/v1", "").await;
    assert_eq!(response.status(), 200);
    // Another run is another decision, chained to the ones before.
    let other = &world.session(json!({"run_id": "13"})).await;
    world.push("acme/app:v1", other, &[SEVERE]).await;
    let all = world.decisions("").await;
    assert_eq!(all.len(), 3);
    assert!(all[1]["previous"].is_string() && all[1]["previous"] != all[2]["previous"]);
    assert_eq!(world.gate.verify_decisions().unwrap().faults, []);
}

#[tokio::test]
async fn an_index_is_judged_with_its_images() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let mut children = Vec::new();
    for layer in [FINE, "LAYER\npkg qs 1.0 low 1.1"] {
        let manifest = world.push_blobs("acme/app", token, &[layer], "app").await;
        let path = format!("acme/app/manifests/{}", Digest::sha256(&manifest));
        assert_eq!(world.put_manifest(&path, token, &manifest).await.status(), 201);
        children.push(Descriptor::of(media_type::OCI_MANIFEST, &manifest));
    }
    // BuildKit's provenance: an image of statements for no platform.
    let statement = "{\"_type\": \"https://in-toto.io/Statement/v1\"}";
    world.push_blob("acme/app", token, statement.as_bytes()).await;
    let config = "{\"architecture\":\"unknown\",\"os\":\"unknown\",\"config\":{},\
                  \"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}";
    world.push_blob("acme/app", token, config.as_bytes()).await;
    let evidence = ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
        vec![Descriptor::of("application/vnd.in-toto+json", statement.as_bytes())],
    )
    .to_bytes();
    let path = format!("acme/app/manifests/{}", Digest::sha256(&evidence));
    let response = world.put_manifest(&path, token, &evidence).await;
    assert_eq!((response.status().as_u16(), header(&response, "warning")), (201, String::new()));
    children.push(Descriptor::of(media_type::OCI_MANIFEST, &evidence));

    let index = ImageIndex::new(children).to_bytes();
    let response =
        world.put_as("acme/app/manifests/v1", token, &index, media_type::OCI_INDEX).await;
    assert!(header(&response, "warning").contains("lesser-findings"));
    assert_eq!(response.status(), 201);
    let decisions = world.decisions("").await;
    let decision = decisions.last().unwrap();
    assert_eq!(decision["summary"]["images"], 3);
    assert_eq!(decision["media_type"], media_type::OCI_INDEX);

    // A part waits in the staging, seen by its own run alone, and goes upstream with the whole.
    let manifest = world.push_blobs("acme/app", token, &[SEVERE], "app").await;
    let digest = Digest::sha256(&manifest);
    let path = format!("acme/app/manifests/{digest}");
    assert_eq!(world.put_manifest(&path, token, &manifest).await.status(), 201);
    let files = world.upstream_files();
    let fine = Descriptor::of(media_type::OCI_MANIFEST, &evidence);
    let severe = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    let index = ImageIndex::new(vec![fine, severe]).to_bytes();
    let path = "acme/app/manifests/v2";
    let response = world.put_as(path, token, &index, media_type::OCI_INDEX).await;
    let message = check_error(response, 403, "DENIED").await;
    assert!(message.starts_with("severe-with-fix"), "{message}");
    assert_eq!(world.upstream_files(), files, "neither the whole nor a part of it");
    // To another run the part does not exist.
    let other = &world.session(json!({"run_id": "13"})).await;
    let response = world.put_as(path, other, &index, media_type::OCI_INDEX).await;
    check_error(response, 400, "MANIFEST_BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn policies_of_ones_own_decide() {
    let text = "@id(\"all\") permit (principal, action, resource);";
    let dir = tempfile::tempdir().unwrap();
    let world = World::on(dir, Some(text.to_owned())).await;
    let token = &world.session(json!({"event_name": "pull_request"})).await;
    assert_eq!(world.push("else/where:v1", token, &[SEVERE]).await.status(), 201);
}

#[tokio::test]
async fn an_exception_lets_one_finding_pass_and_is_on_record() {
    // The day of these tests is 2027-01-15.
    let text = "[[exception]]\nadvisory = \"CVE-2021-23337\"\npackage = \"lodash\"\n\
        repository = \"acme/app\"\nowner = \"web\"\nreason = \"not called\"\napprover = \"ann\"\n\
        approved = \"2027-01-10\"\nends = \"2027-01-20\"\n";
    let exceptions = Exceptions::load(Path::new("exceptions.toml"), text).unwrap();
    let world = World::with(tempfile::tempdir().unwrap(), None, exceptions).await;
    let token = &world.session(json!({})).await;
    let response = world.push("acme/app:v1", token, &[SEVERE]).await;
    assert_eq!(response.status(), 201);
    let warning = header(&response, "warning");
    for word in ["waived: critical", "CVE-2021-23337", "until 2027-01-20", "web", "ann"] {
        assert!(warning.contains(word), "{word}: {warning}");
    }
    let response = world.push("acme/app/other:v1", token, &[SEVERE]).await;
    check_error(response, 403, "DENIED").await;
    let decisions = world.decisions("?run_id=12").await;
    assert_eq!(decisions[0]["exceptions"], Digest::sha256(text.as_bytes()).to_string());
    assert_eq!(decisions[0]["summary"]["findings"], json!({"critical": 1}));

    // Long after, and with the gate shut, the same is found again.
    for (id, want) in [("1", Answer::Warn), ("2", Answer::Deny)] {
        let explained = world.archive().explain(id).unwrap().unwrap();
        assert_eq!((explained.verdict.decision, explained.reproduced), (want, true), "{id}");
    }
    assert_eq!(world.archive().explain("99").unwrap(), None);

    // On the day after the last one it is as if it were not there.
    world.pass(6 * 86_400);
    let token = &world.session(json!({})).await;
    let response = world.push("acme/app:v2", token, &[SEVERE]).await;
    check_error(response, 403, "DENIED").await;
}
