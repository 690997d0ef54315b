//! Several platforms in one build.

use std::path::Path;

use sekisho_builder::{BuildOptions, Output};
use sekisho_oci::{ImageIndex, Platform};

use crate::world::{World, cached};

/// This machine's platform, and one that it is not.
fn both() -> Vec<Platform> {
    let host = Platform::host();
    let other = if host.architecture == "arm64" { "amd64" } else { "arm64" };
    vec![host, Platform::new("linux", other)]
}

fn options(world: &World) -> BuildOptions {
    BuildOptions { platforms: both(), jobs: 4, ..world.options() }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_for_several_platforms_are_one_index() {
    let world = World::new().await;
    world.file("f", "x");
    world.dockerfile("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY f /");
    let mut options = world.options();
    options.platforms = vec!["linux/amd64".parse().unwrap(), "linux/arm64/v8".parse().unwrap()];
    options.destinations = vec![world.image("multi")];
    let tar = world.dir.path().join("files.tar");
    options.outputs = vec![Output::Tar(tar.clone())];
    let result = world.try_build(options.clone()).await.unwrap();
    let index: ImageIndex = serde_json::from_slice(&world.blob(&result.manifest_digest)).unwrap();
    let platforms: Vec<_> =
        index.manifests.iter().map(|one| one.platform.as_ref().unwrap().to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64/v8"]);
    assert_eq!(result.platforms.len(), 2);
    assert_eq!(result.platforms[0].layers, result.platforms[1].layers, "the same layer");
    assert_ne!(result.platforms[0].config_digest, result.platforms[1].config_digest);
    assert!(tar.exists());
    let again = world.try_build(options).await.unwrap();
    assert_eq!(again.manifest_digest, result.manifest_digest);

    world.dockerfile("FROM scratch\nCOPY f /\nRUN [\"/f\"]");
    let mut options = world.options();
    options.platforms = vec!["linux/s390x".parse().unwrap()];
    let error = world.try_build(options).await.unwrap_err().to_string();
    if !Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        let start =
            "Dockerfile:3:1: RUN for linux/s390x on this linux/amd64 machine needs an emulator";
        assert!(error.starts_with(start), "{error}");
    }
}

/// An index `app` whose files say `text`, pushed.
async fn push(world: &World, text: &str) {
    world.file("f", text);
    world.dockerfile("FROM scratch\nCOPY f /f");
    let mut options = options(world);
    options.destinations = vec![world.image("app:v1")];
    world.try_build(options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_moved_means_one_image_in_a_build() {
    let world = World::new().await;
    push(&world, "first").await;
    let tag = |world: &World| world.registry.content.lock().unwrap().manifests["app:v1"].clone();
    let first = tag(&world);
    push(&world, "second").await;
    {
        let mut content = world.registry.content.lock().unwrap();
        let second = content.manifests.insert("app:v1".to_owned(), first).unwrap();
        content.moves.insert("app:v1".to_owned(), second);
    }
    let image = world.image("app:v1");
    world.dockerfile(&format!(
        "FROM {image} AS one\nFROM scratch\nCOPY --from=one /f /one\nCOPY --from={image} /f /two\n\
         COPY --from=named /f /three"
    ));
    let mut asked = options(&world);
    asked.add_context("named", &format!("docker-image://{image}")).unwrap();
    let built = world.try_build(asked.clone()).await.unwrap();
    let says = |word: &str| ["one", "three", "two"].map(|name| (name.to_owned(), word.to_owned()));
    let files = world.files(&built);
    assert_eq!(files.into_iter().collect::<Vec<_>>(), says("first"));
    assert_eq!(built.platforms[0].layers, built.platforms[1].layers, "of the same index");
    // The next build asks anew.
    let built = world.try_build(asked).await.unwrap();
    assert_eq!(world.files(&built).into_iter().collect::<Vec<_>>(), says("second"));
    world.assert_clean();
}

/// A failure ends what runs beside it. The sleeper began first: one after the other it would be waited for.
#[tokio::test(flavor = "multi_thread")]
async fn platforms_are_built_side_by_side() {
    let world = World::with_base().await;
    let base = world.image("base");
    let text = |first: &str| {
        let host = Platform::host();
        format!(
            "FROM --platform=$BUILDPLATFORM {base}\nARG TARGETARCH\n\
             RUN if test $TARGETARCH = {}; then {first}; else exit 7; fi",
            host.architecture
        )
    };
    world.dockerfile(&text("sleep 600"));
    let error = world.try_build(options(&world)).await.unwrap_err().to_string();
    assert!(error.starts_with("Dockerfile:3: ") && error.contains("exited with code 7"), "{error}");
    // With one step at a time they are one after the other.
    world.dockerfile(&text("echo first"));
    let narrow = BuildOptions { jobs: 1, ..options(&world) };
    let error = world.try_build(narrow).await.unwrap_err().to_string();
    assert!(error.contains("exited with code 7"), "{error}");
    assert_eq!(world.log(), ["first"]);
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_same_is_carried_out_once() {
    let world = World::with_base().await;
    let base = world.image("base");
    let run = "RUN sleep 1; echo once > /made; echo told";
    world.dockerfile(&format!(
        "FROM --platform=$BUILDPLATFORM {base} AS made\n{run}\n\
         FROM --platform=$BUILDPLATFORM {base} AS twin\n{run}\n\
         FROM scratch\nARG TARGETARCH\nLABEL of=$TARGETARCH\nCOPY --from=made /made /\n\
         COPY --from=twin /made /twin"
    ));
    let built = world.try_build(options(&world)).await.unwrap();
    assert_eq!(world.log(), ["told"]);
    let files = world.files(&built);
    assert_eq!((files["made"].as_str(), files["twin"].as_str()), ("once\n", "once\n"));
    let runs = built.steps.iter().filter(|step| step.text.starts_with("RUN"));
    assert_eq!(runs.clone().count(), 4, "two stages of two platforms");
    assert_eq!(runs.filter(|step| !step.cached).count(), 1);
    let host = both().remove(0);
    let stages: Vec<_> = built.steps.iter().map(|step| step.stage.clone()).collect();
    assert_eq!(stages[0], format!("{host} made"), "{stages:?}");
    let made: Vec<_> = built.platforms.iter().map(|one| one.platform.clone()).collect();
    assert_eq!(made, both().iter().map(Platform::to_string).collect::<Vec<_>>());
    // One after the other comes to the same.
    let narrow = BuildOptions { jobs: 1, no_cache: true, ..options(&world) };
    let narrow = world.try_build(narrow).await.unwrap();
    assert_eq!(narrow.manifest_digest, built.manifest_digest);
    assert_eq!(
        narrow.steps.iter().map(|step| step.number).collect::<Vec<_>>(),
        built.steps.iter().map(|step| step.number).collect::<Vec<_>>()
    );
    let again = world.try_build(options(&world)).await.unwrap();
    assert!(!cached(&again).contains('-'), "{}", cached(&again));
    world.assert_clean();
}
