//! `sekisho operator`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use sekisho_install::{Install, RunnerNamespace};
use sekisho_operator::{Operator, Settings};
use serde::Serialize;
use serde_json::Value;

use crate::cluster;
use crate::exit::Exit;
use crate::printer::Printer;
use crate::signals::Signals;

/// Install the operator, which runs jobs on Kubernetes
#[derive(Args, Debug)]
pub(crate) struct OperatorArgs {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Print the manifests that install it: definitions, namespaces, rights, the operator itself
    Render(RenderArgs),
    /// Run it: what the rendered Deployment starts
    Run(RunArgs),
    /// Print the seccomp profile of the nodes, or place it
    Profile(ProfileArgs),
}

/// Run the operator until SIGTERM or Ctrl-C
#[derive(Args, Debug)]
#[command(
    after_help = "The cluster is that of the pod this runs in, or of the current context, as kubectl \
                        finds it. Several may run: one works on each RunnerDeployment, the others stand by. \
                        The log is one JSON object a line with `--output json`.\n\nExamples:\n  \
                        sekisho operator run --namespace sekisho-runners\n  \
                        sekisho operator run --listen 127.0.0.1:8080 --output json"
)]
pub(crate) struct RunArgs {
    /// Work on the RunnerDeployments of this namespace; again for each [default: all]
    #[arg(short, long, value_name = "NAME", value_parser = sekisho_install::namespace_name)]
    namespace: Vec<String>,
    /// Serve `/livez`, `/readyz` and `/metrics` here
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Take GitHub's webhooks here, at `/webhooks/NAMESPACE/CONNECTION`
    #[arg(long, value_name = "ADDRESS:PORT")]
    webhooks: Option<SocketAddr>,
    /// Who holds the leases; another for each process [default: host name and process id]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: Option<String>,
}

/// Print the manifests that install it
#[derive(Args, Debug)]
#[command(after_help = "Nothing is applied, and no cluster is asked.\n\nExamples:\n  \
                        sekisho operator render --image REGISTRY/sekisho@sha256:… \\\n    \
                        | kubectl apply --server-side -f -\n  \
                        sekisho operator render --image … --runners ci-forks=fork-pull-request \\\n    \
                        --runners ci-main=protected-branch")]
struct RenderArgs {
    /// The image with `sekisho`; by digest, so that it stays the same
    #[arg(long, value_name = "IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    image: String,
    /// The operator's namespace
    #[arg(long, value_name = "NAME", default_value = sekisho_install::NAMESPACE,
          value_parser = sekisho_install::namespace_name)]
    namespace: String,
    /// A namespace of runners: NAME[=ZONE[:PROFILE]]; again for each [default: sekisho-runners]
    ///
    /// ZONE is fork-pull-request, pull-request (the default) or protected-branch: whose code runs
    /// there. PROFILE is the Pod Security Standard that the API server holds its pods to: restricted
    /// (the default), baseline, or privileged, which the container modes BuildKit and DockerSidecar
    /// need.
    #[arg(long, value_name = "NAMESPACE", verbatim_doc_comment)]
    runners: Vec<RunnerNamespace>,
    /// How many operators: one works, the others stand by
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Take GitHub's webhooks: a service `sekisho-operator-webhooks`, for an ingress of yours
    #[arg(long)]
    webhooks: bool,
    /// Let the operator connect to this port as well: a proxy's; again for each
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    egress_port: Vec<u16>,
    /// Leave out the DaemonSet that gives each node the seccomp profile of the classes
    ///
    /// Then place what `sekisho operator profile` prints into /var/lib/kubelet/seccomp/sekisho/rootless.json
    /// of each node by other means: without it, pods of the classes do not start.
    #[arg(long)]
    without_node_profile: bool,
}

/// Print the seccomp profile that lets a runner's container build images
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
                        sekisho operator profile > rootless.json\n  \
                        sekisho operator profile --place /var/lib/kubelet/seccomp/sekisho")]
pub(crate) struct ProfileArgs {
    /// Keep it in this folder, as rootless.json, until SIGTERM or Ctrl-C: what the rendered DaemonSet starts
    #[arg(long, value_name = "FOLDER")]
    place: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    manifests: Vec<Value>,
}

