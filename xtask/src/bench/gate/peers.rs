//! The two registries.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::http::Connection;
use crate::bench::{Plane, UP_DEADLINE};

/// A registry that is up, until it is dropped.
pub(super) struct Peer {
    pub(super) name: &'static str,
    pub(super) repository: String,
    host: String,
    token: Option<String>,
    process: Process,
    _data: tempfile::TempDir,
}

enum Process {
    Plane(Plane),
    Registry(Child),
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Registry(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Peer {
    pub(super) fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.host, self.token.as_deref())
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Plane(plane) => plane.process.id(),
            Process::Registry(child) => child.id(),
        }
    }
}

/// Debian's, with its files in a folder, as it comes.
pub(super) fn docker_registry() -> anyhow::Result<Peer> {
    let data = tempfile::tempdir().context("making a folder")?;
    // Taken and given back: it cannot be told to choose one.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let host = format!("127.0.0.1:{port}");
    let config = data.path().join("config.yml");
    let folder = data.path().join("data");
    fs_err::write(
        &config,
        format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  \
             filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            folder.display()
        ),
    )?;
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting docker-registry, Debian's package of that name")?;
    let peer = Peer {
        name: "docker-registry",
        repository: "bench".to_owned(),
        host,
        token: None,
        process: Process::Registry(child),
        _data: data,
    };
    let began = Instant::now();
    while peer.connect().and_then(|mut at| at.get("GET", "/v2/")).is_err() {
        ensure!(began.elapsed() < UP_DEADLINE, "docker-registry is not up");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(peer)
}

/// Ours: a plane, and the session of a job that ran on it.
pub(super) fn ours(program: &Path) -> anyhow::Result<Peer> {
    let data = tempfile::tempdir().context("making a data folder")?;
    let folder = data.path().join("plane");
    let plane = Plane::start(program, &folder)?;
    let host = host_of(&folder)?;
    let token = session(program, data.path(), &folder, &host)?;
    Ok(Peer {
        name: "sekisho",
        repository: "bench".to_owned(),
        host,
        token: Some(token),
        process: Process::Plane(plane),
        _data: data,
    })
}

/// A job writes its OIDC token down, and the gate exchanges it.
fn session(program: &Path, root: &Path, data: &Path, host: &str) -> anyhow::Result<String> {
    let folder = root.join("bench");
    let file = root.join("token.json");
    fs_err::create_dir_all(folder.join(".github/workflows"))?;
    let workflow = format!(
        "on: push\npermissions:\n  id-token: write\njobs:\n  token:\n    runs-on: ubuntu-latest\n    \
         steps:\n      - run: curl -sSf -H \"Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN\" \
         \"$ACTIONS_ID_TOKEN_REQUEST_URL&audience=http://{host}\" > {}\n",
        file.display()
    );
    fs_err::write(folder.join(".github/workflows/token.yml"), workflow)?;
    let ran = Command::new(program)
        .args(["run", "--quiet", "--data-dir"])
        .arg(data)
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .context("starting sekisho run")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let answer = fs_err::read(&file).with_context(|| format!("the job gave no token: {said}"))?;
    let answer: Value = serde_json::from_slice(&answer).context("reading the token")?;
    let body = serde_json::json!({ "subject_token": answer["value"] }).to_string();
    let mut connection = Connection::open(host, None)?;
    let answer = connection.send("POST", "/oidc/exchange", "application/json", body.as_bytes())?;
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

/// Makes a folder its owner's alone, and one that a plane takes for its own.
pub(super) fn make_private(data: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs_err::set_permissions(data, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}
