//! Deletes, and the garbage that they leave.

use sekisho_oci::media_type;
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::support::{World, check_error, header};

const LAYER: &str = "LAYER to delete";

async fn tags(world: &World) -> Value {
    let response = world.send("GET", "/v2/acme/app/tags/list", "").await;
    response.json::<Value>().await.unwrap()["tags"].clone()
}

#[tokio::test]
async fn a_tag_a_manifest_a_blob_are_deleted_at_once() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let manifest = world.push_blobs("acme/app", token, &[LAYER], "app").await;
    let digest = Digest::sha256(&manifest);
    let path = format!("acme/app/manifests/{digest}?tag=v1&tag=v2&tag=v3");
    let response = world.put_manifest(&path, token, &manifest).await;
    assert_eq!(response.status(), 201);

    let here = &world;
    let delete = |path: String| async move { here.send("DELETE", &path, token).await };
    assert_eq!(delete("/v2/acme/app/manifests/v2".into()).await.status(), 202);
    check_error(
        world.send("GET", "/v2/acme/app/manifests/v2", token).await,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    assert_eq!(tags(&world).await, json!(["v1", "v3"]), "the others stay");

    // What a manifest needs stays as long as the manifest.
    let blob = format!("/v2/acme/app/blobs/{}", Digest::sha256(LAYER.as_bytes()));
    let said = check_error(delete(blob.clone()).await, 405, "UNSUPPORTED").await;
    assert!(said.contains(&digest.to_string()), "{said}");
    assert_eq!(world.send("HEAD", &blob, "").await.status(), 200);

    let by_digest = format!("/v2/acme/app/manifests/{digest}");
    assert_eq!(delete(by_digest.clone()).await.status(), 202);
    assert_eq!(tags(&world).await, json!([]), "its tags go with it");
    check_error(delete(by_digest).await, 404, "MANIFEST_UNKNOWN").await;
    assert_eq!(delete(blob.clone()).await.status(), 202);
    check_error(world.send("GET", &blob, token).await, 404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn who_may_not_push_may_not_delete() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", token, &[LAYER]).await.status(), 201);
    let path = "/v2/acme/app/manifests/v1";
    let response = world.send("DELETE", path, "").await;
    let challenge = header(&response, "www-authenticate");
    assert!(challenge.ends_with("scope=\"repository:acme/app:pull,push,delete\""), "{challenge}");
    check_error(response, 401, "UNAUTHORIZED").await;

    for (changes, rule) in [
        (json!({"repository": "acme/other", "repository_id": "1"}), "own-namespace"),
        (json!({"event_name": "pull_request_target"}), "trusted-events"),
    ] {
        let other = &world.session(changes).await;
        for path in [path, &format!("/v2/acme/app/blobs/{}", Digest::sha256(LAYER.as_bytes()))] {
            let said = check_error(world.send("DELETE", path, other).await, 403, "DENIED").await;
            assert!(said.starts_with(rule), "{said}");
        }
    }
    // An access token for a push is none for a delete.
    let scope = "/token?service=sekisho-gate&scope=repository:acme/app:";
    for (actions, status) in [("pull,push", 401), ("pull,push,delete", 202)] {
        let response = world.request("GET", &format!("{scope}{actions}"), "");
        let response = response.basic_auth("x", Some(token)).send().await.unwrap();
        let body: Value = response.json().await.unwrap();
        let access = body["token"].as_str().unwrap();
        assert_eq!(world.send("DELETE", path, access).await.status(), status, "{actions}");
    }
}

#[tokio::test]
async fn a_policy_may_forbid_deletes() {
    let policy = "@id(\"all\") permit (principal, action, resource);\n\
        @id(\"kept\") @mode(\"enforce\") @message(\"releases are kept\") @fix(\"ask\") @docs(\"d\")\n\
        forbid (principal, action == Action::\"delete\", resource);";
    let world = World::on(tempfile::tempdir().unwrap(), Some(policy.to_owned())).await;
    let token = &world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", token, &[LAYER]).await.status(), 201);
    let response = world.send("DELETE", "/v2/acme/app/manifests/v1", token).await;
    let said = check_error(response, 403, "DENIED").await;
    assert!(said.starts_with("kept: acme/app deletes in `acme/app`. releases are kept"), "{said}");
    assert_eq!(tags(&world).await, json!(["v1"]));
}

#[tokio::test]
async fn garbage_is_collected_while_the_gate_serves() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", token, &[LAYER]).await.status(), 201);
    assert_eq!(world.push("acme/app:v2", token, &["LAYER two"]).await.status(), 201);
    let files = world.upstream_files();
    assert_eq!(world.send("DELETE", "/v2/acme/app/manifests/v1", token).await.status(), 202);
    let response = world.send("HEAD", "/v2/acme/app/manifests/v2", "").await;
    let digest = header(&response, "docker-content-digest");
    let path = format!("/v2/acme/app/manifests/{digest}");
    assert_eq!(world.send("DELETE", &path, token).await.status(), 202);

    assert_eq!(world.gate.collect_garbage().unwrap().blobs, 0, "not in its first hour");
    // The clock of these tests is ahead of the disk's, so all content is old.
    world.pass(2 * 3600);
    let collected = world.gate.collect_garbage().unwrap();
    assert_eq!(
        (collected.links, collected.blobs),
        (3, 5),
        "layer, config, manifest, the gate's word"
    );
    assert!(collected.size_bytes > 0);
    assert!(world.upstream_files() < files);
    // The untagged manifest is still there for whoever knows its digest.
    let layer = format!("/v2/acme/app/blobs/{}", Digest::sha256(LAYER.as_bytes()));
    assert_eq!(world.send("HEAD", &layer, "").await.status(), 200);
    let again = world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v2", &again, &["LAYER two"]).await.status(), 201);
}

