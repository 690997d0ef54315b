//! Docker's own daemon and client, where the daemon can run: as root, without a network of its own.

use std::path::Path;
use std::process::{Command, Output};

use peers::Daemon;
use serde_json::json;

use crate::clients::{BAD, GOOD, check_done, check_refused, docker_config, pulled, run};
use crate::support::World;

pub(crate) async fn dockerd(folder: &Path) -> Option<Daemon> {
    let folder = folder.join("dockerd");
    tokio::task::spawn_blocking(move || Daemon::dockerd(&folder).unwrap()).await.unwrap()
}

fn docker(daemon: &Daemon, config: &Path, args: &[&str]) -> Command {
    let mut command = daemon.client();
    command.env("DOCKER_CONFIG", config).args(args);
    command
}

/// An image of one layer that holds the lines as a file.
pub(crate) async fn import(daemon: &Daemon, folder: &Path, lines: &str, name: &str) -> Output {
    let files = folder.join("imported");
    fs_err::create_dir_all(&files).unwrap();
    fs_err::write(files.join("lines"), lines).unwrap();
    let tar = folder.join("imported.tar");
    let made = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&files).arg("lines").output();
    assert!(made.unwrap().status.success());
    let tar = tar.display().to_string();
    run(docker(daemon, folder, &["import", "--change", "USER app", &tar, name])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pushes_with_a_session_and_shows_why_it_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(daemon) = dockerd(dir.path()).await else { return };
    let world = World::new().await;
    let session = world.session(json!({})).await;
    let config = dir.path().join("config");
    fs_err::create_dir_all(&config).unwrap();
    // As `sekisho gate login` writes it.
    let mut auths = json!({"auths": {}});
    auths["auths"][world.host()] = json!({"auth": "MDAwOg==", "identitytoken": session});
    fs_err::write(config.join("config.json"), auths.to_string()).unwrap();
    for (tag, lines) in [("good", GOOD), ("bad", BAD)] {
        let name = format!("{}/acme/app:{tag}", world.host());
        check_done(&import(&daemon, dir.path(), lines, &name).await);
        let output = run(docker(&daemon, &config, &["push", &name])).await;
        if tag == "good" {
            check_done(&output);
        } else {
            check_refused(&output);
            let shown = String::from_utf8_lossy(&output.stderr);
            assert!(shown.contains("denied: severe-with-fix: critical"), "{shown}");
        }
    }
    assert!(pulled(&world, "good").await.starts_with("sha256:"));
    assert_eq!(pulled(&world, "bad").await, "");
    // It pulls what was let through, and by the digest that it pushed.
    let name = format!("{}/acme/app:good", world.host());
    check_done(&run(docker(&daemon, &config, &["pull", "--quiet", &name])).await);
}

/// A folder with a Dockerfile for an image of one layer, which holds the lines as a file.
fn sources(folder: &Path, lines: &str) -> String {
    let sources = folder.join("sources");
    fs_err::create_dir_all(&sources).unwrap();
    fs_err::write(sources.join("lines"), lines).unwrap();
    let dockerfile = "FROM scratch\nCOPY lines /lines\nUSER app\n";
    fs_err::write(sources.join("Dockerfile"), dockerfile).unwrap();
    sources.display().to_string()
}

/// Where Docker keeps its plugin for builds; `None`, and one line, where there is none.
fn buildx() -> Option<String> {
    let plugins = "{{range .ClientInfo.Plugins}}{{if eq .Name \"buildx\"}}{{.Path}}{{end}}{{end}}";
    let output = Command::new("docker").args(["info", "--format", plugins]).output();
    let path = output.map(|output| String::from_utf8(output.stdout).unwrap()).unwrap_or_default();
    if path.trim().is_empty() {
        eprintln!("skipped: needs docker with buildx");
        return None;
    }
    Some(path.trim().to_owned())
}

