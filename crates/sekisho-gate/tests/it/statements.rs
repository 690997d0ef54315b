//! What counts as a list of parts or as provenance: content that was read, about this image, and whose.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Response;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, Platform, media_type};
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::facts::{image, unless};
use crate::support::{Lines, Options, World, check_error};

const IN_TOTO: &str = "application/vnd.in-toto+json";
const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
const SPDX: &str = "https://spdx.dev/Document";
const SLSA: &str = "https://slsa.dev/provenance/v1";

/// `SubjectPublicKeyInfo` of an Ed25519 key, before the key. RFC 8410.
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn statement(predicate_type: &str, about: &[u8]) -> Value {
    let predicate = match predicate_type {
        SLSA => json!({
            "buildDefinition": {"buildType": "https://t.example"},
            "runDetails": {"builder": {"id": "https://builder.example"}},
        }),
        _ => json!({"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "packages": []}),
    };
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "x", "digest": {"sha256": Digest::sha256(about).hex()}}],
        "predicateType": predicate_type, "predicate": predicate,
    })
}

/// Pushes a manifest that holds a statement and refers to an image.
async fn refer(world: &World, token: &str, form: &str, said: &Value, image: &[u8]) {
    assert_eq!(referred(world, token, form, said, image).await.status(), 201);
}

/// The same, and gives the answer.
async fn referred(world: &World, token: &str, form: &str, said: &Value, image: &[u8]) -> Response {
    let text = said.to_string();
    world.push_blob("acme/app", token, text.as_bytes()).await;
    world.push_blob("acme/app", token, b"{}").await;
    let mut layer = Descriptor::of(form, text.as_bytes());
    // What it is called decides nothing.
    layer.annotations.insert("in-toto.io/predicate-type".into(), SLSA.into());
    let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
    let mut referrer = ImageManifest::new(config, vec![layer]);
    referrer.artifact_type = Some("application/spdx+json".into());
    referrer.annotations.insert("in-toto.io/predicate-type".into(), SPDX.into());
    referrer.subject = Some(Descriptor::of(media_type::OCI_MANIFEST, image));
    let bytes = referrer.to_bytes();
    let path = format!("acme/app/manifests/{}", Digest::sha256(&bytes));
    world.put_manifest(&path, token, &bytes).await
}

async fn world(condition: &str, attestor: Option<&Ed25519KeyPair>) -> World {
    world_of(unless(condition), attestor).await
}