#[tokio::test]
async fn several_tags_in_one_push() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let manifest = world.push_blobs("acme/app", token, &[LAYER], "app").await;
    let digest = Digest::sha256(&manifest);
    let put = |reference: String, query: String| {
        let path = format!("acme/app/manifests/{reference}{query}");
        let (world, manifest) = (&world, &manifest);
        async move { world.put_as(&path, token, manifest, media_type::OCI_MANIFEST).await }
    };
    let many = |count: usize| {
        let all: Vec<String> = (0..count).map(|number| format!("tag=t{number}")).collect();
        format!("?{}", all.join("&"))
    };
    let response = put(digest.to_string(), many(12) + "&tag=t0").await;
    assert_eq!(response.status(), 201);
    let told: Vec<_> = response.headers().get_all("oci-tag").iter().collect();
    assert_eq!(told.len(), 12);
    assert_eq!(tags(&world).await.as_array().unwrap().len(), 12);
    assert_eq!(world.decisions("?run_id=12").await.len(), 12, "each is on record");

    check_error(put(digest.to_string(), many(33)).await, 414, "MANIFEST_INVALID").await;
    check_error(put(digest.to_string(), "?tag=.x".into()).await, 400, "MANIFEST_INVALID").await;
    check_error(put("v1".into(), "?tag=v2".into()).await, 400, "MANIFEST_INVALID").await;
    assert_eq!(tags(&world).await.as_array().unwrap().len(), 12);
}

#[tokio::test]
async fn a_mount_without_a_source_and_a_hint_of_the_algorithm() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let digest = world.push_blob("acme/app/one", token, b"LAYER").await;
    let mount = format!("/v2/acme/app/two/blobs/uploads/?mount={digest}");
    assert_eq!(world.send("POST", &mount, token).await.status(), 201);
    let other = &world.session(json!({"run_id": "13"})).await;
    assert_eq!(world.send("POST", &mount, other).await.status(), 202, "not of another run's");
    for (algorithm, status) in [("sha512", 202), ("sha256", 202), ("md5", 400)] {
        let path = format!("/v2/acme/app/blobs/uploads/?digest-algorithm={algorithm}");
        assert_eq!(world.send("POST", &path, token).await.status(), status, "{algorithm}");
    }
}

/// Clients that do not wait for a challenge at the ping find out here that they have to log in.
#[tokio::test]
async fn who_said_nothing_is_asked_for_what_only_a_run_may_see() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    let digest = world.push_blob("acme/app", token, b"LAYER").await;
    let path = format!("/v2/acme/app/blobs/{digest}");
    let response = world.send("GET", &path, "").await;
    let challenge = header(&response, "www-authenticate");
    assert!(challenge.ends_with("scope=\"repository:acme/app:pull\""), "{challenge}");
    check_error(response, 401, "UNAUTHORIZED").await;
    // Nobody's token, asked for as told, is answered for good: no client is sent in circles.
    let token = world.send("GET", "/token?service=x&scope=repository:acme/app:pull", "").await;
    let body: Value = token.json().await.unwrap();
    let response = world.send("GET", &path, body["token"].as_str().unwrap()).await;
    check_error(response, 404, "BLOB_UNKNOWN").await;
}
