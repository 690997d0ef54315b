//! Against the `docker-registry` program, where it is installed.

use peers::{DockerRegistry, Log};
use sekisho_oci::media_type::{OCI_CONFIG, OCI_LAYER_GZIP};
use sekisho_oci::{Descriptor, ImageConfig, ImageManifest, Platform};
use sekisho_registry::{BlobPush, Keyring, Reference};
use sekisho_types::Digest;

use crate::{client, repository, tag};

#[tokio::test]
async fn an_image_goes_there_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(folder.path(), Log::Told).unwrap() else { return };
    let client = client(Keyring::anonymous());
    client.ping(registry.host()).await.unwrap();
    let target = repository(registry.host(), "acme/app");
    let layer: Vec<u8> = (0..300_000u32).flat_map(u32::to_be_bytes).collect();
    let config = ImageConfig::new(&Platform::new("linux", "amd64")).to_bytes();
    let mut descriptors = Vec::new();
    for (kind, bytes) in [(OCI_CONFIG, &config), (OCI_LAYER_GZIP, &layer)] {
        let file = folder.path().join("blob");
        std::fs::write(&file, bytes).unwrap();
        let descriptor = Descriptor::of(kind, bytes);
        let Descriptor { digest, size, .. } = &descriptor;
        let pushed = client.push_blob(&target, digest, *size, &file).await.unwrap();
        assert_eq!(pushed, BlobPush::Uploaded);
        let again = client.push_blob(&target, digest, *size, &file).await.unwrap();
        assert_eq!(again, BlobPush::Existed);
        descriptors.push(descriptor);
    }
    let manifest = ImageManifest::new(descriptors[0].clone(), vec![descriptors[1].clone()]);
    let bytes = manifest.to_bytes();
    let kind = manifest.media_type.clone().unwrap();
    let pushed = client.push_manifest(&target, &tag("v1"), &bytes, &kind).await.unwrap();
    assert_eq!(pushed.digest, Digest::sha256(&bytes));

    let image = format!("{}/acme/app:v1", registry.host()).parse().unwrap();
    let resolved = client.resolve(&image, &Platform::new("linux", "amd64")).await.unwrap();
    assert_eq!((resolved.manifest, resolved.digest), (manifest, pushed.digest.clone()));
    let read = client.config(&target, &descriptors[0]).await.unwrap();
    assert_eq!(read.os, "linux");
    let file = folder.path().join("pulled");
    client.pull_blob(&target, &descriptors[1], &file).await.unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), layer);

    let other = repository(registry.host(), "acme/other");
    assert!(client.mount(&other, &descriptors[1].digest, &target.name).await.unwrap());
    assert_eq!(
        client.has_blob(&other, &descriptors[1].digest).await.unwrap(),
        Some(descriptors[1].size)
    );
    assert!(!client.mount(&other, &Digest::sha256(b"none"), &target.name).await.unwrap());
    let by_digest = Reference::Digest(pushed.digest);
    assert_eq!(client.manifest(&target, &by_digest).await.unwrap().bytes, bytes);
}