async fn world_of(policies: String, attestor: Option<&Ed25519KeyPair>) -> World {
    let mut lines = Lines::default();
    if let Some(pair) = attestor {
        let der = BASE64_STANDARD.encode([&ED25519[..], pair.public_key().as_ref()].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----");
        let text = format!("[[attestor]]\nname = \"release\"\npublic_key = \"\"\"{pem}\"\"\"\n");
        let known = sekisho_scanner::Attestors::load(&text).unwrap();
        lines.attestors = serde_json::to_string(&known).unwrap();
    }
    let options = Options { policies: Some(policies), ..Options::default() };
    World::open(Options { inspector: Some(Arc::new(lines)), ..options }).await
}

fn signed(pair: &Ed25519KeyPair, statement: &Value) -> Value {
    let payload = statement.to_string();
    let head = format!("DSSEv1 {} {IN_TOTO} {} ", IN_TOTO.len(), payload.len());
    let signature = pair.sign(&[head.as_bytes(), payload.as_bytes()].concat());
    json!({
        "payloadType": IN_TOTO, "payload": BASE64_STANDARD.encode(payload),
        "signatures": [{"sig": BASE64_STANDARD.encode(signature)}],
    })
}

fn pair() -> Ed25519KeyPair {
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()
}

#[tokio::test]
async fn a_statement_counts_by_its_content_and_for_the_image_it_is_about() {
    let world = world("resource.sbom && resource.provenance", None).await;
    let token = world.session(json!({})).await;
    let bytes = image(&world, &token, json!({"User": "app"})).await.to_bytes();
    let put = async || world.put_manifest("acme/app/manifests/v1", &token, &bytes).await;
    check_error(put().await, 403, "DENIED").await;
    refer(&world, &token, IN_TOTO, &statement(SPDX, &bytes), &bytes).await;
    check_error(put().await, 403, "DENIED").await;
    // Attached to this image, called provenance: without content, and about another image.
    for lie in [json!({"predicateType": SLSA}), statement(SLSA, b"another image")] {
        refer(&world, &token, IN_TOTO, &lie, &bytes).await;
        check_error(put().await, 403, "DENIED").await;
    }
    refer(&world, &token, IN_TOTO, &statement(SLSA, &bytes), &bytes).await;
    assert_eq!(put().await.status(), 201);
}

/// As BuildKit has it: beside the image, in its index.
#[tokio::test]
async fn a_statement_in_the_index_counts_for_the_image_it_names() {
    let world = world("resource.provenance", None).await;
    let token = world.session(json!({})).await;
    let bytes = image(&world, &token, json!({"User": "app"})).await.to_bytes();
    for (about, want) in [(b"another".as_slice(), 403), (&bytes, 201)] {
        let text = statement(SLSA, about).to_string();
        world.push_blob("acme/app", &token, text.as_bytes()).await;
        world.push_blob("acme/app", &token, b"{}").await;
        let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
        let layers = vec![Descriptor::of(IN_TOTO, text.as_bytes())];
        let beside = ImageManifest::new(config, layers).to_bytes();
        let mut parts = Vec::new();
        for part in [&bytes, &beside] {
            let path = format!("acme/app/manifests/{}", Digest::sha256(part));
            assert_eq!(world.put_manifest(&path, &token, part).await.status(), 201);
            parts.push(Descriptor::of(media_type::OCI_MANIFEST, part));
        }
        let linux = Platform::new("linux", "amd64");
        parts[0].platform = Some(linux);
        let about = Digest::sha256(&bytes).to_string();
        parts[1].annotations.insert("vnd.docker.reference.digest".into(), about);
        let index = ImageIndex::new(parts).to_bytes();
        let path = "acme/app/manifests/v1";
        let put = world.put_as(path, &token, &index, media_type::OCI_INDEX).await;
        assert_eq!(put.status(), want);
    }
}

/// Who speaks of an index by its digest speaks of what it names by theirs, at any depth.
#[tokio::test]
async fn a_statement_about_an_index_counts_for_each_of_its_images() {
    let known = pair();
    let world = world("resource.provenance_signers.contains(\"release\")", Some(&known)).await;
    let token = &world.session(json!({})).await;
    let mut images = Vec::new();
    for user in ["one", "two"] {
        let bytes = image(&world, token, json!({"User": user})).await.to_bytes();
        let path = format!("acme/app/manifests/{}", Digest::sha256(&bytes));
        assert_eq!(world.put_manifest(&path, token, &bytes).await.status(), 201);
        images.push(bytes);
    }
    let named = |kind: &str, all: &[Vec<u8>]| {
        ImageIndex::new(all.iter().map(|it| Descriptor::of(kind, it)).collect()).to_bytes()
    };
    let inner = named(media_type::OCI_MANIFEST, &images);
    let put_index = async |reference: &str, bytes: &[u8]| {
        let path = format!("acme/app/manifests/{reference}");
        world.put_as(&path, token, bytes, media_type::OCI_INDEX).await
    };
    let by_digest = Digest::sha256(&inner).to_string();
    assert_eq!(put_index(&by_digest, &inner).await.status(), 201);
    let outer = named(media_type::OCI_INDEX, std::slice::from_ref(&inner));

    // About the first of them alone, about another index, by nobody who is known.
    check_error(put_index("inner", &inner).await, 403, "DENIED").await;
    refer(&world, token, DSSE, &signed(&known, &statement(SLSA, &images[0])), &images[0]).await;
    refer(&world, token, DSSE, &signed(&known, &statement(SLSA, b"another")), &inner).await;
    refer(&world, token, DSSE, &signed(&pair(), &statement(SLSA, &inner)), &inner).await;
    check_error(put_index("inner", &inner).await, 403, "DENIED").await;

    refer(&world, token, DSSE, &signed(&known, &statement(SLSA, &inner)), &inner).await;
    for (tag, index) in [("inner", &inner), ("outer", &outer)] {
        let put = put_index(tag, index).await;
        assert_eq!(put.status(), 201, "{tag}: {}", put.text().await.unwrap());
    }
    // By itself an image is no part of an index.
    let alone = world.put_manifest("acme/app/manifests/alone", token, &images[1]).await;
    check_error(alone, 403, "DENIED").await;
}

/// A builder tells what it was given: a statement can say what nobody should read.
#[tokio::test]
async fn a_secret_in_a_statement_is_refused_as_one_in_a_layer() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let bytes = image(&world, &token, json!({"User": "app"})).await.to_bytes();
    let secret = format!("glpat-{}", "9yJ3kQ7wZ1xR5tB8mN2v");
    let mut provenance = statement(SLSA, &bytes);
    provenance["predicate"]["buildDefinition"]["externalParameters"] = json!({"TOKEN": secret});
    let wrapped = signed(&pair(), &provenance);
    for (form, said) in [
        (IN_TOTO, &provenance),
        (DSSE, &wrapped),
        ("application/spdx+json", &json!({"comment": secret})),
    ] {
        let refused = referred(&world, &token, form, said, &bytes).await;
        let message = check_error(refused, 403, "DENIED").await;
        assert!(message.starts_with("secret-in-layer"), "{message}");
        assert!(message.contains("gitlab-token") && !message.contains(&secret), "{message}");
    }
    // As the config of an artifact, and beside the images of an index that has none.
    let text = json!({"comment": secret}).to_string();
    world.push_blob("acme/app", &token, text.as_bytes()).await;
    let config = Descriptor::of("application/spdx+json", text.as_bytes());
    let artifact = ImageManifest::new(config, vec![]).to_bytes();
    let put = world.put_manifest("acme/app/manifests/v1", &token, &artifact).await;
    let message = check_error(put, 403, "DENIED").await;
    assert!(message.contains("gitlab-token"), "{message}");
    let mut index = ImageIndex::new(vec![]);
    index.annotations.insert("note".into(), "secret-of-a-test".into());
    let index = index.to_bytes();
    let put = world.put_as("acme/app/manifests/v1", &token, &index, media_type::OCI_INDEX).await;
    let message = check_error(put, 403, "DENIED").await;
    assert!(message.starts_with("secret-in-layer"), "{message}");
}

