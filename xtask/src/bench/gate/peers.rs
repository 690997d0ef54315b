//! The two registries.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use ::peers::{DockerRegistry, Log};
use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::http::Connection;
use crate::bench::Plane;
use crate::bench::disk::Disk;

/// A registry that is up, until it is dropped.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) repository: String,
    host: String,
    authorization: Option<String>,
    process: Process,
    data: Disk,
}

enum Process {
    Plane(Plane),
    Registry(DockerRegistry),
}

impl Peer {
    pub(super) fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.host, self.authorization.as_deref())
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Plane(plane) => plane.process.id(),
            Process::Registry(registry) => registry.pid(),
        }
    }
}

/// Debian's, with its files in a folder, as it comes.
pub(super) fn docker_registry() -> anyhow::Result<Peer> {
    let data = Disk::new()?;
    let registry = DockerRegistry::start(data.path(), Log::Off)?;
    let registry = registry.context("there must be Debian's package docker-registry")?;
    Ok(Peer {
        name: "docker-registry",
        repository: "bench".to_owned(),
        host: registry.host().to_owned(),
        authorization: None,
        process: Process::Registry(registry),
        data,
    })
}

/// Ours: a plane on a disk, and the session of a user with a password. A job's would be bound to its process.
pub(super) fn ours(program: &Path, data: Disk) -> anyhow::Result<Peer> {
    let folder = data.path().join("plane");
    add_user(program, &folder)?;
    let plane = Plane::start(program, &folder)?;
    let host = host_of(&folder)?;
    let session = session(&host)?;
    Ok(Peer {
        name: "sekisho",
        repository: "local/bench".to_owned(),
        host,
        authorization: Some(format!("Bearer {session}")),
        process: Process::Plane(plane),
        data,
    })
}

/// Of the user `bench`, who exists in the benchmark's own data folder alone.
const PASSWORD: &str = "only for this benchmark";

fn add_user(program: &Path, data: &Path) -> anyhow::Result<()> {
    let mut child = Command::new(program)
        .args(["gate", "user", "add", "bench", "--quiet", "--data-dir"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("starting sekisho gate user add")?;
    let mut input = child.stdin.take().context("its standard input")?;
    input.write_all(PASSWORD.as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "`sekisho gate user add` failed");
    Ok(())
}

/// What `docker login` does.
fn session(host: &str) -> anyhow::Result<String> {
    let basic = format!("Basic {}", STANDARD.encode(format!("bench:{PASSWORD}")));
    let scope = "scope=repository:local/bench:pull,push";
    let path = format!("/token?service=sekisho-gate&{scope}");
    let answer = Connection::open(host, Some(&basic))?.get("GET", &path)?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let answer: Value = serde_json::from_str(&text).with_context(|| format!("reading {text}"))?;
    match answer["token"].as_str() {
        Some(token) => Ok(token.to_owned()),
        None => bail!("the gate gave no session: {text}"),
    }
}

/// `127.0.0.1:PORT` of the plane on a data folder.
pub(super) fn host_of(data: &Path) -> anyhow::Result<String> {
    let plane: Value = serde_json::from_slice(&fs_err::read(data.join("plane.json"))?)?;
    let url = plane["url"].as_str().context("the plane has no address")?;
    Ok(url.trim_start_matches("http://").trim_end_matches('/').to_owned())
}

/// The kind of file system that a peer writes to.
pub(super) fn files_on(peer: &Peer) -> &'static str {
    peer.data.describe()
}

/// Makes a folder its owner's alone, and one that a plane takes for its own.
pub(super) fn make_private(data: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::set_permissions(data, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}
