//! Drives the client of another engine: its words for what was asked for, and an archive as the result.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, anyhow};
use fs_err as fs;
use secrecy::ExposeSecret as _;
use sekisho_sandbox::{Network, Stream};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::{Client, archive};
use crate::error::{BuildError, StepFailed};
use crate::finish::Image;
use crate::options::{BuildOptions, NamedContext, Secret};
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

/// A program, its arguments, and what it finds in its environment besides ours.
#[derive(Debug, Default)]
pub(super) struct Call {
    program: OsString,
    arguments: Vec<OsString>,
    env: Vec<(String, OsString)>,
}

impl Call {
    fn new(program: &str) -> Self {
        Self { program: program.into(), ..Self::default() }
    }

    fn add(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(OsString::from));
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.arguments.push(name.into());
        self.arguments.push(value.into());
    }
}

/// What the engine is given.
pub(super) struct Given<'a> {
    pub(super) options: &'a BuildOptions,
    /// The Dockerfile, a file of its own.
    pub(super) dockerfile: PathBuf,
    /// Where the archive is to be.
    pub(super) archive: PathBuf,
    /// A name for the image, in an engine that has names.
    pub(super) name: String,
}

/// The calls that build, in order; the last one has written the archive.
///
/// # Errors
/// What was asked for cannot be said to this engine.
pub(super) fn calls(client: Client, given: &Given<'_>) -> Result<Vec<Call>, String> {
    let options = given.options;
    if options.platforms.len() > 1 {
        return Err("it is asked for one platform at a time".to_owned());
    }
    if options.run_memory_bytes.is_some() {
        return Err("a limit of memory is given with `--engine-arg`, in its own words".to_owned());
    }
    match client {
        Client::Buildctl => buildctl(given),
        Client::Docker => {
            let mut build = Call::new(docker(options.engine_host.as_deref()).unwrap_or("docker"));
            build.env.push(("DOCKER_BUILDKIT".to_owned(), "1".into()));
            build.add(&["build", "--progress", "plain", "--tag", &given.name]);
            common(&mut build, given)?;
            build.arguments.push(options.context_dir.clone().into());
            let mut save = Call { program: build.program.clone(), ..Call::default() };
            save.option("save", "--output");
            save.arguments.push(given.archive.clone().into());
            save.add(&[&given.name]);
            let mut forget = Call { program: build.program.clone(), ..Call::default() };
            forget.add(&["rmi", "--force", &given.name]);
            Ok(vec![build, save, forget])
        }
        Client::Buildah => {
            let mut build = Call::new("buildah");
            build.add(&["build", "--layers", "--format", "oci", "--tag", &given.name]);
            common(&mut build, given)?;
            build.arguments.push(options.context_dir.clone().into());
            let mut push = Call::new("buildah");
            push.add(&["push", "--quiet", &given.name]);
            let mut to = OsString::from("docker-archive:");
            to.push(&given.archive);
            push.arguments.push(to);
            let mut forget = Call::new("buildah");
            forget.add(&["rmi", "--force", &given.name]);
            Ok(vec![build, push, forget])
        }
    }
}

/// The words that docker and buildah share.
fn common(call: &mut Call, given: &Given<'_>) -> Result<(), String> {
    let options = given.options;
    call.option("--file", given.dockerfile.clone());
    for (name, value) in &options.build_args {
        call.option("--build-arg", format!("{name}={value}"));
    }
    for (name, value) in &options.labels {
        call.option("--label", format!("{name}={value}"));
    }
    for (name, address) in &options.extra_hosts {
        call.option("--add-host", format!("{name}:{address}"));
    }
    if let Some(target) = &options.target {
        call.option("--target", target);
    }
    if let Some(platform) = options.platforms.first() {
        call.option("--platform", platform.to_string());
    }
    if options.network == Network::None {
        call.option("--network", "none");
    }
    if options.no_cache || !options.no_cache_filter.is_empty() {
        call.add(&["--no-cache"]);
    }
    for (name, context) in &options.contexts {
        call.option("--build-context", format!("{name}={}", said(context)));
    }
    secrets(call, options)?;
    call.arguments.extend(options.engine_args.iter().map(OsString::from));
    Ok(())
}

fn buildctl(given: &Given<'_>) -> Result<Vec<Call>, String> {
    let options = given.options;
    let mut call = Call::new("buildctl");
    call.add(&["build", "--progress", "plain", "--frontend", "dockerfile.v0"]);
    let local = |name: &str, path: &Path| {
        let mut text = OsString::from(format!("{name}="));
        text.push(path);
        text
    };
    call.option("--local", local("context", &options.context_dir));
    let folder = given.dockerfile.parent().ok_or("the Dockerfile has no folder")?;
    call.option("--local", local("dockerfile", folder));
    let name = given.dockerfile.file_name().ok_or("the Dockerfile has no name")?;
    let opt = |call: &mut Call, text: String| call.option("--opt", text);
    opt(&mut call, format!("filename={}", name.to_string_lossy()));
    for (name, value) in &options.build_args {
        opt(&mut call, format!("build-arg:{name}={value}"));
    }
    for (name, value) in &options.labels {
        opt(&mut call, format!("label:{name}={value}"));
    }
    if let Some(target) = &options.target {
        opt(&mut call, format!("target={target}"));
    }
    if let Some(platform) = options.platforms.first() {
        opt(&mut call, format!("platform={platform}"));
    }
    if options.network == Network::None {
        opt(&mut call, "force-network-mode=none".to_owned());
    }
    let hosts = options.extra_hosts.iter().map(|(name, at)| format!("{name}={at}"));
    let hosts: Vec<String> = hosts.collect();
    if !hosts.is_empty() {
        opt(&mut call, format!("add-hosts={}", hosts.join(",")));
    }
    for (name, context) in &options.contexts {
        match context {
            NamedContext::Directory(path) => {
                opt(&mut call, format!("context:{name}=local:{name}"));
                call.option("--local", local(name, path));
            }
            NamedContext::OciLayout { .. } => {
                return Err(format!("the context `{name}` is a layout: give it to `docker build`"));
            }
            _ => opt(&mut call, format!("context:{name}={}", said(context))),
        }
    }
    if options.no_cache || !options.no_cache_filter.is_empty() {
        call.add(&["--no-cache"]);
    }
    // Whether the daemon grants it is the daemon's own configuration.
    call.option("--allow", "security.insecure");
    secrets(&mut call, options)?;
    call.arguments.extend(options.engine_args.iter().map(OsString::from));
    let mut output = OsString::from("type=docker,dest=");
    output.push(&given.archive);
    call.option("--output", output);
    Ok(vec![call])
}

