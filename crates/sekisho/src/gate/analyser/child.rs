//! The server and its children: each reads one layer or document, and answers.

use std::io::{Read, Write as _};

use anyhow::{Context as _, bail};
use sekisho_scanner::{Attestors, FingerprintKey, Limits, index_layer, read_document, secrets_in};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first byte of what a layer is read from; the key of fingerprints is next.
pub(super) const LAYER: u8 = b'l';

/// The first byte of what a document is read from; the key of fingerprints is next, and those whose signatures
/// count, behind how long they are.
pub(super) const DOCUMENT: u8 = b'd';

/// What a child says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// What is in the layer.
    Layer(Value),
    /// It is one JSON document, and says this.
    Document(Value),
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

/// Reads one input from stdin and answers on stdout.
fn read() -> anyhow::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut stdout = std::io::stdout().lock();
    let mut kind = [0];
    stdin.read_exact(&mut kind).context("reading what is to be read")?;
    let answer = match kind {
        [LAYER] => layer(&mut stdin),
        [DOCUMENT] => document(&mut stdin),
        _ => bail!("only layers and documents are read"),
    };
    let answer = answer.unwrap_or_else(|error| Answer::Error(format!("{error:#}")));
    serde_json::to_writer(&mut stdout, &answer)?;
    stdout.flush().context("answering")
}

fn document(stdin: &mut impl Read) -> anyhow::Result<Answer> {
    let key = key(stdin)?;
    let mut length = [0; 4];
    stdin.read_exact(&mut length).context("reading whose signatures count")?;
    // The gate's own word: attestors are few.
    let mut known = vec![0; u32::from_be_bytes(length) as usize];
    stdin.read_exact(&mut known).context("reading whose signatures count")?;
    let known: Attestors = serde_json::from_slice(&known)?;
    let read = read_document(stdin, &known, Some(&key)).context("it says it is JSON and is not")?;
    Ok(Answer::Document(serde_json::to_value(read)?))
}

fn layer(stdin: &mut impl Read) -> anyhow::Result<Answer> {
    let limits = Limits { fingerprint_key: Some(key(stdin)?), ..Limits::default() };
    let index = index_layer(stdin, &limits)?;
    Ok(Answer::Layer(serde_json::to_value(index)?))
}

fn key(stdin: &mut impl Read) -> anyhow::Result<FingerprintKey> {
    let mut key = [0; 32];
    stdin.read_exact(&mut key).context("reading the key of fingerprints")?;
    Ok(FingerprintKey::new(&key))
}
