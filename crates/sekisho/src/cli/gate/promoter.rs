//! `sekisho gate promoter`, and `sekisho gate promote`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use sekisho_gate::{
    Clock, Patience, Promoter, PromoterConfig, PromoterSettings, Waiting, aws_environment,
    load_promoter, serve, serve_tls,
};
use sekisho_registry::{Keyring, Options};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Said};
use crate::exit::Exit;
use crate::gate::service::tls;
use crate::printer::Printer;
use crate::settings::{self, DataDir, small};
use crate::signals::Signals;

/// Largest file that it is told something in, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// For a manifest: a registry may look at each blob that it names.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(120);

/// How long orders that are under way get when it stops.
const CLOSE_DEADLINE: Duration = Duration::from_secs(25);

/// Copy what a gate let pass to another registry, such as ECR: the only process with a credential for that
#[derive(Args, Debug)]
#[command(
    after_help = "Takes orders that are signed by the keys of a gate, whose gate.toml names this process as \
                  `promoter`. At ECR it logs in by the role of its pod, with no access key. \
                  docs/promoter.md says what goes into the file.\n\nExample:\n  \
                  sekisho gate promoter /etc/sekisho/promoter.toml"
)]
pub(crate) struct PromoterArgs {
    /// What it is told
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    small(path, MAX_FILE_BYTES)
}

fn told(path: &Path) -> anyhow::Result<PromoterSettings> {
    let text = String::from_utf8(read(path).context("reading what the promoter is told")?);
    let text = text.with_context(|| format!("`{}` is no UTF-8", path.display()))?;
    load_promoter(&text).map_err(|problem| anyhow!("{}:{problem}", path.display()))
}

/// Serves until Ctrl-C or SIGTERM.
pub(super) async fn run(
    args: &PromoterArgs,
    data: &DataDir,
    printer: Printer,
) -> anyhow::Result<Exit> {
    let told = told(&args.file)?;
    let tls = told.tls.as_ref().map(tls).transpose()?;
    let keyring = match &told.docker_config {
        Some(path) => Keyring::from_docker_config(&read(path)?)
            .with_context(|| format!("reading `{}`", path.display()))?,
        None => Keyring::anonymous(),
    };
    let ca_pem = told.ca_files.iter().map(|path| read(path)).collect::<anyhow::Result<_>>()?;
    let registry = Options { ca_pem, decision_deadline: MANIFEST_DEADLINE, ..Options::default() };
    let folder = told.folder.clone().unwrap_or_else(|| data.root().join("promoter"));
    let (listen, gate) = (told.listen, told.gate.clone());
    let promoter = Promoter::open(PromoterConfig {
        settings: told,
        keyring,
        registry,
        folder,
        identity: settings::environment(aws_environment()).collect(),
        clock: Clock::default(),
    })
    .map_err(|problem| anyhow!("{problem}"))?;
    let listener = TcpListener::bind(listen).await;
    let listener = listener.with_context(|| format!("listening on {listen}"))?;
    let bound = listener.local_addr().context("asking for the port")?;
    let mut signals = Signals::listen()?;
    let stop = CancellationToken::new();
    let (router, patience, stopped) = (promoter.router(), Patience::default(), stop.clone());
    let server = match tls {
        Some(tls) => tokio::spawn(serve_tls(listener, tls, router, patience, stopped)),
        None => tokio::spawn(serve(listener, router, patience, stopped)),
    };
    printer.note(&format!("the promoter of {gate} listens on {bound}"));
    signals.next().await;
    printer.note(
        "stopping: no new order, then those that are under way end; once more to end at once",
    );
    stop.cancel();
    tokio::select! {
        // What is cut short is done again by the next order.
        _ = tokio::time::timeout(CLOSE_DEADLINE, server) => {}
        () = signals.next() => {}
    }
    Ok(Exit::Done)
}

#[derive(Deserialize)]
struct Where {
    image: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Copied<'a> {
    schema_version: u32,
    image: Option<&'a str>,
}

#[derive(Deserialize)]
struct Outgoing {
    waiting: Vec<Waiting>,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    waiting: &'a [Waiting],
}

/// Says what waits to be copied on.
pub(super) async fn waiting(client: &Client, printer: Printer) -> anyhow::Result<Exit> {
    let Outgoing { waiting } = match client.gate("/_gate/v1/outgoing").await? {
        Said::Yes(outgoing) => outgoing,
        Said::No(_, why) => anyhow::bail!("{why}"),
    };
    if printer.is_json() {
        printer.answer_json(&Listed { schema_version: 1, waiting: &waiting })?;
        return Ok(Exit::Done);
    }
    if waiting.is_empty() {
        printer.note("nothing waits to be copied on");
        return Ok(Exit::Nothing);
    }
    for Waiting { decision, since, again_at, error, .. } in &waiting {
        let (since, again) = (since.strftime("%Y-%m-%d %H:%M"), again_at.strftime("%H:%M"));
        printer.answer(&format!("{decision}  since {since}  again at {again} UTC  {error}"))?;
    }
    Ok(Exit::Done)
}

/// Has the image of a decision copied on once more.
pub(super) async fn promote(id: &str, client: &Client, printer: Printer) -> anyhow::Result<Exit> {
    let path = format!("/_gate/v1/decisions/{id}/promote");
    match client.ask::<_, Where>(&path, &json!({})).await? {
        Said::Yes(Where { image }) if printer.is_json() => {
            printer.answer_json(&Copied { schema_version: 1, image: image.as_deref() })?;
            Ok(Exit::Done)
        }
        Said::Yes(Where { image: Some(image) }) => {
            printer.answer(&image)?;
            Ok(Exit::Done)
        }
        Said::Yes(Where { image: None }) => {
            printer.note("it stays here: no promoter is named, or no route is for it");
            Ok(Exit::Nothing)
        }
        Said::No(404 | 409, why) => {
            printer.note(&why);
            Ok(Exit::Nothing)
        }
        Said::No(_, why) => anyhow::bail!("{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `deploy/promoter` has is what a promoter reads.
    #[test]
    fn the_files_of_a_cluster_are_read() {
        let told = include_str!("../../../../../deploy/promoter/promoter.toml");
        let settings = load_promoter(told).unwrap();
        let manifest = include_str!("../../../../../deploy/promoter/promoter.yaml");
        for named in [
            format!("mountPath: {}", settings.gate_keys.display()),
            format!("containerPort: {}", settings.listen.port()),
        ] {
            assert!(manifest.contains(&named), "{named}");
        }
    }
}
