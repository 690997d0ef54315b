use sekisho_oci::media_type::{DOCKER_MANIFEST, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use sekisho_oci::{Descriptor, ImageConfig, ImageIndex, ImageManifest, Platform};
use sekisho_registry::{Client, Keyring, Options, Reference, RegistryError};
use sekisho_types::Digest;

use crate::fake::{Fake, Wants};
use crate::{client, repository, tag};

fn put(fake: &Fake, reference: &str, kind: &str, bytes: &[u8]) {
    let (kind, bytes) = (kind.to_owned(), bytes.to_vec());
    fake.change(|world| {
        world
            .manifests
            .insert(format!("a/b/{}", Digest::sha256(&bytes)), (kind.clone(), bytes.clone()));
        world.manifests.insert(format!("a/b/{reference}"), (kind, bytes));
    });
}

#[tokio::test]
async fn an_image_is_resolved_for_a_platform() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let config = ImageConfig::new(&Platform::new("linux", "amd64")).to_bytes();
    fake.blob(&config);
    let config = Descriptor::of("application/vnd.oci.image.config.v1+json", &config);
    let image = ImageManifest::new(config.clone(), vec![]).to_bytes();
    put(&fake, "amd64", OCI_MANIFEST, &image);
    let mut entry = Descriptor::of(OCI_MANIFEST, &image);
    entry.platform = Some(Platform::new("linux", "amd64"));
    let mut note = Descriptor::of(OCI_MANIFEST, b"attestation");
    note.platform = Some(Platform::new("unknown", "unknown"));
    let index = ImageIndex::new(vec![note, entry]).to_bytes();
    put(&fake, "multi", OCI_INDEX, &index);

    let reference = format!("{}/a/b:multi", fake.host).parse().unwrap();
    let resolved = client.resolve(&reference, &Platform::new("linux", "amd64")).await.unwrap();
    assert_eq!((resolved.digest, resolved.root), (Digest::sha256(&image), Digest::sha256(&index)));
    assert_eq!((resolved.bytes, resolved.media_type.as_str()), (image, OCI_MANIFEST));
    let target = repository(&fake.host, "a/b");
    let read = client.config(&target, &resolved.manifest.config).await.unwrap();
    assert_eq!(read.architecture, "amd64");

    let error = client.resolve(&reference, &Platform::new("linux", "s390x")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("`{}/a/b:multi` has no image for linux/s390x; it has linux/amd64", fake.host)
    );
}

/// Docker's own registry, as far as loopback goes: a mirror of it that wants a token, as it does.
#[tokio::test]
async fn a_short_name_is_of_docker_io_and_its_token_for_the_whole_name() {
    let mirror = Fake::start().await;
    let image = ImageManifest::new(Descriptor::of("x", b""), vec![]).to_bytes();
    mirror.change(|world| {
        world.wants = Wants::Token { proof: "", expires_in: 300 };
        let manifest = (OCI_MANIFEST.to_owned(), image.clone());
        world.manifests.insert("library/debian/latest".to_owned(), manifest);
    });
    let mirrors = [("docker.io".to_owned(), vec![mirror.host.clone()])].into();
    let client =
        Client::with_options(Keyring::anonymous(), Options { mirrors, ..crate::options() });
    let name = "debian".parse().unwrap();
    let resolved = client.resolve(&name, &Platform::new("linux", "amd64")).await.unwrap();
    assert_eq!(resolved.digest, Digest::sha256(&image));
    assert_eq!(mirror.count("GET /v2/library/debian/manifests/latest"), 2, "then with a token");
    let log = mirror.world.lock().unwrap().log.clone();
    let asked = "GET /token?service=fake&scope=repository%3Alibrary%2Fdebian%3Apull";
    assert!(log.iter().any(|(line, _)| line == asked), "{log:?}");
}

#[tokio::test]
async fn a_manifest_is_held_to_its_digest_type_and_size() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let image = ImageManifest::new(Descriptor::of("x", b""), vec![]).to_bytes();
    put(&fake, "good", OCI_MANIFEST, &image);
    let digest = Digest::sha256(&image);
    let fetched = client.manifest(&target, &Reference::Digest(digest.clone())).await.unwrap();
    assert_eq!(fetched.digest, digest);

    let other = Digest::sha256(b"other");
    put(&fake, &other.to_string(), OCI_MANIFEST, &image);
    let error = client.manifest(&target, &Reference::Digest(other)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");

    put(&fake, "mixed", DOCKER_MANIFEST, &image);
    let error = client.manifest(&target, &tag("mixed")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Manifest { .. }), "{error}");

    put(&fake, "huge", OCI_MANIFEST, &vec![b' '; (4 << 20) + 1]);
    let error = client.manifest(&target, &tag("huge")).await.unwrap_err();
    assert!(error.to_string().ends_with("its answer has over 4194304 bytes"), "{error}");

    let error = client.manifest(&target, &tag("none")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("`{}/a/b:none` is not there", fake.host));
}

#[tokio::test]
async fn a_blob_is_kept_only_when_it_is_right() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    let bytes = vec![3; 2_000_000];
    let digest = fake.blob(&bytes);
    let good = Descriptor::new(OCI_LAYER, digest.clone(), bytes.len() as u64);
    client.pull_blob(&target, &good, &file).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    assert_eq!(client.has_blob(&target, &digest).await.unwrap(), Some(2_000_000));
    std::fs::remove_file(&file).unwrap();

    let lie = Digest::sha256(b"lie");
    fake.change(|world| drop(world.blobs.insert(lie.to_string(), b"bad".to_vec())));
    for (digest, size, damaged) in [
        (lie.clone(), 3, true),
        (lie, 2, false),
        (digest.clone(), 2_000_001, false),
        (digest, 10, false),
    ] {
        let wrong = Descriptor::new(OCI_LAYER, digest, size);
        let error = client.pull_blob(&target, &wrong, &file).await.unwrap_err();
        match error {
            RegistryError::Digest { .. } => assert!(damaged),
            RegistryError::Size { expected, .. } => assert_eq!((damaged, expected), (false, size)),
            other => panic!("{other}"),
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
    let none = Descriptor::of(OCI_LAYER, b"none");
    assert_eq!(client.has_blob(&target, &none.digest).await.unwrap(), None);
    let error = client.pull_blob(&target, &none, &file).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    let error = client.blob_bytes(&target, &good, 1000).await.unwrap_err();
    assert!(error.to_string().ends_with("its answer has over 1000 bytes"), "{error}");
}
