//! A real client pushes and pulls. Credentials go in a file, never on a command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::support::World;

fn is_here() -> bool {
    peers::is_installed("skopeo", "--version")
}

/// An OCI layout with one image of one layer, which holds the lines as a file.
pub(crate) fn layout(dir: &Path, lines: &str) -> PathBuf {
    let root = dir.join("layout");
    let blobs = root.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    let files = dir.join("files");
    fs_err::create_dir_all(&files).unwrap();
    fs_err::write(files.join("lines"), lines).unwrap();
    let tar = |flag: &str| {
        let output = Command::new("tar").args([flag, "-", "-C"]).arg(&files).arg("lines").output();
        output.unwrap().stdout
    };
    let (plain, layer) = (tar("-cf"), tar("-czf"));
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"User": "app"},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&plain).to_string()]},
    })
    .to_string();
    let manifest = ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, config.as_bytes()),
        vec![Descriptor::of(media_type::OCI_LAYER_GZIP, &layer)],
    )
    .to_bytes();
    for bytes in [&layer[..], config.as_bytes(), &manifest] {
        fs_err::write(blobs.join(Digest::sha256(bytes).hex()), bytes).unwrap();
    }
    let mut entry: Value =
        serde_json::to_value(Descriptor::of(media_type::OCI_MANIFEST, &manifest)).unwrap();
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs_err::write(root.join("index.json"), index.to_string()).unwrap();
    fs_err::write(root.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    root
}

async fn skopeo(args: Vec<String>, authfile: Option<PathBuf>) -> Output {
    let run = move || {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy"]).args(args);
        if let Some(authfile) = authfile {
            command.arg("--authfile").arg(authfile);
        }
        command.env_remove("HTTP_PROXY").env_remove("http_proxy").output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

pub(crate) fn authfile(world: &World, name: &str, entry: Value) -> PathBuf {
    let path = world.dir.path().join(name);
    let mut auths = json!({"auths": {}});
    auths["auths"][world.host()] = entry;
    fs_err::write(&path, auths.to_string()).unwrap();
    path
}

pub(crate) fn basic(user: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{user}:{password}"))
}

async fn push(world: &World, lines: &str, auth: PathBuf) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("oci:{}:v1", layout(dir.path(), lines).display());
    let target = format!("docker://{}/acme/app:v1", world.host());
    skopeo(vec!["--dest-tls-verify=false".into(), source, target], Some(auth)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_pulls() {
    if !is_here() {
        return;
    }
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let jwt = world.jwt(&json!({}));
    let entries = [
        json!({"auth": basic("session", &session)}),
        json!({"auth": basic("oidc", &jwt)}),
        json!({"auth": basic("0", ""), "identitytoken": session}),
    ];
    for (number, entry) in entries.into_iter().enumerate() {
        let auth = authfile(&world, &format!("auth-{number}"), entry);
        let output = push(&world, &format!("pkg express {number} fine\n"), auth).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Without a word about who one is.
    let dir = tempfile::tempdir().unwrap();
    let source = format!("docker://{}/acme/app:v1", world.host());
    let target = format!("dir:{}", dir.path().join("image").display());
    let output = skopeo(vec!["--src-tls-verify=false".into(), source, target], None).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pulled = fs_err::read(dir.path().join("image/manifest.json")).unwrap();
    let decisions = world.decisions("?run_id=12").await;
    assert_eq!(decisions.len(), 3);
    assert_eq!(decisions[2]["digest"], Digest::sha256(&pulled).to_string());
    assert_eq!(decisions[2]["packages"], 1, "the layer was looked into");
}

#[tokio::test(flavor = "multi_thread")]
async fn shows_why_it_was_refused() {
    if !is_here() {
        return;
    }
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let auth = authfile(&world, "auth", json!({"auth": basic("session", &session)}));
    let output = push(&world, "pkg lodash 4.17.20 critical 4.17.21\n", auth).await;
    assert!(!output.status.success());
    let shown = String::from_utf8_lossy(&output.stderr);
    for word in ["denied", "severe-with-fix", "CVE-2021-23337", "lodash 4.17.20", "4.17.21"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    assert_eq!(world.upstream_files(), 0);

    // Somebody else's repository.
    let other = json!({"repository": "acme/other"});
    let other = world.session(other).await;
    let auth = authfile(&world, "auth", json!({"auth": basic("session", &other)}));
    let output = push(&world, "pkg express 1 fine\n", auth).await;
    assert!(!output.status.success());
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("own-namespace"), "{shown}");
}
