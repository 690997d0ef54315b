//! `sekisho build`.

mod attest;
mod call;
mod docker;
mod inputs;
mod job;
mod outputs;
mod progress;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use sekisho_builder::cache::CacheLimit;
use sekisho_builder::{BuildError, BuildOptions, BuildResult, Engine, Entitlement, Output};
use sekisho_types::ImageReference;
use serde::Serialize;
use tempfile::TempDir;

use self::progress::Watch;
use crate::exit::{Exit, hinted};
use crate::printer::{Printer, Style};
use crate::settings::{self, DataDir};
use crate::signals::Signals;

/// Build an image from a Dockerfile, without a daemon and without privilege
#[derive(Args, Debug)]
#[command(
    after_help = "Inside a job, `--push` asks for the job's OIDC token and exchanges it at the \
                        gate: no password is needed, and none is stored.\n\nExamples:\n  \
                        sekisho build --oci-archive app.tar .\n  \
                        sekisho build --push --tag 127.0.0.1:7350/app:v1 --build-arg MODE=release .\n  \
                        sekisho build --check ."
)]
pub(crate) struct BuildArgs {
    /// What COPY and ADD may use: a folder, a git repository, the URL of an archive, or `-` for an
    /// archive or a Dockerfile on stdin
    #[arg(default_value = ".", value_name = "CONTEXT")]
    context: String,
    /// The Dockerfile, of this folder or else of the context; `-` is stdin [default: `Dockerfile` of the
    /// context]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What a name of a stage or image means instead: `NAME=PATH`, `NAME=docker-image://IMAGE`,
    /// `NAME=oci-layout://PATH[:TAG]`, `NAME=target:STAGE`, `NAME=https://…`
    #[arg(long = "build-context", value_name = "NAME=VALUE", value_parser = inputs::name_value)]
    build_contexts: Vec<(String, String)>,
    /// Platforms of the image, `linux/amd64,linux/arm64`; with several it is an index
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',')]
    platforms: Vec<String>,
    /// Where else to put the image: `type=image,push=true`, `type=oci|docker|tar,dest=FILE`,
    /// `type=oci,dest=DIR,tar=false`, `type=local,dest=DIR`, or just `DIR`
    #[arg(short = 'o', long = "out", value_name = "SPEC", value_parser = outputs::parse)]
    outputs: Vec<outputs::Wanted>,
    /// How layers that are made here are compressed
    #[arg(long, value_enum, value_name = "KIND")]
    compression: Option<outputs::Kind>,
    /// gzip: 1 to 12; zstd: 1 to 19 [default: 4, and 3]
    #[arg(long, value_name = "LEVEL")]
    compression_level: Option<i32>,
    /// Compress layers of base images anew too
    #[arg(long)]
    force_compression: bool,
    /// Who carries the build out; `auto` is ours, unless the Dockerfile needs what only BuildKit does
    #[arg(long, value_enum, default_value_t, env = "SEKISHO_BUILD_ENGINE")]
    engine: EngineArg,
    /// Where another engine's daemon is, `unix:///PATH` or `tcp://HOST:PORT`; without it `BUILDKIT_HOST` and
    /// `DOCKER_HOST` count
    #[arg(long, value_name = "ADDRESS")]
    engine_host: Option<String>,
    /// What another engine's build may do besides: `security.insecure`, `network.host`; may be given again
    #[arg(long = "allow", value_name = "ENTITLEMENT")]
    allow: Vec<Entitlement>,
    /// Given to another engine's own `build`, as it is; may be given again
    #[arg(long = "engine-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    engine_args: Vec<String>,
    /// What a RUN may reach
    #[arg(long, value_name = "NETWORK", default_value = "host", value_parser = ["default", "host", "none"])]
    network: String,
    /// A host that a RUN knows besides: `NAME:ADDRESS`
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_parser = inputs::host)]
    hosts: Vec<(String, std::net::IpAddr)>,
    /// Show what is dubious in the Dockerfile instead of building; the same as `--call check`
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// What to do
    #[arg(long, value_enum, default_value_t)]
    call: call::Call,
    /// How the build is shown
    #[arg(long, value_enum, default_value_t, env = "SEKISHO_PROGRESS")]
    progress: progress::Look,
    /// Most steps that run at once [default: one for each core]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// A registry that is asked first for the content of another: `docker.io=HOST`
    #[arg(long = "registry-mirror", value_name = "REGISTRY=HOST", value_parser = inputs::name_value)]
    mirrors: Vec<(String, String)>,
    /// A registry that speaks without TLS, `HOST[:PORT]`; those of this machine do anyway
    #[arg(long = "registry-http", value_name = "HOST", value_parser = inputs::registry)]
    plain_http: Vec<String>,
    /// Certificates to trust besides the machine's, as PEM
    #[arg(long = "registry-ca", value_name = "FILE")]
    ca_files: Vec<PathBuf>,
    /// Name of the image, `[REGISTRY/]NAME[:TAG]`; may be given again
    #[arg(short, long = "tag", value_name = "IMAGE")]
    tags: Vec<ImageReference>,
    /// Push the image to where its names say
    #[arg(long, requires = "tags")]
    push: bool,
    /// The stage to build; the last one when empty
    #[arg(long, default_value = "", hide_default_value = true, value_name = "STAGE")]
    target: String,
    /// Value of an ARG; that of the variable of this name without one
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]", value_parser = inputs::maybe_value)]
    build_args: Vec<(String, Option<String>)>,
    /// A secret for `RUN --mount=type=secret`: `id=ID[,src=FILE|,env=NAME]`
    #[arg(long = "secret", value_name = "SPEC", value_parser = inputs::secret)]
    secrets: Vec<inputs::SecretSpec>,
    /// An ssh agent for `RUN --mount=type=ssh`: `ID[=SOCKET]`, the one of `SSH_AUTH_SOCK` without
    #[arg(long = "ssh", value_name = "SPEC", value_parser = inputs::ssh)]
    ssh: Vec<inputs::SshSpec>,
    /// A label of the image; empty without a value
    #[arg(long = "label", value_name = "NAME[=VALUE]", value_parser = inputs::maybe_value)]
    labels: Vec<(String, Option<String>)>,
    /// Run every step, also those whose result is there
    #[arg(long)]
    no_cache: bool,
    /// Run every step of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// State beside the image what it was made of, as SLSA has it: `mode=min`, which `true` means, `mode=max`
    /// with the Dockerfile and the values of arguments, or `false`
    #[arg(long, value_name = "HOW")]
    provenance: Option<String>,
    /// Only `false`: no list of parts is put into an image
    #[arg(long, value_name = "false")]
    sbom: Option<String>,
    /// The same as `type=provenance,mode=…`; of another type only with `disabled=true`
    #[arg(long, value_name = "ATTESTATION")]
    attest: Vec<String>,
    /// Most memory of a RUN, in MiB, or with its unit, `2g`: of all its processes together where control groups can
    /// be made, else of each
    #[arg(short, long, value_name = "MIB", value_parser = inputs::mebibytes)]
    memory: Option<u64>,
    /// Emulate owners also where this user has a range of ids in `/etc/subuid` and `/etc/subgid`
    #[arg(long)]
    single_id: bool,
    /// End a RUN that takes longer
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    run_timeout: Option<u64>,
    /// Also write the image as an OCI image layout into a folder
    #[arg(long, value_name = "DIR", conflicts_with = "oci_archive")]
    oci_layout: Option<PathBuf>,
    /// Also write the image as an OCI image layout into a tar file
    #[arg(long, value_name = "FILE")]
    oci_archive: Option<PathBuf>,
    /// Folder of the cache [default: `cache` in the data folder]
    #[arg(long, value_name = "DIR", env = "SEKISHO_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// What the cache may take when a build begins, `20G` or `none`; see `sekisho cache prune` [default: a
    /// quarter of its disk, 100G at most]
    #[arg(long, value_name = "SIZE", env = "SEKISHO_CACHE_LIMIT", value_parser = super::cache::limit)]
    cache_limit: Option<CacheLimit>,
    #[command(flatten)]
    debian: super::base::MirrorArgs,
    #[command(flatten)]
    docker: docker::DockerArgs,
    /// Time of the image, seconds since 1970
    #[arg(long, default_value_t = 0, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    created: i64,
}

