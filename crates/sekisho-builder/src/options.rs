//! What to build, and what came of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use sekisho_oci::Platform;
use sekisho_sandbox::{Launcher, Network};
use sekisho_types::{Digest, ImageReference};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// Everything [`build`](crate::build) needs to know. Make one with [`BuildOptions::new`].
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The folder that COPY and ADD see, and nothing above it.
    pub context_dir: PathBuf,
    /// The Dockerfile: absolute, or relative to the context. Default `Dockerfile`.
    pub dockerfile: PathBuf,
    /// Name or number of the stage to build; the last one without.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`; wins over the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// Where to push the image. None: it stays in the cache folder.
    pub destinations: Vec<ImageReference>,
    /// Where else to put it.
    pub output: Option<Output>,
    /// Layers, unpacked roots and results; shared by any number of builds at once.
    pub cache_dir: PathBuf,
    /// For `RUN --mount=type=secret`, by id. They are in memory only, and in no key, layer or log.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of ssh agents for `RUN --mount=type=ssh`, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// How to log in, by registry (`127.0.0.1:5000`). Nobody else gets to see it.
    pub credentials: BTreeMap<String, Credential>,
    /// What the config says as the image's time, seconds since 1970; the commit's time, say.
    /// Layers do not depend on it.
    pub created: i64,
    /// What the image runs on. Default: this machine. RUN works for this machine only.
    pub platform: Platform,
    /// Runs every step, and still records the results.
    pub no_cache: bool,
    /// The same for some stages, by name or number.
    pub no_cache_filter: Vec<String>,
    /// What RUN may reach. Default: the host's network.
    pub network: Network,
    /// Longest time for one RUN. Default: none.
    pub run_timeout: Option<Duration>,
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
            dockerfile: PathBuf::from("Dockerfile"),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            destinations: Vec::new(),
            output: None,
            cache_dir: cache_dir.into(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            credentials: BTreeMap::new(),
            created: 0,
            platform: Platform::host(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            network: Network::Host,
            run_timeout: None,
            launcher: Launcher::default(),
            cancel: CancellationToken::new(),
        }
    }
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
}

/// A finished image.
#[derive(Clone, Debug, Serialize)]
pub struct BuildResult {
    /// Of the manifest: the image's name for ever.
    pub manifest_digest: Digest,
    /// Of the config.
    pub config_digest: Digest,
    /// Base first.
    pub layers: Vec<LayerInfo>,
    /// In the order they ran.
    pub steps: Vec<StepResult>,
    /// Where it was pushed.
    pub pushed: Vec<ImageReference>,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerInfo {
    /// Of the compressed bytes.
    pub digest: Digest,
    /// Of the uncompressed bytes.
    pub diff_id: Digest,
    /// Compressed, in bytes.
    pub size_bytes: u64,
}

/// One instruction that was carried out.
#[derive(Clone, Debug, Serialize)]
pub struct StepResult {
    /// From 1.
    pub number: usize,
    /// The instruction, on one line.
    pub text: String,
    /// Its line in the Dockerfile, from 1.
    pub line: u32,
    /// The result was there already.
    pub cached: bool,
    /// How long it took.
    pub duration_ms: u64,
    /// The layer it made.
    pub layer: Option<LayerInfo>,
}
