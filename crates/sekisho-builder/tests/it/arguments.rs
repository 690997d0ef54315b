//! Build arguments that mean something to the builder, and a base for another platform.

use sekisho_builder::Event;
use sekisho_oci::{ImageIndex, Platform};

use crate::world::World;

fn notes(world: &World) -> Vec<String> {
    let events = world.events.0.lock().unwrap();
    let note = |event: &Event| match event {
        Event::Note { text } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(note).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_buildkit_have_their_effect() {
    let world = World::with_base().await;
    world.dockerfile("FROM BASE\nRUN hostname");
    let mut options = world.options();
    world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.log(), ["sekisho"]);
    for (name, value) in [
        ("BUILDKIT_SANDBOX_HOSTNAME", "box-7"),
        ("BUILDKIT_MULTI_PLATFORM", "1"),
        ("BUILDKIT_INLINE_CACHE", "true"),
    ] {
        options.build_args.insert(name.to_owned(), value.to_owned());
    }
    let result = world.try_build(options.clone()).await.unwrap();
    assert_eq!(world.log(), ["box-7"], "another name is another step");
    let index: ImageIndex = serde_json::from_slice(&world.blob(&result.manifest_digest)).unwrap();
    let platforms: Vec<_> = index.manifests.iter().map(|one| one.platform.clone()).collect();
    assert_eq!(platforms, [Some(Platform::host())]);
    let told =
        |note: &String| note.starts_with("the argument `BUILDKIT_INLINE_CACHE` has no effect");
    assert!(notes(&world).iter().any(told), "{:?}", notes(&world));
    options.build_args.insert("BUILDKIT_MULTI_PLATFORM".to_owned(), "maybe".to_owned());
    let error = format!("{:?}", world.try_build(options).await.unwrap_err());
    assert!(error.contains("`BUILDKIT_MULTI_PLATFORM` is `maybe`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_for_another_platform_is_told() {
    let world = World::new().await;
    world.file("f", "x");
    world.dockerfile("FROM scratch\nCOPY f /");
    let mut options = world.options();
    options.platforms = vec!["linux/s390x".parse().unwrap()];
    options.destinations = vec![world.image("other")];
    world.try_build(options).await.unwrap();
    let (base, host) = (world.image("other").to_string(), Platform::host());
    let message = format!(
        "InvalidBaseImagePlatform: Base image {base} was pulled with platform \"linux/s390x\", expected \
         \"{}/{}\" for current build",
        host.os, host.architecture
    );
    let file = format!("FROM {base}\nLABEL a=b\n");
    world.build(&file).await;
    let all = notes(&world).join("\n");
    assert!(all.contains(&message) && all.contains("Dockerfile:1:6"), "{all}");
    let error = world.fail(&format!("# check=error=true\n{file}")).await.to_string();
    assert!(error.contains(&message) && error.contains("Dockerfile:2:6"), "{error}");
    world.build(&format!("# check=skip=InvalidBaseImagePlatform\n{file}")).await;
    assert_eq!(notes(&world), [""; 0]);
}
