//! Further real clients: they push what may ship, and show why something may not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use oci_client::client::{ClientConfig, ClientProtocol, ImageLayer};
use oci_client::secrets::RegistryAuth;
use peers::is_installed;
use sekisho_oci::{Descriptor, ImageIndex, Platform, media_type};
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::skopeo::{authfile, basic, layout};
use crate::support::{World, header};

pub(crate) const GOOD: &str = "pkg express 1 fine\n";
pub(crate) const BAD: &str = "pkg lodash 4.17.20 critical 4.17.21\n";

/// What a refusal must name, in every client.
pub(crate) const WORDS: [&str; 5] =
    ["severe-with-fix", "critical", "CVE-2021-23337", "lodash", "4.17.21"];

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

/// A folder with docker's `config.json`, for clients that know no other place; with some claims changed.
pub(crate) async fn docker_config(world: &World, claims: Value) -> PathBuf {
    let session = world.session(claims).await;
    fs_err::create_dir_all(world.dir.path().join("docker")).unwrap();
    let entry = json!({"auth": basic("session", &session)});
    authfile(world, "docker/config.json", entry).parent().unwrap().to_owned()
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
        layout(&files, lines);
        // From within: it makes a name of the path, which must be one of an image.
        let mut pull = command(&["pull", "--quiet", "oci:layout:v1"]);
        pull.current_dir(&files);
        let output = run(pull).await;
        if !output.status.success() {
            // Without root it needs user namespaces of its own.
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("skipped: needs a buildah that can keep images here: {}", why.trim());
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
    // Beside what the gate said.
    let mut types = found["manifests"].as_array().unwrap().iter().map(|it| &it["artifactType"]);
    assert!(types.any(|it| it == "application/vnd.example.statement"), "{found}");
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

/// `crane`, the client of go-containerregistry, which ko, kaniko and cosign push with.
#[tokio::test(flavor = "multi_thread")]
async fn crane_pushes_copies_and_shows_a_refusal() {
    if !is_installed("crane", "version") {
        return;
    }
    let world = World::new().await;
    let config = docker_config(&world, json!({})).await;
    let crane = async |args: &[&str]| {
        let mut command = Command::new("crane");
        command.env("DOCKER_CONFIG", &config).arg("--insecure").args(args);
        run(command).await
    };
    let (dir, name) = (tempfile::tempdir().unwrap(), format!("{}/acme/app", world.host()));
    for (tag, lines) in [("good", GOOD), ("bad", BAD)] {
        let files = dir.path().join(tag);
        fs_err::create_dir_all(&files).unwrap();
        let layout = layout(&files, lines).display().to_string();
        let output = crane(&["push", &layout, &format!("{name}:{tag}")]).await;
        match tag {
            "good" => check_done(&output),
            _ => check_refused(&output),
        }
    }
    let good = pulled(&world, "good").await;
    assert!(good.starts_with("sha256:"), "{good}");
    assert_eq!(pulled(&world, "bad").await, "");
    check_done(&crane(&["copy", &format!("{name}:good"), &format!("{name}:again")]).await);
    let output = crane(&["digest", &format!("{name}:again")]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), good);
    let output = crane(&["ls", &name]).await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "again\ngood\n");
    // Another media type of the layers, and so another image, that is judged by its own digest.
    let kept = dir.path().join("pulled.tar").display().to_string();
    check_done(&crane(&["pull", &format!("{name}:good"), &kept]).await);
    check_done(&crane(&["push", &kept, &format!("{name}:docker")]).await);
    let pushed = pulled(&world, "docker").await;
    assert!(pushed.starts_with("sha256:") && pushed != good, "{pushed}");
}

/// `oci-client`, an implementation of the protocol in Rust.
#[tokio::test(flavor = "multi_thread")]
async fn oci_client_pushes_pulls_and_shows_a_refusal() {
    let world = World::new().await;
    let auth = RegistryAuth::Basic("session".into(), world.session(json!({})).await);
    for use_monolithic_push in [false, true] {
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            use_monolithic_push,
            ..ClientConfig::default()
        };
        let client = oci_client::Client::new(config);
        let push = async |tag: &str, lines: &str| {
            let layer = format!("LAYER\n{lines}{use_monolithic_push}\n").into_bytes();
            let config = json!({
                "architecture": "amd64", "os": "linux", "config": {"User": "app"},
                "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&layer).to_string()]},
            });
            let config = oci_client::client::Config::new(
                config.to_string().into_bytes(),
                media_type::OCI_CONFIG.into(),
                None,
            );
            let layers = [ImageLayer::new(layer.clone(), media_type::OCI_LAYER.into(), None)];
            let name = format!("{}/acme/app:{tag}-{use_monolithic_push}", world.host());
            let reference: oci_client::Reference = name.parse().unwrap();
            (client.push(&reference, &layers, config, &auth, None).await, reference, layer)
        };
        let (pushed, reference, layer) = push("good", GOOD).await;
        pushed.unwrap();
        let wanted = vec![media_type::OCI_LAYER];
        let image = client.pull(&reference, &RegistryAuth::Anonymous, wanted).await.unwrap();
        assert_eq!(image.digest.unwrap(), pulled(&world, reference.tag().unwrap()).await);
        assert_eq!(&image.layers[0].data[..], layer);

        let (refused, reference, _) = push("bad", BAD).await;
        let shown = refused.err().unwrap().to_string();
        for word in WORDS {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        assert_eq!(pulled(&world, reference.tag().unwrap()).await, "");
    }
}
