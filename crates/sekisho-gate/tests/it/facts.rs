//! What the policies are told about an image, through the whole gate.

use sekisho_oci::{Descriptor, ImageIndex, ImageManifest, media_type};
use sekisho_policy::{Decision as Answer, Policies};
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::support::{World, check_error};

/// A policy that refuses unless `condition` holds of an image that has packages.
pub(crate) fn unless(condition: &str) -> String {
    format!(
        "@id(\"permit\") permit (principal, action, resource);\n\
         @id(\"wanted\") @mode(\"enforce\") @message(\"not as wanted\") @fix(\"x\") @docs(\"x\")\n\
         forbid (principal, action == Action::\"ship\", resource)\n\
         when {{ resource.packages > 0 }} unless {{ {condition} }};"
    )
}

async fn world(condition: &str) -> World {
    World::on(tempfile::tempdir().unwrap(), Some(unless(condition))).await
}

/// Pushes the blobs of an image of one layer with this config; its manifest.
pub(crate) async fn image(world: &World, token: &str, run: Value) -> ImageManifest {
    let layer = b"LAYER pkg\npkg express 1 fine\n";
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": run,
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(layer).to_string()]},
    })
    .to_string();
    world.push_blob("acme/app", token, config.as_bytes()).await;
    world.push_blob("acme/app", token, layer).await;
    ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
        vec![Descriptor::of(media_type::OCI_LAYER, layer)],
    )
}

#[tokio::test]
async fn the_config_and_the_manifest_are_judged() {
    let good = json!({
        "User": "app", "ExposedPorts": {"80/tcp": {}}, "Labels": {"team": "web"},
        "Entrypoint": ["/bin/app"], "Cmd": ["--serve"],
    });
    let condition = "resource.user == \"app\" && resource.exposed_ports == [\"80/tcp\"] && \
         resource.hasTag(\"team\") && resource.getTag(\"team\") == \"web\" && \
         resource.command == \"/bin/app --serve\" && resource.layers == 1 && \
         resource.size_bytes == 29 && resource.base_name == \"docker.io/library/debian:12\" && \
         !resource.base_known && !resource.has_base_age && resource.secrets == 0";
    let world = world(condition).await;
    let token = world.session(json!({})).await;
    for (run, base, want) in [
        (good.clone(), "docker.io/library/debian:12", 201),
        (good.clone(), "docker.io/library/debian:11", 403),
        (json!({"User": "app"}), "docker.io/library/debian:12", 403),
    ] {
        let mut manifest = image(&world, &token, run).await;
        let name = "org.opencontainers.image.base.name";
        manifest.annotations.insert(name.to_owned(), base.to_owned());
        let put = world.put_manifest("acme/app/manifests/v1", &token, &manifest.to_bytes()).await;
        assert_eq!(put.status(), want, "{base}");
    }
}

#[tokio::test]
async fn statements_of_every_form_are_let_in_and_nothing_that_only_says_so() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let subject = image(&world, &token, json!({"User": "app"})).await.to_bytes();
    for form in [
        "application/vnd.in-toto+json",
        "application/vnd.dsse.envelope.v1+json",
        "application/vnd.dev.cosign.simplesigning.v1+json",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
        "application/spdx+json",
        "text/spdx+json",
        "application/vnd.cyclonedx+json",
        "application/vnd.oci.empty.v1+json",
    ] {
        for (statement, want) in [("{\"a\": 1}", 201), ("LAYER\npkg express 1 fine", 403)] {
            world.push_blob("acme/app", &token, statement.as_bytes()).await;
            world.push_blob("acme/app", &token, b"{}").await;
            let config = Descriptor::of(media_type::OCI_EMPTY, b"{}");
            let layer = Descriptor::of(form, statement.as_bytes());
            let mut referrer = ImageManifest::new(config, vec![layer]);
            referrer.artifact_type = Some(form.to_owned());
            referrer.subject = Some(Descriptor::of(media_type::OCI_MANIFEST, &subject));
            let bytes = referrer.to_bytes();
            let path = format!("acme/app/manifests/{}", Digest::sha256(&bytes));
            let put = world.put_manifest(&path, &token, &bytes).await;
            assert_eq!(put.status(), want, "{form}: {:?}", put.text().await);
        }
    }
}

