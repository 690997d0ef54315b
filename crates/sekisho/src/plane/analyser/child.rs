//! The child: confines itself, reads a layer, answers.

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use sekisho_scanner::{FingerprintKey, Limits, index_layer};
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

/// Reads the key of fingerprints and a layer from stdin and answers on stdout. To be called before there
/// is another thread.
///
/// # Errors
/// It cannot be confined, or its parent is gone.
pub(crate) fn run() -> anyhow::Result<()> {
    sekisho_sandbox::confine_parser().context("confining the analyser")?;
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
