//! `--provenance`.

use std::fs;

use sekisho_builder::{Output, Provenance, Secret};
use sekisho_oci::{ImageConfig, ImageIndex, ImageManifest, Platform};
use sekisho_types::Digest;

use crate::world::World;

/// What an index says of its images, and the statement that is beside the first one.
fn stated(world: &World, root: &Digest) -> (ImageIndex, serde_json::Value) {
    let index: ImageIndex = serde_json::from_slice(&world.blob(root)).unwrap();
    let [image, about] = index.manifests.as_slice() else { panic!("{index:?}") };
    assert_eq!(about.platform, Some(Platform::new("unknown", "unknown")));
    let said = |name: &str| about.annotations[name].as_str();
    assert_eq!(said("vnd.docker.reference.type"), "attestation-manifest");
    assert_eq!(said("vnd.docker.reference.digest"), image.digest.to_string());
    let manifest: ImageManifest = serde_json::from_slice(&world.blob(&about.digest)).unwrap();
    let [layer] = manifest.layers.as_slice() else { panic!("{manifest:?}") };
    assert_eq!(layer.media_type, "application/vnd.in-toto+json");
    assert_eq!(layer.annotations["in-toto.io/predicate-type"], "https://slsa.dev/provenance/v1");
    let config = ImageConfig::parse(&world.blob(&manifest.config.digest)).unwrap();
    assert_eq!(config.rootfs.diff_ids, std::slice::from_ref(&layer.digest));
    let statement: serde_json::Value = serde_json::from_slice(&world.blob(&layer.digest)).unwrap();
    assert_eq!(statement["subject"][0]["digest"]["sha256"], image.digest.hex());
    (index, statement)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_image_was_made_of_is_stated_beside_it_when_asked() {
    let world = World::with_base().await;
    world.file("f", "x");
    let (host, asked) = crate::add::server(vec![crate::add::answer("far"); 2]);
    let text = format!("FROM BASE\nARG MODE\nCOPY f /f\nADD {host}/g /g\n");
    world.dockerfile(&text);
    let mut options = world.options();
    options.build_args.insert("MODE".to_owned(), "of-the-build".to_owned());
    options.secrets.insert("token".to_owned(), Secret::Value("never-told".to_owned().into()));
    options.destinations = vec![world.image("app:v1")];
    let (layout, files) = (world.dir.path().join("layout"), world.dir.path().join("files"));
    options.outputs = vec![Output::OciDirectory(layout.clone()), Output::Local(files.clone())];
    let plain = world.try_build(options.clone()).await.unwrap();
    options.provenance = Some(Provenance::Max);
    let built = world.try_build(options.clone()).await.unwrap();
    let (index, statement) = stated(&world, &built.manifest_digest);
    assert_eq!(index.manifests[0].digest, plain.manifest_digest, "the image is the same");
    assert_eq!(built.platforms.len(), 1);

    let definition = &statement["predicate"]["buildDefinition"];
    let registry = world.registry.content.lock().unwrap().manifests.clone();
    let base = Digest::sha256(&registry["base:latest"].1);
    let name = format!("pkg:docker/{}/base@latest?platform=linux%2F", world.registry.host);
    let taken = definition["resolvedDependencies"].as_array().unwrap();
    let of = |start: &str| {
        let mut found = taken.iter().filter(|one| one["uri"].as_str().unwrap().starts_with(start));
        found.next().unwrap()["digest"]["sha256"].as_str().unwrap().to_owned()
    };
    assert_eq!((taken.len(), of(&name)), (2, base.hex().to_owned()));
    assert_eq!(of(&format!("{host}/g")), Digest::sha256(b"far").hex());
    let request = &definition["externalParameters"]["request"];
    assert_eq!(request["args"], serde_json::json!({ "MODE": "of-the-build" }));
    assert_eq!(request["secrets"], serde_json::json!(["token"]));
    assert!(!statement.to_string().contains("never-told"));

    // All of it is where the image is.
    for one in &index.manifests {
        assert!(registry.contains_key(&format!("app:{}", one.digest)), "{:?}", registry.keys());
        assert!(layout.join("blobs/sha256").join(one.digest.hex()).exists());
    }
    assert_eq!(registry["app:v1"].1, world.blob(&built.manifest_digest));
    assert_eq!(fs::read_to_string(files.join("f")).unwrap(), "x");
    asked.join().unwrap();

    // Less is said without `max`, the same each time; and the image can be built upon.
    world.dockerfile("FROM BASE\nARG MODE\nCOPY f /f\n");
    options.provenance = Some(Provenance::Min);
    options.outputs.clear();
    let less = world.try_build(options.clone()).await.unwrap();
    let (_, statement) = stated(&world, &less.manifest_digest);
    assert!(!statement.to_string().contains("of-the-build"), "{statement}");
    let again = world.try_build(options).await.unwrap();
    assert_eq!(again.manifest_digest, less.manifest_digest);
    let text = format!("FROM {}\nRUN cat /f\n", world.image("app:v1"));
    world.build(&text).await;
    assert_eq!(world.log(), ["x"]);
    world.assert_clean();
}
