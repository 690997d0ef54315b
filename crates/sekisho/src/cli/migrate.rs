//! `sekisho migrate`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{ArgGroup, Args, Subcommand};
use sekisho_migrate::{Finding, Migration, Options, Source, SourceKind, Verdict};
use serde::Serialize;
use serde_json::Value;

use crate::cluster;
use crate::exit::Exit;
use crate::printer::{Printer, Style};

/// Most bytes of a file.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Stands for stdin.
const STDIN: &str = "-";

/// ARC's resources, of both modes; what is not installed is not there.
const RESOURCES: &[(&str, &str)] = &[
    ("actions.summerwind.dev/v1alpha1", "runnerdeployments"),
    ("actions.summerwind.dev/v1alpha1", "runnerreplicasets"),
    ("actions.summerwind.dev/v1alpha1", "runnersets"),
    ("actions.summerwind.dev/v1alpha1", "runners"),
    ("actions.summerwind.dev/v1alpha1", "horizontalrunnerautoscalers"),
    ("actions.github.com/v1alpha1", "autoscalingrunnersets"),
];

/// Turn the configuration of other runners into Sekisho's
#[derive(Args, Debug)]
pub(crate) struct MigrateArgs {
    #[command(subcommand)]
    command: MigrateCommand,
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// From actions-runner-controller, of both its modes
    Arc(ArcArgs),
}

/// From actions-runner-controller, of both its modes
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("from").required(true).multiple(true)
              .args(["file", "helm_values", "from_cluster"]))]
#[command(
    after_help = "The manifests go to stdout, and what became of each field to stderr. Nothing is \
                        applied, and no key is copied.\n\nExit code 2: something is blocked.\n\nExamples:\n  \
                        sekisho migrate arc -f runners.yaml > sekisho.yaml\n  \
                        sekisho migrate arc --helm-values values.yaml --release image-build\n  \
                        sekisho migrate arc --from-cluster --output json"
)]
struct ArcArgs {
    /// Manifests; `-` is stdin
    #[arg(short, long, value_name = "FILE", num_args = 1..)]
    file: Vec<PathBuf>,
    /// Values of the chart gha-runner-scale-set
    #[arg(long, value_name = "FILE")]
    helm_values: Option<PathBuf>,
    /// What is in the cluster of the current context; its secrets are not read
    #[arg(long)]
    from_cluster: bool,
    /// The Helm release of --helm-values: the scale set's name, where the values say none
    #[arg(long, value_name = "NAME", requires = "helm_values")]
    release: Option<String>,
    /// The GitHub App's client id or number, where the files have no secret that says it
    #[arg(long, value_name = "ID")]
    app_id: Option<String>,
    /// Where GitHub is, for the legacy mode
    #[arg(long, value_name = "URL", default_value = "https://github.com")]
    github_url: String,
    /// The namespace of what names none
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    schema_version: u32,
    manifests: &'a [Value],
    findings: &'a [Finding],
}

/// Does what was asked for.
pub(crate) async fn run(args: &MigrateArgs, printer: Printer) -> anyhow::Result<Exit> {
    let MigrateCommand::Arc(args) = &args.command;
    let options = Options {
        github_url: args.github_url.clone(),
        app_id: args.app_id.clone(),
        release: args.release.clone(),
        namespace: args.namespace.clone(),
    };
    let migration = sekisho_migrate::migrate(&sources(args).await?, &options)?;
    if printer.is_json() {
        let Migration { manifests, findings } = &migration;
        printer.answer_json(&Answer { schema_version: 1, manifests, findings })?;
    } else {
        printer.answer_text(&sekisho_install::stream(&migration.manifests)?)?;
        tell(&migration, printer);
    }
    Ok(if migration.count(Verdict::Blocked) > 0 {
        Exit::Blocked
    } else if migration.manifests.is_empty() {
        Exit::Nothing
    } else {
        Exit::Done
    })
}

async fn sources(args: &ArcArgs) -> anyhow::Result<Vec<Source>> {
    let mut sources = vec![];
    for path in &args.file {
        sources.push(read(path, SourceKind::Manifests)?);
    }
    if let Some(path) = &args.helm_values {
        sources.push(read(path, SourceKind::HelmValues)?);
    }
    if args.from_cluster {
        for (version, plural) in RESOURCES {
            let items = cluster::list_raw(&format!("/apis/{version}/{plural}")).await?;
            for mut item in items.unwrap_or_default() {
                let of = |field: &str| item["metadata"][field].as_str().unwrap_or_default();
                let path = format!("{plural}/{}/{}", of("namespace"), of("name"));
                // Written by the API server for itself.
                if let Some(metadata) = item["metadata"].as_object_mut() {
                    metadata.remove("managedFields");
                }
                let text = serde_json::to_string_pretty(&item)?;
                sources.push(Source { path, text, kind: SourceKind::Manifests });
            }
        }
    }
    Ok(sources)
}

fn read(path: &Path, kind: SourceKind) -> anyhow::Result<Source> {
    let mut text = String::new();
    let name = path.display().to_string();
    let read: Box<dyn std::io::Read> = if name == STDIN {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs_err::File::open(path)?)
    };
    let length = read
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("reading `{name}`"))?;
    anyhow::ensure!(length as u64 <= FILE_BYTES_MAX, "`{name}` is larger than 16 MiB");
    Ok(Source { path: name, text, kind })
}

/// One line for each field that is not simply the same, then how many of each.
fn tell(migration: &Migration, printer: Printer) {
    for finding in &migration.findings {
        if let Some(line) = line(finding, printer) {
            printer.note(&line);
        }
    }
    let counts: Vec<String> = Verdict::ALL
        .iter()
        .map(|verdict| format!("{} {}", migration.count(*verdict), verdict.name()))
        .collect();
    printer.always(&counts.join(", "));
}

fn line(finding: &Finding, printer: Printer) -> Option<String> {
    let style = match finding.verdict {
        Verdict::Mapped if finding.note.is_empty() => return None,
        Verdict::Mapped | Verdict::Dropped => Style::Dim,
        Verdict::Changed | Verdict::Approximated => Style::Plain,
        Verdict::NeedsDecision => Style::Warn,
        Verdict::Blocked => Style::Bad,
    };
    let Finding { path, line, column, object, field, note, .. } = finding;
    let verdict = printer.paint(style, finding.verdict.name());
    Some(format!("{path}:{line}:{column}: {verdict}: {object}: `{field}`: {note}"))
}
