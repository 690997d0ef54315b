//! What was asked for, in the words of another engine's client.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;
use sekisho_sandbox::Network;

use super::docker;
use crate::engines::Client;
use crate::options::{BuildOptions, NamedContext, Secret};

/// A program, its arguments, and what it finds in its environment besides ours.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) program: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) env: Vec<(String, OsString)>,
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
            allow(&mut build, options);
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
        Client::Buildah if !options.allow.is_empty() => {
            Err("it knows no `--allow`: use BuildKit, or its own options with `--engine-arg`"
                .to_owned())
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
    allow(&mut call, options);
    secrets(&mut call, options)?;
    call.arguments.extend(options.engine_args.iter().map(OsString::from));
    let mut output = OsString::from("type=docker,dest=");
    output.push(&given.archive);
    call.option("--output", output);
    Ok(vec![call])
}

/// Whether the daemon grants it too is the daemon's own configuration.
fn allow(call: &mut Call, options: &BuildOptions) {
    for entitlement in &options.allow {
        call.option("--allow", entitlement.name());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Entitlement;

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
             --secret id=s,env=SEKISHO_BUILD_SECRET_0 --ulimit=nofile=9 \
             --output type=docker,dest=/d/image.tar"
        );
        let docker = calls(Client::Docker, &given).unwrap();
        assert!(words(&docker[0]).contains(" build --progress plain --tag n:1 --file"));
        assert!(words(&docker[1]).ends_with(" save --output /d/image.tar n:1"));
        assert!(![&buildctl, &docker].iter().any(|calls| words(&calls[0]).contains("--allow")));
        let mut trusting = options.clone();
        trusting.allow.insert(Entitlement::SecurityInsecure);
        let trusting = Given { options: &trusting, ..given };
        for client in [Client::Buildctl, Client::Docker] {
            let said = words(&calls(client, &trusting).unwrap()[0]);
            assert!(said.contains(" --allow security.insecure "), "{said}");
        }
        assert!(calls(Client::Buildah, &trusting).is_err());
        let given = Given { options: &options, ..trusting };
        let mut two = options.clone();
        two.platforms.push("linux/amd64".parse().unwrap());
        let given = Given { options: &two, ..given };
        assert!(calls(Client::Docker, &given).is_err());
        let mut limited = options.clone();
        limited.run_memory_bytes = Some(1 << 30);
        assert!(calls(Client::Buildah, &Given { options: &limited, ..given }).is_err());
    }
}
