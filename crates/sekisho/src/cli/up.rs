//! `sekisho up`.

use clap::Args;

use crate::exit::{Exit, hinted};
use crate::plane::{self, Found, Port};
use crate::printer::{Printer, Style};
use crate::settings::DataDir;
use crate::signals::Signals;

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
}

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn run(args: &UpArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let capacity = plane::capacity(args.runners);
    let plane = match plane::find_or_start(data, Port::Exactly(args.port), capacity).await? {
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
    signals.next().await;
    printer.note("stopping: runners first, then the services; once more to end at once");
    plane.stop(false).await?;
    Ok(Exit::Done)
}
