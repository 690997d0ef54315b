//! Debian's docker-registry, mirrored.

use peers::{DockerRegistry, Log};
use sekisho_oci::media_type;
use sekisho_registry::{BlobPush, Client, Keyring, Repository};
use sekisho_types::Digest;

use super::{LAYER, TAG, base, world};
use crate::support::check_error;

#[tokio::test(flavor = "multi_thread")]
async fn debians_registry_is_mirrored_and_outlived() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(folder.path(), Log::Told).unwrap() else { return };
    let client = Client::new(Keyring::anonymous());
    let there = Repository {
        registry: registry.host().to_owned(),
        name: "library/debian".parse().unwrap(),
    };
    let (config, manifest) = base();
    for bytes in [config.as_slice(), LAYER] {
        let file = folder.path().join("blob");
        fs_err::write(&file, bytes).unwrap();
        let digest = Digest::sha256(bytes);
        let pushed = client.push_blob(&there, &digest, bytes.len() as u64, &file).await.unwrap();
        assert_eq!(pushed, BlobPush::Uploaded);
    }
    let tag = sekisho_registry::Reference::Tag("12".parse().unwrap());
    client.push_manifest(&there, &tag, &manifest, media_type::OCI_MANIFEST).await.unwrap();

    let world = world(registry.host()).await;
    let pull = async || {
        let response = world.send("GET", TAG, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.unwrap(), manifest);
        for bytes in [config.as_slice(), LAYER] {
            let path = format!("/v2/docker.io/library/debian/blobs/{}", Digest::sha256(bytes));
            let response = world.send("GET", &path, "").await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.bytes().await.unwrap(), bytes);
        }
    };
    pull().await;
    drop(registry);
    // It is gone, and the tag is old: served for a day all the same.
    world.pass(2 * 3600);
    pull().await;
    world.pass(24 * 3600);
    check_error(world.send("GET", TAG, "").await, 503, "UNAVAILABLE").await;
}