/// What runtimes never unpack is no place to hide something in.
#[tokio::test]
async fn a_config_of_an_artifact_is_a_statement_or_is_refused() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    for (kind, config, want) in [
        (media_type::OCI_EMPTY, "{}", 201),
        ("application/vnd.dev.cosign.artifact.sig.v1+json", "{}", 201),
        (media_type::OCI_EMPTY, "\x7fELF and more", 403),
        ("application/spdx+json", "\x7fELF and more", 403),
        ("application/vnd.example.tool", "\x7fELF and more", 403),
        ("application/vnd.example.tool", "{}", 403),
    ] {
        world.push_blob("acme/app", &token, config.as_bytes()).await;
        let config = Descriptor::of(kind, config.as_bytes());
        let bytes = ImageManifest::new(config, vec![]).to_bytes();
        let put = world.put_manifest("acme/app/manifests/v1", &token, &bytes).await;
        let (status, text) = (put.status(), put.text().await.unwrap());
        assert_eq!(status, want, "{kind}: {text}");
        assert!(want == 201 || text.contains("unreadable-content"), "{text}");
    }
}

#[tokio::test]
async fn a_config_that_names_other_layers_is_refused() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let layer = b"LAYER pkg\npkg express 1 fine\n";
    world.push_blob("acme/app", &token, layer).await;
    let own = Digest::sha256(layer);
    let other = Digest::sha256(b"the lowest layer of a base that everybody trusts");
    for (named, want) in [
        (vec![&own], ""),
        (vec![&other], "diff_ids[0]"),
        (vec![&own, &own], "name 2 layers"),
        (vec![], "name 0 layers"),
    ] {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"User": "app"},
            "rootfs": {"type": "layers", "diff_ids": named},
        })
        .to_string();
        world.push_blob("acme/app", &token, config.as_bytes()).await;
        let manifest = ImageManifest::new(
            Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
            vec![Descriptor::of(media_type::OCI_LAYER, layer)],
        );
        let path = "acme/app/manifests/v1";
        let put = world.put_manifest(path, &token, &manifest.to_bytes()).await;
        if want.is_empty() {
            assert_eq!(put.status(), 201);
        } else {
            let message = check_error(put, 403, "DENIED").await;
            assert!(message.starts_with("unreadable-content"), "{message}");
            assert!(message.contains(want), "{message}");
        }
    }
}

#[tokio::test]
async fn an_index_without_statements_is_told_so() {
    let world = world("resource.sbom").await;
    let token = world.session(json!({})).await;
    let index = ImageIndex::new(vec![]).to_bytes();
    let put = world.put_as("acme/app/manifests/v1", &token, &index, media_type::OCI_INDEX).await;
    assert_eq!(put.status(), 201, "an index of nothing has nothing to be judged");
}

#[tokio::test]
async fn decisions_are_judged_anew_by_other_policies() {
    let world = World::new().await;
    let token = world.session(json!({})).await;
    let names = [
        ("acme/app:good", "LAYER\npkg express 1 fine", 201),
        ("acme/app:bad", "LAYER\npkg lodash 4.17.20 critical 4.17.21", 403),
    ];
    for (name, layer, status) in names {
        assert_eq!(world.push(name, &token, &[layer]).await.status(), status);
    }
    let decisions = |policies: &Policies, limit| -> Vec<(String, Answer)> {
        let replayed = world.archive().replay(policies, limit).unwrap();
        let tag = |it: &sekisho_gate::Replayed| it.decision.tag.as_ref().unwrap().to_string();
        replayed.iter().map(|it| (tag(it), it.verdict.as_ref().unwrap().decision)).collect()
    };
    let same = decisions(&Policies::default_set(), 1000);
    assert_eq!(same, [("good".into(), Answer::Allow), ("bad".into(), Answer::Deny)]);
    let none = Policies::load("@id(\"p\") permit (principal, action, resource);").unwrap();
    let open = decisions(&none, 1000);
    assert_eq!(open, [("good".into(), Answer::Allow), ("bad".into(), Answer::Allow)]);
    assert_eq!(decisions(&none, 1), [("bad".into(), Answer::Allow)], "the latest");
    assert_eq!(World::new().await.archive().replay(&none, 1).unwrap(), [], "none yet");
}
