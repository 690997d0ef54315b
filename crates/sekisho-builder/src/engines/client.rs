//! Drives the client of another engine: its words for what was asked for, and an archive as the result.

mod calls;

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, anyhow};
use fs_err as fs;
use sekisho_sandbox::Stream;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use self::calls::{Call, Given};
use super::{Client, archive};
use crate::context::text;
use crate::error::{BuildError, StepFailed};
use crate::finish::Image;
use crate::options::BuildOptions;
use crate::progress::Event;

/// Lines of the engine's that are kept for an error.
const TAIL_LINES: usize = 20;

/// Where a daemon of BuildKit is, for its own client.
const BUILDKIT_HOST: &str = "BUILDKIT_HOST";

/// Docker's clients. One since 23 builds with a plugin that need not be there; the system's may be older.
const DOCKERS: [&str; 2] = ["docker", "/usr/bin/docker"];

/// How long a client may take to say that it works.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(10);

/// The same for Docker's.
const DOCKER_HOST: &str = "DOCKER_HOST";

/// Where a client finds its daemon, when its own environment does not say.
fn addressed(host: Option<&str>) -> Vec<(String, OsString)> {
    let names = [BUILDKIT_HOST, DOCKER_HOST];
    host.into_iter().flat_map(|host| names.map(|name| (name.to_owned(), host.into()))).collect()
}

fn works(host: Option<&str>, program: &str, arguments: &[&str]) -> bool {
    let mut command = std::process::Command::new("timeout");
    command.arg(ANSWER.as_secs().to_string()).arg(program).args(arguments);
    command.env("DOCKER_BUILDKIT", "1").envs(addressed(host));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A docker client that builds with a daemon that answers.
fn docker(host: Option<&str>) -> Option<&'static str> {
    DOCKERS.into_iter().find(|docker| {
        let knows = works(host, docker, &["build", "--help"]);
        knows && works(host, docker, &["version", "--format", "{{.Server.Version}}"])
    })
}

/// Which clients are here and have somebody to talk to, the best first.
pub(super) fn here(host: Option<&str>) -> Vec<Client> {
    let mut here = Vec::new();
    let said = std::env::var_os(BUILDKIT_HOST).is_some_and(|said| !said.is_empty());
    if (said || host.is_some()) && works(host, "buildctl", &["debug", "workers"]) {
        here.push(Client::Buildctl);
    }
    if docker(host).is_some() {
        here.push(Client::Docker);
    }
    if works(host, "buildah", &["--version"]) {
        here.push(Client::Buildah);
    }
    here
}

/// Has an image built, and brings it into the store.
pub(crate) fn build(engine: &crate::engine::Engine, client: Client) -> Result<Image, BuildError> {
    let (layers, options) = (&engine.layers, &engine.options);
    let text = engine.file.source.clone();
    let folder = layers.session.folder("engine").context("cannot make a folder")?;
    let dockerfile = folder.join("Dockerfile");
    fs::write(&dockerfile, text).context("cannot write the Dockerfile")?;
    ignore_beside(options, &folder)?;
    let digest = sekisho_types::Digest::sha256(folder.as_os_str().as_encoded_bytes());
    let name = format!("localhost/sekisho-build:{}", digest.hex().get(..16).unwrap_or_default());
    let archive = folder.join("image.tar");
    let given = Given { options, dockerfile, archive: archive.clone(), name };
    let calls = calls::calls(client, &given).map_err(|problem| anyhow!("{client:?}: {problem}"))?;
    engine.remark(format!("the build is carried out by {client:?}"));
    for call in calls {
        carry_out(engine, call)?;
    }
    let image = archive::import(engine, &archive);
    let image = image.with_context(|| format!("cannot read the image that {client:?} built"))?;
    sekisho_sandbox::remove_tree(&folder).context("cannot remove a folder")?;
    Ok(image)
}

/// `<Dockerfile>.dockerignore` is looked for beside the Dockerfile, which has moved.
fn ignore_beside(options: &BuildOptions, folder: &Path) -> Result<(), BuildError> {
    if let Some((_, text)) = text::ignore(&options.context_dir, &options.dockerfile)? {
        let path = folder.join("Dockerfile.dockerignore");
        fs::write(path, text).context("cannot write a file")?;
    }
    Ok(())
}

fn carry_out(engine: &crate::engine::Engine, call: Call) -> Result<(), BuildError> {
    let shown = call.arguments.iter().take(2).map(|word| word.to_string_lossy().into_owned());
    let program = call.program.to_string_lossy().into_owned();
    let shown = [vec![program], shown.collect()].concat().join(" ");
    let mut command = Command::new(&call.program);
    command.args(&call.arguments).envs(call.env);
    command.envs(addressed(engine.options.engine_host.as_deref())).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let tail = std::sync::Mutex::new(Vec::new());
    let done = engine.layers.remote.run(async {
        let mut child = command.spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let lines = |stream: Stream, line: String| {
            let mut tail = tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            tail.push(line.clone());
            let excess = tail.len().saturating_sub(TAIL_LINES);
            tail.drain(..excess);
            engine.progress.event(Event::Log { number: 1, stream, line });
        };
        tokio::join!(pass_on(out, Stream::Stdout, &lines), pass_on(err, Stream::Stderr, &lines));
        child.wait().await
    });
    let status = done.ok_or(BuildError::Cancelled)?;
    let status = status.with_context(|| format!("cannot start `{shown}`"))?;
    if status.success() {
        return Ok(());
    }
    let tail = tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Err(BuildError::StepFailed(Box::new(StepFailed {
        file: engine.file.file.clone(),
        line: 1,
        command: shown,
        exit_code: status.code().unwrap_or(-1),
        tail,
        hint: None,
    })))
}

async fn pass_on(
    from: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    lines: &impl Fn(Stream, String),
) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut from).take(crate::MAX_LOG_LINE_BYTES as u64);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => lines(stream, String::from_utf8_lossy(&line).trim_end().to_owned()),
        }
    }
}