/// The example of the page: what it asks for is not refused itself.
#[tokio::test]
async fn provenance_ships_before_the_image_that_needs_it() {
    let page = include_str!("../../../../docs/policies.md");
    let mut examples = page.split("```cedar\n").skip(1);
    let rule = examples.find(|text| text.starts_with("@id(\"own-builder\")")).unwrap();
    let rule = rule.split("```").next().unwrap();
    let known = pair();
    let permit = "@id(\"permit\") permit (principal, action, resource);\n";
    let world = world_of(format!("{permit}{rule}"), Some(&known)).await;
    let token = world.session(json!({})).await;
    let bytes = image(&world, &token, json!({"User": "app"})).await.to_bytes();
    let put = async || world.put_manifest("acme/app/manifests/v1", &token, &bytes).await;
    check_error(put().await, 403, "DENIED").await;
    refer(&world, &token, DSSE, &signed(&known, &statement(SLSA, &bytes)), &bytes).await;
    assert_eq!(put().await.status(), 201);
}

#[tokio::test]
async fn a_signature_is_named_where_its_key_is_known() {
    let (known, stranger) = (pair(), pair());
    let world = world("resource.provenance_signers.contains(\"release\")", Some(&known)).await;
    let token = world.session(json!({})).await;
    let bytes = image(&world, &token, json!({"User": "app"})).await.to_bytes();
    let put = async || world.put_manifest("acme/app/manifests/v1", &token, &bytes).await;
    let provenance = statement(SLSA, &bytes);
    for (form, said) in [
        (IN_TOTO, provenance.clone()),
        (DSSE, signed(&stranger, &provenance)),
        // A good signature on a statement about another image.
        (DSSE, signed(&known, &statement(SLSA, b"another image"))),
    ] {
        refer(&world, &token, form, &said, &bytes).await;
        check_error(put().await, 403, "DENIED").await;
    }
    refer(&world, &token, DSSE, &signed(&known, &provenance), &bytes).await;
    assert_eq!(put().await.status(), 201);
}
