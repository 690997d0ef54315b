//! `sekisho gate serve`.

use clap::Args;

use crate::exit::{Exit, hinted};
use crate::gate::service::{Service, Settings};
use crate::plane::Address;
use crate::printer::Printer;
use crate::settings::DataDir;
use crate::signals::Signals;

/// Serve as a gate of its own, without a plane
#[derive(Args, Debug)]
#[command(
    after_help = "Reads gate.toml, issuers.toml, storage.toml, policies.cedar and the other files of a \
                  gate from $SEKISHO_GATE_CONFIG, or from the folder `gate` of the data folder. SIGTERM \
                  stops it: /readyz answers 503, then requests that are under way end.\n\nExample:\n  \
                  SEKISHO_GATE_CONFIG=/etc/sekisho/gate sekisho gate serve --data-dir /var/lib/sekisho"
)]
pub(crate) struct ServeArgs {}

/// Serves until Ctrl-C or SIGTERM.
pub(super) async fn run(_: &ServeArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    data.create()?;
    let Some(settings) = Settings::read(data)? else {
        return Err(hinted(
            format!("there is no `{}`", Settings::file(data).display()),
            "write it as docs/gate-serve.md says, or name its folder by `SEKISHO_GATE_CONFIG`",
        ));
    };
    let mut signals = Signals::listen()?;
    let service = Service::start(data, settings).await?;
    printer.note(&format!("the gate {} listens on {}", service.url(), service.listens_on()));
    signals.next().await;
    printer.note(
        "stopping: no new request, then those that are under way end; once more to end at once",
    );
    // Pinned here, for it holds the lock of the data folder: nobody else writes an address before this one is gone.
    let mut stopping = std::pin::pin!(service.stop());
    tokio::select! {
        // Either way this process ends.
        ended = &mut stopping => ended?,
        () = signals.next() => Address::remove(data)?,
    }
    Ok(Exit::Done)
}
