//! The server and its children: one reads a layer and answers.

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use sekisho_scanner::{FingerprintKey, Limits, index_layer, secrets_in};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What is in the layer.
    Layer(Value),
    /// Why it cannot be read.
    Error(String),
}

/// Serves the gate until it is gone. To be called before there is another thread.
///
/// # Errors
/// It cannot be confined, or was not started by a gate.
pub(crate) fn serve() -> anyhow::Result<()> {
    // What all children search with is made once.
    let _ = secrets_in("", b"-", None);
    sekisho_sandbox::serve_parsers(|| u8::from(read().is_err())).context("serving the gate")
}

/// Reads the key of fingerprints and a layer from stdin and answers on stdout.
fn read() -> anyhow::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut stdout = std::io::stdout().lock();
    let mut key = [0; 32];
    stdin.read_exact(&mut key).context("reading the key of fingerprints")?;
    let limits = Limits { fingerprint_key: Some(FingerprintKey::new(&key)), ..Limits::default() };
    let answer = match index_layer(&mut stdin, &limits) {
        Ok(index) => Answer::Layer(serde_json::to_value(index)?),
        Err(error) => Answer::Error(format!("{:#}", anyhow::Error::from(error))),
    };
    serde_json::to_writer(&mut stdout, &answer)?;
    stdout.flush().context("answering")
}
