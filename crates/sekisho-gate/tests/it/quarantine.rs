//! Images that are held, and somebody's word on them.

use reqwest::Response;
use sekisho_oci::{Descriptor, ImageIndex, media_type};
use sekisho_policy::Exceptions;
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::support::{ADMIN, World, check_error, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";
pub(crate) const SEVERE: &str = "LAYER\npkg lodash 4.17.20 critical 4.17.21";

/// What has a severe finding is held; what has a gap is denied.
pub(crate) const RULES: &str = "@id(\"all\") permit (principal, action, resource);\n\
    @id(\"severe\") @mode(\"quarantine\") @message(\"somebody must look\") @fix(\"update\") @docs(\"d\")\n\
    forbid (principal, action == Action::\"carry\", resource) when { resource.severity == \"critical\" };";

async fn world() -> World {
    World::on(tempfile::tempdir().unwrap(), Some(RULES.to_owned())).await
}

async fn word(world: &World, id: &str, what: &str, by: &str, reason: &str) -> Response {
    let path = format!("/_gate/v1/quarantine/{id}/{what}");
    let body = json!({ "by": by, "reason": reason });
    world.request("POST", &path, ADMIN).json(&body).send().await.unwrap()
}

async fn held(world: &World) -> Vec<Value> {
    let response = world.send("GET", "/_gate/v1/quarantine", ADMIN).await;
    let body: Value = response.json().await.unwrap();
    body["held"].as_array().unwrap().clone()
}

/// Pushes an image that is held, and gives its id.
async fn hold(world: &World, token: &str, name: &str) -> String {
    let message = check_error(world.push(name, token, &[FINE, SEVERE]).await, 403, "DENIED").await;
    let id = message.strip_prefix("held as ").unwrap().split(',').next().unwrap().to_owned();
    assert!(message.contains(&format!("approve with `sekisho gate quarantine approve {id}`")));
    assert!(message.contains("severe: critical"), "{message}");
    id
}

#[tokio::test]
async fn an_approved_image_is_promoted_without_another_build() {
    let world = world().await;
    let token = &world.session(json!({})).await;
    let id = hold(&world, token, "acme/app:v1").await;
    assert_eq!(world.upstream_files(), 0, "nothing of it left the staging");
    assert_eq!(hold(&world, token, "acme/app:v1").await, id, "a repeat is the same");
    assert_eq!(world.decisions("").await.len(), 1);

    let [one] = &held(&world).await[..] else { panic!("one image") };
    assert_eq!(
        (&one["id"], &one["tag"], &one["pushed_by"]),
        (&json!(id), &json!("v1"), &json!("acme/app"))
    );
    assert!(one["reasons"][0].as_str().unwrap().contains("lodash"), "{one}");
    assert_eq!(one["until"], "2027-01-29T08:00:00Z", "14 days");
    let path = format!("/_gate/v1/quarantine/{id}");
    let shown: Value = world.send("GET", &path, ADMIN).await.json().await.unwrap();
    assert_eq!(shown["decision"]["verdict"]["decision"], "quarantine");
    check_error(world.send("GET", &path, "").await, 401, "UNAUTHORIZED").await;

    // The run is long over, and its staging would be gone.
    world.pass(3 * 86_400);
    assert_eq!(word(&world, &id, "approve", "ann", " ").await.status(), 400, "no reason");
    let approved = word(&world, &id, "approve", "ann", "not called\nanywhere").await;
    assert_eq!(approved.status(), 204, "{:?}", approved.text().await);
    let manifest = world.send("GET", "/v2/acme/app/manifests/v1", "").await;
    assert_eq!(manifest.status(), 200);
    let blob = format!("/v2/acme/app/blobs/{}", Digest::sha256(SEVERE.as_bytes()));
    assert_eq!(world.send("GET", &blob, "").await.status(), 200);

    let decisions = world.decisions("").await;
    assert_eq!(decisions.len(), 2);
    assert_eq!(decisions[1]["verdict"]["decision"], "warn");
    assert_eq!(decisions[1]["approval"]["approver"], "ann");
    assert_eq!(decisions[1]["approval"]["held_by"], decisions[0]["id"]);
    let reason = &decisions[1]["verdict"]["reasons"][0];
    assert_eq!(reason["fix"], "approved by ann (000000000001): not called?anywhere");
    assert_eq!(held(&world).await, Vec::<Value>::new());
    check_error(word(&world, &id, "approve", "ann", "again").await, 404, "UNKNOWN").await;
    for number in ["1", "2"] {
        let again = world.archive().explain(number).unwrap();
        assert!(again.unwrap().reproduced, "{number}");
    }
}

#[tokio::test]
async fn a_rejected_image_stays_out() {
    let world = world().await;
    let token = &world.session(json!({})).await;
    let id = hold(&world, token, "acme/app:v1").await;
    assert_eq!(word(&world, &id, "reject", "ann", "update it").await.status(), 204);
    let response = world.push("acme/app:v1", token, &[FINE, SEVERE]).await;
    let message = check_error(response, 403, "DENIED").await;
    assert_eq!(message, format!("{id} was rejected by ann: update it"));
    check_error(word(&world, &id, "approve", "bob", "no").await, 404, "UNKNOWN").await;
    assert_eq!(world.upstream_files(), 0);
}

#[tokio::test]
async fn what_was_held_is_held_by_the_next_gate_until_its_time_is_over() {
    let mut world = world().await;
    let token = world.session(json!({})).await;
    let id = hold(&world, &token, "acme/app:v1").await;
    let dir = std::mem::replace(&mut world.dir, tempfile::tempdir().unwrap());
    drop(world);
    let world = World::on(dir, Some(RULES.to_owned())).await;
    assert_eq!(held(&world).await.len(), 1);
    world.pass(15 * 86_400);
    assert_eq!(held(&world).await.len(), 0);
    check_error(word(&world, &id, "approve", "ann", "late").await, 404, "UNKNOWN").await;
}

#[tokio::test]
async fn a_newer_image_under_the_tag_supersedes_a_held_one() {
    let world = world().await;
    let token = &world.session(json!({})).await;
    let id = hold(&world, token, "acme/app:v1").await;
    let other = hold(&world, token, "acme/app:v2").await;
    assert_eq!(world.push("acme/app:v1", token, &[FINE]).await.status(), 201);
    check_error(word(&world, &id, "approve", "ann", "old").await, 404, "UNKNOWN").await;
    assert_eq!(held(&world).await.len(), 1);
    assert_eq!(word(&world, &other, "approve", "ann", "fine").await.status(), 204);
}

#[tokio::test]
async fn an_approval_does_not_cover_what_a_rule_denies() {
    // The same image, by rules that became stricter meanwhile.
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::on(dir, Some(RULES.to_owned())).await;
    let token = world.session(json!({})).await;
    let id = hold(&world, &token, "acme/app:v1").await;
    let dir = std::mem::replace(&mut world.dir, tempfile::tempdir().unwrap());
    drop(world);
    let world =
        World::with(dir, Some(RULES.replace("quarantine", "enforce")), Exceptions::default());
    let world = world.await;
    let response = word(&world, &id, "approve", "ann", "fine").await;
    let message = check_error(response, 403, "DENIED").await;
    assert!(message.starts_with("severe: critical"), "{message}");
    assert_eq!(world.upstream_files(), 0);
}

#[tokio::test]
async fn an_index_is_held_and_approved_with_its_parts() {
    let world = world().await;
    let token = &world.session(json!({})).await;
    let mut parts = Vec::new();
    for layer in [FINE, SEVERE] {
        let manifest = world.push_blobs("acme/app", token, &[layer], "app").await;
        let path = format!("acme/app/manifests/{}", Digest::sha256(&manifest));
        assert_eq!(world.put_manifest(&path, token, &manifest).await.status(), 201);
        parts.push(Descriptor::of(media_type::OCI_MANIFEST, &manifest));
    }
    let index = ImageIndex::new(parts.clone()).to_bytes();
    let put = || world.put_as("acme/app/manifests/v1", token, &index, media_type::OCI_INDEX);
    let message = check_error(put().await, 403, "DENIED").await;
    let id = message.strip_prefix("held as ").unwrap().split(',').next().unwrap().to_owned();
    for part in &parts {
        let path = format!("/v2/acme/app/manifests/{}", part.digest);
        assert_eq!(world.send("GET", &path, token).await.status(), 200, "its run sees it");
        assert_eq!(world.send("GET", &path, "").await.status(), 401, "nobody else does");
    }
    assert_eq!(word(&world, &id, "approve", "ann", "fine").await.status(), 204);
    for part in &parts {
        let path = format!("/v2/acme/app/manifests/{}", part.digest);
        assert_eq!(world.send("GET", &path, "").await.status(), 200);
    }
    let response = put().await;
    assert_eq!(response.status(), 201, "and whoever pushes it again is told so");
    assert_eq!(header(&response, "docker-content-digest"), Digest::sha256(&index).to_string());
}

#[tokio::test]
async fn a_promoted_image_has_the_gates_signed_word() {
    let world = world().await;
    let token = &world.session(json!({})).await;
    let response = world.push("acme/app:v1", token, &[FINE]).await;
    let digest = header(&response, "docker-content-digest");
    let path = format!("/v2/acme/app/referrers/{digest}");
    let list: Value = world.send("GET", &path, "").await.json().await.unwrap();
    let [said] = &list["manifests"].as_array().unwrap()[..] else { panic!("one: {list}") };
    assert_eq!(said["artifactType"], "application/vnd.sekisho.vsa.v1+json");
    let path = format!("/v2/acme/app/manifests/{}", said["digest"].as_str().unwrap());
    let manifest: Value = world.send("GET", &path, "").await.json().await.unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = world.send("GET", &format!("/v2/acme/app/blobs/{layer}"), "").await;
    let envelope: Value = blob.json().await.unwrap();
    let path = "/_gate/v1/decisions/000000000001/vsa";
    let exported: Value = world.send("GET", path, ADMIN).await.json().await.unwrap();
    assert_eq!(envelope, exported);

    let verified: Value = world.send("GET", "/_gate/v1/verify", ADMIN).await.json().await.unwrap();
    assert_eq!(verified, json!({ "records": 1, "signed": 0, "faults": [] }));
    let path = format!("/v2/acme/app/manifests/{digest}");
    assert_eq!(world.send("DELETE", &path, token).await.status(), 202);
    let path = format!("/v2/acme/app/referrers/{digest}");
    let list: Value = world.send("GET", &path, "").await.json().await.unwrap();
    assert_eq!(list["manifests"], json!([]), "it goes with the image");
}
