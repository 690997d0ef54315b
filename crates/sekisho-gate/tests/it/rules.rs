//! What rules may speak of beside the image: whose a name is, tags, who reads.

use serde_json::{Value, json};

use crate::support::{ADMIN, Options, World, check_error};

const FINE: &str = "LAYER\npkg express 1 fine";
const OTHER: &str = "LAYER\npkg qs 1 fine";

/// A permit, and one rule that enforces.
fn with(rule: &str) -> String {
    format!(
        "@id(\"permit\") permit (principal, action, resource);\n@id(\"wanted\") \
         @mode(\"enforce\") @message(\"not as wanted\") @fix(\"x\") @docs(\"x\") {rule}"
    )
}

async fn world(rule: &str) -> World {
    World::on(tempfile::tempdir().unwrap(), Some(with(rule))).await
}

/// Somebody registers a name that another repository had.
#[tokio::test]
async fn a_name_stays_with_the_repository_that_had_it_first() {
    let world = World::new().await;
    let first = world.session(json!({})).await;
    let thief = json!({"repository_id": "5000", "repository_owner_id": "5001"});
    let later = world.session(thief.clone()).await;
    assert_eq!(world.push("acme/app:v1", &first, &[FINE]).await.status(), 201);
    let refused = world.push("acme/app:v1", &later, &[OTHER]).await;
    let message = check_error(refused, 403, "DENIED").await;
    assert!(message.starts_with("same-owner"), "{message}");
    for what in
        ["manifests/v1", &format!("blobs/{}", sekisho_types::Digest::sha256(FINE.as_bytes()))]
    {
        let response = world.send("DELETE", &format!("/v2/acme/app/{what}"), &later).await;
        check_error(response, 403, "DENIED").await;
    }
    assert_eq!(world.send("GET", "/v2/acme/app/manifests/v1", &later).await.status(), 200);
    // What is below the name is nobody's yet.
    assert_eq!(world.push("acme/app/new:v1", &later, &[OTHER]).await.status(), 201);

    let path = "/_gate/v1/owners/acme/app";
    let owner: Value = world.send("GET", path, ADMIN).await.json().await.unwrap();
    assert_eq!(
        (&owner["repository"], &owner["repository_id"]),
        (&json!("acme/app"), &json!("4711"))
    );
    check_error(world.send("DELETE", path, &later).await, 401, "UNAUTHORIZED").await;

    // After a restart too, and until it is released.
    let world = world.again(Options::default()).await;
    let (first, later) = (world.session(json!({})).await, world.session(thief).await);
    let refused = world.push("acme/app:v1", &later, &[OTHER]).await;
    check_error(refused, 403, "DENIED").await;
    assert_eq!(world.push("acme/app:v1", &first, &[OTHER]).await.status(), 201);
    assert_eq!(world.send("DELETE", path, ADMIN).await.status(), 204);
    assert_eq!(world.send("DELETE", path, ADMIN).await.status(), 404);
    assert_eq!(world.push("acme/app:v2", &later, &[OTHER]).await.status(), 201);
    let refused = world.push("acme/app:v2", &first, &[FINE]).await;
    check_error(refused, 403, "DENIED").await;
}

#[tokio::test]
async fn a_tag_can_be_written_once() {
    let world = world(
        "forbid (principal, action in [Action::\"push\", Action::\"delete\"], resource) \
         when { context.tag like \"v*\" && context.overwrites };",
    )
    .await;
    let token = world.session(json!({})).await;
    for (name, layer, want) in [
        ("acme/app:v1", FINE, 201),
        ("acme/app:v1", FINE, 201),
        ("acme/app:v1", OTHER, 403),
        ("acme/app:v2", OTHER, 201),
        ("acme/app:edge", FINE, 201),
        ("acme/app:edge", OTHER, 201),
    ] {
        assert_eq!(world.push(name, &token, &[layer]).await.status(), want, "{name}");
    }
    let delete = async |tag: &str| {
        world.send("DELETE", &format!("/v2/acme/app/manifests/{tag}"), &token).await.status()
    };
    assert_eq!((delete("v1").await.as_u16(), delete("edge").await.as_u16()), (403, 202));
}

#[tokio::test]
async fn a_release_comes_from_a_tag() {
    let world = world(
        "forbid (principal, action == Action::\"push\", resource) \
         when { context.tag like \"v*\" } unless { principal.ref_type == \"tag\" };",
    )
    .await;
    let branch = world.session(json!({})).await;
    let tag = world.session(json!({"ref": "refs/tags/v1", "ref_type": "tag"})).await;
    assert_eq!(world.push("acme/app:v1", &branch, &[FINE]).await.status(), 403);
    assert_eq!(world.push("acme/app:edge", &branch, &[FINE]).await.status(), 201);
    assert_eq!(world.push("acme/app:v1", &tag, &[FINE]).await.status(), 201);
}

#[tokio::test]
async fn a_repository_can_be_closed_to_readers() {
    let world = world(
        "forbid (principal, action == Action::\"pull\", resource) \
         unless { principal.repository_owner == \"acme\" };",
    )
    .await;
    let own = world.session(json!({})).await;
    assert_eq!(world.push("acme/app:v1", &own, &[FINE]).await.status(), 201);
    let other = world
        .session(json!({
            "repository": "evil/app", "repository_id": "9", "repository_owner": "evil",
            "repository_owner_id": "8",
        }))
        .await;
    let blob = sekisho_types::Digest::sha256(FINE.as_bytes());
    for path in
        ["manifests/v1", "tags/list", &format!("blobs/{blob}"), &format!("referrers/{blob}")]
    {
        let path = format!("/v2/acme/app/{path}");
        assert_eq!(world.send("GET", &path, &own).await.status(), 200, "{path}");
        check_error(world.send("GET", &path, &other).await, 403, "DENIED").await;
        check_error(world.send("GET", &path, "").await, 401, "UNAUTHORIZED").await;
    }
    // Nor does a mount bring it out.
    let mount = format!("/v2/evil/app/blobs/uploads/?mount={blob}&from=acme/app");
    assert_eq!(world.send("POST", &mount, &other).await.status(), 202, "an upload begins");
    // And no token is made for it.
    let path = "/token?service=sekisho-gate&scope=repository:acme/app:pull";
    let token: Value = world.send("GET", path, "").await.json().await.unwrap();
    let token = token["token"].as_str().unwrap();
    let read = world.send("GET", "/v2/acme/app/manifests/v1", token).await;
    check_error(read, 401, "UNAUTHORIZED").await;
}

#[tokio::test]
async fn a_secret_in_a_manifest_is_found() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let manifest = world.push_blobs("acme/app", &token, &[FINE], "app").await;
    let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["annotations"] = json!({"build.args": "--token=secret-of-a-test"});
    let bytes = manifest.to_string().into_bytes();
    let put = world.put_manifest("acme/app/manifests/v1", &token, &bytes).await;
    let message = check_error(put, 403, "DENIED").await;
    assert!(message.starts_with("secret-in-layer"), "{message}");
    assert!(message.contains("(image manifest)"), "{message}");
}
