//! What to build.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use sekisho_dockerfile::git::GitRef;
use sekisho_dockerfile::graph;
use sekisho_oci::Platform;
use sekisho_registry::Keyring;
use sekisho_sandbox::{Launcher, Network};
use sekisho_types::ImageReference;
use tokio_util::sync::CancellationToken;

use crate::engines::{Engine, Entitlement};
use crate::golden::DebianOptions;
use crate::provenance::Provenance;
use crate::store::CacheLimit;

/// Everything [`build`](crate::build) needs to know. Make one with [`BuildOptions::new`].
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The folder that COPY and ADD see, and nothing above it.
    pub context_dir: PathBuf,
    /// Instead of that folder: an archive, a git repository.
    pub context: Option<ContextInput>,
    /// `--build-context`: what names of stages and images mean instead. See
    /// [`BuildOptions::add_context`].
    pub contexts: BTreeMap<String, NamedContext>,
    /// The Dockerfile: absolute, or relative to the context. Default `Dockerfile`.
    pub dockerfile: PathBuf,
    /// The Dockerfile itself, when it is no file; `dockerfile` is what messages call it.
    pub dockerfile_text: Option<String>,
    /// Name or number of the stage to build; the last one without.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`; wins over the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// Where to push the image. None: it stays in the cache folder.
    pub destinations: Vec<ImageReference>,
    /// Names that outputs carry, without pushing there.
    pub names: Vec<ImageReference>,
    /// Where else to put it.
    pub outputs: Vec<Output>,
    /// Of the layers that are made here.
    pub compression: Compression,
    /// Who carries the build out.
    pub engine: Engine,
    /// Where another engine's daemon is, as `BUILDKIT_HOST` and `DOCKER_HOST` have it, which it wins over.
    pub engine_host: Option<String>,
    /// Given to another engine's own `build`, as they are.
    pub engine_args: Vec<String>,
    /// What another engine's build may do besides. Default: nothing.
    pub allow: BTreeSet<Entitlement>,
    /// A statement of what the image was made of, beside it in an index. Default: none.
    pub provenance: Option<Provenance>,
    /// Layers, unpacked roots and results; shared by any number of builds at once.
    pub cache_dir: PathBuf,
    /// What the cache folder may take when a build begins.
    pub cache_limit: CacheLimit,
    /// For `RUN --mount=type=secret`, by id. They are in memory only, and in no key, layer or log.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of ssh agents for `RUN --mount=type=ssh`, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// How to log in, by registry (`127.0.0.1:5000`). Nobody else gets to see it.
    pub credentials: BTreeMap<String, Credential>,
    /// What the config says as the image's time, seconds since 1970; the commit's time, say.
    /// Layers do not depend on it.
    pub created: i64,
    /// What the image runs on; with more than one an index of images. Default: this machine. A RUN
    /// for another one needs an emulator that the kernel knows of (`binfmt_misc`).
    pub platforms: Vec<Platform>,
    /// Runs every step, and still records the results.
    pub no_cache: bool,
    /// The same for some stages, by name or number.
    pub no_cache_filter: Vec<String>,
    /// What RUN may reach. Default: the host's network.
    pub network: Network,
    /// Hosts that a RUN knows besides: name and address.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// Most steps that run at once. Default: one for each core.
    pub jobs: usize,
    /// Credentials, mirrors and certificates of registries; `credentials` wins.
    pub registries: Registries,
    /// Longest time for one RUN. Default: none.
    pub run_timeout: Option<Duration>,
    /// Most memory that one process of a RUN may have to itself, in bytes, and no less than
    /// [`sekisho_sandbox::MIN_MEMORY_BYTES`]. Default: no limit but the machine's.
    pub run_memory_bytes: Option<u64>,
    /// Where golden bases come from. Default: where this machine's apt has its packages from.
    pub debian: DebianOptions,
    /// What runs the sandbox. Default: this program, whose `main` begins with
    /// [`sekisho_sandbox::main_if_sandbox`].
    pub launcher: Launcher,
    /// Ends the build; so does dropping its future.
    pub cancel: CancellationToken,
}

impl BuildOptions {
    /// Builds `context_dir/Dockerfile`, and keeps the image in `cache_dir`.
    pub fn new(context_dir: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            context_dir: context_dir.into(),
            context: None,
            contexts: BTreeMap::new(),
            dockerfile: PathBuf::from("Dockerfile"),
            dockerfile_text: None,
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            destinations: Vec::new(),
            names: Vec::new(),
            outputs: Vec::new(),
            compression: Compression::default(),
            engine: Engine::Native,
            engine_host: None,
            engine_args: Vec::new(),
            allow: BTreeSet::new(),
            provenance: None,
            cache_dir: cache_dir.into(),
            cache_limit: CacheLimit::default(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            credentials: BTreeMap::new(),
            created: 0,
            platforms: Vec::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            network: Network::Host,
            extra_hosts: Vec::new(),
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            registries: Registries::default(),
            run_timeout: None,
            run_memory_bytes: None,
            debian: DebianOptions::default(),
            launcher: Launcher::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// Gives a name a meaning, in the words of `--build-context`:
    ///
    /// ```text
    /// PATH    docker-image://IMAGE    oci-layout://PATH[:TAG|@DIGEST]    target:STAGE
    /// https://host/repository.git[#ref[:folder]]    https://host/archive.tar.gz
    /// ```
    ///
    /// # Errors
    /// The name or the value is empty, or a git URL cannot be meant.
    pub fn add_context(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name.is_empty() || value.is_empty() {
            return Err("write it as NAME=VALUE".to_owned());
        }
        self.contexts.insert(graph::context_key(name), NamedContext::parse(value)?);
        Ok(())
    }

    /// What the graph needs to know of the named contexts.
    pub fn context_names(&self) -> graph::Contexts {
        let named = |context: &NamedContext| match context {
            NamedContext::Stage(stage) => graph::Named::Stage(stage.clone()),
            _ => graph::Named::Tree,
        };
        self.contexts.iter().map(|(name, context)| (name.clone(), named(context))).collect()
    }

    /// What is built for: this machine unless something else was asked for.
    pub(crate) fn platforms(&self) -> Vec<Platform> {
        match self.platforms.is_empty() {
            true => vec![Platform::host()],
            false => self.platforms.clone(),
        }
    }
}

/// How layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// With what.
    pub kind: CompressionKind,
    /// gzip: 1 to 12, 4 without; zstd: 1 to 19, 3 without. A layer that is in the cache keeps the level
    /// that it was made with.
    pub level: Option<i32>,
    /// Also layers of base images, which are another content then.
    pub force: bool,
}

/// With what layers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionKind {
    /// What every runtime reads.
    #[default]
    Gzip,
    /// Smaller and faster; containerd reads it from 1.5 on, Docker from 23.
    Zstd,
}

