//! Lists of referrers: filter, pages, and what clients listed themselves under a tag.

use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, media_type};
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::support::{World, header};

const TYPES: [&str; 2] = ["application/vnd.example.one", "application/vnd.example.two"];

/// Puts a document about `subject`, and gives its descriptor.
async fn put(world: &World, token: &str, subject: Option<&Digest>, number: usize) -> Descriptor {
    let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
    let mut manifest = ImageManifest::new(config.clone(), vec![config]);
    manifest.artifact_type = Some(TYPES[number % 2].to_owned());
    manifest.subject =
        subject.map(|digest| Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), 9));
    manifest.annotations.insert("number".into(), number.to_string());
    let bytes = manifest.to_bytes();
    let path = format!("acme/app/manifests/{}", Digest::sha256(&bytes));
    let response = world.put_manifest(&path, token, &bytes).await;
    assert_eq!(response.status(), 201, "{:?}", response.text().await);
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
    descriptor.artifact_type = manifest.artifact_type;
    descriptor
}

/// The digests of every page, following the links; and how many pages there were.
async fn list(world: &World, query: &str) -> (Vec<String>, usize) {
    let mut path = format!("/v2/acme/app/referrers/{}{query}", subject());
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let response = world.send("GET", &path, "").await;
        assert_eq!(response.status(), 200);
        let link = header(&response, "link");
        let body: Value = response.json().await.unwrap();
        let entries = body["manifests"].as_array().unwrap();
        all.extend(entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some((next, _)) = link.strip_prefix('<').and_then(|link| link.split_once('>')) else {
            return (all, pages);
        };
        path = next.to_owned();
    }
}

fn subject() -> Digest {
    Digest::sha256(b"the subject, which nobody pushed")
}

#[tokio::test]
async fn pages_filters_and_deletes() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    world.push_blob("acme/app", token, b"{}").await;
    let mut digests = Vec::new();
    for number in 0..7 {
        let descriptor = put(&world, token, Some(&subject()), number).await;
        digests.push((descriptor.digest.to_string(), number % 2));
    }
    digests.sort();
    let names = |kind: Option<usize>| -> Vec<String> {
        let wanted = digests.iter().filter(|(_, of)| kind.is_none_or(|kind| kind == *of));
        wanted.map(|(digest, _)| digest.clone()).collect()
    };
    assert_eq!(list(&world, "").await, (names(None), 1));
    assert_eq!(list(&world, "?n=3").await, (names(None), 3));
    let filter = format!("?artifactType={}", TYPES[0]);
    assert_eq!(list(&world, &filter).await, (names(Some(0)), 1));
    assert_eq!(list(&world, &format!("{filter}&n=2")).await, (names(Some(0)), 2));
    assert_eq!(list(&world, "?n=0").await.0, names(None), "a page is never empty");

    let path = format!("/v2/acme/app/manifests/{}", digests[0].0);
    assert_eq!(world.send("DELETE", &path, token).await.status(), 202);
    assert_eq!(list(&world, "").await.0, names(None)[1..]);
}

#[tokio::test]
async fn the_list_under_the_fallback_tag_is_part_of_the_answer() {
    let world = World::new().await;
    let token = &world.session(json!({})).await;
    world.push_blob("acme/app", token, b"{}").await;
    let filed = put(&world, token, Some(&subject()), 0).await;
    let listed = put(&world, token, None, 1).await;
    let gone = put(&world, token, None, 2).await;
    let index = ImageIndex::new(vec![filed.clone(), listed.clone(), gone.clone()]).to_bytes();
    let tag = format!("acme/app/manifests/sha256-{}", subject().hex());
    let response = world.put_as(&tag, token, &index, media_type::OCI_INDEX).await;
    assert_eq!(response.status(), 201);
    let path = format!("/v2/acme/app/manifests/{}", gone.digest);
    assert_eq!(world.send("DELETE", &path, token).await.status(), 202);

    let mut want = vec![filed.digest.to_string(), listed.digest.to_string()];
    want.sort();
    assert_eq!(list(&world, "").await.0, want, "each once, and only what is there");
    let filter = format!("?artifactType={}", TYPES[1]);
    assert_eq!(list(&world, &filter).await.0, [listed.digest.to_string()]);
}
