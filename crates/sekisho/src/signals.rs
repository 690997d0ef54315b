//! Being asked to stop.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

/// Returns at the first SIGINT or SIGTERM. Cancel safe: a signal is not lost between two calls
/// of a program that calls again.
pub(crate) async fn terminated() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
