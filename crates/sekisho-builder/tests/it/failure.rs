//! Bad input, refusals, hostile bases.

use std::os::unix::fs::symlink;

use sekisho_builder::BuildError;
use sekisho_oci::layer::{Entry, EntryKind, Writer};
use sekisho_oci::{Descriptor, ImageConfig, ImageManifest, Platform, media_type};
use sekisho_types::{Digest, Hint as _};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_name_file_line_and_column() {
    let world = World::new().await;
    world.file("a", "a");
    for (text, want) in [
        ("FROM scratch\nCOPPY a /", "Dockerfile:2:1: "),
        ("FROM scratch\nCOPY nope /", "Dockerfile:2:6: `nope` is not there in the build context"),
        (
            "FROM scratch\nCOPY a nope* zz /d/",
            "Dockerfile:2:14: `zz` is not there in the build context",
        ),
        (
            "# syntax=ghcr.io/x/y\nFROM scratch",
            "Dockerfile:1:1: the frontend `ghcr.io/x/y` is an image that only BuildKit can run",
        ),
        (
            "# check=error=true\nFROM scratch as a",
            "Dockerfile:2:1: FromAsCasing: 'as' and 'FROM' keywords' casing do not match",
        ),
        (
            "FROM scratch\nADD --chown=1 http://169.254.169.254/latest/token /",
            "Dockerfile:2:15: cannot fetch `http://169.254.169.254/latest/token`: 169.254.169.254 is not",
        ),
        (
            "FROM scratch\nRUN --mount=target=/c,source=nope x",
            "Dockerfile:2:5: `nope` is not there in the build context",
        ),
        (
            "FROM scratch\nARG U=x\nRUN --mount=type=cache,target=/c,uid=$U x",
            "Dockerfile:3:5: mount field `uid` is `x`, not a number",
        ),
        (
            "FROM scratch\nRUN --mount=type=tmpfs,target=/ x",
            "Dockerfile:2:5: the target of a mount must be a path below `/`",
        ),
        (
            "FROM scratch\nRUN --mount=type=secret,id=s,required x",
            "Dockerfile:2:5: the build was not given the secret `s`",
        ),
        (
            "FROM scratch\nRUN --mount=type=ssh,required x",
            "Dockerfile:2:5: the build was not given the ssh agent `default`",
        ),
        ("FROM scratch\nCOPY a /f\nCOPY a /f/g", "Dockerfile:3:1: `/f` is no folder in the image"),
        ("FROM Bad:Ref:\nRUN x", "Dockerfile:1:1: "),
        ("FROM scratch\nCOPY --chown=who a /", "Dockerfile:2:1: there is no user `who`"),
    ] {
        let error = world.fail(text).await;
        assert!(matches!(error, BuildError::Dockerfile(_)), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(want), "{message}");
    }
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_things_are_named() {
    let world = World::new().await;
    let error = world.try_build(world.options()).await.unwrap_err();
    assert!(matches!(error, BuildError::NoDockerfile { .. }), "{error:?}");
    assert!(error.hint().is_some());
    let mut options = world.options();
    options.context_dir = world.dir.path().join("absent");
    let error = world.try_build(options).await.unwrap_err();
    assert!(matches!(error, BuildError::Context { .. }), "{error:?}");
    let absent = world.image("absent:v1").to_string();
    let error = world.fail(&format!("FROM {absent}")).await;
    assert_eq!(error.to_string(), format!("Dockerfile:1: cannot get the image `{absent}`"));
    world.file(".dockerignore", "[");
    let error = world.fail("FROM scratch\nCOPY Dockerfile /").await;
    assert!(matches!(error, BuildError::Ignore { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_of_the_registry_arrives_intact() {
    let world = World::new().await;
    world.file("a", "a");
    world.dockerfile("FROM scratch\nCOPY a /");
    let detail = serde_json::json!({ "rule": "no-critical", "hint": "update it" });
    let denial = serde_json::json!({
        "errors": [{ "code": "DENIED", "message": "one finding", "detail": detail }]
    });
    world.registry.content.lock().unwrap().deny = Some(denial.to_string());
    let mut options = world.options();
    options.destinations = vec![world.image("app:v1")];
    let error = world.try_build(options).await.unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("update it"));
    let BuildError::Denied { reference, message, detail: found } = error else { panic!("denied") };
    assert_eq!(*reference, world.image("app:v1"));
    assert_eq!((message.as_str(), found), ("one finding", detail));
    world.assert_clean();
}

/// Puts an image of one plain layer into the registry.
fn put_image(world: &World, name: &str, tar: Vec<u8>, triggers: &[&str]) {
    let mut config = ImageConfig::new(&Platform::host());
    config.rootfs.diff_ids = vec![Digest::sha256(&tar)];
    config.config.on_build = triggers.iter().map(|text| (*text).to_owned()).collect();
    let config = config.to_bytes();
    let manifest = ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, &config),
        vec![Descriptor::of(media_type::OCI_LAYER, &tar)],
    )
    .to_bytes();
    let mut content = world.registry.content.lock().unwrap();
    for bytes in [config, tar] {
        content.blobs.insert(Digest::sha256(&bytes).to_string(), bytes.into());
    }
    let entry = (media_type::OCI_MANIFEST.to_owned(), manifest.into());
    content.manifests.insert(format!("{name}:latest"), entry);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_layers_stay_inside() {
    let world = World::new().await;
    let outside = world.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = |to: &str| EntryKind::Symlink { target: to.as_bytes().to_vec() };
    let mut tar = Writer::new(Vec::new());
    tar.append(&Entry::new("escape", link(outside.to_str().unwrap()))).unwrap();
    tar.append_data(&Entry::file("escape/file", 4), &mut &b"evil"[..]).unwrap();
    put_image(&world, "evil", tar.finish().unwrap(), &[]);
    let evil = world.image("evil").to_string();
    let error = world.fail(&format!("FROM {evil}\nRUN [\"/x\"]")).await;
    let BuildError::Machine(error) = error else { panic!("{error:?}") };
    assert!(format!("{error:#}").contains("below something that is no folder"), "{error:#}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);

    let mut tar = Writer::new(Vec::new());
    tar.append(&Entry::new("dir", link(outside.to_str().unwrap()))).unwrap();
    put_image(&world, "linked", tar.finish().unwrap(), &[]);
    let linked = world.image("linked").to_string();
    world.file("a", "a");
    let result = world.build(&format!("FROM {linked}\nCOPY a /dir/")).await;
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    let want = format!("{}/a", outside.to_str().unwrap().trim_start_matches('/'));
    assert!(world.files(&result).contains_key(&want), "the link is followed inside the image");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn layer_that_is_not_what_the_config_says_is_refused() {
    let world = World::new().await;
    let mut tar = Writer::new(Vec::new());
    tar.append(&Entry::directory("a")).unwrap();
    put_image(&world, "liar", tar.finish().unwrap(), &[]);
    {
        let mut content = world.registry.content.lock().unwrap();
        let (kind, manifest) = content.manifests["liar:latest"].clone();
        let mut manifest: ImageManifest = serde_json::from_slice(&manifest).unwrap();
        let mut tar = Writer::new(Vec::new());
        tar.append(&Entry::directory("b")).unwrap();
        let other = tar.finish().unwrap();
        manifest.layers[0] = Descriptor::of(media_type::OCI_LAYER, &other);
        content.blobs.insert(manifest.layers[0].digest.to_string(), other.into());
        content.manifests.insert("liar:latest".to_owned(), (kind, manifest.to_bytes().into()));
    }
    world.file("a", "a");
    let liar = world.image("liar").to_string();
    let error = world.fail(&format!("FROM {liar}\nCOPY a /x")).await;
    let BuildError::Machine(error) = error else { panic!("{error:?}") };
    assert!(format!("{error:#}").contains("but the image's config says"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_of_a_base_are_not_skipped() {
    let world = World::new().await;
    let empty = Writer::new(Vec::new()).finish().unwrap();
    put_image(&world, "onbuild", empty, &["RUN touch /x"]);
    let base = world.image("onbuild").to_string();
    let error = world.fail(&format!("FROM {base}")).await.to_string();
    let want = format!("ONBUILD of {base}:2: cannot run `touch /x`");
    assert!(error.starts_with(&want), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dangling_folder_links_are_no_way_out() {
    let world = World::new().await;
    world.file("d/x", "x");
    symlink("d", world.context().join("l")).unwrap();
    let result = world.build("FROM scratch\nCOPY l /t").await;
    assert_eq!(world.last_layer(&result), ["t d755 0:0 ", "t/x f644 0:0 x"]);
}
