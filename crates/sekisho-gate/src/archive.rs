//! What a gate wrote down, read by others: decisions verified, made again, and judged by policies that
//! are yet to come.

use std::io;
use std::path::{Path, PathBuf};

use sekisho_policy::{Exceptions, MAX_EXCEPTIONS_BYTES, MAX_POLICY_BYTES, Policies, Verdict};
use sekisho_store::{BlobStore, Records};
use sekisho_types::Digest;

use crate::config::Options;
use crate::decisions::verify::{Verified, numbers, read, record_name, verify};
use crate::decisions::{Decision, checkpoint, recorded};
use crate::evidence::{MAX_FACTS_BYTES, Record};
use crate::push::decide::{Facts, decide};

/// Judges facts in the form that a gate keeps them in: `identity`, `target`, `contents` and `now`.
///
/// # Errors
/// They are no such facts.
pub fn judge(policies: &Policies, facts: serde_json::Value) -> serde_json::Result<Verdict> {
    let facts: Facts = serde_json::from_value(facts)?;
    Ok(decide(policies, &facts))
}

/// A decision made again.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// As it was written down.
    pub decision: Decision,
    /// The answer that the same facts, policies and exceptions give now.
    pub verdict: Verdict,
    /// Both answers are the same, to the byte.
    pub reproduced: bool,
}

/// A decision that was made, and what it would be by other policies.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// As it was written down.
    pub decision: Decision,
    /// What the same facts give now; `None` when they are not there any more.
    pub verdict: Option<Verdict>,
}

/// The decisions and evidence of a gate, which may be up or not. Everything here blocks.
#[derive(Debug)]
pub struct Archive {
    decisions: Records,
    evidence: BlobStore,
    keys: PathBuf,
}

impl Archive {
    /// That of the gate with this folder and these options. Nothing is made or removed.
    pub fn of(gate_dir: &Path, options: &Options) -> Self {
        // Not opened as one's own: that would sweep what a gate that is up is writing.
        let folder = BlobStore::existing(&gate_dir.join("evidence"));
        let (decisions, evidence) = match &options.bucket {
            None => (Records::existing(&gate_dir.join("decisions")), folder),
            Some(bucket) => {
                let decisions = Records::in_bucket(bucket.below("decisions"));
                (decisions, folder.beside(bucket.below("evidence")))
            }
        };
        let keys = options.keys_dir.clone().unwrap_or_else(|| gate_dir.join("keys"));
        Self { decisions, evidence, keys }
    }

    /// Checks the log with the public keys of the gate, or with one (base64) that somebody kept
    /// elsewhere.
    ///
    /// # Errors
    /// The log cannot be read, or `key` is none.
    pub fn verify(&self, key: Option<&str>) -> io::Result<Verified> {
        let bad =
            || io::Error::new(io::ErrorKind::InvalidInput, "this is no Ed25519 key in base64");
        let keys = match key {
            Some(text) => vec![checkpoint::PublicKey::parse(text).ok_or_else(bad)?],
            None => checkpoint::trusted(&self.keys)?,
        };
        let (links, checkpoints) = read(&self.decisions)?;
        Ok(verify(&links, &checkpoints, &keys))
    }

    /// Makes a decision again. `None` when there is no such decision.
    ///
    /// # Errors
    /// What the decision was made of is not there, was damaged, or is of another version of Sekisho,
    /// whose policies speak of other facts.
    pub fn explain(&self, id: &str) -> io::Result<Option<Explained>> {
        let Ok(number) = id.parse::<u64>() else { return Ok(None) };
        let Some(decision) = self.decision(number)? else { return Ok(None) };
        let facts = decision.facts.as_ref().ok_or_else(|| bad("the decision has no evidence"))?;
        let record = self.record(facts)?.ok_or_else(gone)?;
        let policies = self.text(&record.policies, MAX_POLICY_BYTES)?;
        let mut policies = Policies::load(&policies).map_err(io::Error::other)?;
        if let Some(exceptions) = &record.exceptions {
            let text = self.text(exceptions, MAX_EXCEPTIONS_BYTES)?;
            let loaded = Exceptions::load(Path::new("exceptions.toml"), &text);
            policies = policies.with_exceptions(loaded.map_err(io::Error::other)?);
        }
        if *policies.hash() != decision.policy {
            return Err(bad("the decision was made by another version of Sekisho"));
        }
        let verdict = recorded(decide(&policies, &record.facts));
        let bytes = |verdict: &Verdict| serde_json::to_vec(verdict).map_err(io::Error::other);
        let reproduced = bytes(&verdict)? == bytes(&decision.verdict)?;
        Ok(Some(Explained { decision, verdict, reproduced }))
    }

    /// Judges the facts of the latest `limit` decisions anew, oldest first, on all processors.
    ///
    /// # Errors
    /// The log cannot be read, or a decision or its facts were damaged.
    pub fn replay(&self, policies: &Policies, limit: usize) -> io::Result<Vec<Replayed>> {
        let mut latest = numbers(&self.decisions, "")?;
        let latest = latest.split_off(latest.len().saturating_sub(limit));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let share = latest.len().div_ceil(processors).max(1);
        std::thread::scope(|scope| {
            let work = |numbers: &[u64]| -> io::Result<Vec<Replayed>> {
                let again = numbers.iter().map(|number| self.again(*number, policies));
                again.filter_map(Result::transpose).collect()
            };
            let threads: Vec<_> =
                latest.chunks(share).map(|share| scope.spawn(move || work(share))).collect();
            let mut all = Vec::new();
            for thread in threads {
                let panicked = |_| io::Error::other("judging panicked");
                all.extend(thread.join().map_err(panicked)??);
            }
            Ok(all)
        })
    }

    /// `None` for a decision that was pruned meanwhile.
    fn again(&self, number: u64, policies: &Policies) -> io::Result<Option<Replayed>> {
        let Some(decision) = self.decision(number)? else { return Ok(None) };
        let record = decision.facts.as_ref().map(|facts| self.record(facts)).transpose()?.flatten();
        let verdict = record.map(|record| decide(policies, &record.facts));
        Ok(Some(Replayed { decision, verdict }))
    }

    fn decision(&self, number: u64) -> io::Result<Option<Decision>> {
        self.decisions.read_json(&record_name(number))
    }

    /// The record of facts; `None` when it is not there any more.
    fn record(&self, digest: &Digest) -> io::Result<Option<Record>> {
        let Some(bytes) = self.bytes(digest, MAX_FACTS_BYTES)? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes);
        record.map(Some).map_err(|error| bad(&format!("evidence {digest}: {error}")))
    }

    fn text(&self, digest: &Digest, limit: usize) -> io::Result<String> {
        let bytes = self.bytes(digest, limit as u64)?.ok_or_else(gone)?;
        String::from_utf8(bytes).map_err(|_| bad("the evidence is no text"))
    }

    fn bytes(&self, digest: &Digest, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.evidence.read(digest, limit)?;
        if bytes.as_ref().is_some_and(|bytes| Digest::sha256(bytes) != *digest) {
            return Err(bad(&format!("the evidence was changed: {digest}")));
        }
        Ok(bytes)
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn gone() -> io::Error {
    bad("the evidence is gone")
}