impl BuildArgs {
    /// Whether steps may be carried out by this process.
    pub(crate) fn builds_here(&self) -> bool {
        let ours = matches!(self.engine, EngineArg::Auto | EngineArg::Native);
        ours && !self.single_id && !self.check && self.call == call::Call::Build
    }
}

/// Who carries a build out.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum EngineArg {
    /// Ours, or BuildKit where it is needed and there
    #[default]
    Auto,
    /// Ours
    Native,
    /// The BuildKit of `BUILDKIT_HOST`, or Docker's
    Buildkit,
    /// buildah
    Buildah,
}

impl EngineArg {
    fn engine(self) -> Engine {
        match self {
            Self::Auto => Engine::Auto,
            Self::Native => Engine::Native,
            Self::Buildkit => Engine::Buildkit,
            Self::Buildah => Engine::Buildah,
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(flatten)]
    result: &'a BuildResult,
}

/// Does what was asked for, until it is interrupted.
pub(crate) async fn run(
    args: &BuildArgs,
    data: &DataDir,
    printer: Printer,
) -> anyhow::Result<Exit> {
    args.docker.heed()?;
    let mut signals = Signals::listen()?;
    if args.check || args.call != call::Call::Build {
        return tokio::select! {
            answered = call::run(args, data, printer) => answered,
            () = signals.next() => {
                printer.always("interrupted: nothing was built, and nothing of it is left behind");
                Ok(Exit::Interrupted)
            }
        };
    }
    let shown = progress::show(args.progress, printer);
    let watch = Arc::new(Watch::new(Arc::clone(&shown)));
    let built = tokio::select! {
        built = build(args, data, Arc::clone(&watch)) => built,
        // The build was dropped: its sandboxes have ended, and its folders are removed.
        () = signals.next() => {
            shown.finish();
            progress::interrupted(&watch.seen(), args.progress, printer);
            return Ok(Exit::Interrupted);
        }
    };
    shown.finish();
    match built? {
        Ok(result) => {
            job::set_outputs(&result)?;
            args.docker.tell(&result, &args.tags)?;
            summary::tell(&result, printer, args.progress);
            if printer.is_json() {
                printer.answer_json(&Answer { schema_version: 1, result: &result })?;
            } else {
                printer.answer(&result.manifest_digest.to_string())?;
            }
            Ok(Exit::Done)
        }
        Err(BuildError::Denied { reference, message, .. }) => {
            let denied = printer.paint(Style::Bad, "denied:");
            printer.always(&format!("{denied} the gate refused {reference}"));
            for reason in message.split(" | ") {
                printer.always(&format!("  {reason}"));
            }
            Ok(Exit::Denied)
        }
        Err(error) => Err(with_hint(error)),
    }
}

/// Builds, and pushes when asked to.
async fn build(
    args: &BuildArgs,
    data: &DataDir,
    watch: Arc<Watch>,
) -> anyhow::Result<Result<BuildResult, BuildError>> {
    let (mut options, _kept) = options(args, data).await?;
    for image in &options.destinations {
        let credential = job::credential(&image.registry)
            .await
            .with_context(|| format!("logging in to `{}`", image.registry))?;
        if let Some(credential) = credential {
            options.credentials.insert(image.registry.clone(), credential);
        }
    }
    Ok(sekisho_builder::build(options, watch).await)
}

/// Keeps the builder's hint where the CLI looks for one.
fn with_hint(error: BuildError) -> anyhow::Error {
    use sekisho_types::Hint as _;
    match error.hint() {
        Some(hint) => {
            let chain = anyhow::Error::from(error);
            let words: Vec<String> = chain.chain().map(ToString::to_string).collect();
            hinted(words.join("\n  caused by: "), hint)
        }
        None => error.into(),
    }
}

async fn options(
    args: &BuildArgs,
    data: &DataDir,
) -> anyhow::Result<(BuildOptions, Option<TempDir>)> {
    let (mut options, kept) = subject(args).await?;
    links(args, data, &mut options)?;
    options.extra_hosts.clone_from(&args.hosts);
    if args.network == "none" {
        options.network = sekisho_builder::Network::None;
    }
    if let Some(jobs) = args.jobs {
        options.jobs = jobs.into();
    }
    options.registries.keyring = inputs::keyring()?;
    options.registries.plain_http = args.plain_http.iter().cloned().collect();
    for (registry, mirror) in &args.mirrors {
        options.registries.mirrors.entry(registry.clone()).or_default().push(mirror.clone());
    }
    let labels = args.labels.iter().cloned();
    options.labels = labels.map(|(name, value)| (name, value.unwrap_or_default())).collect();
    options.names.clone_from(&args.tags);
    let push = args.push || args.outputs.iter().any(|one| one.spec == outputs::Spec::Push);
    if push && args.tags.is_empty() {
        let hint = "name the image with `--tag REGISTRY/NAME:TAG`";
        return Err(hinted("a push needs the image's name".to_owned(), hint));
    }
    options.destinations = if push { args.tags.clone() } else { vec![] };
    options.no_cache = args.no_cache;
    options.no_cache_filter.clone_from(&args.no_cache_filter);
    options.provenance =
        attest::wanted(args.provenance.as_deref(), args.sbom.as_deref(), &args.attest)?;
    options.run_memory_bytes = args.memory.map(|mebibytes| mebibytes << 20);
    options.run_timeout = args.run_timeout.map(Duration::from_secs);
    options.outputs = args.outputs.iter().filter_map(|one| one.spec.output()).collect();
    let wish = outputs::Wish {
        kind: args.compression,
        level: args.compression_level,
        force: args.force_compression,
    };
    let wishes = args.outputs.iter().map(|one| one.wish);
    options.compression = wishes.fold(wish, outputs::Wish::or).compression();
    options.compression.validate().map_err(|problem| anyhow::anyhow!(problem))?;
    options.outputs.extend(args.oci_layout.clone().map(Output::OciDirectory));
    options.outputs.extend(args.oci_archive.clone().map(Output::OciTar));
    options.engine = args.engine.engine();
    options.engine_host.clone_from(&args.engine_host);
    options.engine_args.clone_from(&args.engine_args);
    options.allow = args.allow.iter().copied().collect();
    options.debian = args.debian.options();
    Ok((options, kept))
}

/// What the Dockerfile means depends on, also when nothing is built. What came on stdin is there as long
/// as the folder that is returned.
async fn subject(args: &BuildArgs) -> anyhow::Result<(BuildOptions, Option<TempDir>)> {
    let mut options = BuildOptions::new(".", ".");
    if let Some(file) = &args.file {
        options.dockerfile.clone_from(file);
    }
    let kept = inputs::context(&args.context, &mut options).await?;
    if args.file.is_some() && options.context.is_none() && options.dockerfile_text.is_none() {
        options.dockerfile = inputs::dockerfile(&options.dockerfile, &options.context_dir)?;
    }
    for (name, value) in &args.build_contexts {
        options.add_context(name, value).map_err(|problem| {
            hinted(format!("the build context `{name}`: {problem}"), "see `sekisho build --help`")
        })?;
    }
    for platform in &args.platforms {
        options.platforms.push(platform.trim().parse().context("reading `--platform`")?);
    }
    options.target = Some(args.target.clone()).filter(|target| !target.is_empty());
    options.build_args = inputs::arguments(&args.build_args);
    options.created = args.created;
    // As a build argument too, for RUNs that declare it.
    if args.created != 0 {
        let name = "SOURCE_DATE_EPOCH".to_owned();
        options.build_args.entry(name).or_insert_with(|| args.created.to_string());
    } else if let Some(epoch) = options.build_args.get("SOURCE_DATE_EPOCH") {
        options.created = epoch.parse().context("reading the argument `SOURCE_DATE_EPOCH`")?;
    }
    if args.created < 0 {
        bail!("the image's time `{}` is before 1970", args.created);
    }
    Ok((options, kept))
}

/// What it takes to reach what is elsewhere, and where it is kept.
fn links(args: &BuildArgs, data: &DataDir, options: &mut BuildOptions) -> anyhow::Result<()> {
    options.cache_dir = data.cache_or(args.cache_dir.as_deref())?;
    options.cache_limit = args.cache_limit.unwrap_or_default();
    options.registries.ca_files.clone_from(&args.ca_files);
    options.secrets = inputs::secrets(&args.secrets)?;
    options.ssh = inputs::sockets(&args.ssh)?;
    Ok(())
}