/// Builds and pushes what may ship and what may not, under each of two tags.
async fn check_builds(world: &World, folder: &Path, build: impl AsyncFn(&str, &str) -> Output) {
    for (tag, lines) in [("good", GOOD), ("bad", BAD)] {
        let image = format!("{}/acme/app:{tag}", world.host());
        let output = build(&sources(folder, lines), &image).await;
        match tag {
            "good" => check_done(&output),
            _ => check_refused(&output),
        }
    }
    assert!(pulled(world, "good").await.starts_with("sha256:"));
    assert_eq!(pulled(world, "bad").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn buildkit_pushes_what_it_built_and_shows_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("buildkitd");
    let started = tokio::task::spawn_blocking(move || Daemon::buildkitd(&folder).unwrap()).await;
    let Some(daemon) = started.unwrap() else { return };
    let world = World::new().await;
    let config = docker_config(&world, json!({})).await;
    let build = async |from: &str, lines: [&str; 2], image: &str| {
        let mut command = daemon.client();
        command.env("DOCKER_CONFIG", &config).args(["build", "--frontend", "dockerfile.v0"]);
        command.args(["--progress=plain", "--no-cache", "--local", &format!("context={from}")]);
        command.args(["--local", &format!("dockerfile={from}"), "--output"]);
        command.arg(format!("type=image,name={image},push=true,{}", lines.join(",")));
        run(command).await
    };
    let plain = ["registry.insecure=true", "oci-mediatypes=true"];
    check_builds(&world, dir.path(), async |from, image| build(from, plain, image).await).await;

    // What was let through is a base of the next build: it pulls it with its own client.
    let from = sources(dir.path(), GOOD);
    let dockerfile = format!("FROM {}/acme/app:good\nCOPY lines /again\n", world.host());
    fs_err::write(Path::new(&from).join("Dockerfile"), dockerfile).unwrap();
    check_done(&build(&from, plain, &format!("{}/acme/app:next", world.host())).await);
    let response = world.send("GET", "/v2/acme/app/manifests/next", "").await;
    let manifest: serde_json::Value = response.json().await.unwrap();
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);

    // The same builder behind Docker's plugin, which by default says where an image comes from: an index.
    let Some(buildx) = buildx() else { return };
    let buildx = |args: &[&str]| {
        let mut command = Command::new(&buildx);
        command.env("DOCKER_CONFIG", &config).env("BUILDX_CONFIG", dir.path().join("buildx"));
        command.args(args);
        command
    };
    let create = ["create", "--name", "gate", "--driver", "remote", &daemon.host()];
    check_done(&run(buildx(&create)).await);
    check_builds(&world, dir.path(), async |from, image| {
        let output = format!("type=image,name={image},push=true,registry.insecure=true");
        let args = ["build", "--builder", "gate", "--progress=plain", "--output", &output, from];
        run(buildx(&args)).await
    })
    .await;
    let response = world.send("GET", "/v2/acme/app/manifests/good", "").await;
    let index: serde_json::Value = response.json().await.unwrap();
    let kind = &index["manifests"][1]["annotations"]["vnd.docker.reference.type"];
    assert_eq!(kind, "attestation-manifest");
}

/// Docker's plugin for builds with the builder of its daemon.
#[tokio::test(flavor = "multi_thread")]
async fn buildx_pushes_what_it_built_and_shows_a_refusal() {
    let Some(buildx) = buildx() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(daemon) = dockerd(dir.path()).await else { return };
    let world = World::new().await;
    let config = docker_config(&world, json!({})).await;
    check_builds(&world, dir.path(), async |from, image| {
        let mut command = Command::new(&buildx);
        command.env("DOCKER_CONFIG", &config).env("BUILDX_CONFIG", dir.path().join("buildx"));
        command.env("DOCKER_HOST", daemon.host());
        command.args(["build", "--progress=plain", "--push", "--tag", image, from]);
        run(command).await
    })
    .await;
}
