//! Debian's docker-registry, mirrored.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sekisho_oci::media_type;
use sekisho_registry::{BlobPush, Client, Keyring, Repository};
use sekisho_types::Digest;

use super::{LAYER, TAG, base, world};
use crate::support::check_error;

struct Registry {
    process: Child,
    host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Debian's, on a port that the system chooses and its log names.
fn docker_registry(folder: &Path) -> Option<Registry> {
    let config = folder.join("config.yml");
    let data = folder.join("data");
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: \"{}\"}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
        data.display()
    );
    fs_err::write(&config, text).unwrap();
    let spawned = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut process) = spawned else {
        eprintln!("skipped: needs docker-registry");
        return None;
    };
    let mut log = BufReader::new(process.stderr.take().unwrap());
    let mut registry = Registry { process, host: String::new() };
    for line in log.by_ref().lines().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("listening on ") {
            let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
            registry.host = rest[..end.unwrap_or(rest.len())].to_owned();
            break;
        }
    }
    assert!(!registry.host.is_empty(), "docker-registry did not start");
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Some(registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_registry_is_mirrored_and_outlived() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = docker_registry(folder.path()) else { return };
    let client = Client::new(Keyring::anonymous());
    let there =
        Repository { registry: registry.host.clone(), name: "library/debian".parse().unwrap() };
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

    let world = world(&registry.host).await;
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
