//! `--provenance`.

use std::fs;
use std::process::Command;

use sekisho_builder::{ContextInput, Output, Provenance, Secret};
use sekisho_oci::{ImageConfig, ImageIndex, ImageManifest, Platform};
use sekisho_types::Digest;

use crate::inputs::{git, serve};
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

/// By image of an index: its platform and what its statement says it was made of.
fn taken(world: &World, root: &Digest) -> Vec<(String, Vec<(String, serde_json::Value)>)> {
    let index: ImageIndex = serde_json::from_slice(&world.blob(root)).unwrap();
    let (images, about) = index.manifests.split_at(index.manifests.len() / 2);
    let dependencies = images.iter().zip(about).map(|(image, about)| {
        let said = &about.annotations["vnd.docker.reference.digest"];
        assert_eq!(*said, image.digest.to_string());
        let manifest: ImageManifest = serde_json::from_slice(&world.blob(&about.digest)).unwrap();
        let statement: serde_json::Value =
            serde_json::from_slice(&world.blob(&manifest.layers[0].digest)).unwrap();
        let taken = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
        let one = |one: &serde_json::Value| {
            (one["uri"].as_str().unwrap().to_owned(), one["digest"].clone())
        };
        let taken = taken.as_array().unwrap().iter().map(one).collect();
        (image.platform.as_ref().unwrap().to_string(), taken)
    });
    dependencies.collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
async fn the_commit_that_was_built_is_stated() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: needs git");
        return;
    }
    let world = World::new().await;
    let (work, served) = (world.dir.path().join("work"), world.dir.path().join("served"));
    fs::create_dir_all(&work).unwrap();
    fs::create_dir_all(&served).unwrap();
    git(&work, &["init", "-q"]);
    fs::write(work.join("Dockerfile"), "FROM scratch\nCOPY f /f").unwrap();
    fs::write(work.join("f"), "one").unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-qm", "one"]);
    let commit = git(&work, &["rev-parse", "HEAD"]);
    git(&served, &["clone", "-q", "--bare", work.to_str().unwrap(), "r.git"]);
    git(&served.join("r.git"), &["update-server-info"]);
    let url = format!("http://{}/r.git", serve(&served).await);
    let want = [(format!("git+{url}"), serde_json::json!({ "gitCommit": commit }))];

    let mut options = world.options();
    options.provenance = Some(Provenance::Min);
    options.platforms = ["linux/amd64", "linux/arm64"].map(|one| one.parse().unwrap()).into();
    options.context = Some(ContextInput::Remote(format!("{url}#main")));
    let built = world.try_build(options.clone()).await.unwrap();
    let of_all = ["linux/amd64", "linux/arm64"].map(|one| (one.to_owned(), want.to_vec()));
    assert_eq!(taken(&world, &built.manifest_digest), of_all, "the build context");

    world.dockerfile("FROM scratch\nCOPY --from=src /f /g");
    options.context = None;
    options.add_context("src", &format!("{url}#main")).unwrap();
    let built = world.try_build(options.clone()).await.unwrap();
    assert_eq!(taken(&world, &built.manifest_digest), of_all, "a named context");

    let layout = world.dir.path().join("layout");
    let mut made = world.options();
    made.outputs = vec![Output::OciDirectory(layout.clone())];
    made.platforms = vec!["linux/arm64".parse().unwrap()];
    made.add_context("src", &format!("{url}#main")).unwrap();
    let made = world.try_build(made).await.unwrap().manifest_digest;
    world.dockerfile("FROM base");
    options.add_context("base", &format!("oci-layout://{}", layout.display())).unwrap();
    options.platforms.remove(0);
    let built = world.try_build(options).await.unwrap();
    let name = format!("pkg:oci/base@sha256%3A{}?arch=arm64", made.hex());
    let want = vec![(name, serde_json::json!({ "sha256": made.hex() }))];
    let got = taken(&world, &built.manifest_digest);
    assert_eq!(got, [("linux/arm64".to_owned(), want)], "a layout");
    world.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_lists_the_bases_of_its_own_platform() {
    let world = World::new().await;
    let host = Platform::host();
    let other = if host.architecture == "arm64" { "amd64" } else { "arm64" };
    let both = vec![host, Platform::new("linux", other)];
    world.file("f", "x");
    world.dockerfile("FROM scratch\nCOPY f /f");
    let mut options = world.options();
    options.platforms = both.clone();
    options.destinations = vec![world.image("below"), world.image("tools")];
    let below = world.try_build(options).await.unwrap();

    // One base is of the image's own platform, one that is a named context of the builder's.
    let base = world.image("below");
    world.dockerfile(&format!(
        "FROM --platform=$BUILDPLATFORM tools AS made\nFROM {base}\nCOPY --from=made /f /g"
    ));
    let mut options = world.options();
    options.platforms = both;
    options.provenance = Some(Provenance::Min);
    options.add_context("tools", &format!("docker-image://{}", world.image("tools"))).unwrap();
    let built = world.try_build(options).await.unwrap();
    let [here, there] = [0, 1].map(|nth| {
        let one = &below.platforms[nth];
        (one.platform.clone(), one.manifest_digest.hex().to_owned())
    });
    let of = |name: &str, (platform, digest): &(String, String)| {
        let (host, platform) = (&world.registry.host, platform.replace('/', "%2F"));
        let uri = format!("pkg:docker/{host}/{name}@latest?platform={platform}");
        (uri, serde_json::json!({ "sha256": digest }))
    };
    let want = [&here, &there]
        .map(|image| (image.0.clone(), vec![of("below", image), of("tools", &here)]));
    assert_eq!(taken(&world, &built.manifest_digest), want);
    world.assert_clean();
}
