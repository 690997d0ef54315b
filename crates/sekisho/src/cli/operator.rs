//! `sekisho operator`.

use clap::{Args, Subcommand};
use sekisho_install::{Install, RunnerNamespace};
use serde::Serialize;
use serde_json::Value;

use crate::exit::Exit;
use crate::printer::Printer;

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
}

#[derive(Serialize)]
struct Answer {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    manifests: Vec<Value>,
}

/// Prints what was asked for.
pub(crate) fn run(args: &OperatorArgs, printer: Printer) -> anyhow::Result<Exit> {
    let OperatorCommand::Render(args) = &args.command;
    let mut runners = args.runners.clone();
    if runners.is_empty() {
        runners.push(RunnerNamespace::default());
    }
    let install = Install {
        namespace: args.namespace.clone(),
        image: args.image.clone(),
        replicas: args.replicas,
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