impl OperatorArgs {
    /// Whether it is a service that is asked for, whose log is its answer.
    pub(crate) fn is_service(&self) -> bool {
        matches!(
            self.command,
            OperatorCommand::Run(_) | OperatorCommand::Profile(ProfileArgs { place: Some(_) })
        )
    }
}

/// Does what was asked for.
pub(crate) async fn run(args: &OperatorArgs, printer: Printer) -> anyhow::Result<Exit> {
    match &args.command {
        OperatorCommand::Render(args) => render(args, printer),
        OperatorCommand::Run(args) => serve(args).await,
        OperatorCommand::Profile(args) => profile(args, printer).await,
    }
}

/// Runs the operator. What it has to say is in its log, in conditions and in events.
async fn serve(args: &RunArgs) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let mut settings = Settings::new(args.identity.clone().unwrap_or_else(identity));
    settings.namespaces.clone_from(&args.namespace);
    settings.namespaces.sort();
    settings.namespaces.dedup();
    settings.admin = args.listen;
    settings.webhooks = args.webhooks;
    let client = cluster::client().await?;
    let operator = tokio::select! {
        operator = Operator::start(client, settings) => operator?,
        () = signals.next() => return Ok(Exit::Interrupted),
    };
    signals.next().await;
    tracing::info!("stopping: sessions and leases are given back");
    tokio::select! {
        () = operator.shutdown() => {}
        () = signals.next() => tracing::warn!("ended at once: its leases run out by themselves"),
    }
    Ok(Exit::Done)
}

/// The pod's name, in a pod. The process id tells two on one machine apart.
fn identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{}", std::process::id())
}

/// Prints the manifests.
fn render(args: &RenderArgs, printer: Printer) -> anyhow::Result<Exit> {
    let mut runners = args.runners.clone();
    if runners.is_empty() {
        runners.push(RunnerNamespace::default());
    }
    let install = Install {
        namespace: args.namespace.clone(),
        image: args.image.clone(),
        replicas: args.replicas,
        webhooks: args.webhooks,
        node_profile: !args.without_node_profile,
        egress_ports: args.egress_port.clone(),
        runners,
    };
    sekisho_install::check(&install)?;
    let manifests = sekisho_install::manifests(&install)?;
    if printer.is_json() {
        printer.answer_json(&Answer { schema_version: 1, manifests })?;
    } else {
        printer.answer_text(&sekisho_install::stream(&manifests)?)?;
    }
    Ok(Exit::Done)
}

/// How often it is looked whether the profile is still there, and as it is to be.
const PLACE_EVERY: Duration = Duration::from_secs(60);

/// Prints the profile, or keeps it in a folder.
async fn profile(args: &ProfileArgs, printer: Printer) -> anyhow::Result<Exit> {
    let text = format!("{:#}\n", sekisho_install::seccomp_profile());
    let Some(folder) = &args.place else {
        printer.answer_text(&text)?;
        return Ok(Exit::Done);
    };
    let name = Path::new(sekisho_install::SECCOMP_PROFILE).file_name().context("its name")?;
    let file = folder.join(name);
    let mut signals = Signals::listen()?;
    loop {
        if std::fs::read_to_string(&file).ok().as_ref() != Some(&text) {
            place(&file, &text).with_context(|| format!("writing `{}`", file.display()))?;
            tracing::info!("{} is placed", file.display());
        }
        tokio::select! {
            () = tokio::time::sleep(PLACE_EVERY) => {}
            () = signals.next() => return Ok(Exit::Done),
        }
    }
}

/// Whole or not at all: the kubelet may read it at any moment.
fn place(file: &Path, text: &str) -> std::io::Result<()> {
    let mut next = tempfile::NamedTempFile::new_in(file.parent().unwrap_or(Path::new(".")))?;
    std::io::Write::write_all(&mut next, text.as_bytes())?;
    next.as_file().sync_all()?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    next.as_file().set_permissions(readable)?;
    next.persist(file)?;
    Ok(())
}