/// In the words of `--build-context`.
fn said(context: &NamedContext) -> String {
    match context {
        NamedContext::Directory(path) => path.display().to_string(),
        NamedContext::Image(image) => format!("docker-image://{image}"),
        NamedContext::OciLayout { path, name } => {
            let name = name.as_deref().map(|name| format!(":{name}")).unwrap_or_default();
            format!("oci-layout://{}{name}", path.display())
        }
        NamedContext::Stage(stage) => format!("target:{stage}"),
        NamedContext::Remote(text) => text.clone(),
    }
}

/// A secret is in no argument: the engine's client reads it from a file, or from its environment.
fn secrets(call: &mut Call, options: &BuildOptions) -> Result<(), String> {
    for (number, (id, secret)) in options.secrets.iter().enumerate() {
        match secret {
            Secret::File(path) => {
                let mut text = OsString::from(format!("id={id},src="));
                text.push(path);
                call.option("--secret", text);
            }
            Secret::Value(value) => {
                let name = format!("SEKISHO_BUILD_SECRET_{number}");
                call.option("--secret", format!("id={id},env={name}"));
                call.env.push((name, value.expose_secret().into()));
            }
        }
    }
    for (id, socket) in &options.ssh {
        let mut text = OsString::from(format!("{id}="));
        text.push(socket);
        call.option("--ssh", text);
    }
    Ok(())
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
    let calls = calls(client, &given).map_err(|problem| anyhow!("{client:?}: {problem}"))?;
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
    let mut beside = options.context_dir.join(&options.dockerfile).into_os_string();
    beside.push(".dockerignore");
    let own = options.context_dir.join(".dockerignore");
    let found = [PathBuf::from(beside), own].into_iter().find(|path| path.is_file());
    if let Some(path) = found {
        fs::copy(path, folder.join("Dockerfile.dockerignore")).context("cannot copy a file")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(call: &Call) -> String {
        let words = std::iter::once(&call.program).chain(&call.arguments);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_was_asked_for_is_said_in_each_engines_words_and_no_secret_is() {
        let mut options = BuildOptions::new("/c", "/cache");
        options.build_args.insert("A".to_owned(), "b".to_owned());
        options.labels.insert("l".to_owned(), "m".to_owned());
        options.target = Some("t".to_owned());
        options.network = Network::None;
        options.platforms = vec!["linux/arm64".parse().unwrap()];
        options.secrets.insert("s".to_owned(), Secret::Value("hidden".into()));
        options.engine_args = vec!["--ulimit=nofile=9".to_owned()];
        let given = Given {
            options: &options,
            dockerfile: "/d/Dockerfile".into(),
            archive: "/d/image.tar".into(),
            name: "n:1".to_owned(),
        };
        let buildah = calls(Client::Buildah, &given).unwrap();
        assert_eq!(
            words(&buildah[0]),
            "buildah build --layers --format oci --tag n:1 --file /d/Dockerfile --build-arg A=b \
             --label l=m --target t --platform linux/arm64 --network none \
             --secret id=s,env=SEKISHO_BUILD_SECRET_0 --ulimit=nofile=9 /c"
        );
        assert_eq!(buildah[0].env[0].1, "hidden");
        assert_eq!(words(&buildah[1]), "buildah push --quiet n:1 docker-archive:/d/image.tar");
        let buildctl = calls(Client::Buildctl, &given).unwrap();
        assert_eq!(
            words(&buildctl[0]),
            "buildctl build --progress plain --frontend dockerfile.v0 --local context=/c \
             --local dockerfile=/d --opt filename=Dockerfile --opt build-arg:A=b --opt label:l=m \
             --opt target=t --opt platform=linux/arm64 --opt force-network-mode=none \
             --allow security.insecure --secret id=s,env=SEKISHO_BUILD_SECRET_0 --ulimit=nofile=9 \
             --output type=docker,dest=/d/image.tar"
        );
        let docker = calls(Client::Docker, &given).unwrap();
        assert!(words(&docker[0]).contains(" build --progress plain --tag n:1 --file"));
        assert!(words(&docker[1]).ends_with(" save --output /d/image.tar n:1"));
        let mut two = options.clone();
        two.platforms.push("linux/amd64".parse().unwrap());
        let given = Given { options: &two, ..given };
        assert!(calls(Client::Docker, &given).is_err());
        let mut limited = options.clone();
        limited.run_memory_bytes = Some(1 << 30);
        assert!(calls(Client::Buildah, &Given { options: &limited, ..given }).is_err());
    }
}
