//! `sekisho build`.

mod inputs;
mod job;
mod progress;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use sekisho_builder::{BuildError, BuildOptions, BuildResult, Output};
use sekisho_types::ImageReference;
use serde::Serialize;

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
                        sekisho build --push --tag 127.0.0.1:7350/app:v1 --build-arg MODE=release ."
)]
pub(crate) struct BuildArgs {
    /// The folder that COPY and ADD may use
    #[arg(default_value = ".", value_name = "CONTEXT")]
    context: PathBuf,
    /// The Dockerfile, relative to the context
    #[arg(short, long, default_value = "Dockerfile", value_name = "FILE")]
    file: PathBuf,
    /// Name of the image, `[REGISTRY/]NAME[:TAG]`; may be given again
    #[arg(short, long = "tag", value_name = "IMAGE")]
    tags: Vec<ImageReference>,
    /// Push the image to where its names say
    #[arg(long, requires = "tags")]
    push: bool,
    /// The stage to build; the last one when empty
    #[arg(long, default_value = "", hide_default_value = true, value_name = "STAGE")]
    target: String,
    /// Value of an ARG
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = name_value)]
    build_args: Vec<(String, String)>,
    /// A secret for `RUN --mount=type=secret`: `id=ID[,src=FILE|,env=NAME]`
    #[arg(long = "secret", value_name = "SPEC", value_parser = inputs::secret)]
    secrets: Vec<inputs::SecretSpec>,
    /// An ssh agent for `RUN --mount=type=ssh`: `ID[=SOCKET]`, the one of `SSH_AUTH_SOCK` without
    #[arg(long = "ssh", value_name = "SPEC", value_parser = inputs::ssh)]
    ssh: Vec<inputs::SshSpec>,
    /// A label of the image
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = name_value)]
    labels: Vec<(String, String)>,
    /// Run every step, also those whose result is there
    #[arg(long)]
    no_cache: bool,
    /// Run every step of these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// End a RUN that takes longer
    #[arg(long, value_name = "SECONDS")]
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
    /// Time of the image, seconds since 1970
    #[arg(long, default_value_t = 0, env = "SOURCE_DATE_EPOCH", value_name = "SECONDS")]
    created: i64,
}

fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(flatten)]
    result: &'a BuildResult,
}

/// Builds, pushes when asked to, and says the digest.
pub(crate) async fn run(
    args: &BuildArgs,
    data: &DataDir,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let mut options = options(args, data)?;
    for image in &options.destinations {
        let credential = job::credential(&image.registry)
            .await
            .with_context(|| format!("logging in to `{}`", image.registry))?;
        if let Some(credential) = credential {
            options.credentials.insert(image.registry.clone(), credential);
        }
    }
    let cancel = options.cancel.clone();
    let mut signals = Signals::listen()?;
    let progress = Arc::new(progress::Shown::new(printer));
    let mut build = std::pin::pin!(sekisho_builder::build(options, progress));
    let built = tokio::select! {
        built = &mut build => built,
        () = signals.next() => {
            cancel.cancel();
            // The sandbox is ended and its folders are removed before this returns.
            build.await
        }
    };
    match built {
        Ok(result) => {
            job::set_outputs(&result)?;
            if printer.is_json() {
                printer.answer_json(&Answer { schema_version: 1, result: &result })?;
            } else {
                printer.answer(&result.manifest_digest.to_string())?;
            }
            Ok(Exit::Done)
        }
        Err(BuildError::Cancelled) => {
            printer.always("cancelled");
            Ok(Exit::Interrupted)
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

fn options(args: &BuildArgs, data: &DataDir) -> anyhow::Result<BuildOptions> {
    if !args.context.is_dir() {
        let message = format!("the build context `{}` is no folder", args.context.display());
        return Err(hinted(message, "name the folder whose files the Dockerfile uses"));
    }
    let cache_dir = match &args.cache_dir {
        Some(folder) => folder.clone(),
        None => {
            data.create()?;
            data.cache()
        }
    };
    let mut options = BuildOptions::new(args.context.clone(), cache_dir);
    options.dockerfile.clone_from(&args.file);
    options.target = Some(args.target.clone()).filter(|target| !target.is_empty());
    options.build_args = args.build_args.iter().cloned().collect();
    options.secrets = inputs::secrets(&args.secrets)?;
    options.ssh = inputs::sockets(&args.ssh)?;
    options.labels = args.labels.iter().cloned().collect();
    options.destinations = if args.push { args.tags.clone() } else { vec![] };
    options.no_cache = args.no_cache;
    options.no_cache_filter.clone_from(&args.no_cache_filter);
    options.run_timeout = args.run_timeout.map(Duration::from_secs);
    options.created = args.created;
    options.output = match (&args.oci_layout, &args.oci_archive) {
        (Some(folder), _) => Some(Output::OciDirectory(folder.clone())),
        (None, Some(file)) => Some(Output::OciTar(file.clone())),
        (None, None) => None,
    };
    if args.created < 0 {
        bail!("the image's time `{}` is before 1970", args.created);
    }
    Ok(options)
}
