//! `sekisho up`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sekisho_github::hub_api::{Conclusion, Status};
use sekisho_hub::Assignment;

use crate::client::Client;
use crate::exit::{Exit, hinted};
use crate::plane::{self, Found, HubOptions, Port};
use crate::printer::{Printer, Style};
use crate::settings::DataDir;
use crate::signals::Signals;

/// How often it is looked for runs that started or ended.
const NEWS_PAUSE: Duration = Duration::from_millis(500);

/// Start the plane and keep it up
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sekisho up\n  git push http://127.0.0.1:7350/you/app main\n  \
                        skopeo copy --src-tls-verify=false docker://127.0.0.1:7350/hello:TAG oci:hello"
)]
pub(crate) struct UpArgs {
    /// Port to listen on, on the loopback interface
    #[arg(long, default_value_t = plane::DEFAULT_PORT, env = "SEKISHO_PORT")]
    port: u16,
    /// Most runners at once [default: the number of processors]
    #[arg(long, value_name = "N")]
    runners: Option<std::num::NonZeroUsize>,
    #[command(flatten)]
    debian: super::base::MirrorArgs,
    /// How jobs get to the listeners of scale sets
    #[arg(long, value_enum, default_value_t, hide = true)]
    assignment: AssignmentArg,
    /// Let the hub be told to do wrong: for tests of clients, never for work
    #[arg(long, hide = true)]
    fault_switches: bool,
}

/// See [`Assignment`].
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum AssignmentArg {
    /// As github.com
    #[default]
    Automatic,
    /// As GHES
    Explicit,
}

impl From<AssignmentArg> for Assignment {
    fn from(arg: AssignmentArg) -> Self {
        match arg {
            AssignmentArg::Automatic => Self::Automatic,
            AssignmentArg::Explicit => Self::Explicit,
        }
    }
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn run(args: &UpArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let options = plane::Options {
        port: Port::Exactly(args.port),
        capacity: plane::capacity(args.runners),
        hub: HubOptions { assignment: args.assignment.into(), fault_switches: args.fault_switches },
        build_settings: args.debian.settings()?,
    };
    let plane = match plane::find_or_start(data, options).await? {
        Found::Own(plane) => plane,
        Found::Up(address) => {
            return Err(hinted(
                format!(
                    "a plane is already up on `{}`: {} (process {})",
                    data.root().display(),
                    address.url,
                    address.pid
                ),
                "use it, end it, or name another folder with `--data-dir`",
            ));
        }
    };
    let mut signals = Signals::listen()?;
    let url = plane.address.url.clone();
    if printer.is_json() {
        printer.answer_json(&serde_json::json!({
            "schemaVersion": 1, "url": url, "data_dir": data.root(), "pid": plane.address.pid,
        }))?;
    } else {
        let base = url.as_str().trim_end_matches('/');
        printer.note(&format!("{} {base}", printer.paint(Style::Good, "The plane is up:")));
        printer.note(&format!("  push    git push {base}/OWNER/REPOSITORY"));
        printer.note(&format!(
            "  pull    skopeo copy --src-tls-verify=false docker://{}/IMAGE:TAG oci:IMAGE",
            plane.address.authority()
        ));
        printer.note(&format!("  data    {}", data.root().display()));
        printer.note("  Ctrl-C stops it");
    }
    let client = Client::new(plane.address.clone())?;
    tokio::select! {
        () = tell_runs(&client, printer) => {}
        () = signals.next() => {}
    }
    printer.note("stopping: runners first, then the services; once more to end at once");
    plane.stop(false).await?;
    Ok(Exit::Done)
}

/// A line when a run starts and one when it ends, for ever. A plane that does not answer for a
/// moment is asked again: it is this process.
async fn tell_runs(client: &Client, printer: Printer) {
    let mut told: BTreeMap<u64, Status> = BTreeMap::new();
    let mut first = true;
    loop {
        for run in client.recent_runs().await.unwrap_or_default().iter().rev() {
            let before = told.insert(run.id, run.status);
            let news = match (before, run.status) {
                _ if first => None,
                (Some(before), now) if before == now => None,
                (None, Status::Pending | Status::Queued | Status::InProgress) => Some("started"),
                (_, Status::Completed) => run.conclusion.map(Conclusion::as_str),
                _ => None,
            };
            if let Some(news) = news {
                let (id, repository) = (run.id, &run.repository);
                printer.note(&format!("run {id}  {repository} {}: {news}", run.git_ref));
            }
        }
        first = false;
        tokio::time::sleep(NEWS_PAUSE).await;
    }
}
