//! Further real clients: they push what may ship, and show why something may not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sekisho_oci::{Descriptor, ImageIndex, Platform, media_type};
use serde_json::{Value, json};

use crate::skopeo::{authfile, basic, is_installed, layout};
use crate::support::{World, header};

const GOOD: &str = "pkg express 1 fine\n";
const BAD: &str = "pkg lodash 4.17.20 critical 4.17.21\n";

/// What a refusal must name, in every client.
const WORDS: [&str; 5] = ["severe-with-fix", "critical", "CVE-2021-23337", "lodash", "4.17.21"];

pub(crate) async fn run(mut command: Command) -> Output {
    command.env_remove("HTTP_PROXY").env_remove("http_proxy");
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[track_caller]
pub(crate) fn check_refused(output: &Output) {
    assert!(!output.status.success());
    let shown = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    for word in WORDS {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[track_caller]
pub(crate) fn check_done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn login(world: &World) -> PathBuf {
    let session = world.session(json!({})).await;
    authfile(world, "auth.json", json!({"auth": basic("session", &session)}))
}

/// The digest that everybody gets under a tag.
pub(crate) async fn pulled(world: &World, tag: &str) -> String {
    let response = world.send("HEAD", &format!("/v2/acme/app/manifests/{tag}"), "").await;
    header(&response, "docker-content-digest")
}

#[tokio::test(flavor = "multi_thread")]
async fn buildah() {
    if !is_installed("buildah", "--version") {
        return;
    }
    let world = World::new().await;
    let auth = login(&world).await;
    let dir = tempfile::tempdir().unwrap();
    let command = |args: &[&str]| {
        let mut command = Command::new("buildah");
        command.arg("--storage-driver=vfs");
        command.arg(format!("--root={}", dir.path().join("root").display()));
        command.arg(format!("--runroot={}", dir.path().join("runroot").display()));
        command.args(args);
        command
    };
    for (name, lines) in [("good", GOOD), ("bad", BAD)] {
        let files = dir.path().join(name);
        fs_err::create_dir_all(&files).unwrap();
        let source = format!("oci:{}:v1", layout(&files, lines).display());
        let output = run(command(&["pull", "--quiet", &source])).await;
        if !output.status.success() {
            // Without root it needs user namespaces of its own.
            eprintln!("skipped: needs a buildah that can keep images here");
            return;
        }
        let image = String::from_utf8(output.stdout).unwrap();
        let target = format!("docker://{}/acme/app:{name}", world.host());
        let auth = format!("--authfile={}", auth.display());
        let push = ["push", "--tls-verify=false", &auth, image.trim(), &target];
        let output = run(command(&push)).await;
        match name {
            "good" => check_done(&output),
            _ => check_refused(&output),
        }
    }
    assert!(pulled(&world, "good").await.starts_with("sha256:"));
    assert_eq!(pulled(&world, "bad").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn oras() {
    if !is_installed("oras", "version") {
        return;
    }
    let world = World::new().await;
    let auth = login(&world).await;
    let copy = async |lines: &str, tag: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("oras");
        command.args(["cp", "--from-oci-layout", "--to-plain-http", "--to-registry-config"]);
        command.arg(&auth).arg(format!("{}:v1", layout(dir.path(), lines).display()));
        command.arg(format!("{}/acme/app:{tag}", world.host()));
        run(command).await
    };
    check_done(&copy(GOOD, "good").await);
    check_refused(&copy(BAD, "bad").await);
    assert!(pulled(&world, "good").await.starts_with("sha256:"));
    assert_eq!(pulled(&world, "bad").await, "");

    // A statement about the image: filed under it, listed, and taken away again.
    let file = world.dir.path().join("statement.json");
    fs_err::write(&file, "{}").unwrap();
    let image = format!("{}/acme/app:good", world.host());
    let command = |verb: &str| {
        let mut command = Command::new("oras");
        command.args([verb, "--plain-http", "--registry-config"]).arg(&auth);
        command.current_dir(world.dir.path());
        command
    };
    let mut attach = command("attach");
    attach.args(["--artifact-type", "application/vnd.example.statement", &image]);
    attach.arg("statement.json:application/vnd.in-toto+json");
    check_done(&run(attach).await);
    let mut discover = command("discover");
    discover.args(["-o", "json", &image]);
    let output = run(discover).await;
    check_done(&output);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["manifests"][0]["artifactType"], "application/vnd.example.statement");
    let mut delete = Command::new("oras");
    delete.args(["manifest", "delete", "--force", "--plain-http", "--registry-config"]);
    delete.arg(&auth).arg(&image);
    check_done(&run(delete).await);
    assert_eq!(pulled(&world, "good").await, "");
}

/// Two images under one index in a layout.
fn index_layout(dir: &Path, lines: [&str; 2]) -> PathBuf {
    let mut children = Vec::new();
    let root = dir.join("all");
    for (architecture, lines) in ["amd64", "arm64"].into_iter().zip(lines) {
        let files = dir.join(architecture);
        fs_err::create_dir_all(&files).unwrap();
        let layout = layout(&files, lines);
        let index = fs_err::read(layout.join("index.json")).unwrap();
        let index: ImageIndex = serde_json::from_slice(&index).unwrap();
        let mut child = index.manifests[0].clone();
        child.annotations.clear();
        child.platform = Some(Platform::new("linux", architecture));
        children.push(child);
        fs_err::create_dir_all(root.join("blobs/sha256")).unwrap();
        for entry in fs_err::read_dir(layout.join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_owned();
            fs_err::copy(&path, root.join("blobs/sha256").join(name)).unwrap();
        }
    }
    let index = ImageIndex::new(children).to_bytes();
    let mut entry = Descriptor::of(media_type::OCI_INDEX, &index);
    fs_err::write(root.join("blobs/sha256").join(entry.digest.hex()), &index).unwrap();
    entry.annotations.insert("org.opencontainers.image.ref.name".into(), "v1".into());
    let top = ImageIndex::new(vec![entry]).to_bytes();
    fs_err::write(root.join("index.json"), top).unwrap();
    fs_err::write(root.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    root
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_an_index_whole_or_not_at_all() {
    if !is_installed("skopeo", "--version") {
        return;
    }
    let world = World::new().await;
    let auth = login(&world).await;
    let copy = async |lines: [&str; 2], tag: &str| {
        let dir = tempfile::tempdir().unwrap();
        let source = format!("oci:{}:v1", index_layout(dir.path(), lines).display());
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--all", "--dest-tls-verify=false"]);
        command.arg("--authfile").arg(&auth).arg(source);
        command.arg(format!("docker://{}/acme/app:{tag}", world.host()));
        run(command).await
    };
    check_done(&copy([GOOD, "pkg express 2 fine\n"], "good").await);
    let response = world.send("GET", "/v2/acme/app/manifests/good", "").await;
    assert_eq!(header(&response, "content-type"), media_type::OCI_INDEX);
    check_refused(&copy([GOOD, BAD], "bad").await);
    assert_eq!(pulled(&world, "bad").await, "", "one bad image keeps the index back");
}