/// A build context that is no folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextInput {
    /// A tar file, compressed or not.
    Archive(PathBuf),
    /// A git repository or the URL of an archive.
    Remote(String),
}

/// What a name of `--build-context` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A folder of this machine.
    Directory(PathBuf),
    /// An image of a registry.
    Image(String),
    /// An image of an OCI image layout.
    OciLayout {
        /// The layout's folder.
        path: PathBuf,
        /// Tag or digest; the only image without.
        name: Option<String>,
    },
    /// Another stage of the file.
    Stage(String),
    /// A git repository or the URL of an archive.
    Remote(String),
}

impl NamedContext {
    /// See [`BuildOptions::add_context`].
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(image) = text.strip_prefix("docker-image://") {
            return Ok(Self::Image(image.to_owned()));
        }
        if let Some(stage) = text.strip_prefix("target:") {
            return Ok(Self::Stage(stage.to_owned()));
        }
        if let Some(rest) = text.strip_prefix("oci-layout://") {
            let (path, name) = match rest.split_once('@') {
                Some((path, digest)) => (path, Some(digest)),
                None => match rest.rsplit_once(':') {
                    Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
                    _ => (rest, None),
                },
            };
            // A tag beside a digest says nothing more.
            let path = match path.rsplit_once(':') {
                Some((before, tag)) if name.is_some() && !tag.contains('/') => before,
                _ => path,
            };
            return Ok(Self::OciLayout { path: path.into(), name: name.map(str::to_owned) });
        }
        let web = text.starts_with("http://") || text.starts_with("https://");
        if GitRef::parse(text)?.is_some() || web {
            return Ok(Self::Remote(text.to_owned()));
        }
        Ok(Self::Directory(text.into()))
    }
}

/// Registries: who one is there, where else they are, and whom to trust.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// What Docker's `config.json` says.
    pub keyring: Keyring,
    /// Registries that are asked first for the content of another, by its name.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries without TLS, by name; those of this machine need not be named.
    pub plain_http: BTreeSet<String>,
    /// Files of PEM certificates that are trusted besides the machine's.
    pub ca_files: Vec<PathBuf>,
}

/// Where a secret is.
#[derive(Clone, Debug)]
pub enum Secret {
    /// In a file, which is read when a RUN wants it.
    File(PathBuf),
    /// Here.
    Value(SecretString),
}

/// How to log in to one registry.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A name and a password or identity token, for the registry or the token service it names.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A finished session token, sent as `Authorization: Bearer`.
    Bearer(SecretString),
}

/// Where to put the image besides the cache folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An OCI image layout in a folder, which is made, or added to.
    OciDirectory(PathBuf),
    /// An OCI image layout as a tar file.
    OciTar(PathBuf),
    /// A tar file that `docker load` takes, and that is an OCI image layout too.
    DockerTar(PathBuf),
    /// The image's files, below a folder.
    Local(PathBuf),
    /// The image's files, as a tar file.
    Tar(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_in_all_forms() {
        let layout = |path: &str, name: Option<&str>| NamedContext::OciLayout {
            path: path.into(),
            name: name.map(str::to_owned),
        };
        for (text, want) in [
            ("../src", NamedContext::Directory("../src".into())),
            ("docker-image://alpine:3", NamedContext::Image("alpine:3".to_owned())),
            ("target:base", NamedContext::Stage("base".to_owned())),
            ("oci-layout://./l", layout("./l", None)),
            ("oci-layout:///a/l:v1", layout("/a/l", Some("v1"))),
            ("oci-layout://l@sha256:00", layout("l", Some("sha256:00"))),
            ("oci-layout://l:v1@sha256:00", layout("l", Some("sha256:00"))),
            ("https://h/x.git#v1", NamedContext::Remote("https://h/x.git#v1".to_owned())),
            ("https://h/x.tar.gz", NamedContext::Remote("https://h/x.tar.gz".to_owned())),
            ("git@h:x.git", NamedContext::Remote("git@h:x.git".to_owned())),
        ] {
            assert_eq!(NamedContext::parse(text), Ok(want), "{text}");
        }
        let mut options = BuildOptions::new(".", ".");
        assert!(options.add_context("", "x").is_err());
        assert!(options.add_context("x", "https://h/x.git?nope=1").is_err());
        options.add_context("docker.io/library/Alpine:latest", "x").unwrap();
        assert!(options.contexts.contains_key("alpine"));
    }
}
